"""Wavelength grids: pixel centres [AA], the edges between them, and where one grid lies on another."""

from __future__ import annotations

import numpy as np

from hpctrain.errors import DataError

ALIGNED_PIXELS = 0.01
"""Grids whose pixels coincide to this fraction of a pixel count as one lattice: spectra are copied, not resampled.

The surveys store wavelengths as float32, which shifts an SDSS pixel (1e-4 in log10) by 0.003 pixels and a DESI one by
0.001; 0.01 pixels are 0.7 km/s.
"""


def require_grid(wavelength_aa: np.ndarray, what: str = "wavelength") -> np.ndarray:
    """Return `wavelength_aa` as float64 when it is a grid: 1-D, finite, positive and strictly increasing.

    Raises
    ------
    DataError
        It is not; the message names the first pixel that is wrong.
    """
    wavelength = np.asarray(wavelength_aa, dtype=np.float64)
    if wavelength.ndim != 1 or len(wavelength) < 2:
        raise DataError(f"{what}: has shape {wavelength.shape}; needs one dimension and 2 pixels or more")
    bad = ~np.isfinite(wavelength) | (wavelength <= 0)
    if bad.any():
        pixel = int(np.argmax(bad))
        raise DataError(f"{what}: {wavelength[pixel]} at pixel {pixel}; needs finite wavelengths above 0")
    falling = np.diff(wavelength) <= 0
    if falling.any():
        pixel = int(np.argmax(falling))
        raise DataError(
            f"{what}: not increasing at pixel {pixel + 1} ({wavelength[pixel]:g} then {wavelength[pixel + 1]:g} AA)"
        )
    return wavelength


def pixel_edges(wavelength_aa: np.ndarray) -> np.ndarray:
    """Return the L + 1 edges of L pixels: midway between centres, the outermost as far out as they are in."""
    middle = 0.5 * (wavelength_aa[1:] + wavelength_aa[:-1])
    first = 1.5 * wavelength_aa[0] - 0.5 * wavelength_aa[1]
    last = 1.5 * wavelength_aa[-1] - 0.5 * wavelength_aa[-2]
    return np.concatenate([[first], middle, [last]])


def find_offset(wavelength_in: np.ndarray, wavelength_out: np.ndarray) -> int | None:
    """Find the position of one grid on the lattice of another.

    Parameters
    ----------
    wavelength_in, wavelength_out : ndarray, shape (L,) and (M,), float64
        Two grids [AA].

    Returns
    -------
    int or None
        k such that pixel i of `wavelength_in` is pixel i + k of `wavelength_out` for every i that falls inside it,
        to :data:`ALIGNED_PIXELS`; None where there is no such k or the grids don't meet.
    """
    inside = np.flatnonzero(
        (wavelength_in >= wavelength_out[0] * 0.99999) & (wavelength_in <= wavelength_out[-1] * 1.00001)
    )
    if len(inside) < 2:
        return None
    first = int(inside[0])
    offset = int(np.argmin(np.abs(wavelength_out - wavelength_in[first]))) - first
    begin, end = max(0, -offset), min(len(wavelength_in), len(wavelength_out) - offset)
    if end - begin < 2:
        return None
    here, there = wavelength_in[begin:end], wavelength_out[begin + offset : end + offset]
    width = np.gradient(there)
    if np.any(np.abs(here - there) > ALIGNED_PIXELS * width):
        return None
    outside = np.concatenate([wavelength_in[:begin], wavelength_in[end:]])
    beyond = (outside < wavelength_out[0]) | (outside > wavelength_out[-1])
    return offset if beyond.all() else None
