"""Clusters of catalogues against known classes: data, plain methods, and a table. n objects, F inputs."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

from benchmarks.science_catalogue import BANDS, PAIRS, SKYSERVER
from benchmarks.science_tables import Task, Train
from hpctrain.families.clusters.trials import NAMES
from hpctrain.kinds.catalogue.section import SimulateCatalogueSection
from hpctrain.kinds.catalogue.simulate import simulate
from hpctrain.kinds.catalogue.tables import open_table
from hpctrain.profile.families import family_of, kind_of, profile_of
from hpctrain.profile.sections.data import SplitSection
from hpctrain.samples.split import TRAIN, VALIDATION, assign_split
from hpctrain.train.schedule import mix

HELD_OUT = 0.3
"""Share of objects that no fit sees."""

LINEAR = "light_curves/linear_7194_features.csv.gz"
NUM_SIMULATED = 10_000
COLOURS = [" - ".join(pair) for pair in PAIRS]

Scores = dict[str, tuple[float, float, float]]


def clusters(shared: Path, folder: Path, seeds: int, train: Train) -> dict[str, Any]:
    """Print the stability of clusters, and their agreement with the classes of held-out objects.

    The rounds are done in this process, so `train` is not used.
    """
    found = {}
    for name, make in {"simulated": simulated, "sdss": sdss, "linear": linear}.items():
        path = folder / f"clusters-{name}.h5"
        data, inputs, num_classes = make(shared, path)
        found[name] = judge(path, data, inputs, num_classes, seeds)
    return found


def simulated(shared: Path, path: Path) -> tuple[dict[str, Any], list[str], int]:
    """Write simulated galaxies, stars and quasars."""
    simulate(path, SimulateCatalogueSection(num_objects=NUM_SIMULATED))
    return {"features": BANDS, "differences": PAIRS}, COLOURS, 3


def sdss(shared: Path, path: Path) -> tuple[dict[str, Any], list[str], int]:
    """Write 10,000 stars, galaxies and quasars of SDSS."""
    table = open_table(shared / SKYSERVER)
    with h5py.File(path, "w") as file:
        for band in BANDS:
            file[band] = table.column(band).astype(float)
        file["class"] = table.column("class").astype("S6")
        file["target_id"] = np.arange(table.num_rows)
    return {"features": BANDS, "differences": PAIRS}, COLOURS, 3


def linear(shared: Path, path: Path) -> tuple[dict[str, Any], list[str], int]:
    """Write the features of 7,194 variable stars of LINEAR; the types with fewer than 100 stars are left out."""
    with gzip.open(shared / LINEAR, "rt", encoding="utf-8-sig") as stream:
        rows = [[cell.strip() for cell in line.split(";")] for line in stream]
    places = [rows[0].index(name) for name in ("LINEARobjectID", "LCtype", "P", "A", "skew")]
    usable = [row for row in rows[1:] if all(_is_number(row[place]) for place in places)]
    print(f"{len(rows) - 1 - len(usable)} of {len(rows) - 1} rows of {LINEAR} are left out: a cell is no number")
    target_id, kind, period, amplitude, skew = np.array([[float(row[place]) for place in places] for row in usable]).T
    kind = kind.astype(int)
    kept = np.isin(kind, [one for one, count in zip(*np.unique(kind, return_counts=True), strict=True) if count >= 100])
    inputs = {"log_period": np.log10(np.where(period > 0, period, np.nan)), "amplitude": amplitude, "skew": skew}
    with h5py.File(path, "w") as file:
        for name, column in inputs.items():
            file[name] = column[kept]
        file["class"], file["target_id"] = kind[kept], target_id[kept].astype(np.int64)
    return {"features": list(inputs)}, list(inputs), len(np.unique(kind[kept]))


def _is_number(text: str) -> bool:
    try:
        return np.isfinite(float(text))
    except ValueError:
        return False


def judge(path: Path, data: dict[str, Any], inputs: list[str], num_classes: int, seeds: int) -> dict[str, Scores]:
    """Print and return the scores of our methods and of plain ones on one set, each on the same splits."""
    models = {
        "mixture, as many as classes": {"method": "mixture", "clusters": num_classes},
        "mixture, by BIC": {"method": "mixture", "clusters": list(range(2, 9))},
        "hdbscan, by stability": {"method": "hdbscan", "min_cluster_size": [25, 50, 100, 200]},
        "kmeans, as many as classes": {"method": "kmeans", "clusters": num_classes},
        "kmeans, by silhouette": {"method": "kmeans", "clusters": list(range(2, 9))},
    }
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(seeds):
        split = {"validation": HELD_OUT, "salt": f"split {seed}"}
        for name, keys in models.items():
            model = {"family": "clusters", "inputs": inputs, "label": "class", "resamples": 5, **keys}
            found.setdefault(name, []).append(fitted(path, {**data, "split": split}, model, seed))
        for name, score in plain_scores(path, data, inputs, num_classes, SplitSection(**split), seed).items():
            found.setdefault(name, []).append(score)
    print(
        f"Clusters of {path.stem.removeprefix('clusters-')}: {num_classes} classes, {seeds} splits; lowest to highest"
    )
    print("| method | clusters | stability | ARI | NMI | purity |\n|---|---|---|---|---|---|")
    table = {name: _summary(each) for name, each in found.items()}
    for name, each in table.items():
        counts = sorted({int(one["clusters"]) for one in found[name]})
        number = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        cells = ["" if np.isnan(mean) else f"{mean:.2f} ({low:.2f} to {high:.2f})" for mean, low, high in each.values()]
        print(f"| {name} | {number} | " + " | ".join(cells) + " |")
    print(flush=True)
    return table


def _summary(scores_of_splits: list[dict[str, float]]) -> Scores:
    """Return mean, lowest and highest value of each score."""
    values = {name: [one[name] for one in scores_of_splits] for name in ("stability", "ari", "nmi", "purity")}
    return {name: (float(np.mean(each)), min(each), max(each)) for name, each in values.items()}


def fitted(path: Path, data: dict[str, Any], model: dict[str, Any], seed: int) -> dict[str, float]:
    """Do all rounds of a run in this process, and return its scores on the held-out objects."""
    profile = profile_of({"name": "clusters", "data": {"files": [str(path)], **data}, "model": model})
    family, kind = family_of(profile), kind_of(profile)
    samples = kind.open(profile.data)
    side = assign_split(samples.target_id, profile.data.split)
    rows, held_out = np.flatnonzero(side == TRAIN), np.flatnonzero(side == VALIDATION)
    section = family.settle(profile.model, samples, rows)
    samples.labels = family.labels(section, samples)
    found = family.network(section, kind.facts(samples, rows))
    for number in range(section.rounds):
        found.do_round(number, rows, lambda rows: iter([samples.read(rows)]), mix(seed, number))
    cluster = found.predict(samples.read(held_out))["CLUSTER"].numpy()
    numbers = {"clusters": found.best.partition.num_clusters}
    numbers["stability"] = float(found.trials.table[found.trials.chosen, NAMES.index("agreement")])
    return {**numbers, **scores(samples.labels["class"][held_out], cluster)}


def plain_scores(
    path: Path, data: dict[str, Any], inputs: list[str], num_classes: int, split: SplitSection, seed: int
) -> dict[str, dict[str, float]]:
    """Return the scores of scikit-learn on standardised inputs.

    HDBSCAN of scikit-learn assigns no new objects, so it gets all objects at once.
    """
    with h5py.File(path) as file:
        columns = {name: file[name][...].astype(float) for name in data["features"]}
        truth, target_id = np.unique(file["class"][...], return_inverse=True)[1], file["target_id"][...]
    for values in columns.values():
        values[values == -9999] = np.nan
    columns |= {f"{a} - {b}": columns[a] - columns[b] for a, b in data.get("differences", [])}
    points = np.stack([columns[name] for name in inputs], axis=1)
    new = assign_split(target_id, split) == VALIDATION
    whole = np.isfinite(points).all(axis=1)
    scale = StandardScaler().fit(points[~new & whole])
    points = np.where(whole[:, None], scale.transform(points), 0.0)
    known = points[~new & whole]
    mixture = GaussianMixture(num_classes, n_init=5, random_state=seed).fit(known)
    labels = {
        "GaussianMixture of scikit-learn": mixture.predict(points[new]),
        "HDBSCAN of scikit-learn, 50": HDBSCAN(min_cluster_size=50, copy=True).fit(points).labels_[new],
        "KMeans of scikit-learn": KMeans(num_classes, n_init=5, random_state=seed).fit(known).predict(points[new]),
    }
    found = {}
    for name, cluster in labels.items():
        cluster = np.where(whole[new], cluster, -1)
        number = num_classes if "HDBSCAN" not in name else int(cluster.max()) + 1
        found[name] = {"clusters": number, "stability": np.nan, **scores(truth[new], cluster)}
    return found


def scores(truth: np.ndarray, cluster: np.ndarray) -> dict[str, float]:
    """Return ARI, NMI and purity; an object without a cluster is in cluster -1."""
    methods = {"ari": adjusted_rand_score, "nmi": normalized_mutual_info_score, "purity": purity}
    return {name: float(score(truth, cluster)) for name, score in methods.items()}


def purity(truth: np.ndarray, cluster: np.ndarray) -> float:
    """Return the share of objects in the most frequent class of their cluster."""
    return sum(int(np.bincount(truth[cluster == one]).max()) for one in np.unique(cluster)) / len(truth)


TASKS = {"clusters": Task((SKYSERVER, LINEAR), clusters)}
