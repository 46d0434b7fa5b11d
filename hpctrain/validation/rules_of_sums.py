"""Intervals of functions of sums, whose standard error follows from their slopes. G objects, D draws, K sums."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from hpctrain.validation.rule import FEW_DECIDE, Data, Ends, Rule, quantiles
from hpctrain.validation.tasks.sums import Sums

FEWEST_DECISIVE = 12.0
"""Effective number of objects that decide a mean, below which its interval is marked."""
_STEP = 1e-4


class Linear(Rule):
    """Base of the rules of functions of sums, whose standard error follows from their slopes."""

    statistic: Sums

    def __init__(self, statistic: Sums, data: Data) -> None:
        super().__init__(statistic, data)
        self.own = data.by_object(statistic.columns)
        self.total = self.own.sum(axis=0)[None]
        self.influence = self.own @ self._slopes(self.total)[0]
        self.error = float(np.sqrt((self.influence**2).sum()))

    def _slopes(self, sums: np.ndarray) -> np.ndarray:
        """Return the derivative of the metric by each of its sums (D, K), as (D, K)."""
        found = np.empty_like(sums)
        for place in range(sums.shape[1]):
            step = _STEP * np.maximum(np.abs(sums[:, place]), _STEP * np.abs(sums).max(axis=1)) + 1e-300
            above, below = sums.copy(), sums.copy()
            above[:, place] += step
            below[:, place] -= step
            found[:, place] = (self.statistic.of_sums(above) - self.statistic.of_sums(below)) / (2 * step)
        return found

    def note(self, num_objects: int, num_rows: int) -> str:
        """Say so, too, where a few objects decide the metric."""
        fourth = (self.influence**4).sum()
        size = (self.influence**2).sum() ** 2 / fourth if fourth > 0 else np.inf
        return super().note(num_objects, num_rows) or (FEW_DECIDE if size < FEWEST_DECISIVE else "")


class Student(Linear):
    """The t interval with the standard error over objects.

    References
    ----------
    .. [1] Cochran 1977, Sampling Techniques, Wiley, sect. 9A: ratios of sums over clusters.
    """

    method = "t"

    def ends(self) -> Ends:
        if self.data.number < 2:
            return np.nan, np.nan
        number = self.data.number
        half = stats.t.ppf(self.data.tails[1], number - 1) * self.error * np.sqrt(number / (number - 1))
        return self.value() - half, self.value() + half


class BootstrapT(Linear):
    """The bootstrap-t interval: quantiles of the error of each draw in units of its own standard error.

    References
    ----------
    .. [1] Efron & Tibshirani 1993, An Introduction to the Bootstrap, Chapman & Hall, sect. 12.5.
    """

    method, needs_draws = "bootstrap-t", True

    def __init__(self, statistic: Sums, data: Data) -> None:
        super().__init__(statistic, data)
        first, second = np.triu_indices(self.own.shape[1])
        self.products = self.own[:, first] * self.own[:, second]
        self.pairs = first, second, np.where(first == second, 1.0, 2.0)
        self.pivots: list[np.ndarray] = []

    def add(self, counts: np.ndarray, weights: np.ndarray | None) -> None:
        sums = counts @ self.own
        slopes = self._slopes(sums)
        first, second, times = self.pairs
        square = ((slopes[:, first] * slopes[:, second] * times) * (counts @ self.products)).sum(axis=1)
        with np.errstate(all="ignore"):
            found = self.statistic.of_sums(sums)
            error = self._slope_of_scale(found) * np.sqrt(np.maximum(square, 0.0))
            self.pivots.append((self._there(found) - self._there(self.value())) / error)

    def _there(self, value: Any) -> Any:
        return self.statistic.scale.there(value)

    def _slope_of_scale(self, value: Any) -> Any:
        step = 1e-6 * np.abs(value)
        return (self._there(value + step) - self._there(value - step)) / (2 * step)

    def ends(self) -> Ends:
        pivots = np.concatenate(self.pivots) if self.pivots else np.empty(0)
        pivots, value = pivots[np.isfinite(pivots)], self.value()
        with np.errstate(all="ignore"):
            there, error = self._there(value), self._slope_of_scale(value) * self.error
        if not len(pivots) or not np.isfinite(there) or not np.isfinite(error):
            return (value, value) if self.data.number > 1 and self.error == 0 else (np.nan, np.nan)
        low, high = quantiles(pivots, self.data.tails)
        with np.errstate(over="ignore"):  # the end of an interval of very few objects may be infinite
            return self.statistic.scale.back(there - high * error), self.statistic.scale.back(there - low * error)
