"""What the intervals of all metrics share, and Wilson's interval of a share. R rows, G objects, K sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from hpctrain.validation.tasks.sums import Sums

FEWEST_OBJECTS = 30
"""With fewer objects, intervals that rest on their scatter are marked."""
FEW_DECIDE = "a few objects decide it"

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
        return np.stack(parts, axis=1).astype(np.float64)  # numpy counts no rows with integers

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


def quantiles(draws: np.ndarray, shares: Any) -> np.ndarray:
    """Return quantiles of D draws, of which the k-th one has the share k / (D + 1) below it.

    References
    ----------
    .. [1] Davison & Hinkley 1997, Bootstrap Methods and their Application, Cambridge, sect. 2.4.
    """
    return np.quantile(draws, shares, method="weibull")
