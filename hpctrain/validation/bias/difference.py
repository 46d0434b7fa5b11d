"""Does a metric of some rows differ from that of the others by more than chance? R rows, n of them in a part."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from hpctrain.validation.bias.restricted import restricted
from hpctrain.validation.tasks.sums import Sums
from hpctrain.validation.tasks.task import LOWER, SHARE, Statistic, Task

FEWEST_OBJECTS = 30
"""Smallest number of objects, inside and outside, for a test."""
MOST_OBJECTS = 10_000
"""Objects from which a standard error is drawn; that of more objects is scaled from it."""
DRAWS = 400
_ONLY_POSITIVE = ("nmad", "scatter", "rmse", "mae", "crps")
"""Metrics whose logarithms are compared: a scatter of few objects is lopsided, its logarithm is not."""


@dataclass(frozen=True)
class Difference:
    """A metric inside and outside a part of the rows.

    Parameters
    ----------
    inside, outside : float
    p : float
        Probability of such a difference, or a larger one of either sign, where there is none; NaN if it was not tested.
    """

    inside: float
    outside: float
    p: float


def difference(
    task: Task, metric: str, target_id: np.ndarray, inside: np.ndarray, draws: int = DRAWS, seed: int = 0
) -> Difference:
    """Compare a metric inside and outside a part of the rows.

    A share is tested by Fisher's exact test, with numbers of rows divided by the design effect of rows of the same
    object. Any other metric is divided by its standard error from a bootstrap over objects, and compared with Student's
    t distribution with Welch's degrees of freedom; scatters are compared as logarithms. Inside and outside count as
    independent, so an object with rows on both sides makes the test more careful.

    Parameters
    ----------
    task : Task
    metric : str
    target_id : ndarray, shape (R,), int64
    inside : ndarray, shape (R,), bool
    draws, seed : int
        Of the bootstrap.

    References
    ----------
    .. [1] Rao & Scott 1992, Biometrics 48, 577: shares of rows that belong together.
    .. [2] Welch 1947, Biometrika 34, 28.
    """
    statistic = task.statistic(metric)
    parts = [np.flatnonzero(statistic.used & side) for side in (inside, ~inside)]
    own = [restricted(statistic, rows) for rows in parts]
    values = [
        float(each.scores(np.ones((1, len(rows))))[0]) if len(rows) else math.nan
        for each, rows in zip(own, parts, strict=True)
    ]
    objects = [len(np.unique(target_id[rows])) for rows in parts]
    if min(objects) < FEWEST_OBJECTS or not np.isfinite(values).all():
        return Difference(*values, math.nan)
    if statistic.how == SHARE and isinstance(statistic, Sums):
        return Difference(*values, _fisher(statistic, parts, target_id))
    is_log = task.metric(metric).better == LOWER and metric in _ONLY_POSITIVE and min(values) > 0
    errors = [
        standard_error(each, target_id[rows], draws, seed + number, is_log)
        for number, (each, rows) in enumerate(zip(own, parts, strict=True))
    ]
    apart = math.log(values[0] / values[1]) if is_log else values[0] - values[1]
    return Difference(*values, _welch(apart, errors, objects, draws))


def standard_error(statistic: Statistic, target_id: np.ndarray, draws: int, seed: int, is_log: bool = False) -> float:
    """Return the standard error of a metric, or of its logarithm, from a bootstrap over objects.

    Parameters
    ----------
    statistic : Statistic
        Of n rows.
    target_id : ndarray, shape (n,), int64
    draws, seed : int
    is_log : bool

    References
    ----------
    .. [1] Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 6.
    """
    rng = np.random.default_rng(seed)
    objects, of_row = np.unique(target_id, return_inverse=True)
    of_row, number, scale = of_row.reshape(-1), len(objects), 1.0
    if number > MOST_OBJECTS:
        chosen = np.zeros(number, dtype=bool)
        chosen[rng.choice(number, MOST_OBJECTS, replace=False)] = True
        rows = np.flatnonzero(chosen[of_row])
        statistic = restricted(statistic, rows)
        of_row = (np.cumsum(chosen) - 1)[of_row[rows]]
        scale, number = math.sqrt(MOST_OBJECTS / number), MOST_OBJECTS
    found = []
    at_once = max(1, (1 << 21) // len(of_row))
    for start in range(0, draws, at_once):
        picked = rng.integers(number, size=(min(at_once, draws - start), number))
        counts = np.stack([np.bincount(each, minlength=number) for each in picked]).astype(np.float64)
        found.append(statistic.scores(counts if len(of_row) == number and _rising(of_row) else counts[:, of_row]))
    scores = np.concatenate(found)
    if is_log:
        scores = np.log(np.where(scores > 0, scores, np.nan))
    scores = scores[np.isfinite(scores)]
    if len(scores) < draws // 2:
        return math.nan
    return scale * float(scores.std(ddof=1)) * math.sqrt(number / (number - 1))


def _rising(of_row: np.ndarray) -> bool:
    return bool((np.diff(of_row) == 1).all())


def _welch(apart: float, errors: list[float], objects: list[int], draws: int) -> float:
    variances = np.square(errors)
    total = float(variances.sum())
    if not total > 0:
        return math.nan
    freedom = total**2 / float((variances**2 / (np.asarray(objects) - 1)).sum())
    return float(2 * stats.t.sf(abs(apart) / math.sqrt(total), min(freedom, draws - 1)))


def _fisher(statistic: Sums, parts: list[np.ndarray], target_id: np.ndarray) -> float:
    """Return the p value of Fisher's test of two shares, with effective numbers of rows."""
    table = []
    for rows in parts:
        _, of_row = np.unique(target_id[rows], return_inverse=True)
        own = np.bincount(of_row.reshape(-1)).astype(np.float64)
        hits = np.bincount(of_row.reshape(-1), statistic.columns[rows, 0])
        share = hits.sum() / own.sum()
        size = float(own.sum())
        if len(own) < len(rows):
            variance = len(own) / (len(own) - 1) * ((hits - share * own) ** 2).sum() / size**2
            effective = share * (1 - share) / variance if variance > 0 else size**2 / (own**2).sum()
            size = min(size, effective)
        table.append([round(share * size), round((1 - share) * size)])
    return float(stats.fisher_exact(table)[1])
