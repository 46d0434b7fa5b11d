"""Classes of real light curves: data, a random forest on plain features, and tables. n objects.

Every method learns from the same objects in each fold. The network holds 3 % of them out for its calibration; the
forests learn from all of them.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score, roc_auc_score

from benchmarks.light_curve_features import features_of
from benchmarks.science_scores import bootstrap
from hpctrain.families.store import load_model
from hpctrain.ingest.light_curves.assemble import assemble
from hpctrain.ingest.light_curves.labels import ObjectTable
from hpctrain.ingest.light_curves.observations import Observations, Reading
from hpctrain.ingest.light_curves.periods import find_periods
from hpctrain.ingest.light_curves.readers import read_observations
from hpctrain.ingest.light_curves.statistics import find_statistics
from hpctrain.kinds.light_curves.layout import Curves, write_curves
from hpctrain.kinds.light_curves.statistics import PERIOD, POWER, statistics_columns
from hpctrain.profile.families import kind_of
from hpctrain.profile.load import load_profile
from hpctrain.rundir import RunDir

NUM_FOLDS = 5
"""Each method learns from four fifths of the objects, and is judged on the others."""

NUM_TREES = 500
AT_ONCE = 256
"""Curves that are predicted at a time."""

Train = Callable[..., RunDir]
Scores = Mapping[str, tuple[float, float, float]]


@dataclass(frozen=True)
class Setting:
    """How our network learns one set of curves.

    Parameters
    ----------
    data, model, train : mapping
        Keys of these sections of the profile.
    """

    data: Mapping[str, Any]
    model: Mapping[str, Any]
    train: Mapping[str, Any]


STATISTICS = {"encoder": "none", "bins": 5, "feature_dropout": 0.2, "hidden": [256], "dropout": 0.5}
TRAIN = {"batch_size": 64, "epochs": 60, "learning_rate": 3.0e-3, "warmup_steps": 50, "weight_decay": 0.3}
SHORT = {"max_points": 64, "split": {"validation": 0.03}}
"""The network reads no points. It holds few objects out, for the calibration only."""
VARIABLES = Setting({"statistics": "periodic", **SHORT}, STATISTICS, TRAIN)
RR_LYRAE = Setting({"statistics": "periodic", **SHORT}, STATISTICS, TRAIN)
SUPERNOVAE = Setting(
    {"statistics": "plain", "features": ["redshift", "stat_weighted_mean"], "min_points": 1, **SHORT}, STATISTICS, TRAIN
)
FOREST, FOREST_PLAIN = "random forest on the same statistics", "random forest on plain features"


def variables(shared: Path, folder: Path, seeds: int, train: Train) -> dict[str, Any]:
    """Print the error of 26 classes of variable stars, and whether the bars are met."""
    curves = _with_statistics(_debosscher(shared / DEBOSSCHER), 0.05, folder / "variables-statistics.npz")
    truth = curves.columns["class"].astype(str)
    found = _judge("variables", curves, truth, VARIABLES, folder, seeds, train)
    _print_classes(f"Classes of {len(truth):,} variable stars ({len(set(truth))} classes)", found, truth, seeds)
    for name, predicted in found.items():
        wrong = float(np.mean([np.mean(one[0] != truth) for one in predicted]))
        for bar, value in ERROR_BARS.items():
            print(f"error of {name}: {wrong:.3f}, {bar} {value:.3f}: {'met' if wrong <= value else 'NOT MET'}")
    common = np.array([Counter(truth.tolist())[name] >= 10 for name in truth])
    for name, predicted in found.items():
        wrong = np.mean([np.mean(one[0][common] != truth[common]) for one in predicted])
        print(f"error of {name} for classes of at least 10 stars ({common.sum():,} stars): {wrong:.3f}")
    print(flush=True)
    return _class_scores(found, truth)


def rr_lyrae(shared: Path, folder: Path, seeds: int, train: Train) -> dict[str, Any]:
    """Print the accuracy of the type of RR Lyrae stars of Stripe 82."""
    table = ObjectTable(shared / STRIPE82[1], "Num", {"class": "Type"})
    curves = _with_statistics(_read(shared / STRIPE82[0], table), 0.15, folder / "rrlyrae-statistics.npz")
    truth = curves.columns["class"].astype(str)
    found = _judge("rrlyrae", curves, truth, RR_LYRAE, folder, seeds, train)
    _print_classes(f"Type (ab or c) of {len(truth):,} RR Lyrae stars of Stripe 82", found, truth, seeds)
    print(flush=True)
    return _class_scores(found, truth)


def supernovae(shared: Path, folder: Path, seeds: int, train: Train) -> dict[str, Any]:
    """Print how well curve and redshift separate peculiar supernovae Ia from normal ones."""
    table = ObjectTable(shared / ZTF[1], "ZTFID", {"class": "type", "redshift": "redshift"})
    curves = _read(shared / ZTF[0], table)
    kind = curves.columns["class"].astype(str)
    curves = replace(
        curves, columns={**curves.columns, "class": np.where(kind == "SN Ia", "normal", "peculiar").astype(object)}
    )
    curves = _with_statistics(curves, None, folder / "supernovae-statistics.npz")
    truth = curves.columns["class"].astype(str)
    found = _judge("supernovae", curves, truth, SUPERNOVAE, folder, seeds, train)
    is_peculiar = truth == "peculiar"
    print(f"Peculiar among {len(truth):,} supernovae Ia of ZTF, {NUM_FOLDS} folds, {seeds} starts")
    print(f"peculiar: {_subtypes(kind)}")
    scores = {
        name: {"auc": bootstrap(lambda rows, each=each: _auc(each, is_peculiar, rows), len(truth))}
        for name, each in found.items()
    }
    print_table(scores, {"auc": 3})
    print(flush=True)
    return scores


def _auc(predicted: list[tuple[np.ndarray, np.ndarray]], is_peculiar: np.ndarray, rows: np.ndarray) -> float:
    if len(set(is_peculiar[rows].tolist())) < 2:
        return 0.5
    return float(np.mean([roc_auc_score(is_peculiar[rows], one[1][rows, 1]) for one in predicted]))


def _subtypes(kind: np.ndarray) -> str:
    counts = Counter(name for name in kind.tolist() if name != "SN Ia")
    return ", ".join(f"{name.removeprefix('SN ')} {count}" for name, count in counts.most_common())


def _judge(
    name: str,
    curves: Curves,
    truth: np.ndarray,
    setting: Setting,
    folder: Path,
    seeds: int,
    train: Train,
) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Return, for each method and start, the predicted class (n,) and the probabilities (n, C) of sorted classes."""
    fold = _folds(truth)
    names = np.unique(truth)
    forests = _inputs_of_forests(curves, setting)
    found = {
        "light_curve_transformer": [np.zeros((len(truth), len(names))) for _ in range(seeds)],
        **{method: [np.zeros((len(truth), len(names)))] for method in forests},
    }
    for number in range(NUM_FOLDS):
        learn, new = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        for method, inputs in forests.items():
            forest = RandomForestClassifier(NUM_TREES, random_state=0, n_jobs=1).fit(inputs[learn], truth[learn])
            into = np.searchsorted(names, forest.classes_)
            found[method][0][np.ix_(new, into)] = forest.predict_proba(inputs[new])
        paths = [(folder / f"{name}-{number}-{part}.h5").absolute() for part in ("train", "test")]
        for path, rows in zip(paths, (learn, new), strict=True):
            write_curves(path, _subset(curves, rows), {})
        for seed in range(seeds):
            classes, probability = _learned(f"{name}-{number}-{seed}", paths, curves.bands, setting, seed, train)
            into = np.searchsorted(names, classes)
            found["light_curve_transformer"][seed][np.ix_(new, into)] = probability
    return {method: [(names[p.argmax(axis=1)], p) for p in each] for method, each in found.items()}


