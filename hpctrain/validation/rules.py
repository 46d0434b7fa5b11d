"""Which interval a metric gets, by how it behaves. R rows, G objects, D draws, K sums.

==========  ===================================================================================================
`SHARE`     Wilson's interval, with the number of rows divided by the design effect of the objects
`OVERLAP`   F1 = 2 J / (1 + J) of the ends of Wilson's interval of the overlap J
`MEAN`      t interval with the standard error over objects: for what is skewed neither way
`SKEWED`    bootstrap-t, on the scale of the metric: for means and functions of them
`BOUNDED`   t interval of the logit, with the standard error of the draws: for what is between 0 and 1
`RANKED`    the same, with as many degrees of freedom as the rarer of positives and negatives has objects
`ORDER`     bias-corrected percentiles of the draws: for medians and robust scatters
`DISTANCE`  the metric plus and minus the band that holds the whole distribution: conservative
`EDGE`      percentiles of the draws or Wilson's interval, marked: a few objects set the limit of the recall
==========  ===================================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from hpctrain.validation.tasks.scales import LOGIT
from hpctrain.validation.tasks.sums import Sums
from hpctrain.validation.tasks.task import (
    BOUNDED,
    DISTANCE,
    EDGE,
    MEAN,
    ORDER,
    OVERLAP,
    RANKED,
    SHARE,
    SKEWED,
    Statistic,
)

FEWEST_OBJECTS = 30
"""With fewer objects, intervals that rest on their scatter are marked."""
FEWEST_DECISIVE = 12.0
"""Effective number of objects that decide a mean, below which its interval is marked."""
FEWEST_RANKED = 20
"""Number of objects of the rarer side below which the interval of a ranking is marked."""
FEW_PER_CELL = "few objects for so many clusters and classes"
FEW_DECIDE = "a few objects decide it"
_STEP = 1e-4

Ends = tuple[float, float]


@dataclass(frozen=True)
class Data:
    """What all metrics of a task share.

    Parameters
    ----------
    weights : ndarray, shape (R,)
        0 in rows that do not count.
    of_row : ndarray, shape (R,), int64
        Object of each row; -1 in rows that do not count.
    number : int
        G.
    confidence : float
    """

    weights: np.ndarray
    of_row: np.ndarray
    number: int
    confidence: float

    @property
    def tails(self) -> Ends:
        """Shares of draws below the lower and below the upper end."""
        return 0.5 * (1 - self.confidence), 0.5 * (1 + self.confidence)

    def by_object(self, columns: np.ndarray) -> np.ndarray:
        """Return weighted sums over the rows of each object, (G, K), of columns (R, K)."""
        has = self.of_row >= 0
        own, weights = self.of_row[has], self.weights[has]
        parts = [np.bincount(own, weights * column[has], minlength=self.number) for column in columns.T]
        return np.stack(parts, axis=1)

    def num_objects(self, rows: np.ndarray) -> int:
        """Return the number of objects of rows (R,), bool, that count."""
        return len(np.unique(self.of_row[rows & (self.of_row >= 0)]))


class Rule:
    """Interval of one metric.

    Parameters
    ----------
    statistic : Statistic
    data : Data
    """

    method = ""
    needs_draws = needs_rows = False

    def __init__(self, statistic: Any, data: Data) -> None:
        self.statistic, self.data = statistic, data

    def add(self, counts: np.ndarray, weights: np.ndarray | None) -> None:
        """Take some draws: counts of objects (d, G), and if `needs_rows`, weights of rows (d, R)."""

    def ends(self) -> Ends:
        """Return the lower and the upper end; NaN where nothing is known."""
        raise NotImplementedError

    def note(self, num_objects: int, num_rows: int) -> str:
        """Return why to take the interval with care; empty where nothing is known against it.

        Parameters
        ----------
        num_objects, num_rows : int
            What the metric rests on.
        """
        return f"fewer than {FEWEST_OBJECTS} objects" if num_objects < FEWEST_OBJECTS else ""

    def value(self) -> float:
        """Return the metric of all rows that count."""
        return float(self.statistic.scores(self.data.weights[None])[0])


class Wilson(Rule):
    """Wilson's interval of a share, with the effective number of rows.

    Rows of an object that always agree count as one; where all rows agree, they are taken to do so.

    References
    ----------
    .. [1] Wilson 1927, JASA 22, 209.
    .. [2] Korn & Graubard 1998, Survey Methodology 24, 193: the effective number of rows.
    """

    method = "wilson"

    def note(self, num_objects: int, num_rows: int) -> str:
        """Say so where the design effect of few objects is not known; independent rows need no such remark."""
        return super().note(num_objects, num_rows) if num_rows > num_objects else ""

    def ends(self) -> Ends:
        return wilson_interval(self.statistic, self.data)


class WilsonOfOverlap(Wilson):
    """Wilson's interval of the overlap that F1 is a function of."""

    def ends(self) -> Ends:
        low, high = wilson_interval(self.statistic, self.data)
        return self.statistic.of_share(low), self.statistic.of_share(high)


