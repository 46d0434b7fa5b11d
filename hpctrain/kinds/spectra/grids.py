"""The wavelength grids of surveys [vacuum AA]."""

from __future__ import annotations

import numpy as np

SDSS_LOG_STEP = 1e-4
SDSS_FIRST_STEP, SDSS_LAST_STEP = 35500, 40180
"""log10 wavelength 3.5500 to 4.0180 in steps of 1e-4 (3548 to 10423 AA): the full range of the BOSS spectrographs."""

DESI_FIRST_AA, DESI_STEP_AA, DESI_NUM_PIXELS = 3600.0, 0.8, 7781


def desi_grid() -> np.ndarray:
    """Return DESI's merged grid: 7,781 pixels of 0.8 AA from 3600 to 9824 AA, float64."""
    return np.linspace(DESI_FIRST_AA, DESI_FIRST_AA + DESI_STEP_AA * (DESI_NUM_PIXELS - 1), DESI_NUM_PIXELS)


def sdss_grid() -> np.ndarray:
    """Return the lattice all SDSS, BOSS and eBOSS spectra lie on: 4,681 pixels of 1e-4 in log10, float64."""
    return 10.0 ** (np.arange(SDSS_FIRST_STEP, SDSS_LAST_STEP + 1) * SDSS_LOG_STEP)
