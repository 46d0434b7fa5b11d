"""Intervals from the metric of each draw: logit, percentiles, bands. R rows, G objects, D draws."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from hpctrain.validation.rule import FEW_DECIDE, Data, Ends, Rule, quantiles, wilson_of
from hpctrain.validation.tasks.scales import LOGIT
from hpctrain.validation.tasks.task import Statistic

FEWEST_RANKED = 20
"""Number of objects of the rarer side below which the interval of a ranking is marked."""
FEW_PER_CELL = "few objects for so many clusters and classes"


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
