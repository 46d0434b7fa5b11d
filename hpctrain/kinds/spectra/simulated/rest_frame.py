"""The rest-frame grid that spectra are built on. n objects, P pixels.

It is logarithmic, so a line has the same width in pixels and the same pixels in every object: lines of many objects are
added with slices, without an index array.
"""

from __future__ import annotations

import numpy as np

LIGHT_KM_S = 299_792.458
STEP = 2e-4
"""Of ln wavelength: 60 km/s, finer than the spectrograph nearly everywhere; narrow lines are drawn elsewhere."""
LN_FIRST = np.log(780.0)
GRID_AA = np.exp(np.arange(LN_FIRST, np.log(9900.0), STEP))
GRID_PIXELS = len(GRID_AA)
LN_GRID = np.log(GRID_AA)


def pixel_of(wavelength_aa: float) -> int:
    """Return the pixel next to a rest wavelength; may lie outside of the grid."""
    return round((np.log(wavelength_aa) - LN_FIRST) / STEP)


def line_profile(
    center_aa: float, shift_km_s: np.ndarray, sigma_km_s: np.ndarray, num_sigma: float = 4.0
) -> tuple[slice, np.ndarray] | None:
    """Return the pixels covered by a line of unit peak, and its Gaussian profile on them.

    Parameters
    ----------
    center_aa : float
        Rest wavelength [AA].
    shift_km_s, sigma_km_s : ndarray, shape (n,)
        Velocity (positive is red) and dispersion of each object's line [km/s].
    num_sigma : float
        Where the profile is cut off.

    Returns
    -------
    slice and ndarray, shape (n, w), float32; or None
        None where the line is outside of the grid.
    """
    reach_km_s = float(np.max(np.abs(shift_km_s) + num_sigma * sigma_km_s, initial=0.0))
    reach = int(reach_km_s / (LIGHT_KM_S * STEP)) + 2
    middle = pixel_of(center_aa)
    start, stop = max(0, middle - reach), min(GRID_PIXELS, middle + reach + 1)
    if start >= stop:
        return None
    pixels = slice(start, stop)
    velocity = (LIGHT_KM_S * (LN_GRID[pixels] - np.log(center_aa))).astype(np.float32)
    offset = (velocity - shift_km_s[:, None].astype(np.float32)) / sigma_km_s[:, None].astype(np.float32)
    offset2 = np.square(offset, out=offset)
    # Cut at its own reach: the array reaches as far as the broadest of the block, and no object may depend on others.
    return pixels, np.exp(-0.5 * offset2) * (offset2 < num_sigma**2)


def add_line(
    spectra: np.ndarray, center_aa: float, area: np.ndarray, shift_km_s: np.ndarray, sigma_km_s: np.ndarray
) -> None:
    """Add an emission line of given area [flux unit times AA] to rest-frame spectra, shape (n, P), in place."""
    profile = line_profile(center_aa, shift_km_s, sigma_km_s)
    if profile is not None:
        sigma_aa = center_aa * sigma_km_s / LIGHT_KM_S
        spectra[:, profile[0]] += (area / (sigma_aa * np.sqrt(2 * np.pi)))[:, None].astype(np.float32) * profile[1]


def absorb_line(
    spectra: np.ndarray, center_aa: float, depth: np.ndarray, shift_km_s: np.ndarray, sigma_km_s: np.ndarray
) -> None:
    """Multiply by ``exp(-depth * profile)``, in place."""
    profile = line_profile(center_aa, shift_km_s, sigma_km_s)
    if profile is not None:
        spectra[:, profile[0]] *= np.exp(-depth[:, None].astype(np.float32) * profile[1])


def combine(coefficients: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Return ``coefficients @ basis``, shape (n, P), float32; a row has the same bits whatever other rows there are.

    A matrix product of a BLAS library sums in an order that depends on the number of rows.
    """
    total = np.zeros((len(coefficients), basis.shape[1]), np.float32)
    for column, row in zip(coefficients.astype(np.float32).T, basis.astype(np.float32), strict=True):
        total += column[:, None] * row
    return total


def gaussian_bumps(bumps: list[tuple[float, float, float]]) -> np.ndarray:
    """Return a sum of (center [AA], sigma [AA], height), shape (P,), float32."""
    total = np.zeros(GRID_PIXELS)
    for center, sigma, height in bumps:
        total += height * np.exp(-0.5 * ((GRID_AA - center) / sigma) ** 2)
    return total.astype(np.float32)


def smc_dust(wavelength_aa: np.ndarray) -> np.ndarray:
    """Return A(wavelength) / E(B-V) of Small Magellanic Cloud dust, ``1.39 (wavelength / um)^-1.2``.

    References
    ----------
    .. [1] Prevot et al. 1984; the power law as in Richards et al. 2003, AJ 126, 1131.
    """
    return 1.39 * (wavelength_aa / 1e4) ** -1.2


def starburst_dust(wavelength_aa: np.ndarray) -> np.ndarray:
    """Return A(wavelength) / E(B-V) of star-forming galaxies.

    References
    ----------
    .. [1] Calzetti et al. 2000, ApJ 533, 682, equation 4.
    """
    x = 1e4 / np.clip(wavelength_aa, 1200.0, None)
    blue = 2.659 * (-2.156 + 1.509 * x - 0.198 * x**2 + 0.011 * x**3) + 4.05
    red = 2.659 * (-1.857 + 1.040 * x) + 4.05
    return np.where(wavelength_aa < 6300.0, blue, red)


def dim(extinction: np.ndarray, e_bv: np.ndarray) -> np.ndarray:
    """Return the share of light that gets through dust, shape (n, P), float32."""
    return np.exp(np.outer(-0.4 * np.log(10.0) * e_bv, extinction).astype(np.float32))
