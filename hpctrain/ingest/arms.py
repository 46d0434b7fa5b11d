"""Merging of camera arms (DESI's B, R, Z) and of exposures into one spectrum per object.

Arms share one linear lattice of wavelengths, so nothing is resampled: each pixel is the inverse-variance mean of the
arms (and exposures) that cover it, and its ivar is their sum, as in desispec's ``coadd_cameras``. One difference is on
purpose: masked pixels have ivar 0 *before* the mean. desispec weights with the raw ivar and then clears the mask
wherever ivar > 0, so it uses the bad pixel of an arm.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from hpctrain.errors import DataError
from hpctrain.kinds.spectra.grids import desi_grid
from hpctrain.preprocess.grid import ALIGNED_PIXELS, find_offset, require_grid


def merged_lattice(arms_aa: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Find the lattice that all arms lie on.

    Parameters
    ----------
    arms_aa : sequence of ndarray, shape (La,)
        Wavelengths of each arm [AA], equally spaced.

    Returns
    -------
    wavelength_aa : ndarray, shape (L,), float64
        From the bluest to the reddest pixel in steps of the arms.
    positions : list of ndarray, shape (La,), int64
        Pixel of the lattice for each pixel of each arm.

    Raises
    ------
    DataError
        The arms have no lattice in common (to 0.01 pixels).
    """
    arms = [require_grid(arm, "wavelength of an arm") for arm in arms_aa]
    start = min(arm[0] for arm in arms)
    step = float(np.median([(arm[-1] - arm[0]) / (len(arm) - 1) for arm in arms]))
    positions = []
    for arm in arms:
        exact = (arm - start) / step
        position = np.round(exact).astype(np.int64)
        if np.abs(exact - position).max() > ALIGNED_PIXELS or np.any(np.diff(position) != 1):
            worst = float(np.abs(exact - position).max())
            raise DataError(f"arms are not on one linear lattice of {step:g} AA (off by up to {worst:.2f} pixels)")
        positions.append(position)
    wavelength = start + step * np.arange(max(position[-1] for position in positions) + 1)
    desi = desi_grid()
    offset = find_offset(wavelength, desi)
    if offset is not None and offset >= 0 and offset + len(wavelength) <= len(desi):
        # Steps from float32 wavelengths are off in the seventh digit; this is the grid they mean.
        wavelength = desi[offset : offset + len(wavelength)]
    return wavelength, positions


def merge_arms(
    num_pixels: int,
    positions: Sequence[np.ndarray],
    fluxes: Sequence[np.ndarray],
    ivars: Sequence[np.ndarray],
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Coadd arms, and rows that belong together, by inverse variance.

    Parameters
    ----------
    num_pixels : int
        L, pixels of the lattice.
    positions : sequence of ndarray, shape (La,)
        From :func:`merged_lattice`.
    fluxes, ivars : sequence of ndarray, shape (n, La)
        One pair per arm; ivar 0, less or not finite means no information.
    groups : ndarray, shape (n,), int64, optional
        Rows with the same number become one spectrum; numbers start at 0 and never fall from row to row. None keeps
        every row.

    Returns
    -------
    flux, ivar : ndarray, shape (g, L), float32
        One row per group. Pixels seen once are equal to the input bit for bit; pixels without information are 0, 0.
    """
    num_rows = len(fluxes[0])
    weighted, weight = np.zeros((num_rows, num_pixels)), np.zeros((num_rows, num_pixels))
    for position, flux, ivar in zip(positions, fluxes, ivars, strict=True):
        good = np.isfinite(flux) & np.isfinite(ivar) & (ivar > 0)
        arm_weight = np.where(good, ivar, 0).astype(np.float64)
        span = slice(int(position[0]), int(position[-1]) + 1)
        weight[:, span] += arm_weight
        # A product of two float32 is exact in float64, so that dividing by the weight again gives the flux back.
        weighted[:, span] += arm_weight * np.where(good, flux, 0)
    if groups is not None and num_rows:
        starts = np.flatnonzero(np.diff(groups, prepend=-1))
        if len(starts) < num_rows:
            weight, weighted = np.add.reduceat(weight, starts), np.add.reduceat(weighted, starts)
    flux = np.divide(weighted, weight, out=np.zeros_like(weighted), where=weight > 0)
    return flux.astype(np.float32), weight.astype(np.float32)


def split_arms(wavelength_aa: np.ndarray) -> list[slice]:
    """Split a vector of arms written one after the other where its wavelength steps back.

    Such vectors exist (7,958 pixels of DESI: B, R, Z with their overlaps twice), and interpolating them silently gives
    wrong fluxes.

    Parameters
    ----------
    wavelength_aa : ndarray, shape (L,)
        Wavelengths [AA].

    Returns
    -------
    list of slice
        One slice per arm; a single one for a vector that increases throughout.

    Raises
    ------
    DataError
        Values are not finite, a pixel is repeated, or there are more than 8 pieces, too many to be arms.
    """
    wavelength = np.asarray(wavelength_aa, dtype=np.float64)
    if wavelength.ndim != 1 or len(wavelength) < 2 or not np.isfinite(wavelength).all():
        raise DataError("wavelength is not a vector of 2 or more finite numbers")
    steps = np.diff(wavelength)
    if np.any(steps == 0):
        raise DataError(f"wavelength {wavelength[int(np.argmax(steps == 0))]:g} AA occurs twice in a row")
    cuts = [0, *(np.flatnonzero(steps < 0) + 1).tolist(), len(wavelength)]
    arms = [slice(begin, end) for begin, end in itertools.pairwise(cuts)]
    if len(arms) > 8 or any(arm.stop - arm.start < 2 for arm in arms):
        raise DataError(f"wavelength steps back {len(arms) - 1} times: neither increasing nor a few camera arms")
    return arms