def wilson_interval(statistic: Sums, data: Data) -> Ends:
    """Return Wilson's interval of a share with the effective number of rows; see :class:`Wilson`."""
    sums = data.by_object(statistic.columns)
    own = sums[sums[:, 1] > 0]
    if not len(own):
        return np.nan, np.nan
    total = own[:, 1].sum()
    share = own[:, 0].sum() / total
    weights = data.weights[statistic.used & (data.weights > 0)]
    rows = weights.sum() ** 2 / (weights**2).sum()
    size = total**2 / (own[:, 1] ** 2).sum()  # rows of an object that always agree
    if 0 < share < 1 and len(own) > 1:
        apart = own[:, 0] - share * own[:, 1]
        size = min(share * (1 - share) * total**2 / (apart**2).sum(), rows)  # exact for independent rows
    return wilson_of(share, size, data.confidence)


def wilson_of(share: float, size: float, confidence: float) -> Ends:
    """Return Wilson's interval of a share of so many independent rows.

    References
    ----------
    .. [1] Wilson 1927, JASA 22, 209.
    """
    z = stats.norm.ppf(0.5 * (1 + confidence))
    middle = (share + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z / (1 + z**2 / size) * np.sqrt(share * (1 - share) / size + z**2 / (4 * size**2))
    return max(float(middle - half), 0.0), min(float(middle + half), 1.0)


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


def quantiles(draws: np.ndarray, shares: Any) -> np.ndarray:
    """Return quantiles of D draws, of which the k-th one has the share k / (D + 1) below it.

    References
    ----------
    .. [1] Davison & Hinkley 1997, Bootstrap Methods and their Application, Cambridge, sect. 2.4.
    """
    return np.quantile(draws, shares, method="weibull")


class Drawn(Rule):
    """Base of the rules that compute the metric for each draw."""

    needs_draws = needs_rows = True

    def __init__(self, statistic: Statistic, data: Data) -> None:
        super().__init__(statistic, data)
        self.parts: list[np.ndarray] = []

    def add(self, counts: np.ndarray, weights: np.ndarray | None) -> None:
        self.parts.append(self.statistic.scores(weights))

    @property
    def found(self) -> np.ndarray:
        """The metric of the draws that define it."""
        found = np.concatenate(self.parts) if self.parts else np.empty(0)
        return found[np.isfinite(found)]


class Logit(Drawn):
    """The t interval of the logit of what is between 0 and 1, with the standard error of the draws.

    At 0 and 1, where no draw differs, it is Wilson's interval of a share of the objects.

    References
    ----------
    .. [1] Boyd, Eng & Page 2013, ECML PKDD, LNCS 8190, 451: intervals of areas under curves.
    """

    method = "logit"

    def note(self, num_objects: int, num_rows: int) -> str:
        """Say so, too, where the metric is biased."""
        least = getattr(self.statistic, "objects_per_sum", 0)
        few = least and num_objects < least * self.statistic.columns.shape[1]
        return FEW_PER_CELL if few else super().note(num_objects, num_rows)

    def freedom(self) -> int:
        """Return the number of objects that the metric rests on, less 1."""
        return self.data.num_objects(self.statistic.used) - 1

    def ends(self) -> Ends:
        value, found, freedom = self.value(), self.found, max(self.freedom(), 1)
        if not np.isfinite(value) or len(found) < 2:
            return np.nan, np.nan
        if not 0 < value < 1 or found.std() == 0:
            return wilson_of(min(max(value, 0.0), 1.0), freedom + 1, self.data.confidence)
        there, inside = LOGIT.there(value), found[(found > 0) & (found < 1)]
        # The first is too small for few draws at the edge, the second where the distribution is skewed.
        error = max(
            float(found.std()) / (value * (1 - value)), float(LOGIT.there(inside).std()) if len(inside) else 0.0
        )
        half = stats.t.ppf(self.data.tails[1], freedom) * error
        return float(LOGIT.back(there - half)), float(LOGIT.back(there + half))


class LogitOfRanking(Logit):
    """The same for rankings, which rest on the rarer of positives and negatives."""

    def freedom(self) -> int:
        is_positive = self.statistic.ranked.is_positive
        sides = (self.statistic.used & is_positive, self.statistic.used & ~is_positive)
        return min(map(self.data.num_objects, sides)) - 1

    def note(self, num_objects: int, num_rows: int) -> str:
        few = self.freedom() + 1 < FEWEST_RANKED
        return f"fewer than {FEWEST_RANKED} positives or negatives" if few else ""


class Percentiles(Drawn):
    """Percentiles of the draws, corrected for their bias.

    References
    ----------
    .. [1] Efron 1987, JASA 82, 171, with an acceleration of 0.
    """

    method = "bias-corrected percentiles"

    def ends(self) -> Ends:
        found, value = self.found, self.value()
        if not len(found):
            return np.nan, np.nan
        below = 0.5 * (np.mean(found < value) + np.mean(found <= value))
        shift = 2 * stats.norm.ppf(np.clip(below, 1 / (2 * len(found)), 1 - 1 / (2 * len(found))))
        low, high = quantiles(found, stats.norm.cdf(shift + stats.norm.ppf(self.data.tails)))
        return float(low), float(high)


class Edge(Drawn):
    """Percentiles of the draws of a recall at a limit that a few objects set, as wide as Wilson's interval at least.

    Wilson's interval is that of the recall at this very limit, with as many rows as there are objects of positives.
    """

    method = "percentiles or wilson"

    def ends(self) -> Ends:
        found, value = self.found, self.value()
        if not len(found) or not np.isfinite(value):
            return np.nan, np.nan
        drawn = quantiles(found, self.data.tails)
        number = self.data.num_objects(self.statistic.used & self.statistic.ranked.is_positive)
        low, high = wilson_of(value, number, self.data.confidence)
        return min(float(drawn[0]), low), max(float(drawn[1]), high)

    def note(self, num_objects: int, num_rows: int) -> str:
        return FEW_DECIDE


class Band(Drawn):
    """The distance plus and minus the largest error of a distribution over all its values.

    Where the distance is largest is not known, so this interval is wider than need be unless the distance is 0.

    References
    ----------
    .. [1] Bickel & Krieger 1989, JASA 84, 95: bootstrap bands of a distribution.
    """

    method = "band"

    def __init__(self, statistic: Any, data: Data) -> None:
        super().__init__(statistic, data)
        self.own = statistic.shares(data.weights[None])[0]

    def add(self, counts: np.ndarray, weights: np.ndarray | None) -> None:
        shares = self.statistic.shares(weights)
        shares -= self.own
        self.parts.append(np.maximum(shares.max(axis=1, initial=0.0), -shares.min(axis=1, initial=0.0)))

    def ends(self) -> Ends:
        if not len(self.found):
            return np.nan, np.nan
        middle, half = self.value(), float(quantiles(self.found, self.data.confidence))
        return max(middle - half, 0.0), min(middle + half, 1.0)


_RULES: Mapping[str, type[Rule]] = {
    SHARE: Wilson,
    OVERLAP: WilsonOfOverlap,
    MEAN: Student,
    SKEWED: BootstrapT,
    BOUNDED: Logit,
    RANKED: LogitOfRanking,
    ORDER: Percentiles,
    DISTANCE: Band,
    EDGE: Edge,
}


def rule_of(statistic: Statistic, data: Data) -> Rule:
    """Return the interval of a metric that is computed like this."""
    return _RULES[statistic.how](statistic, data)
