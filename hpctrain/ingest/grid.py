"""Wavelength grids as a user names them: vacuum wavelengths of pixel centres [AA]."""

from __future__ import annotations

import numpy as np

from hpctrain.errors import DataError
from hpctrain.kinds.spectra.grids import desi_grid, sdss_grid

GRID_HELP = "auto|desi|sdss|native|log:MIN:MAX:DLOG|linear:MIN:MAX:STEP"


def parse_grid(text: str) -> np.ndarray | str:
    """Turn the text of ``--grid`` into pixel centres.

    Parameters
    ----------
    text : str
        ``desi``, ``sdss``, ``log:MIN:MAX:DLOG`` (wavelengths [AA], step in log10), ``linear:MIN:MAX:STEP`` [AA];
        or ``auto`` and ``native``, which depend on the data.

    Returns
    -------
    ndarray, shape (L,), float64, or str
        Pixel centres [AA]; ``auto`` and ``native`` are returned unchanged.

    Raises
    ------
    DataError
        The text is none of these, or the numbers make no grid.
    """
    if text in ("auto", "native"):
        return text
    if text == "desi":
        return desi_grid()
    if text == "sdss":
        return sdss_grid()
    kind, *numbers = text.split(":")
    try:
        low, high, step = (float(number) for number in numbers)
    except ValueError as error:
        raise DataError(f"grid '{text}': allowed is {GRID_HELP}") from error
    if kind not in ("log", "linear"):
        raise DataError(f"grid '{text}': allowed is {GRID_HELP}")
    if not (0 < low < high < 1e7 and step > 0):
        raise DataError(f"grid '{text}': needs 0 < MIN < MAX [AA] and a step above 0")
    span = np.log10(high / low) if kind == "log" else high - low
    num_pixels = int(np.floor(span / step + 1e-6)) + 1
    if not 2 <= num_pixels <= 1_000_000:
        raise DataError(f"grid '{text}': makes {num_pixels} pixels; allowed are 2 to 1,000,000")
    steps = step * np.arange(num_pixels)
    return low * 10.0**steps if kind == "log" else low + steps
