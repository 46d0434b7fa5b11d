"""Bits of the column ZWARN, with the numbers and names of redrock and SDSS. This module imports no torch."""

from __future__ import annotations

from enum import IntFlag

import numpy as np

MIN_DELTA_CHI2 = 25.0
"""Smallest DELTACHI2 of a redshift without a warning."""

MIN_COVERAGE = 0.1
"""Smallest share of the pixels that must have weight."""

MIN_PIXELS_PER_COEFFICIENT = 5
"""Smallest number of pixels with weight for each coefficient of the templates."""

OUTLIER_SIGMA, MAX_OUTLIERS = 5.0, 0.05
"""Distance from the model at which a pixel is an outlier, and the largest share of them without a warning."""


class ZWarn(IntFlag):
    """What is wrong with a redshift; 0 is good."""

    LITTLE_COVERAGE = 1 << 1
    SMALL_DELTA_CHI2 = 1 << 2
    NEGATIVE_MODEL = 1 << 3
    MANY_OUTLIERS = 1 << 4
    Z_FITLIMIT = 1 << 5
    NODATA = 1 << 9
    BAD_MINFIT = 1 << 10


MEANINGS = {
    ZWarn.LITTLE_COVERAGE: "too few pixels with weight",
    ZWarn.SMALL_DELTA_CHI2: f"chi-square of another redshift is less than {MIN_DELTA_CHI2:.0f} higher",
    ZWarn.NEGATIVE_MODEL: "the best model is negative",
    ZWarn.MANY_OUTLIERS: f"more than {MAX_OUTLIERS:.0%} of the pixels are {OUTLIER_SIGMA:.0f} sigma from the model",
    ZWarn.Z_FITLIMIT: "the redshift is at the edge of the range that was searched",
    ZWarn.NODATA: "no pixel with weight; there is no redshift",
    ZWarn.BAD_MINFIT: "no parabola fits the minimum of chi-square",
}
"""Meaning of each bit."""


def describe(zwarn: np.ndarray) -> list[str]:
    """Return a line for each bit that is set in some rows: how many, its name and its meaning.

    Parameters
    ----------
    zwarn : ndarray, shape (N,), int
    """
    counts = {bit: int(((zwarn & int(bit)) != 0).sum()) for bit in ZWarn}
    return [f"{count:>9,}  {bit.name}: {MEANINGS[bit]}" for bit, count in counts.items() if count]
