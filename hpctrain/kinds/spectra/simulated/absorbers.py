"""Absorption between a quasar and us: hydrogen of the Lyman-alpha forest, damped systems, metal lines of galaxies."""

from __future__ import annotations

from functools import cache

import numpy as np

LYMAN_ALPHA_AA = 1215.67
LYMAN_BETA_AA = 1025.72
LYMAN_LIMIT_AA = 911.75

_METALS = [(2796.35, 1.0), (2803.53, 0.6), (2600.17, 0.5), (2586.65, 0.25), (2382.76, 0.6), (2344.21, 0.35)]
"""Mg II doublet and Fe II: wavelength [AA] and optical depth relative to the strongest."""

_FOREST_SIGMA = 1.3
"""Scatter of ln(optical depth) between pixels; it reproduces the variance of the flux in the forest at z = 2.5."""


def add_forest(flux: np.ndarray, wavelength_aa: np.ndarray, redshift: float, random: np.random.Generator) -> None:
    """Absorb the flux of one quasar blueward of its Lyman-alpha line, in place.

    Parameters
    ----------
    flux : ndarray, shape (L,), float32
    wavelength_aa : ndarray, shape (L,)
        Observed [AA], equally spaced.
    redshift : float
    random : Generator
        Of this object.

    References
    ----------
    .. [1] Mean optical depth ``0.0023 (1 + z)^3.65``: Kamble et al. 2020, ApJ 892, 70; log-normal depths: Bi & Davidsen
       1997, ApJ 479, 523.
    """
    num_pixels = int(np.searchsorted(wavelength_aa, LYMAN_ALPHA_AA * (1 + redshift)))
    if num_pixels < 4:
        return
    wavelength = wavelength_aa[:num_pixels]
    step = wavelength_aa[1] - wavelength_aa[0]
    transmission = _fluctuating(wavelength / LYMAN_ALPHA_AA - 1, step, random)
    beta = int(np.searchsorted(wavelength, LYMAN_BETA_AA * (1 + redshift)))
    if beta >= 4:
        # The Lyman-beta forest lies on top of the alpha forest of nearer gas; its line is six times weaker.
        transmission[:beta] *= _fluctuating(wavelength[:beta] / LYMAN_BETA_AA - 1, step, random, weaker=6.2)
    limit = int(np.searchsorted(wavelength, LYMAN_LIMIT_AA * (1 + redshift)))
    depth = random.uniform(0.2, 3.0)
    transmission[:limit] *= np.exp(-depth * (wavelength[:limit] / (LYMAN_LIMIT_AA * (1 + redshift))) ** 2.75)
    if random.random() < 0.15:
        transmission *= _damped_system(wavelength, redshift, random)
    flux[:num_pixels] *= transmission.astype(np.float32)


def _fluctuating(redshift: np.ndarray, step_aa: float, random: np.random.Generator, weaker: float = 1.0) -> np.ndarray:
    """Return the transmission of gas at each redshift: log-normal optical depths with the right mean."""
    mean_depth = 0.0023 * (1 + redshift) ** 3.65
    ln_scale = np.interp(mean_depth, *_scale_of_mean_depth())
    noise = random.standard_normal(len(redshift) + 2)
    noise = (0.5 * noise[:-2] + noise[1:-1] + 0.5 * noise[2:]) / np.sqrt(1.5)
    transmission = np.exp(-np.exp(ln_scale + _FOREST_SIGMA * noise) / weaker)
    padded = np.pad(transmission, 1, mode="edge")
    transmission = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
    if step_aa > 0.8:
        # A wide pixel averages over many systems.
        mean = np.exp(-mean_depth / weaker)
        transmission = mean + (transmission - mean) * np.sqrt(0.8 / step_aa)
    return transmission


@cache
def _scale_of_mean_depth() -> tuple[np.ndarray, np.ndarray]:
    """Return effective optical depths, increasing, and ln of the scale of log-normal depths that gives each."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    ln_scale = np.linspace(-9, 5, 200)
    transmission = np.exp(-np.exp(ln_scale[:, None] + _FOREST_SIGMA * nodes)) @ (weights / weights.sum())
    return -np.log(transmission), ln_scale


def _damped_system(wavelength_aa: np.ndarray, redshift: float, random: np.random.Generator) -> np.ndarray:
    """Return the transmission of one damped Lyman-alpha system in front of the quasar."""
    center = LYMAN_ALPHA_AA * (1 + redshift - random.uniform(0.02, 0.6))
    column_1e20 = 10 ** random.uniform(0.3, 1.3)
    # Rest equivalent width 7.3 AA at 1e20 cm-2, and that is 2 sqrt(pi K) for a profile exp(-K / offset^2).
    stretch = center / LYMAN_ALPHA_AA
    constant = (7.3 * stretch) ** 2 * column_1e20 / (4 * np.pi)
    return np.exp(-constant / np.maximum((wavelength_aa - center) ** 2, 1e-3))


def add_metal_lines(flux: np.ndarray, wavelength_aa: np.ndarray, redshift: float, depth: float) -> None:
    """Absorb Mg II and Fe II lines of a galaxy at `redshift` from one spectrum, shape (L,), in place."""
    step = wavelength_aa[1] - wavelength_aa[0]
    sigma = np.hypot(1.1, step / 2)
    reach = int(5 * sigma / step) + 2
    for line, relative in _METALS:
        center = line * (1 + redshift)
        middle = round((center - wavelength_aa[0]) / step)
        pixels = slice(max(0, middle - reach), max(0, middle + reach))
        offset = (wavelength_aa[pixels] - center) / sigma
        flux[pixels] *= np.exp(-depth * relative * (1.1 / sigma) * np.exp(-0.5 * offset**2)).astype(np.float32)
