"""Differences of shares, such as accuracies: McNemar's test, over groups of rows too, and intervals. G groups."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

FEW = 25
"""With fewer discordant groups than this, McNemar's test is exact."""
SWAPS = 9999
_SUMS_AT_ONCE = 1 << 22


def mcnemar(differences: np.ndarray) -> tuple[float, bool]:
    """Return the two-sided p value of McNemar's test, and whether it is exact.

    If both models are equally good, each group could as well have had the opposite sign. For groups of a single row
    that is McNemar's test; for larger ones it keeps the rows of a group together.

    Parameters
    ----------
    differences : ndarray, shape (G,), int
        Rows for which only the second model is right minus those for which only the first one is, in each group.

    References
    ----------
    .. [1] McNemar 1947, Psychometrika 12, 153.
    .. [2] Fagerland, Lydersen & Laake 2013, BMC Medical Research Methodology 13, 91: no correction for continuity.
    """
    discordant = np.abs(differences[differences != 0]).astype(np.int64)
    total = int(differences.sum())
    if not len(discordant):
        return 1.0, True
    if len(discordant) >= FEW:
        z = total / math.sqrt(float((discordant.astype(np.float64) ** 2).sum()))
        return float(2 * stats.norm.sf(abs(z))), False
    chances = np.ones(1)  # of how much of the sum has a negative sign
    for size in discordant:
        moved = np.zeros(len(chances) + size)
        moved[: len(chances)] += 0.5 * chances
        moved[size:] += 0.5 * chances
        chances = moved
    negative = (int(discordant.sum()) - abs(total)) // 2
    return min(1.0, float(2 * chances[: negative + 1].sum())), True


def share_interval(
    differences: np.ndarray, discordant: int, sizes: np.ndarray, confidence: float
) -> tuple[float, float, float]:
    """Return the ends of the interval of the difference of two shares of the same rows, and its standard error.

    Parameters
    ----------
    differences : ndarray, shape (G,), int
        As for :func:`mcnemar`.
    discordant : int
        Rows for which exactly one model is right.
    sizes : ndarray, shape (G,)
        Rows of each group.
    confidence : float

    Returns
    -------
    low, high, standard_error : float
        The error is that of equal models.

    References
    ----------
    .. [1] Bonett & Price 2012, Journal of Educational and Behavioral Statistics 37, 479: one more row of each
       discordant kind.
    .. [2] Korn & Graubard 1998, Survey Methodology 24, 193: the effective number of rows.
    """
    num, total = len(sizes), float(sizes.sum())
    share = float(differences.sum()) / total
    size = total if num == total else _effective(differences, discordant, sizes, share)
    up, down = 0.5 * (discordant / total + share) * size + 1, 0.5 * (discordant / total - share) * size + 1
    middle = (up - down) / (size + 2)
    error = math.sqrt(max((up + down) / (size + 2) - middle**2, 0.0) / (size + 2))
    free = num - 1 if num < total else math.inf
    half = float(stats.t.ppf(0.5 * (1 + confidence), max(free, 1))) * error
    return max(middle - half, -1.0), min(middle + half, 1.0), math.sqrt((up + down) / (size + 2) / (size + 2))


def _effective(differences: np.ndarray, discordant: int, sizes: np.ndarray, share: float) -> float:
    """Return the number of independent rows that would give the same standard error."""
    num, total = len(sizes), float(sizes.sum())
    alone = discordant / total - share**2
    if alone <= 0 or num < 2:
        return total**2 / float((sizes.astype(np.float64) ** 2).sum())  # rows of a group that always agree
    spread = num / (num - 1) * float(((differences - share * sizes) ** 2).sum()) / total**2
    return min(alone / spread, total) if spread > 0 else total


def swap_test(
    first: np.ndarray,
    second: np.ndarray,
    function: Callable[[np.ndarray], np.ndarray],
    swaps: int = SWAPS,
    seed: int = 0,
) -> float:
    """Return the two-sided p value of the difference of two metrics, by exchanging the models in random groups.

    Parameters
    ----------
    first, second : ndarray, shape (G, K)
        Sums of each group.
    function : callable
        Takes sums (D, K) and returns the metric (D,).
    swaps : int
        Number of random exchanges.
    seed : int

    References
    ----------
    .. [1] Pesarin & Salmaso 2010, Permutation Tests for Complex Data, Wiley, sect. 1.9: paired data.
    .. [2] Phipson & Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9, 39: the 1 in both counts.
    """
    apart = second - first
    differ = np.flatnonzero((apart != 0).any(axis=1))
    totals = first.sum(axis=0), second.sum(axis=0)
    found = float((function(totals[1][None]) - function(totals[0][None]))[0])
    if not len(differ) or not math.isfinite(found):
        return 1.0 if not len(differ) else math.nan
    rng = np.random.default_rng(seed)
    extreme, made = 1, 1
    step = max(1, _SUMS_AT_ONCE // len(differ))
    for start in range(0, swaps, step):
        moved = rng.integers(0, 2, (min(step, swaps - start), len(differ))).astype(np.float64) @ apart[differ]
        drawn = np.abs(function(totals[1] - moved) - function(totals[0] + moved))
        drawn = drawn[np.isfinite(drawn)]
        extreme += int((drawn >= abs(found) * (1 - 1e-12)).sum())
        made += len(drawn)
    return extreme / made
