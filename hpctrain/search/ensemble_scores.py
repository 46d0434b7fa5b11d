"""Score an ensemble beside one of its trials, with intervals from a paired bootstrap over objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hpctrain.families.labels.section import CLASS, VALUE
from hpctrain.rundir import RunDir
from hpctrain.search.ensemble_choice import mixed_log_p
from hpctrain.search.ensemble_held_out import Candidates, Label, predictions_of, read_columns
from hpctrain.search.folder import StudyDir

NUM_DRAWS = 2000
"""Bootstrap samples of the objects."""
_SHARES = (0.025, 0.975)
_CHUNK = 100


@dataclass(frozen=True)
class Metric:
    """Sums over rows that make up a score of two predictors: the root or not of a mean.

    Parameters
    ----------
    name : str
    ensemble, single : ndarray, shape (R,)
        What each row adds; 0 where it has no label.
    weight : ndarray, shape (R,)
        What the sums are divided by.
    root : bool
        The score is the square root of the mean.
    """

    name: str
    ensemble: np.ndarray
    single: np.ndarray
    weight: np.ndarray
    root: bool = False


@dataclass(frozen=True)
class Score:
    """A score of an ensemble and of a single trial, and their difference with its central 95 % interval."""

    name: str
    ensemble: float
    single: float
    difference: float
    low: float
    high: float


def metrics_of(study: StudyDir, candidates: Candidates, weights: Mapping[int, float], best: int) -> list[Metric]:
    """Return the scores to compute: the loss of the family, and of each label its log loss, accuracy and error.

    Parameters
    ----------
    study : StudyDir
    candidates : Candidates
    weights : mapping of int to float
        Weight of each member, by its place among the candidates.
    best : int
        Place of the single trial.
    """
    ensemble, single = -mixed_log_p(candidates.log_p, dict(weights)), -candidates.log_p[best]
    factor = np.array([label.weight for label in candidates.labels]) * np.isfinite(single)
    ensemble, single = np.nan_to_num(ensemble), np.nan_to_num(single)
    found = [Metric("loss", (factor * ensemble).sum(axis=1), (factor * single).sum(axis=1), factor.sum(axis=1))]
    for index, label in enumerate(candidates.labels):
        has = (factor[:, index] > 0).astype(float)
        name = f"{label.title}_log_loss"
        found.append(Metric(name, has * ensemble[:, index], has * single[:, index], has))
        if label.kind in (CLASS, VALUE):
            read = {
                place: _columns(study.trial(candidates.numbers[place]), label, candidates.order)
                for place in {*weights, best}
            }
            pick = _right if label.kind == CLASS else _square_errors
            both = [np.where(has > 0, pick(label, read, part), 0.0) for part in (weights, {best: 1.0})]
            name = f"{label.title}_accuracy" if label.kind == CLASS else f"{label.title}_rmse"
            found.append(Metric(name, both[0], both[1], has, root=label.kind == VALUE))
    return found


_Read = Mapping[int, Mapping[str, np.ndarray]]
"""Columns of each model by the end of their names."""


def _columns(run: RunDir, label: Label, rows: np.ndarray) -> dict[str, np.ndarray]:
    names = ("PROB" if label.kind == CLASS else "PRED", "TRUE")
    columns = read_columns(predictions_of(run), [f"{label.title}_{name}" for name in names])
    return {name: columns[f"{label.title}_{name}"][rows] for name in names}


def _right(label: Label, read: _Read, weights: Mapping[int, float]) -> np.ndarray:
    """Return for each row whether the class with the largest mean probability is the true one."""
    mean = sum(weight * read[place]["PROB"].astype(np.float64) for place, weight in weights.items())
    names = np.char.encode(np.array(label.classes), "utf-8")
    return (names[np.argmax(mean, axis=1)] == next(iter(read.values()))["TRUE"]).astype(float)


def _square_errors(label: Label, read: _Read, weights: Mapping[int, float]) -> np.ndarray:
    """Return the squared residual of each row. Where logarithms are learned, their mean is the prediction."""
    values = {place: read[place]["PRED"].astype(np.float64) for place in weights}
    if label.is_log:
        mean = 10 ** sum(weight * np.log10(values[place]) for place, weight in weights.items())
    else:
        mean = sum(weight * values[place] for place, weight in weights.items())
    return (mean - next(iter(read.values()))["TRUE"]) ** 2


def score(metric: Metric, target_id: np.ndarray, rows: np.ndarray, seed: int = 0) -> Score | None:
    """Return a score on some rows; None if none of them has a label.

    Parameters
    ----------
    metric : Metric
    target_id : ndarray, shape (R,), int64
    rows : ndarray, shape (R,), bool
    seed : int
        Of the bootstrap.

    References
    ----------
    .. [1] Efron & Tibshirani 1993, An Introduction to the Bootstrap, Chapman & Hall: the percentile interval.
    """
    _, of_row = np.unique(target_id[rows], return_inverse=True)
    of_row = of_row.reshape(-1)
    columns = (metric.ensemble[rows], metric.single[rows], metric.weight[rows])
    sums = np.stack([np.bincount(of_row, weights=column) for column in columns], axis=1)
    sums = sums[sums[:, 2] > 0]
    if not len(sums):
        return None
    ensemble, single = _ratio(sums.sum(axis=0), metric.root)
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(0, NUM_DRAWS, _CHUNK):
        picked = rng.integers(0, len(sums), (_CHUNK, len(sums)))
        drawn = np.stack([np.bincount(each, minlength=len(sums)) for each in picked]) @ sums
        mine, theirs = _ratio(drawn.T, metric.root)
        draws.append(mine - theirs)
    low, high = np.quantile(np.concatenate(draws), _SHARES)
    return Score(metric.name, float(ensemble), float(single), float(ensemble - single), float(low), float(high))


def _ratio(sums: np.ndarray, root: bool) -> tuple[np.ndarray, np.ndarray]:
    mean = sums[:2] / sums[2]
    mine, theirs = np.sqrt(mean) if root else mean
    return mine, theirs
