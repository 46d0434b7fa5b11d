"""Clusters of catalogues against known classes: data, plain methods, and a table. n objects, F inputs."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

from benchmarks.science_catalogue import BANDS, PAIRS, SKYSERVER
from benchmarks.science_tables import Task, Train
from hpctrain.families.clusters.agreement import SCORES, agreement_intervals
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


ROBUST = {"scale": "robust"}


def models_of(num_classes: int) -> dict[str, dict[str, Any]]:
    """Return the methods to judge; UMAP where umap-learn is installed."""
    same, lists = {"clusters": num_classes}, {"clusters": list(range(2, 9))}
    dense = {"method": "hdbscan", "min_cluster_size": [25, 50, 100, 200]}
    found = {
        "mixture, as many as classes": {"method": "mixture", **same},
        "mixture, as many, scale: robust": {"method": "mixture", **same, **ROBUST},
        "mixture, by BIC": {"method": "mixture", **lists},
        "hdbscan, by stability": dense,
        "hdbscan, by stability, scale: robust": {**dense, **ROBUST},
        "kmeans, as many as classes": {"method": "kmeans", **same},
        "kmeans, as many, scale: robust": {"method": "kmeans", **same, **ROBUST},
        "kmeans, by silhouette": {"method": "kmeans", **lists},
    }
    if find_spec("umap") is None:
        print("UMAP: skipped, umap-learn is not installed")
        return found
    after = {"reduce": "umap", "resamples": 0}
    found["hdbscan, 50, after UMAP"] = {"method": "hdbscan", "min_cluster_size": 50, **after}
    found["mixture, as many, after UMAP"] = {"method": "mixture", **same, **after}
    return found


def judge(path: Path, data: dict[str, Any], inputs: list[str], num_classes: int, seeds: int) -> dict[str, Any]:
    """Print and return the scores of our methods and of plain ones on one set, each on the same splits."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name, keys in models_of(num_classes).items():
        for seed in range(seeds):
            split = {"validation": HELD_OUT, "salt": f"split {seed}"}
            model = {"family": "clusters", "inputs": inputs, "label": "class", "resamples": 5, **keys}
            found.setdefault(name, []).append(fitted(path, {**data, "split": split}, model, seed))
    for seed in range(seeds):
        split = SplitSection(validation=HELD_OUT, salt=f"split {seed}")
        for name, score in plain_scores(path, data, inputs, num_classes, split, seed).items():
            found.setdefault(name, []).append(score)
    print(
        f"Clusters of {path.stem.removeprefix('clusters-')}: {num_classes} classes, means of {seeds} splits; ends of "
        "the 95 % interval over the held-out objects of a split; lowest and highest split"
    )
    print("| method | clusters | stability | ARI | ARI of splits | NMI | purity |\n|---|---|---|---|---|---|---|")
    table = {name: _summary(each) for name, each in found.items()}
    for name, each in table.items():
        counts = sorted({int(one["clusters"]) for one in found[name]})
        number = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        cells = [f"{mean:.2f} ({low:.2f} to {high:.2f})" for mean, low, high in (each[score] for score in SCORES)]
        splits = "{:.2f} to {:.2f}".format(*each["splits"])
        stability = "" if np.isnan(each["stability"]) else f"{each['stability']:.2f}"
        print(f"| {name} | {number} | {stability} | {cells[0]} | {splits} | {cells[1]} | {cells[2]} |")
    print(flush=True)
    return table


def _summary(scores_of_splits: list[dict[str, Any]]) -> dict[str, Any]:
    """Return means over splits: of the stability, and of each score with the ends of its interval; and the lowest and
    highest ARI."""
    intervals = [agreement_intervals(one["table"]) for one in scores_of_splits]
    found: dict[str, Any] = {name: np.mean([one[name] for one in intervals], axis=0).tolist() for name in SCORES}
    ari = [one["ari"][0] for one in intervals]
    stability = float(np.mean([one["stability"] for one in scores_of_splits]))
    return {**found, "splits": [min(ari), max(ari)], "stability": stability}


def fitted(path: Path, data: dict[str, Any], model: dict[str, Any], seed: int) -> dict[str, Any]:
    """Do all rounds of a run in this process, and return how it groups the held-out objects."""
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
    return {**numbers, "table": table_of(samples.labels["class"][held_out], cluster)}


def plain_scores(
    path: Path, data: dict[str, Any], inputs: list[str], num_classes: int, split: SplitSection, seed: int
) -> dict[str, dict[str, Any]]:
    """Return how scikit-learn groups the held-out objects by standardised inputs.

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
        found[name] = {"clusters": number, "stability": np.nan, "table": table_of(truth[new], cluster)}
    return found


def table_of(truth: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Return the number of objects of each cluster and class; objects without a cluster are a row of their own."""
    rows, columns = (np.unique(each, return_inverse=True)[1] for each in (cluster, truth))
    table = np.zeros((rows.max() + 1, columns.max() + 1), dtype=np.int64)
    np.add.at(table, (rows, columns), 1)
    return table


TASKS = {"clusters": Task((SKYSERVER, LINEAR), clusters)}
