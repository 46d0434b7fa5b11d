"""Read the wavelength grid of a file: one for all rows, or one per row, in vacuum Angstrom and increasing."""

from __future__ import annotations

import h5py
import numpy as np

from hpctrain.errors import DataError

MAX_SCANNED_BYTES = 4 * 2**30
"""Largest wavelength column with one row per spectrum that is compared row by row; a larger one is read with each
batch."""

PLAUSIBLE_AA = (10.0, 1e7)
"""Range of plausible wavelengths, X-ray to far infrared; values outside are logarithms or have another unit."""

_SAME_GRID = 1e-6
"""Largest relative difference of equal grids; rounding a float64 grid to float32 changes it by 6e-8."""


def read_common_grid(dataset: h5py.Dataset) -> np.ndarray | None:
    """Return the grid that all rows share, shape (L,), float64, or None if each row has its own.

    Raises
    ------
    DataError
        The grid is not an increasing wavelength in Angstrom.
    """
    _check_unit(dataset)
    return common_grid(dataset, f"{dataset.file.filename}: {dataset.name.lstrip('/')}")


def common_grid(values: h5py.Dataset | np.ndarray, where: str) -> np.ndarray | None:
    """Return the grid that all rows share, shape (L,), float64, or None if each row has its own.

    Parameters
    ----------
    values : h5py.Dataset or ndarray, shape (L,), (1, L) or (N, L)
        Read a few rows at a time.
    where : str
        Name of the values in errors, such as ``spectra.h5: wavelength``.

    Raises
    ------
    DataError
        The grid is not an increasing wavelength in Angstrom.
    """
    if values.ndim == 1 or values.shape[0] == 1:
        grid = np.asarray(values[...], dtype=np.float64).reshape(-1)
        check_grid(grid, where)
        return grid
    num_rows = values.shape[0]
    first = values[0]
    check_grid(first.astype(np.float64), where)
    # If grids differ, a few rows show it for most files; only reading all rows proves that they are equal.
    probes = np.unique(np.linspace(0, num_rows - 1, 32).astype(np.int64))
    if any(not np.array_equal(values[row], first) for row in probes):
        return None
    if values.size * values.dtype.itemsize > MAX_SCANNED_BYTES:
        return None
    rows_at_once = max(1, 2**24 // (first.nbytes or 1))
    for start in range(0, num_rows, rows_at_once):
        if not (values[start : start + rows_at_once] == first).all():
            return None
    return first.astype(np.float64)


def mend_grids(grids: np.ndarray) -> tuple[np.ndarray, int | None]:
    """Fill the padding of grids in place, so that each increases.

    Parameters
    ----------
    grids : ndarray, shape (n, L), float32

    Returns
    -------
    padding : ndarray, shape (n, L), bool
        Pixels without a wavelength.
    backwards : int or None
        Index of the first grid whose wavelengths do not increase; None if all do.
    """
    padding = ~is_wavelength(grids)
    for index in np.flatnonzero(padding.any(axis=1)):
        grids[index] = fill_padding(grids[index])
    wrong = np.flatnonzero((np.diff(grids, axis=1) <= 0).any(axis=1))
    return padding, int(wrong[0]) if wrong.size else None


def check_grid(grid: np.ndarray, where: str) -> None:
    """Raise unless the values are an increasing wavelength in Angstrom; padding (<= 0 or NaN) does not count.

    Parameters
    ----------
    grid : ndarray, shape (L,), float64
    where : str
        Name of the values in errors, such as ``spectra.h5: wavelength``.

    Raises
    ------
    DataError
        They are not.
    """
    valid = grid[is_wavelength(grid)]
    if valid.size < 2:
        raise DataError(f"{where}: holds {valid.size} positive values in its first row; a spectrum needs more")
    low, high = float(valid.min()), float(valid.max())
    if not (PLAUSIBLE_AA[0] <= low and high <= PLAUSIBLE_AA[1]):
        raise DataError(f"{where}: {low:g} to {high:g} is no wavelength in Angstrom{_guess(low, high)}. {_INGEST}")
    step = np.diff(valid)
    backwards = np.flatnonzero(step <= 0)
    if backwards.size:
        pixel = int(backwards[0])
        raise DataError(
            f"{where}: runs backwards after pixel {pixel} ({valid[pixel]:.2f} to {valid[pixel + 1]:.2f} AA), like the "
            f"arms of a spectrograph one after the other. {_INGEST}"
        )


def _guess(low: float, high: float) -> str:
    """Return a guess at the unit: log10 of 1,000 to 30,000 AA is 3 to 4.5; 0.3 to 9 may be micrometres."""
    if low >= 3 and high <= 4.5:
        return "; this looks like log10 of it"
    if high < PLAUSIBLE_AA[0]:
        return "; this looks like micrometres (multiply by 10,000), or like its logarithm"
    return ""


def same_grid(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two grids of the same length are equal up to the rounding of float32."""
    return bool(np.allclose(one, other, rtol=_SAME_GRID, atol=0.0, equal_nan=True))


def is_wavelength(grid: np.ndarray) -> np.ndarray:
    """Return which pixels have a wavelength; padding is written as -1, 0 or NaN."""
    return np.isfinite(grid) & (grid > 0)


def fill_padding(grid: np.ndarray) -> np.ndarray:
    """Return a grid, shape (L,), that increases through its padding, too, with the step of the nearest pixels.

    The padded pixels have no weight, but a network that interpolates needs an increasing grid.
    """
    valid = np.flatnonzero(is_wavelength(grid))
    pixel = np.arange(len(grid))
    if valid.size < 2:
        return (pixel + 1.0).astype(grid.dtype)
    filled = np.interp(pixel, valid, grid[valid])
    first, last = valid[0], valid[-1]
    filled[last + 1 :] = grid[last] + (grid[last] - grid[valid[-2]]) * np.arange(1, len(grid) - last)
    # Extrapolate backwards in the logarithm, so that wavelengths stay positive.
    filled[:first] = grid[first] * (grid[first] / grid[valid[1]]) ** np.arange(first, 0, -1)
    return filled.astype(grid.dtype)


def _check_unit(dataset: h5py.Dataset) -> None:
    for name in ("unit", "units", "UNIT", "UNITS"):
        unit = dataset.attrs.get(name)
        unit = unit.decode() if isinstance(unit, bytes) else unit
        if isinstance(unit, str) and unit.strip() and unit.strip().lower() not in _ANGSTROM:
            raise DataError(
                f"{dataset.file.filename}: {dataset.name.lstrip('/')}: is in {unit!r}, not in Angstrom. {_INGEST}"
            )


_ANGSTROM = {"a", "aa", "angstrom", "angstroms", "ang", "0.1 nm", "å", "ångström", "1e-10 m", "1e-10m"}
_INGEST = "Run `hpctrain ingest` to write spectra on one grid in vacuum Angstrom."
