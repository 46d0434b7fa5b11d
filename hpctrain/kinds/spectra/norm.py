"""The normalisation of :mod:`hpctrain.kinds.spectra.transform` in NumPy, without torch. N spectra, L pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hpctrain.kinds.spectra.section import ObservedNormaliseSection

Windows = Sequence[tuple[float, float]]


def clean(flux: np.ndarray, ivar: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return copies in float32, shape (N, L), with finite flux, and ivar 0 where a pixel cannot be used."""
    flux, ivar = np.array(flux, dtype=np.float32), np.array(ivar, dtype=np.float32)
    finite = np.isfinite(flux)
    good = finite & (ivar > 0) & (ivar < np.inf)  # NaN is neither
    flux[~finite] = 0
    ivar[~good] = 0
    return flux, ivar


def choose_window(wavelength_aa: np.ndarray, redshift: np.ndarray, windows_aa: Windows) -> np.ndarray:
    """Return the first window of each spectrum that is wholly within the observed range.

    Parameters
    ----------
    wavelength_aa : ndarray, shape (L,) or (N, L), float32
        Observed wavelengths, rising [AA].
    redshift : ndarray, shape (N,), float32
    windows_aa : sequence of (float, float)
        Rest-frame windows [AA].

    Returns
    -------
    ndarray, shape (N,), int8
        Index into `windows_aa`; -1 if no window is within the range.
    """
    stretch = np.float32(1) + redshift
    first, last = wavelength_aa[..., 0], wavelength_aa[..., -1]
    chosen = np.full(len(redshift), -1, dtype=np.int8)
    for index in reversed(range(len(windows_aa))):  # the first window that fits is written last
        low, high = windows_aa[index]
        fits = (np.float32(low) * stretch >= first) & (np.float32(high) * stretch <= last)
        chosen[fits] = index
    return chosen


def find_norm(
    flux: np.ndarray,
    ivar: np.ndarray,
    wavelength_aa: np.ndarray,
    redshift: np.ndarray,
    windows_aa: Windows,
    min_snr: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the divisor of each spectrum.

    Parameters
    ----------
    flux, ivar : ndarray, shape (N, L), float32
        Cleaned values: finite, and ivar 0 where a pixel is masked.
    wavelength_aa : ndarray, shape (L,) or (N, L), float32
        Observed wavelengths, rising [AA].
    redshift : ndarray, shape (N,), float32
    windows_aa : sequence of (float, float)
        Rest-frame windows [AA].
    min_snr : float
        Lowest signal to noise ratio of the norm.

    Returns
    -------
    norm : ndarray, shape (N,), float32
        Median flux of the window; 1 where the spectrum is rejected.
    window : ndarray, shape (N,), int8
        Index of the window; -1 where the spectrum is rejected.
    """
    stretch = np.float32(1) + redshift
    norm = np.ones(len(flux), dtype=np.float32)
    window = choose_window(wavelength_aa, redshift, windows_aa)
    for row in np.flatnonzero(window >= 0):
        low, high = windows_aa[window[row]]
        grid = wavelength_aa if wavelength_aa.ndim == 1 else wavelength_aa[row]
        bounds = np.float32(low) * stretch[row], np.float32(high) * stretch[row]
        pixels = slice(*np.searchsorted(grid, bounds))
        weight = ivar[row, pixels]
        valid = weight > 0
        index, window[row] = window[row], -1
        if not valid.any():
            continue
        median = np.float32(np.median(flux[row, pixels][valid]))
        error = math.sqrt(math.pi / 2.0 / float(weight.sum(dtype=np.float64)))
        if median > 0 and float(median) / error >= min_snr:
            norm[row], window[row] = median, index
    return norm, window


def observed_window(
    flux: np.ndarray, ivar: np.ndarray, wavelength_aa: np.ndarray, section: ObservedNormaliseSection
) -> tuple[np.ndarray, np.ndarray]:
    """Return which spectra the normalisation in the observed frame accepts.

    Parameters
    ----------
    flux, ivar : ndarray, shape (N, L), float32
        Cleaned values: finite, and ivar 0 where a pixel is masked.
    wavelength_aa : ndarray, shape (L,) or (N, L), float32
        Observed wavelengths [AA].
    section : ObservedNormaliseSection

    Returns
    -------
    window : ndarray, shape (N,), int8
        0, or -1 where the spectrum is rejected.
    has_window : ndarray, shape (N,), bool
        Whether a window has a valid pixel.
    """
    valid = ivar > 0
    if section.by == "none":
        return np.where(valid.any(axis=1), 0, -1).astype(np.int8), np.ones(len(flux), dtype=bool)
    if section.windows_aa is not None:
        valid &= np.any([(wavelength_aa >= low) & (wavelength_aa <= high) for low, high in section.windows_aa], axis=0)
    window = np.full(len(flux), -1, dtype=np.int8)
    for row in np.flatnonzero(valid.any(axis=1)):
        median = float(np.median(flux[row, valid[row]]))
        error = math.sqrt(math.pi / 2.0 / float(ivar[row, valid[row]].sum(dtype=np.float64)))
        if median > 0 and median / error >= section.min_snr:
            window[row] = 0
    return window, valid.any(axis=1)
