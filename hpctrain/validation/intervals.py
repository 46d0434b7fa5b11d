"""Confidence intervals of metrics, by drawing objects anew. R rows, G objects, D draws.

All rows of an object are drawn together: the rows of one object are no independent measurements. A draw is a count of
each object, and the counts are the weights of its rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from hpctrain.validation.tasks.sums import Sums
from hpctrain.validation.tasks.task import SHARE, Task

DRAWS = 1000
CONFIDENCE = 0.95
_VALUES_AT_ONCE = 1 << 22
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
        Why the interval may be too narrow; empty where nothing is known against it.
    """

    value: float
    low: float
    high: float
    num_rows: int
    num_objects: int
    note: str = ""


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
    groups = Groups(target_id[base > 0], np.flatnonzero(base > 0), base[base > 0])
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in metrics if task.statistic(name).how != SHARE}
    if drawn:
        for counted in groups.draws(draws, seed, len(target_id)):
            for name, found in drawn.items():
                found.append(task.scores(name, counted))
    result = {}
    for name in metrics:
        statistic = task.statistic(name)
        used = statistic.used & (base > 0)
        number = int(used.sum()), len(np.unique(target_id[used]))
        value = task.score(name, base)
        if name not in drawn:
            low, high = wilson(statistic, base, target_id, confidence)  # type: ignore[arg-type]
        else:
            shares = 0.5 * (1 - confidence), 0.5 * (1 + confidence)
            samples = np.concatenate([np.empty(0), *drawn[name]])
            samples = samples[np.isfinite(samples)]
            low, high = np.quantile(samples, shares) if len(samples) else (np.nan, np.nan)
        result[name] = Score(value, float(low), float(high), *number)
    return result


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

    def counts(self, number: int, seed: int, at_once: int) -> Iterator[np.ndarray]:
        """Yield how often each draw has each group, for some of the draws at a time, (d, G), int64."""
        rng = np.random.default_rng(seed)
        for start in range(0, number if self.number else 0, at_once):
            draws = range(min(at_once, number - start))
            picked = (rng.integers(self.number, size=self.number) for _ in draws)
            yield np.stack([np.bincount(each, minlength=self.number) for each in picked])

    def draws(self, number: int, seed: int, num_rows: int) -> Iterator[np.ndarray]:
        """Yield weights of all rows for some of the draws at a time, (d, R), float64."""
        for counts in self.counts(number, seed, max(1, _VALUES_AT_ONCE // max(num_rows, 1))):
            yield self.row_weights(counts, num_rows)

    def row_weights(self, counts: np.ndarray, num_rows: int) -> np.ndarray:
        """Return the weights of all rows for counts of the groups (d, G), as (d, R)."""
        found = np.zeros((len(counts), num_rows))
        found[:, self.rows] = counts[:, self.of_row] * self.weights
        return found


def wilson(statistic: Sums, weights: np.ndarray, target_id: np.ndarray, confidence: float) -> tuple[float, float]:
    """Return Wilson's interval of a share, with the number of rows divided by the design effect of the objects.

    Parameters
    ----------
    statistic : Sums
        A share.
    weights, target_id : ndarray, shape (R,)
    confidence : float

    References
    ----------
    .. [1] Wilson 1927, JASA 22, 209.
    .. [2] Korn & Graubard 1998, Survey Methodology 24, 193: the effective number of rows.
    """
    used = statistic.used & (weights > 0)
    if not used.any():
        return np.nan, np.nan
    _, of_row = np.unique(target_id[used], return_inverse=True)
    of_row = of_row.reshape(-1)
    own = np.bincount(of_row, weights[used])
    share = float(statistic.scores(weights[None])[0])
    num, total = len(own), own.sum()
    size = total**2 / (own**2).sum()  # rows of an object that always agree
    if 0 < share < 1 and num > 1:
        apart = np.bincount(of_row, weights[used] * (statistic.columns[used, 0] - share))
        variance = num / (num - 1) * (apart**2).sum() / total**2
        size = min(share * (1 - share) / variance, float(used.sum())) if variance > 0 else size
    z = stats.norm.ppf(0.5 * (1 + confidence))
    middle = (share + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z / (1 + z**2 / size) * np.sqrt(share * (1 - share) / size + z**2 / (4 * size**2))
    return max(float(middle - half), 0.0), min(float(middle + half), 1.0)
