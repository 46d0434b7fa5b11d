"""Magnitudes of fluxes: AB, and inverse hyperbolic sines, which are finite for every flux."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hpctrain.preprocess.units import plain

AB_ZERO_JY = 3630.7805477010024
"""Flux density of AB magnitude 0 [Jy]: 10^(-48.6 / 2.5) erg s-1 cm-2 Hz-1."""

POGSON = 2.5 / math.log(10)
"""Magnitudes per unit of ln(flux), 1.0857."""

SDSS_SOFTENING = {"u": 1.4e-10, "g": 0.9e-10, "r": 1.2e-10, "i": 1.8e-10, "z": 7.4e-10}
"""Softening b of the magnitudes of SDSS, in units of the flux of magnitude 0."""


def ab_magnitude(flux: Any, zero_point: float | None = None) -> np.ndarray:
    """Return AB magnitudes of flux densities; NaN where the flux is not positive.

    Parameters
    ----------
    flux : array_like or Quantity
        Quantities of any unit of flux density per frequency, or plain numbers in units of which `zero_point` is the
        magnitude of 1 (22.5 for nanomaggies).
    zero_point : float, optional
        If unset, plain numbers are in Jy.

    References
    ----------
    .. [1] Oke & Gunn 1983, ApJ 266, 713.
    """
    values = plain(flux, "Jy", "flux")
    zero = 2.5 * math.log10(AB_ZERO_JY) if zero_point is None or hasattr(flux, "unit") else zero_point
    with np.errstate(all="ignore"):
        return np.where(values > 0, zero - 2.5 * np.log10(np.where(values > 0, values, 1.0)), np.nan)


def flux_jy(magnitude: Any) -> np.ndarray:
    """Return flux densities [Jy] of AB magnitudes."""
    return AB_ZERO_JY * 10 ** (-0.4 * np.asarray(magnitude, dtype=np.float64))


def magnitude_error(flux: Any, error: Any) -> np.ndarray:
    """Return the standard deviation [mag] of the magnitude of fluxes with errors of the same unit, to first order."""
    flux, error = np.asarray(flux, dtype=np.float64), np.asarray(error, dtype=np.float64)
    with np.errstate(all="ignore"):
        return np.where(flux > 0, POGSON * error / flux, np.nan)


def asinh_magnitude(flux: Any, softening: Any, zero_point: float = 0.0) -> np.ndarray:
    """Return asinh magnitudes, which are linear in the flux near 0, also below, and else as usual magnitudes.

    Parameters
    ----------
    flux : array_like
        In units of which `zero_point` is the magnitude of 1.
    softening : float or array_like
        b, in the same units: about the standard deviation of the flux of the sky.
    zero_point : float
        22.5 for nanomaggies; 0 for fluxes relative to that of magnitude 0, as in the tables of SDSS.

    References
    ----------
    .. [1] Lupton, Gunn & Szalay 1999, AJ 118, 1406, equation 3.
    """
    flux, b = np.asarray(flux, dtype=np.float64), np.asarray(softening, dtype=np.float64)
    return zero_point - POGSON * (np.arcsinh(flux / (2 * b)) + np.log(b))


def asinh_magnitude_error(flux: Any, error: Any, softening: Any) -> np.ndarray:
    """Return the standard deviation [mag] of asinh magnitudes, to first order; the units are those of the flux."""
    flux, b = np.asarray(flux, dtype=np.float64), np.asarray(softening, dtype=np.float64)
    return POGSON * np.asarray(error, dtype=np.float64) / np.hypot(flux, 2 * b)


def flux_of_asinh(magnitude: Any, softening: Any, zero_point: float = 0.0) -> np.ndarray:
    """Return the fluxes of asinh magnitudes; the inverse of :func:`asinh_magnitude`."""
    b = np.asarray(softening, dtype=np.float64)
    return 2 * b * np.sinh((zero_point - np.asarray(magnitude, dtype=np.float64)) / POGSON - np.log(b))
