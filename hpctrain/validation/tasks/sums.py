"""Metrics that are functions of weighted sums over rows. R rows, D draws, K sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hpctrain.validation.tasks.scales import IDENTITY, LOG, Scale
from hpctrain.validation.tasks.task import SHARE, SKEWED


@dataclass(frozen=True)
class Sums:
    """A smooth function of weighted sums over rows.

    Parameters
    ----------
    columns : ndarray, shape (R, K), float64
        What each row adds to each sum; 0 in rows that do not count.
    used : ndarray, shape (R,), bool
        Rows that count.
    function : callable
        Takes the sums (D, K) and returns the metric (D,).
    values : ndarray, shape (R,), or None
        As in :class:`~hpctrain.validation.tasks.task.Statistic`.
    how : str
    scale : Scale
        On which the metric has a more symmetric distribution.
    objects_per_sum : int
        With fewer objects per sum, the metric is biased, and its interval is marked.
    """

    columns: np.ndarray
    used: np.ndarray
    function: Callable[[np.ndarray], np.ndarray]
    values: np.ndarray | None = None
    how: str = SKEWED
    scale: Scale = IDENTITY
    objects_per_sum: int = 0

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """Return the metric for weights (D, R), as (D,)."""
        return self.of_sums(weights @ self.columns)

    def of_sums(self, sums: np.ndarray) -> np.ndarray:
        """Return the metric of sums (D, K), as (D,); NaN where they say nothing."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found = self.function(sums)
        return np.where(np.isfinite(found), found, np.nan)


def mean(values: np.ndarray, how: str = SKEWED, scale: Scale = IDENTITY) -> Sums:
    """Return the weighted mean of values (R,); rows with NaN do not count."""
    values = np.asarray(values, dtype=np.float64)
    used = np.isfinite(values)
    columns = np.stack([np.where(used, values, 0.0), used.astype(np.float64)], axis=1)
    return Sums(columns, used, lambda sums: sums[:, 0] / sums[:, 1], np.where(used, values, np.nan), how, scale)


def share(is_true: np.ndarray, known: np.ndarray) -> Sums:
    """Return the share of the known rows (R,) for which something is true (R,)."""
    return mean(np.where(known, np.asarray(is_true, dtype=np.float64), np.nan), SHARE)


def function_of_means(
    columns: list[np.ndarray],
    known: np.ndarray,
    function: Callable[..., np.ndarray],
    how: str = SKEWED,
    scale: Scale = IDENTITY,
) -> Sums:
    """Return a function of weighted means of columns (R,) over the known rows; it takes one array (D,) per column."""
    parts = [np.where(known, column, 0.0) for column in columns]
    stacked = np.stack([*parts, known.astype(np.float64)], axis=1).astype(np.float64)
    return Sums(stacked, known, lambda sums: function(*(sums[:, :-1] / sums[:, -1:]).T), None, how, scale)


def root_mean_square(values: np.ndarray) -> Sums:
    """Return the root of the weighted mean square of values (R,)."""
    known = np.isfinite(values)
    return function_of_means([np.where(known, values, 0.0) ** 2], known, np.sqrt, SKEWED, LOG)


def standard_deviation(values: np.ndarray) -> Sums:
    """Return the weighted standard deviation of values (R,), with the number of rows as divisor."""
    known = np.isfinite(values)
    middle = float(np.median(values[known])) if known.any() else 0.0  # near the mean: nothing cancels
    apart = np.where(known, values - middle, 0.0)
    return function_of_means([apart, apart**2], known, lambda a, b: np.sqrt(np.maximum(b - a * a, 0.0)), SKEWED, LOG)
