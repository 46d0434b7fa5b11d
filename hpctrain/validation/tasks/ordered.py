"""Metrics that depend on the order of the rows: medians, scatter, uniformity. R rows, D draws.

The rows are sorted once; a draw costs one cumulated sum of its weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hpctrain.validation.tasks.task import DISTANCE, ORDER

_SAME = 1e-12
"""Relative difference below which two sums of weights count as equal."""
_HALVINGS = 80
NMAD_FACTOR = 1.4826


@dataclass(frozen=True)
class Sorted:
    """Values in increasing order, and weights in that order.

    Parameters
    ----------
    values : ndarray, shape (R,)
        Rows with NaN do not count.
    """

    values: np.ndarray
    used: np.ndarray = field(init=False)
    order: np.ndarray = field(init=False)
    ordered: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=np.float64)
        used = np.isfinite(values)
        rows = np.flatnonzero(used)
        order = rows[np.argsort(values[rows], kind="stable")]
        for name, value in (("used", used), ("order", order), ("ordered", values[order])):
            object.__setattr__(self, name, value)

    def cumulated(self, weights: np.ndarray) -> np.ndarray:
        """Return the cumulated weights of (D, R), in the order of the values, as (D, n)."""
        taken = np.take(weights, self.order, axis=1)
        return np.cumsum(taken, axis=1, out=taken)


def weighted_median(ordered: np.ndarray, cumulated: np.ndarray) -> np.ndarray:
    """Return the weighted medians of sorted values (n,) with cumulated weights (D, n), as (D,).

    It is the value at which half of the weight is reached; where a value ends exactly at half of it, the mean of that
    and the next value, so that equal weights give the common median.
    """
    half = 0.5 * cumulated[:, -1]
    low = [np.searchsorted(line, share * (1 - _SAME)) for line, share in zip(cumulated, half, strict=True)]
    high = [np.searchsorted(line, share * (1 + _SAME), "right") for line, share in zip(cumulated, half, strict=True)]
    last = len(ordered) - 1
    found = 0.5 * (ordered[np.minimum(low, last)] + ordered[np.minimum(high, last)])
    return np.where(half > 0, found, np.nan)


@dataclass(frozen=True)
class Median:
    """Weighted median of values (R,)."""

    sorted: Sorted
    how: str = ORDER
    values: None = None

    @property
    def used(self) -> np.ndarray:
        """Rows that count, (R,), bool."""
        return self.sorted.used

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """Return the medians for weights (D, R), as (D,)."""
        if not len(self.sorted.order):
            return np.full(len(weights), np.nan)
        return weighted_median(self.sorted.ordered, self.sorted.cumulated(weights))


@dataclass(frozen=True)
class Nmad(Median):
    """Weighted normalised median absolute deviation of values (R,).

    References
    ----------
    .. [1] Brammer, van Dokkum & Coppi 2008, ApJ 686, 1503, arXiv:0807.1533, eq. 5.
    """

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """Return the scatter for weights (D, R), as (D,)."""
        if not len(self.sorted.order):
            return np.full(len(weights), np.nan)
        cumulated = self.sorted.cumulated(weights)
        middle = weighted_median(self.sorted.ordered, cumulated)
        return NMAD_FACTOR * _median_distance(self.sorted.ordered, cumulated, middle)


def _median_distance(ordered: np.ndarray, cumulated: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Return the weighted medians of the distances of sorted values (n,) from (D,) places, by halving an interval."""
    below = np.concatenate([np.zeros((len(cumulated), 1)), cumulated], axis=1)
    lines, half = np.arange(len(cumulated)), 0.5 * cumulated[:, -1]

    def within(distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.searchsorted(ordered, middle - distance), np.searchsorted(ordered, middle + distance, "right")

    def smallest(enough: np.ndarray) -> np.ndarray:
        low = np.zeros(len(middle))
        high = np.maximum(middle - ordered[0], ordered[-1] - middle) * (1 + 1e-9) + 1e-300
        for _ in range(_HALVINGS):
            at = 0.5 * (low + high)
            first, last = within(at)
            reached = below[lines, last] - below[lines, first] >= enough
            low, high = np.where(reached, low, at), np.where(reached, at, high)
        first, last = within(high)  # the largest distance inside is the one that was looked for
        return np.maximum(
            middle - ordered[np.minimum(first, len(ordered) - 1)], ordered[np.maximum(last - 1, 0)] - middle
        )

    found = 0.5 * (smallest(half * (1 - _SAME)) + smallest(half * (1 + _SAME) + 1e-300))
    return np.where(half > 0, found, np.nan)


@dataclass(frozen=True)
class Unevenness(Median):
    """Kolmogorov-Smirnov distance of the weighted distribution of values (R,) in 0 to 1 from a uniform one."""

    how: str = DISTANCE

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """Return the distances for weights (D, R), as (D,)."""
        if not len(self.sorted.order):
            return np.full(len(weights), np.nan)
        return self.of_shares(self.shares(weights))

    def shares(self, weights: np.ndarray) -> np.ndarray:
        """Return the distribution at each value, in increasing order, for weights (D, R), as (D, n)."""
        cumulated = self.sorted.cumulated(weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            cumulated /= cumulated[:, -1:].copy()
        return cumulated

    def of_shares(self, shares: np.ndarray) -> np.ndarray:
        """Return the distances of distributions (D, n), as (D,)."""
        value = self.sorted.ordered
        above = (shares - value).max(axis=1)
        below = np.maximum((value[1:] - shares[:, :-1]).max(axis=1, initial=0.0), value[0])
        return np.maximum(above, below)
