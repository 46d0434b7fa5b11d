"""Photometric redshifts and classes of catalogues: data, plain methods, and tables. n objects, F inputs, B bins."""

from __future__ import annotations

import gzip
import os
import subprocess
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.stats import norm
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.preprocessing import StandardScaler

from benchmarks.science_scores import bootstrap, density_columns, ks_distance, nmad, smoothed
from benchmarks.science_tables import Task, Train, print_bars, print_table
from hpctrain.errors import DataError
from hpctrain.families.store import load_model
from hpctrain.kinds.catalogue.tables import open_table
from hpctrain.profile.families import kind_of
from hpctrain.profile.load import load_profile
from hpctrain.profile.sections.data import SplitSection
from hpctrain.rundir import RunDir
from hpctrain.samples.split import TRAIN, assign_split

BANDS = ["u", "g", "r", "i", "z"]
PAIRS = [["u", "g"], ["g", "r"], ["r", "i"], ["i", "z"]]
ERRORS = {band: f"e{band}" for band in BANDS}
SPLIT = {"validation": 0.1}
REDSHIFT_BARS = {"nmad": 0.0128, "crps": 0.0090, "cde": -18.8, "ks": 0.03}
"""Largest values of scores that are to be reached."""

ACCURACY_BAR = 0.9653
"""Accuracy of a random forest on the same magnitudes, in five folds of the whole table."""

NUM_NEIGHBOURS, NUM_BINS = 20, 512
REDSHIFT_BINS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.6)
FOREST = {"method": "forest", "trees": 400, "trees_per_round": 20, "min_leaf": 6, "features_per_split": 1.0}
BOOSTING = {"method": "boosting", "trees": 300, "trees_per_round": 20, "learning_rate": 0.05, "sample": 0.5}
HISTOGRAM = {"splits": "histogram"}

Density = tuple[np.ndarray, np.ndarray]
"""Probability of each bin (n, B), and the edges of the bins (B + 1,)."""


def photoz(shared: Path, folder: Path, seeds: int, train: Train, rail: str | None = None) -> dict[str, Any]:
    """Print the scores of redshifts, each with its interval, and whether the bars are met.

    `rail` is a Python with RAIL, which learns from all training objects; without one it is skipped.
    """
    refuse_shifted_header(shared / MGS[0])
    paths = [folder / name for name in ("mgs-train.h5", "mgs-test.h5")]
    for source, path in zip(MGS, paths, strict=True):
        write_galaxies(shared / source, path)
    known, judged = (_read(path, [*BANDS, *ERRORS.values(), "zs", "target_id"]) for path in paths)
    learn = assign_split(known["target_id"], SplitSection(**SPLIT)) == TRAIN
    truth = judged["zs"]
    densities: dict[str, list[Density]] = {"trees, forest": [], "trees, boosting": [], "trees, histogram": []}
    inputs = {"features": BANDS, "differences": PAIRS, "errors": ERRORS}
    data = {"files": [str(paths[0].absolute())], "split": SPLIT, **inputs}
    label = {"column": "zs", "kind": "density", "bins": NUM_BINS}
    for seed in range(seeds):
        run = train(folder, "photoz-forest", data, {"family": "trees", "labels": [label], **FOREST}, seed)
        densities["trees, forest"].append(_forest_density(run, paths[1]))
        model = {"family": "trees", "labels": [{"column": "zs", "kind": "value"}], **BOOSTING}
        for name, more in {"trees, boosting": {}, "trees, histogram": HISTOGRAM}.items():
            run = train(folder, "photoz-boosting", data, {**model, **more}, seed)
            densities[name].append(_normal_density(_predict(run, paths[1]), known["zs"]))
    densities |= {name: [each] for name, each in plain_densities(known, judged, learn).items()}
    densities |= {name: [each] for name, each in rail_densities(rail, paths, folder / "rail.h5").items()}
    found = {
        name: _redshift_scores([density_columns(*one, truth) for one in each], truth)
        for name, each in densities.items()
    }
    print(f"Redshifts of {len(truth):,} SDSS galaxies, {seeds} starts of trees; median of the density, |dz| / (1 + z)")
    print_table(found, {"nmad": 5, "crps": 5, "cde": 2, "ks": 4, "bias": 5, "outliers": 4})
    ours = found["trees, forest"]
    print_bars({name: ours[name][0] for name in REDSHIFT_BARS}, REDSHIFT_BARS, "trees, forest")
    print("bins of true redshift, trees, forest, first start: NMAD, bias, objects")
    median = density_columns(*densities["trees, forest"][0], truth)["median"]
    for low, high in pairwise(REDSHIFT_BINS):
        rows = (truth >= low) & (truth < high)
        residual = (median[rows] - truth[rows]) / (1 + truth[rows])
        print(f"  {low:.2f} to {high:.2f}  {nmad(residual):.5f}  {np.median(residual):+.5f}  {rows.sum():,}")
    print(flush=True)
    return found


