"""Keep the chance of any false alarm at its level when many differences are tested. M tests."""

from __future__ import annotations

import numpy as np


def holm(p: np.ndarray) -> np.ndarray:
    """Return p values adjusted by Holm's step-down method.

    All differences with an adjusted value below 0.05 are real with a probability of at least 95 %, whatever the tests
    have to do with each other.

    Parameters
    ----------
    p : ndarray, shape (M,)
        NaN for tests that could not be made; they do not count.

    Returns
    -------
    ndarray, shape (M,)
        Adjusted values, at most 1.

    References
    ----------
    .. [1] Holm 1979, Scandinavian Journal of Statistics 6, 65.
    """
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    made = np.flatnonzero(np.isfinite(p))
    order = made[np.argsort(p[made], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1.0)
    return adjusted
