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
from hpctrain.validation.comparison.paired import ends, paired_draws
from hpctrain.validation.intervals import Groups, row_weights
from hpctrain.validation.tasks.sums import Sums

NUM_DRAWS = 2000
"""Bootstrap samples of the objects."""
CONFIDENCE = 0.95


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
    """
    used = np.flatnonzero(rows & (metric.weight > 0))
    if not len(used):
        return None
    pair = tuple(_statistic(values, metric) for values in (metric.ensemble, metric.single))
    groups = Groups(target_id[used], used, np.ones(len(used)))
    counted = row_weights(len(target_id), used, None)[None]
    ensemble, single = (float(each.scores(counted)[0]) for each in pair)
    drawn = paired_draws({metric.name: pair}, groups, NUM_DRAWS, seed)[metric.name]  # type: ignore[dict-item]
    low, high = ends(drawn[0] - drawn[1], groups.number, CONFIDENCE)
    return Score(metric.name, ensemble, single, ensemble - single, low, high)


def _statistic(values: np.ndarray, metric: Metric) -> Sums:
    """Return the score of one predictor as a function of sums over rows."""
    columns = np.stack([values, metric.weight], axis=1)
    is_used = metric.weight > 0
    if metric.root:
        return Sums(columns, is_used, lambda sums: np.sqrt(sums[:, 0] / sums[:, 1]))
    return Sums(columns, is_used, lambda sums: sums[:, 0] / sums[:, 1])