MGS = ("photoz/SDSS_MGS.train.gz", "photoz/SDSS_MGS.test.gz")
_MGS_COLUMNS = ("zs", "u", "g", "r", "i", "z", "u-g", "g-r", "r-i", "i-z", "eu", "eg", "er", "ei", "ez")


def refuse_shifted_header(path: Path) -> None:
    """Check that the reader refuses this file, whose header names 18 of its 19 columns."""
    try:
        open_table(path)
    except DataError as error:
        print(f"the file as it is, is refused: {str(error).removeprefix(f'{path}: ')}")
        return
    raise AssertionError(f"{path}: the reader took a header that names too few columns")


def write_galaxies(source: Path, path: Path) -> None:
    """Write the columns of such a file under their right names."""
    with gzip.open(source, "rt") as stream:
        values = np.loadtxt(stream)
    with h5py.File(path, "w") as file:
        for name, column in zip(_MGS_COLUMNS, values.T, strict=False):
            file[name] = column
        file["target_id"] = np.arange(1, len(values) + 1)


def _read(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {name: file[name][...] for name in names}


def _inputs(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return magnitudes and colours (n, F)."""
    return np.stack([*(columns[band] for band in BANDS), *(columns[a] - columns[b] for a, b in PAIRS)], axis=1)


def _batch(run: RunDir, path: Path) -> tuple[Any, Any]:
    profile = load_profile(run.profile)
    samples = kind_of(profile).open(profile.data.model_copy(update={"files": [str(path)]}))
    return load_model(run.path)[0], samples.read(np.arange(len(samples)))


def _forest_density(run: RunDir, path: Path) -> Density:
    model, batch = _batch(run, path)
    [(head, outputs)] = model.outputs(batch)
    p = (outputs / head.calibration).softmax(dim=1).double().numpy()
    return p / p.sum(axis=1, keepdims=True), np.linspace(head.low, head.high, p.shape[1] + 1)


def _predict(run: RunDir, path: Path) -> dict[str, np.ndarray]:
    model, batch = _batch(run, path)
    return {name: column.double().numpy() for name, column in model.predict(batch).items()}


def _edges(redshift: np.ndarray) -> np.ndarray:
    return np.linspace(redshift.min(), redshift.max(), NUM_BINS + 1)


def _normal_density(columns: Mapping[str, np.ndarray], redshift: np.ndarray) -> Density:
    edges = _edges(redshift)
    p = np.diff(norm.cdf(edges, columns["zs_PRED"][:, None], columns["zs_ERR"][:, None]), axis=1)
    return p / p.sum(axis=1, keepdims=True), edges


def plain_densities(
    known: Mapping[str, np.ndarray], judged: Mapping[str, np.ndarray], learn: np.ndarray
) -> dict[str, Density]:
    """Return densities by the redshifts of neighbours, and by a random forest with a normal distribution of one width.

    The forest gets the errors of the magnitudes too, as our models do; the neighbours are those in magnitudes and
    colours.

    The width of both is that with the highest likelihood of the training objects that are held out (`learn` false).
    """
    inputs, new, redshift = _inputs(known), _inputs(judged), known["zs"]
    with_errors = [
        np.concatenate([_inputs(each), np.stack([each[name] for name in ERRORS.values()], axis=1)], axis=1)
        for each in (known, judged)
    ]
    scale = StandardScaler().fit(inputs[learn])
    neighbours = NearestNeighbors(n_neighbors=NUM_NEIGHBOURS).fit(scale.transform(inputs[learn]))
    forest = RandomForestRegressor(500, min_samples_leaf=3, random_state=0, n_jobs=1)
    forest.fit(with_errors[0][learn], redshift[learn])

    def by_neighbours(these: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        distance, rows = neighbours.kneighbors(scale.transform(these))
        weight = 1 / np.maximum(distance, 1e-9)
        return redshift[learn][rows], weight / weight.sum(axis=1, keepdims=True)

    def by_forest(these: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value = forest.predict(these)[:, None]
        return value, np.ones_like(value)

    edges, found = _edges(redshift), {}
    methods = {"nearest neighbours": (by_neighbours, inputs, new), "random forest": (by_forest, *with_errors)}
    for name, (method, there, here) in methods.items():
        place = np.clip(np.searchsorted(edges, redshift[~learn], side="right") - 1, 0, NUM_BINS - 1)
        held_out = method(there[~learn])
        likelihood = {}
        for width in np.geomspace(0.002, 0.04, 14):
            p = smoothed(*held_out, width, edges)
            likelihood[width] = np.log(np.maximum(p[np.arange(len(p)), place], 1e-12)).mean()
        found[name] = smoothed(*method(here), max(likelihood, key=likelihood.__getitem__), edges), edges
    return found


def rail_densities(python: str | None, paths: list[Path], out: Path) -> dict[str, Density]:
    """Return the densities of RAIL; none, and a line that says why, if it does not run."""
    if python is None:
        print("RAIL: skipped, --rail names no Python that has it")
        return {}
    script = Path(__file__).with_name("science_rail.py")
    command = [python, str(script), *(str(path.absolute()) for path in paths), str(out.absolute())]
    environment = {**os.environ, "PYTHONPATH": "", "LOKY_MAX_CPU_COUNT": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        print(f"RAIL: skipped, {python} ended with {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        return {}
    with h5py.File(out) as file:
        edges = file["edges"][...]
        return {f"{name} of RAIL": (file[name][...], edges) for name in file if name != "edges"}


def _redshift_scores(parts: list[dict[str, np.ndarray]], truth: np.ndarray) -> dict[str, tuple[float, float, float]]:
    residual = [(part["median"] - truth) / (1 + truth) for part in parts]
    scores: dict[str, Callable[[np.ndarray], float]] = {
        "nmad": lambda rows: float(np.mean([nmad(each[rows]) for each in residual])),
        "crps": lambda rows: float(np.mean([part["crps"][rows].mean() for part in parts])),
        "cde": lambda rows: float(np.mean([part["cde"][rows].mean() for part in parts])),
        "ks": lambda rows: float(np.mean([ks_distance(part["pit"][rows]) for part in parts])),
        "bias": lambda rows: float(np.mean([np.median(each[rows]) for each in residual])),
        "outliers": lambda rows: float(np.mean([(np.abs(each[rows]) > 0.05).mean() for each in residual])),
    }
    return {name: bootstrap(score, len(truth)) for name, score in scores.items()}


def classes(shared: Path, folder: Path, seeds: int, train: Train) -> dict[str, Any]:
    """Print the accuracy of classes in five folds, with its interval, and whether the bar is met."""
    table = open_table(shared / SKYSERVER)
    columns = {band: table.column(band).astype(float) for band in BANDS}
    truth, inputs = table.column("class").astype(str), _inputs(columns)
    fold = np.random.default_rng(0).integers(5, size=len(truth))
    names = ["trees, forest", "trees, boosting", "trees, histogram"]
    found = {name: np.empty((seeds, len(truth)), dtype=truth.dtype) for name in names}
    found |= {name: np.empty((1, len(truth)), dtype=truth.dtype) for name in ("random forest", "nearest neighbours")}
    for number in range(5):
        rows, new = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        paths = [folder / f"stars-{number}-{name}.h5" for name in ("train", "test")]
        for path, these in zip(paths, (rows, new), strict=True):
            with h5py.File(path, "w") as file:
                for band in BANDS:
                    file[band] = columns[band][these]
                file["class"], file["target_id"] = truth[these].astype("S6"), these
        data = {"files": [str(paths[0].absolute())], "features": BANDS, "differences": PAIRS, "split": SPLIT}
        model = {"family": "trees", "labels": [{"column": "class", "kind": "class"}]}
        for seed in range(seeds):
            for name, keys in zip(names, (CLASS_FOREST, CLASS_BOOSTING, CLASS_BOOSTING | HISTOGRAM), strict=True):
                run = train(folder, f"classes-{keys['method']}", data, {**model, **keys}, seed)
                card, batch = _batch(run, paths[1])
                codes = card.predict(batch)["class_CODE"].numpy()
                found[name][seed, new] = np.array(card.heads[0].label.classes)[codes]
        learn = rows[assign_split(rows, SplitSection(**SPLIT)) == TRAIN]
        forest = RandomForestClassifier(300, random_state=0, n_jobs=1).fit(inputs[learn], truth[learn])
        found["random forest"][0, new] = forest.predict(inputs[new])
        scale = StandardScaler().fit(inputs[learn])
        near = KNeighborsClassifier(10, weights="distance").fit(scale.transform(inputs[learn]), truth[learn])
        found["nearest neighbours"][0, new] = near.predict(scale.transform(inputs[new]))
    scores = {name: _class_scores(each, truth) for name, each in found.items()}
    print(f"Star, galaxy or quasar of {len(truth):,} SDSS objects by photometry, five folds, {seeds} starts of trees")
    print_table(scores, {"accuracy": 4, "macro_f1": 4})
    value = scores[names[0]]["accuracy"][0]
    print_bars({"-accuracy": -value}, {"-accuracy": -ACCURACY_BAR}, names[0])
    print(flush=True)
    return scores


SKYSERVER = "catalogs/skyserver_dr14_10k.csv"
CLASS_FOREST = {"method": "forest", "trees": 300, "trees_per_round": 20, "min_leaf": 1}
CLASS_BOOSTING = {"method": "boosting", "trees": 300, "trees_per_round": 20, "max_depth": 6, "sample": 0.5}


def _class_scores(predicted: np.ndarray, truth: np.ndarray) -> dict[str, tuple[float, float, float]]:
    return {
        "accuracy": bootstrap(lambda rows: float((predicted[:, rows] == truth[rows]).mean()), len(truth)),
        "macro_f1": bootstrap(
            lambda rows: float(np.mean([f1_score(truth[rows], one[rows], average="macro") for one in predicted])),
            len(truth),
        ),
    }


TASKS = {"photoz": Task(MGS, photoz), "classes": Task((SKYSERVER,), classes)}
