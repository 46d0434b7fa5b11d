"""How much each row moves a metric: what makes its mean in a group of rows comparable by permutations. R rows."""

from __future__ import annotations

import numpy as np

from hpctrain.validation.tasks.ordered import NMAD_FACTOR, Median, Nmad, Unevenness
from hpctrain.validation.tasks.sums import Sums
from hpctrain.validation.tasks.task import Statistic

_STEP = 1e-5
_NEAR = 0.05
"""Half the share of the rows around a quantile that gives the density there."""


def influence(statistic: Statistic) -> np.ndarray | None:
    """Return the empirical influence of each row on a metric, in its unit, (R,); NaN in rows that do not count.

    The mean of the influence over some of the rows is, to first order, by how much their metric differs from that of
    all rows.

    Parameters
    ----------
    statistic : Statistic

    Returns
    -------
    ndarray, shape (R,), or None
        None for metrics without one: ranks, and what is the largest of many numbers.

    References
    ----------
    .. [1] Hampel et al. 1986, Robust Statistics, Wiley, sect. 2.1.
    """
    found = np.full(len(statistic.used), np.nan)
    if not statistic.used.any():
        return None
    if isinstance(statistic, Sums):
        found[statistic.used] = _of_sums(statistic)
    elif isinstance(statistic, Median) and not isinstance(statistic, Unevenness):
        values = np.asarray(statistic.sorted.values, dtype=np.float64)[statistic.used]
        factor = 1.0
        if isinstance(statistic, Nmad):
            values, factor = np.abs(values - np.median(values)), NMAD_FACTOR
        elif type(statistic) is not Median:
            return None
        found[statistic.used] = factor * _of_median(values)
    else:
        return None
    return found if np.isfinite(found[statistic.used]).all() else None


def _of_sums(statistic: Sums) -> np.ndarray:
    columns = statistic.columns[statistic.used]
    sums = columns.sum(axis=0)
    steps = _STEP * np.maximum(np.abs(sums), np.abs(columns).sum(axis=0))
    steps = np.where(steps > 0, steps, 1.0)
    ends = statistic.of_sums(np.concatenate([sums + np.diag(steps), sums - np.diag(steps)]))
    slopes = (ends[: len(steps)] - ends[len(steps) :]) / (2 * steps)
    found = columns @ (np.where((columns != 0).any(axis=0), slopes, 0.0) * len(columns))
    return found - found.mean()


def _of_median(values: np.ndarray) -> np.ndarray:
    middle = np.median(values)
    low, high = np.quantile(values, (0.5 - _NEAR, 0.5 + _NEAR))
    sign = np.sign(values - middle)
    return (sign - sign.mean()) * 0.5 * (high - low) / (2 * _NEAR)