def _inputs_of_forests(curves: Curves, setting: Setting) -> dict[str, np.ndarray]:
    """Return the inputs (n, F) of each forest; -99 where one is not known.

    One reads what the network reads. Where curves have periods, another reads features with which this comparison has
    been made before, so that better features do not move the bar.
    """
    columns = [*setting.data.get("features", ()), *statistics_columns(setting.data["statistics"], curves.bands)]
    same = np.stack([curves.columns[name].astype(np.float64) for name in columns], axis=1)
    found = {FOREST: np.where(np.isfinite(same), same, -99.0)}
    if PERIOD in curves.columns:
        found[FOREST_PLAIN] = features_of(curves, curves.columns[PERIOD], curves.columns[POWER])
    return found


def _learned(
    name: str, paths: Sequence[Path], bands: Sequence[str], setting: Setting, seed: int, train: Train
) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes, and their probabilities for the curves of the second file, by a network that is trained.

    The folder keeps them under the settings, so that a measurement that was interrupted goes on.
    """
    data = {"files": [str(paths[0])], "bands": list(bands), "split": {"validation": 0.1}, **setting.data}
    label = {"column": "class", "kind": "class"}
    model = {"family": "light_curve_transformer", "labels": [label], **setting.model}
    settings = json.dumps([data, model, dict(setting.train), seed], sort_keys=True)
    kept = paths[0].with_name(f"{name}-{hashlib.sha256(settings.encode()).hexdigest()[:12]}.npz")
    if not kept.exists():
        classes, probability = _predict(train(paths[0].parent, name, data, model, seed, setting.train), paths[1])
        np.savez(kept, classes=np.array(classes), probability=probability)
    with np.load(kept) as stored:
        return stored["classes"], stored["probability"]


def _folds(truth: np.ndarray) -> np.ndarray:
    """Return the fold of each object, (n,): each class is spread evenly over the folds."""
    fold, rng = np.zeros(len(truth), int), np.random.default_rng(0)
    begin = 0
    for name in np.unique(truth):
        rows = np.flatnonzero(truth == name)
        fold[rng.permutation(rows)] = (begin + np.arange(len(rows))) % NUM_FOLDS
        begin += len(rows)
    return fold


def _predict(run: RunDir, path: Path) -> tuple[list[str], np.ndarray]:
    model, card = load_model(run.path)
    profile = load_profile(run.profile)
    kind = kind_of(profile)
    samples = kind.open(profile.data.model_copy(update={"files": [str(path)]}))
    prepare = kind.preparation(card)
    parts = []
    for start in range(0, len(samples), AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, len(samples)))
        parts.append(model.predict(prepare(samples.read(rows)))["class_PROB"].detach().numpy())
    return list(model.heads[0].label.classes), np.nan_to_num(np.concatenate(parts))


def _debosscher(path: Path) -> Curves:
    """Return the curves of a file whose classes may contain commas, which it does not quote."""
    objects: dict[str, list[str]] = {}
    points = []
    with gzip.open(path, "rt") as stream:
        next(stream)
        for line in stream:
            name, *kind, time, value, error = line.rstrip("\n").split(",")
            objects[name] = ["RR Lyrae" if kind[0] == "RR Lyrae" and len(kind) == 1 else ",".join(kind).strip()]
            points.append((name, float(time), float(value), float(error)))
    number = {name: index for index, name in enumerate(objects)}
    names, time, value, error = zip(*points, strict=True)
    part = Observations(
        names=list(objects),
        object_of=np.array([number[name] for name in names]),
        time=np.array(time),
        value=np.array(value),
        error=np.array(error),
        band=np.full(len(time), "V", dtype=object),
        columns={"class": np.array([kind for (kind,) in objects.values()], dtype=object)},
        unit="mag",
    )
    return assemble([part]).curves


def _read(path: Path, table: ObjectTable) -> Curves:
    return assemble([read_observations(path, Reading())], label=table.columns_for).curves


def _with_statistics(curves: Curves, shortest_days: float | None, kept: Path) -> Curves:
    """Return the curves with their statistics, which the file `kept` keeps for the next time."""
    if not kept.exists():
        periods = {} if shortest_days is None else find_periods(curves, shortest_days)
        curves = replace(curves, columns={**curves.columns, **periods})
        np.savez(kept, **periods | find_statistics(curves, shortest_days))
    with np.load(kept) as stored:
        return replace(curves, columns={**curves.columns, **{name: stored[name] for name in stored.files}})


def _subset(curves: Curves, rows: np.ndarray) -> Curves:
    counts = np.diff(curves.offsets)[rows]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    at = np.repeat(curves.offsets[rows] - offsets[:-1], counts) + np.arange(offsets[-1])
    points = {name: getattr(curves, name)[at] for name in ("time", "value", "error", "band")}
    columns = {name: values[rows] for name, values in curves.columns.items()}
    return replace(curves, offsets=offsets, target_id=curves.target_id[rows], columns=columns, **points)


def _print_difference(found: Mapping[str, list[tuple[np.ndarray, np.ndarray]]], truth: np.ndarray) -> None:
    """Print by how much the network errs more often than each forest, with an interval over the same objects."""
    ours, *forests = found
    for other in forests:

        def more(rows: np.ndarray, other: str = other) -> float:
            return _mean(found[other], truth, rows, _accuracy) - _mean(found[ours], truth, rows, _accuracy)

        value, low, high = bootstrap(more, len(truth))
        print(f"errors of {ours} minus those of {other}: {value:+.3f} ({low:+.3f} to {high:+.3f})")


def _class_scores(found: Mapping[str, list[tuple[np.ndarray, np.ndarray]]], truth: np.ndarray) -> dict[str, Scores]:
    return {
        name: {
            "accuracy": bootstrap(lambda rows, each=each: _mean(each, truth, rows, _accuracy), len(truth)),
            "macro_f1": bootstrap(lambda rows, each=each: _mean(each, truth, rows, _macro_f1), len(truth)),
        }
        for name, each in found.items()
    }


def _mean(predicted: list[tuple[np.ndarray, np.ndarray]], truth: np.ndarray, rows: np.ndarray, score: Any) -> float:
    return float(np.mean([score(truth[rows], one[0][rows]) for one in predicted]))


def _accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    return float(np.mean(truth == predicted))


def _macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    return float(f1_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0))


def _print_classes(title: str, found: Mapping[str, Any], truth: np.ndarray, seeds: int) -> None:
    print(f"{title}, {NUM_FOLDS} folds, {seeds} starts of the network")
    print_table(_class_scores(found, truth), {"accuracy": 3, "macro_f1": 3})
    _print_difference(found, truth)


def print_table(found: Mapping[str, Scores], digits: Mapping[str, int]) -> None:
    """Print scores with their intervals, a row per method."""
    print("| method | " + " | ".join(digits) + " |")
    print("|---|" + "---|" * len(digits))
    for name, scores in found.items():
        cells = [
            f"{scores[key][0]:.{d}f} ({scores[key][1]:.{d}f} to {scores[key][2]:.{d}f})" for key, d in digits.items()
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


DEBOSSCHER = "variable_stars/debosscher_1392.csv.gz"
STRIPE82 = ("light_curves/s82_rrlyrae_lc.csv.gz", "light_curves/s82_rrlyrae_labels.csv")
ZTF = ("light_curves/ztf_bts_snia_lc.csv.gz", "light_curves/ztf_bts_labels.csv")
ERROR_BARS = {"random forest on 33 features in ten folds": 0.199, "Richards et al. 2011 (1,542 stars)": 0.228}
"""Shares of wrong classes that are to be reached."""
