"""Count the bad pixels of spectra, row by row. n spectra, L pixels. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PixelCounts:
    """Numbers of bad pixels of each spectrum.

    Parameters
    ----------
    flux_nan, flux_infinite, ivar_nan, ivar_infinite, ivar_negative : ndarray, shape (n,), int64
    bad_with_weight : ndarray, shape (n,), int64
        Pixels whose flux is not finite although ivar gives them weight.
    used : ndarray, shape (n, L), bool
        Pixels that have weight and a finite flux.
    """

    flux_nan: np.ndarray
    flux_infinite: np.ndarray
    ivar_nan: np.ndarray
    ivar_infinite: np.ndarray
    ivar_negative: np.ndarray
    bad_with_weight: np.ndarray
    used: np.ndarray

    @property
    def wrong(self) -> np.ndarray:
        """Pixels whose flux or ivar no survey writes on purpose, shape (n,), int64."""
        return self.ivar_nan + self.ivar_infinite + self.ivar_negative + self.bad_with_weight


def count_pixels(flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray | None = None) -> PixelCounts:
    """Count bad pixels.

    Parameters
    ----------
    flux, ivar : ndarray, shape (n, L)
    mask : ndarray, shape (n, L), optional
        Not 0 where a pixel is bad.
    """
    is_finite = np.isfinite(flux)
    has_weight = (ivar > 0) & (ivar < np.inf)
    if mask is not None:
        has_weight &= mask == 0
    return PixelCounts(
        flux_nan=np.isnan(flux).sum(axis=1),
        flux_infinite=np.isinf(flux).sum(axis=1),
        ivar_nan=np.isnan(ivar).sum(axis=1),
        ivar_infinite=np.isinf(ivar).sum(axis=1),
        ivar_negative=(ivar < 0).sum(axis=1),
        bad_with_weight=(has_weight & ~is_finite).sum(axis=1),
        used=has_weight & is_finite,
    )
