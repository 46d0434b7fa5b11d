"""Confidence intervals of metrics over objects. R rows, G objects, D draws, K sums.

All rows of an object belong together: they are no independent measurements. A bootstrap draw is a count of each object,
and the counts are the weights of its rows. Which interval a metric gets depends on how it behaves
(:mod:`hpctrain.validation.rules`); ``benchmarks/validation_intervals.py`` measures how often they cover the truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hpctrain.validation.rule import Data, Rule, wilson_interval
from hpctrain.validation.rules import rule_of
from hpctrain.validation.tasks.sums import Sums
from hpctrain.validation.tasks.task import Task

DRAWS = 1000
CONFIDENCE = 0.95
_VALUES_AT_ONCE = 1 << 21
"""Largest number of weights in memory at a time."""


@dataclass(frozen=True)
class Score:
    """A metric with its interval.

    Parameters
    ----------
    value, low, high : float
        NaN where nothing is known.
    num_rows, num_objects : int
        What the metric was computed from.
    note : str
        Why to take the interval with care; empty where nothing is known against it.
    method : str
        Kind of the interval.
    """

    value: float
    low: float
    high: float
    num_rows: int
    num_objects: int
    note: str = ""
    method: str = ""


def interval(
    task: Task,
    metric: str,
    target_id: np.ndarray,
    rows: np.ndarray | None = None,
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
    seed: int = 0,
    weights: np.ndarray | None = None,
) -> Score:
    """Return a metric with its interval.

    Parameters
    ----------
    task : Task
    metric : str
        Its name.
    target_id : ndarray, shape (R,)
        What is drawn as a whole: the object of each row, or any other group of it, such as a cell of the sky.
    rows : ndarray, shape (R,), bool, or of row numbers, optional
        The rows that count, such as those of a bin; all by default.
    draws : int
    confidence : float
        Share of such intervals that shall cover the value of the whole population.
    seed : int
    weights : ndarray, shape (R,), optional
        Weights of the rows, such as those of another population; 1 by default.

    References
    ----------
    .. [1] Efron & Tibshirani 1993, An Introduction to the Bootstrap, Chapman & Hall.
    .. [2] Davison & Hinkley 1997, Bootstrap Methods and their Application, Cambridge, sect. 3.8: clusters are drawn.
    """
    return intervals(task, [metric], target_id, rows, draws, confidence, seed, weights)[metric]


def intervals(
    task: Task,
    metrics: Sequence[str],
    target_id: np.ndarray,
    rows: np.ndarray | None = None,
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
    seed: int = 0,
    weights: np.ndarray | None = None,
) -> dict[str, Score]:
    """Return several metrics with their intervals from the same draws; the arguments are those of :func:`interval`."""
    base = row_weights(len(target_id), rows, weights) * task.known
    kept = np.flatnonzero(base > 0)
    groups = Groups(target_id[kept], kept, base[kept])
    data = Data(base, groups.of_all(len(base)), groups.number, confidence)
    rules = {name: rule_of(task.statistic(name), data) for name in metrics}
    drawn = [rule for rule in rules.values() if rule.needs_draws]
    if drawn and groups.number:
        by_row = any(rule.needs_rows for rule in drawn)
        for counts in groups.counts(draws, seed, draws_at_once(len(base))):
            weights_of_rows = groups.row_weights(counts, len(base)) if by_row else None
            for rule in drawn:
                rule.add(counts, weights_of_rows)
    return {name: _score(task, name, rule, data, target_id) for name, rule in rules.items()}


def _score(task: Task, name: str, rule: Rule, data: Data, target_id: np.ndarray) -> Score:
    used = task.statistic(name).used & (data.weights > 0)
    num_objects = len(np.unique(target_id[used]))
    low, high = rule.ends() if num_objects else (np.nan, np.nan)
    note = rule.note(num_objects, int(used.sum())) if num_objects else ""
    value = task.score(name, data.weights)
    return Score(value, float(low), float(high), int(used.sum()), num_objects, note, rule.method)


def row_weights(num_rows: int, rows: np.ndarray | None, weights: np.ndarray | None) -> np.ndarray:
    """Return the weight of each row, 0 for those that do not count; (R,), float64."""
    base = np.ones(num_rows) if weights is None else np.asarray(weights, dtype=np.float64)
    if rows is None:
        return base
    mask = np.zeros(num_rows)
    mask[rows] = 1.0
    return base * mask


class Groups:
    """Rows that are drawn together.

    Parameters
    ----------
    target_id : ndarray, shape (n,)
        Object of each row that counts.
    rows : ndarray, shape (n,), int64
        Their numbers.
    weights : ndarray, shape (n,)
    """

    def __init__(self, target_id: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> None:
        objects, of_row = np.unique(target_id, return_inverse=True)
        self.number, self.of_row, self.rows, self.weights = len(objects), of_row.reshape(-1), rows, weights

    def of_all(self, num_rows: int) -> np.ndarray:
        """Return the object of each of all rows, -1 where it does not count; (R,), int64."""
        found = np.full(num_rows, -1, dtype=np.int64)
        found[self.rows] = self.of_row
        return found

    def counts(self, number: int, seed: int, at_once: int) -> Iterator[np.ndarray]:
        """Yield how often each draw has each group, for some of the draws at a time, (d, G), float64."""
        rng = np.random.default_rng(seed)
        for start in range(0, number if self.number else 0, at_once):
            found = np.empty((min(at_once, number - start), self.number))
            for line in found:
                line[:] = np.bincount(rng.integers(self.number, size=self.number), minlength=self.number)
            yield found

    def draws(self, number: int, seed: int, num_rows: int) -> Iterator[np.ndarray]:
        """Yield weights of all rows for some of the draws at a time, (d, R), float64."""
        for counts in self.counts(number, seed, draws_at_once(num_rows)):
            yield self.row_weights(counts, num_rows)

    def row_weights(self, counts: np.ndarray, num_rows: int) -> np.ndarray:
        """Return the weights of all rows for counts of the groups (d, G), as (d, R)."""
        own = np.take(counts, self.of_row, axis=1) * self.weights
        if np.array_equal(self.rows, np.arange(num_rows)):
            return own
        found = np.zeros((len(counts), num_rows))
        found[:, self.rows] = own
        return found


def draws_at_once(num_rows: int) -> int:
    """Return how many draws of so many rows are in memory at a time."""
    return max(1, _VALUES_AT_ONCE // max(num_rows, 1))


def wilson(statistic: Sums, weights: np.ndarray, target_id: np.ndarray, confidence: float) -> tuple[float, float]:
    """Return Wilson's interval of a share, with the number of rows divided by the design effect of the objects.

    Parameters
    ----------
    statistic : Sums
        A share.
    weights, target_id : ndarray, shape (R,)
    confidence : float
    """
    weights = np.asarray(weights, dtype=np.float64)
    kept = np.flatnonzero(weights > 0)
    groups = Groups(np.asarray(target_id)[kept], kept, weights[kept])
    return wilson_interval(statistic, Data(weights, groups.of_all(len(weights)), groups.number, confidence))
