"""Differences of metrics that are means over rows: signed ranks and sizes of effects. G groups of rows."""

from __future__ import annotations

import numpy as np
from scipy import stats

FEWEST_RANKS = 6
"""Fewer differences than this cannot reach p = 0.05 in a signed rank test."""


def group_means(values: np.ndarray, of_row: np.ndarray) -> np.ndarray:
    """Return the mean of the rows (n,) of each group, (G,); NaN for a group without a finite value.

    Parameters
    ----------
    values : ndarray, shape (n,)
    of_row : ndarray, shape (n,), int
        Number of the group of each row, from 0.
    """
    num = int(of_row.max()) + 1 if len(of_row) else 0
    finite = np.isfinite(values)
    count = np.bincount(of_row[finite], minlength=num)
    total = np.bincount(of_row[finite], weights=values[finite], minlength=num)
    return np.divide(total, count, out=np.full(num, np.nan), where=count > 0)


def signed_rank(differences: np.ndarray) -> float:
    """Return the two-sided p value of Wilcoxon's signed rank test; NaN for fewer than 6 differences that are not 0.

    It asks whether gains and losses of the same size are equally frequent, so single very bad objects decide nothing.

    Parameters
    ----------
    differences : ndarray, shape (G,)
        One for each independent group.

    References
    ----------
    .. [1] Wilcoxon 1945, Biometrics Bulletin 1, 80.
    """
    differences = differences[np.isfinite(differences) & (differences != 0)]
    if len(differences) < FEWEST_RANKS:
        return float("nan")
    return float(stats.wilcoxon(differences).pvalue)


def cohen_d(differences: np.ndarray) -> float:
    """Return the mean of paired differences (G,) divided by their standard deviation; NaN if they do not vary.

    References
    ----------
    .. [1] Cohen 1988, Statistical Power Analysis for the Behavioral Sciences, sect. 2.3.5: d for paired samples.
    """
    differences = differences[np.isfinite(differences)]
    if len(differences) < 2:
        return float("nan")
    spread = float(differences.std(ddof=1))
    return float(differences.mean()) / spread if spread > 0 else float("nan")


def superiority(differences: np.ndarray) -> float:
    """Return the share of differences (G,) below 0, and half of those that are 0: how often the second loss is lower.

    References
    ----------
    .. [1] Grissom & Kim 2012, Effect Sizes for Research, sect. 5: the probability of superiority of dependent groups.
    """
    differences = differences[np.isfinite(differences)]
    if not len(differences):
        return float("nan")
    return float(np.mean(differences < 0) + 0.5 * np.mean(differences == 0))
