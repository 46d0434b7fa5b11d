"""How many close pairs are due to chance. No torch here."""

from __future__ import annotations

SURE = 1e-4
"""Probability below which an excess of close pairs is not called chance."""


def chance_of(close: int, wide: int, ratio: float) -> float:
    """Return the probability that chance alone gives at least so many close pairs.

    Parameters
    ----------
    close : int
        Number of pairs that are close.
    wide : int
        Number of pairs at larger distances, where objects that are listed twice do not matter.
    ratio : float
        Expected number of close pairs for each wide pair if only chance decides, such as the ratio of two areas.

    Returns
    -------
    float
        Given how many pairs there are in all, the number of close ones is binomial [1]_.

    References
    ----------
    .. [1] Przyborowski & Wilenski 1940, "Homogeneity of results in testing samples from Poisson series",
       Biometrika 31, 313.
    """
    from scipy.stats import binom

    if close == 0:
        return 1.0
    return float(binom.sf(close - 1, close + wide, ratio / (1.0 + ratio)))
