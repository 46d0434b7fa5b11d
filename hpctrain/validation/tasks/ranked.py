"""Metrics of a score that shall rank positives above negatives. R rows, D draws, n rows that count."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hpctrain.validation.tasks.task import EDGE, RANKED


@dataclass(frozen=True)
class Ranked:
    """Rows in the order of a score, the highest first, in groups of equal scores.

    Parameters
    ----------
    score : ndarray, shape (R,)
        Larger for what looks more like a positive; rows with NaN do not count.
    is_positive : ndarray, shape (R,), bool
    known : ndarray, shape (R,), bool
    """

    score: np.ndarray
    is_positive: np.ndarray
    known: np.ndarray
    used: np.ndarray = field(init=False)
    order: np.ndarray = field(init=False)
    last: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        score = np.asarray(self.score, dtype=np.float64)
        used = self.known & np.isfinite(score)
        rows = np.flatnonzero(used)
        order = rows[np.argsort(-score[rows], kind="stable")]
        last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True)) if len(order) else np.empty(0, np.int64)
        for name, value in (("used", used), ("order", order), ("last", last)):
            object.__setattr__(self, name, value)

    def counted(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the weight of positives and of negatives down to each different score, (D, groups) each."""
        ordered = weights[:, self.order]
        positive = self.is_positive[self.order]
        hits = np.cumsum(ordered * positive, axis=1)[:, self.last]
        return hits, np.cumsum(ordered * ~positive, axis=1)[:, self.last]


@dataclass(frozen=True)
class AreaUnderRoc:
    """Weighted probability that a positive has a higher score than a negative; ties count half."""

    ranked: Ranked
    how: str = RANKED
    values: None = None

    @property
    def used(self) -> np.ndarray:
        """Rows that count, (R,), bool."""
        return self.ranked.used

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """Return the metric for weights (D, R), as (D,); NaN without positives or negatives."""
        if not len(self.ranked.order):
            return np.full(len(weights), np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._of(*self.ranked.counted(weights))

    def _of(self, hits: np.ndarray, false: np.ndarray) -> np.ndarray:
        before = np.concatenate([np.zeros((len(hits), 1)), hits[:, :-1]], axis=1)
        here = np.diff(false, axis=1, prepend=0.0)
        return (here * 0.5 * (before + hits)).sum(axis=1) / (hits[:, -1] * false[:, -1])


@dataclass(frozen=True)
class AveragePrecision(AreaUnderRoc):
    """Weighted mean of the precision at each threshold, weighted by what it adds to the recall."""

    def _of(self, hits: np.ndarray, false: np.ndarray) -> np.ndarray:
        found = hits + false
        precision = np.where(found > 0, hits / np.where(found > 0, found, 1.0), 0.0)
        return (np.diff(hits, axis=1, prepend=0.0) * precision).sum(axis=1) / hits[:, -1]


@dataclass(frozen=True)
class RecallAt(AreaUnderRoc):
    """Share of the positives whose score is above that of all but some of the negatives.

    Parameters
    ----------
    allowed : float
        Weight of the negatives that may have a score above the limit.

    References
    ----------
    .. [1] Metcalf et al. 2019, A&A 625, A119, arXiv:1802.03609: TPR0 and TPR10 of the strong lens finding challenge.
    """

    allowed: float = 0.0
    how: str = EDGE

    def _of(self, hits: np.ndarray, false: np.ndarray) -> np.ndarray:
        too_many = false > self.allowed * (1 + 1e-12)
        first = np.where(too_many.any(axis=1), too_many.argmax(axis=1), hits.shape[1])
        before = np.concatenate([np.zeros((len(hits), 1)), hits], axis=1)
        return before[np.arange(len(hits)), first] / hits[:, -1]


@dataclass(frozen=True)
class RecallAmongFirst(AreaUnderRoc):
    """Share of the positives among the rows of the highest scores, whose number is that of the positives or given.

    Parameters
    ----------
    first : float
        Share of the weight that is looked at; rows of equal score are all looked at or none.
    """

    first: float = 0.01
    how: str = EDGE

    def _of(self, hits: np.ndarray, false: np.ndarray) -> np.ndarray:
        seen = hits + false
        inside = seen <= self.first * seen[:, -1:] * (1 + 1e-12)
        return np.where(inside, hits, 0.0).max(axis=1) / hits[:, -1]
