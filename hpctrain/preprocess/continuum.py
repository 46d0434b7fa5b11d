"""The continuum of spectra. N spectra, L pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.polynomial import chebyshev

from hpctrain.errors import DataError
from hpctrain.preprocess.units import plain


def fit_continuum(
    wavelength_aa: Any,
    flux: np.ndarray,
    ivar: np.ndarray,
    degree: int = 5,
    clip: tuple[float, float] = (2.0, 3.0),
    rounds: int = 20,
) -> np.ndarray:
    """Return the continuum of spectra, fitted to the pixels that are neither lines nor masked.

    A Chebyshev polynomial in wavelength is fitted to all pixels with the weights of `ivar`, then again without the
    pixels that lie far below it (absorption) or above it (emission), in units of the robust scatter of the others,
    until the set of pixels stays the same.

    Parameters
    ----------
    wavelength_aa : array_like or Quantity, shape (L,)
    flux, ivar : ndarray, shape (L,) or (N, L)
        Pixels with an ivar of 0 do not count; neither do pixels that are not finite.
    degree : int
        Of the polynomial.
    clip : (float, float)
        Largest distance below and above the polynomial, in standard deviations.
    rounds : int
        Largest number of fits.

    Returns
    -------
    ndarray, shape of `flux`, float64
        NaN for a spectrum with fewer good pixels than the polynomial has coefficients.

    Raises
    ------
    DataError
        The shapes do not fit together.

    References
    ----------
    .. [1] Gray 2008, The Observation and Analysis of Stellar Photospheres, chapter 12: continua by clipped polynomials.
    """
    wavelength, flux, ivar = plain(wavelength_aa, "AA", "wavelength"), np.asarray(flux), np.asarray(ivar)
    if flux.shape != ivar.shape or flux.shape[-1:] != wavelength.shape:
        raise DataError(f"flux {flux.shape}, ivar {ivar.shape} and wavelength {wavelength.shape} do not fit together")
    x = 2 * (wavelength - wavelength.min()) / np.ptp(wavelength) - 1
    rows = [
        _fit_one(x, one.astype(np.float64), weight.astype(np.float64), degree, clip, rounds)
        for one, weight in zip(np.atleast_2d(flux), np.atleast_2d(ivar), strict=True)
    ]
    return np.stack(rows).reshape(flux.shape)


def _fit_one(
    x: np.ndarray, flux: np.ndarray, ivar: np.ndarray, degree: int, clip: tuple[float, float], rounds: int
) -> np.ndarray:
    good = np.isfinite(flux) & np.isfinite(ivar) & (ivar > 0)
    kept = good.copy()
    found = np.full(len(x), np.nan)
    for _ in range(rounds):
        if kept.sum() <= degree:
            break
        found = chebyshev.chebval(x, chebyshev.chebfit(x[kept], flux[kept], degree, w=np.sqrt(ivar[kept])))
        deviation = (flux - found) * np.sqrt(np.where(good, ivar, 0))
        scatter = max(1.4826 * float(np.median(np.abs(deviation[kept] - np.median(deviation[kept])))), 1e-300)
        now = good & (deviation > -clip[0] * scatter) & (deviation < clip[1] * scatter)
        if np.array_equal(now, kept):
            break
        kept = now
    return found
