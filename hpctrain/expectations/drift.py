"""How much a distribution has changed, and whether chance explains it. n new values, m old ones, B bins.

Every comparison has two numbers: how large the difference is, and how likely chance makes one as large. With ten
million objects chance makes hardly any difference, so a difference must also be large enough to matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

NUM_BINS = 10
_FEWEST_EXPECTED = 5.0
_FEWEST_DIFFERENT = 0.9
"""Smallest share of different values from which quantiles split old data into equal shares."""


@dataclass(frozen=True)
class Difference:
    """A difference between old and new data.

    Parameters
    ----------
    size : float
        From 0 for none; 1 is the largest distance.
    p : float
        Chance that data without any change differ as much.
    """

    size: float
    p: float


@dataclass(frozen=True)
class Old:
    """The distribution of a column in old data.

    Parameters
    ----------
    values : ndarray, shape (m,), optional
        A sample; None where only quantiles are known.
    quantiles : ndarray, shape (Q,)
        At evenly spaced cumulative shares from 0 to 1.
    number : int
        Number of values from which the quantiles are.
    """

    values: np.ndarray | None
    quantiles: np.ndarray
    number: int


def distance(new: np.ndarray, old: Old) -> Difference:
    """Return the largest difference of the cumulative shares.

    Parameters
    ----------
    new : ndarray, shape (n,)
        Finite values.
    old : Old

    Notes
    -----
    Against quantiles alone the difference is looked for at these only. So it is never larger than that of
    Kolmogorov and Smirnov, and chance makes one as large less often than stated.

    References
    ----------
    .. [1] Smirnov 1948, Ann. Math. Stat. 19, 279.
    """
    if old.values is not None:
        found = stats.ks_2samp(new, old.values, method="asymp")
        return Difference(float(found.statistic), float(found.pvalue))
    ordered = np.sort(new)
    shares = np.linspace(0, 1, len(old.quantiles))
    around = 2 * rounding_step(old.quantiles)  # quantiles in a file are rounded
    below = np.searchsorted(ordered, old.quantiles - around, side="left") / len(ordered)
    up_to = np.searchsorted(ordered, old.quantiles + around, side="right") / len(ordered)
    size = 0.0
    for value in np.unique(old.quantiles):
        # Equal quantiles are a step: old data have at least the largest share up to it, at most the smallest below it.
        here = old.quantiles == value
        size = max(size, shares[here].max() - up_to[here][0], below[here][0] - shares[here].min())
    number = len(new) * old.number / (len(new) + old.number)
    return Difference(float(size), float(stats.kstwobign.sf(size * np.sqrt(number))))


def rounding_step(values: np.ndarray) -> float:
    """Return the step to which quantiles are rounded: a millionth of their span, or of their size if they are equal."""
    span = float(values[-1] - values[0]) or abs(float(values[0]))
    return 10.0 ** (np.floor(np.log10(span)) - 6) if span > 0 else 0.0


def stability_index(new: np.ndarray, old: Old) -> Difference | None:
    """Return the population stability index over ten bins that have equal shares of the old data.

    Returns
    -------
    Difference or None
        None where there are no such bins, because many values are equal.

    References
    ----------
    .. [1] Yurdakul and Naranjo 2020, J. Risk Model Validation 14(4) (the index times nm / (n + m) follows chi-square).
    """
    edges = np.quantile(old.quantiles, np.linspace(0, 1, NUM_BINS + 1)[1:-1])
    has_ties = old.values is None and len(np.unique(new)) < _FEWEST_DIFFERENT * len(new)
    if len(np.unique(edges)) < len(edges) or has_ties:
        return None
    new_counts = np.bincount(np.searchsorted(edges, new), minlength=NUM_BINS)
    if old.values is not None:
        old_counts = np.bincount(np.searchsorted(edges, old.values), minlength=NUM_BINS)
    else:
        old_counts = np.full(NUM_BINS, old.number / NUM_BINS)
    size = psi(new_counts, old_counts)
    number = new_counts.sum() * old_counts.sum() / (new_counts.sum() + old_counts.sum())
    return Difference(size, float(stats.chi2.sf(size * number, NUM_BINS - 1)))


def psi(new_counts: np.ndarray, old_counts: np.ndarray) -> float:
    """Return the population stability index of counts (B,); half an object is added to each bin."""
    new, old = ((counts + 0.5) / (counts + 0.5).sum() for counts in (new_counts, old_counts))
    return float(np.sum((new - old) * np.log(new / old)))


def class_difference(new: Mapping[str, int], old: Mapping[str, float], number: int) -> Difference:
    """Return half the sum of the differences of the shares of classes, with the p of a chi-square test.

    Parameters
    ----------
    new : mapping of str to int
        Numbers of new objects.
    old : mapping of str to float
        Shares of the old ones.
    number : int
        Number of old objects.
    """
    names = sorted({*new, *old})
    own = np.array([new.get(name, 0) for name in names], dtype=float)
    theirs = np.array([old.get(name, 0.0) for name in names]) * number
    if not own.sum() or not theirs.sum():
        return Difference(0.0, 1.0)
    size = 0.5 * float(np.abs(own / own.sum() - theirs / theirs.sum()).sum())
    expected = (own + theirs) * min(own.sum(), theirs.sum()) / (own.sum() + theirs.sum())
    rare = expected < _FEWEST_EXPECTED
    table = np.stack([np.append(each[~rare], each[rare].sum()) for each in (own, theirs)])
    table = table[:, table.sum(axis=0) > 0]
    p = float(stats.chi2_contingency(table, correction=False).pvalue) if table.shape[1] > 1 else 1.0
    return Difference(size, p)


def lost_share(new: np.ndarray, old: np.ndarray) -> Difference:
    """Return the share of old objects whose cells of the sky hold no new one, beyond what their number explains.

    Parameters
    ----------
    new, old : ndarray, shape (C,)
        Numbers of objects in cells.

    Notes
    -----
    Whether cells are empty is negatively associated for a multinomial, so Hoeffding's bound holds [1]_. The old shares
    have errors of their own; half an object is added to each cell that has some.

    References
    ----------
    .. [1] Dubhashi and Ranjan 1998, Random Structures & Algorithms 13, 99.
    """
    some = old > 0
    shares = (old[some] + 0.5) / (old[some] + 0.5).sum()
    lost = float(shares[new[some] == 0].sum())
    explained = float(np.sum(shares * (1 - shares) ** int(new.sum())))
    beyond = max(0.0, lost - explained)
    return Difference(beyond, float(np.exp(-2 * beyond**2 / np.sum(shares**2))))
