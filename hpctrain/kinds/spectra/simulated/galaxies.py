"""Rest-frame spectra of galaxies: a mixture of old, middle-aged and young stars, dust, and gas. n objects, P pixels."""

from __future__ import annotations

from functools import cache

import numpy as np

from hpctrain.kinds.spectra.simulated.draws import Draws
from hpctrain.kinds.spectra.simulated.rest_frame import (
    GRID_AA,
    GRID_PIXELS,
    LIGHT_KM_S,
    STEP,
    combine,
    dim,
    pixel_of,
    starburst_dust,
)

_BALMER_AA = [6564.61, 4862.68, 4341.68, 4102.89, 3971.20, 3890.15, 3836.47, 3798.98, 3771.70, 3751.22, 3735.43]
_METAL_LINES = [
    # vacuum wavelength [AA], depth, sigma [AA] in the spectrum of an old population
    (2600, 0.35, 18), (2745, 0.2, 15), (2798.75, 0.5, 11), (2852.96, 0.4, 8), (3100, 0.15, 30), (3360, 0.12, 15),
    (3581, 0.2, 12), (3735, 0.25, 14), (3830, 0.25, 16), (3870, 0.3, 18), (3934.78, 0.58, 8.5), (3969.59, 0.54, 8.5),
    (4046, 0.12, 6), (4171, 0.12, 10), (4227.9, 0.2, 4.5), (4305.6, 0.27, 11), (4385, 0.2, 6), (4456, 0.1, 6),
    (4532, 0.1, 7), (4669, 0.09, 14), (4862.68, 0.12, 4.5), (5015, 0.08, 8), (5100, 0.08, 45), (5168.7, 0.22, 4.5),
    (5174.1, 0.22, 4.5), (5185.0, 0.2, 4.5), (5271, 0.14, 6), (5335, 0.12, 6), (5407, 0.08, 5), (5709, 0.04, 6),
    (5782, 0.04, 6), (5891.58, 0.2, 3.6), (5897.56, 0.18, 3.6), (5960, 0.03, 30), (6190, 0.04, 40), (6497, 0.05, 8),
    (6564.61, 0.08, 4), (6800, 0.03, 40), (7090, 0.07, 30), (7150, 0.07, 35), (8190, 0.05, 12), (8500.36, 0.13, 5),
    (8544.44, 0.22, 6), (8664.52, 0.19, 6),
]  # fmt: skip
"""The strongest features of an old stellar population, as a spectrum at 200 km/s shows them."""

_STELLAR_SIGMA_KM_S = 180.0


def galaxy_redshifts(draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Return redshifts from 0.01 to 1.2 in the proportions of DESI's bright, red and emission-line samples.

    Returns
    -------
    redshift : ndarray, shape (n,)
    is_quiescent : ndarray, shape (n,), bool
    """
    sample, quiescent = draws.uniform(), draws.uniform()
    spread = draws.normal()
    bright = 0.01 + np.abs(0.2 + 0.11 * spread)
    red = 0.72 + 0.14 * spread
    emission = 0.95 + 0.17 * spread
    redshift = np.select([sample < 0.5, sample < 0.78], [bright, red], emission)
    is_quiescent = np.select([sample < 0.5, sample < 0.78], [quiescent < 0.4, quiescent < 0.95], False)
    return np.clip(redshift, 0.01, 1.2 - 0.02 * quiescent), is_quiescent


def galaxy_spectra(draws: Draws, is_quiescent: np.ndarray, extreme: np.ndarray):
    """Return rest-frame spectra and narrow lines of galaxies.

    Parameters
    ----------
    draws : Draws
        Of n objects.
    is_quiescent : ndarray, shape (n,), bool
        Galaxies that no longer form stars.
    extreme : ndarray, shape (n,), bool
        Objects to be unusual by their emission lines.

    Returns
    -------
    spectra : ndarray, shape (n, P), float32
        About 1 at 5500 AA.
    areas : dict of ndarray, shape (n,)
        Narrow lines [AA times the unit of `spectra`].
    sigma_km_s : ndarray, shape (n,)
        Their dispersion [km/s].
    """
    young = np.where(is_quiescent, 0.01 * draws.uniform(), 0.05 + 0.55 * draws.uniform() ** 1.3)
    middle = np.where(is_quiescent, 0.12 * draws.uniform(), 0.1 + 0.35 * draws.uniform())
    dust = np.where(is_quiescent, 0.05 * draws.uniform(), 0.05 + 0.3 * draws.uniform())
    young, dust = np.where(extreme, 0.9, young), np.where(extreme, 0.03, dust)
    shares = np.stack([(1 - young) * (1 - middle), (1 - young) * middle, young], axis=1)
    spectra = combine(shares, _populations())
    reddening = dim(starburst_dust(GRID_AA), dust)
    spectra *= reddening
    at_halpha = spectra[:, pixel_of(6564.61)]
    width_aa = np.where(is_quiescent, draws.around(0.5, 0.3), 5.0 + 110.0 * young * draws.around(1.0, 0.15))
    width_aa = np.where(extreme, draws.around(700.0, 0.15), width_aa)
    # Gas is behind more dust than stars are; ratios below are without dust, so they are dimmed line by line.
    gas_dust = np.exp(-0.4 * np.log(10.0) * (dust / 0.44 - dust))
    halpha = width_aa * at_halpha / gas_dust ** starburst_dust(np.array([6564.61])) / reddening[:, pixel_of(6564.61)]
    areas = {}
    for name, (wavelength_aa, ratio) in _line_ratios(draws, is_quiescent, extreme).items():
        through = gas_dust ** starburst_dust(np.array([wavelength_aa])) * reddening[:, pixel_of(wavelength_aa)]
        areas[name] = halpha * ratio * through
    return spectra, areas, np.where(is_quiescent, draws.around(180, 0.1), draws.around(75, 0.15)).clip(25, 350)


def _line_ratios(draws: Draws, is_quiescent: np.ndarray, extreme: np.ndarray):
    """Return wavelength and flux relative to H-alpha of each line, before dust.

    Star-forming galaxies lie below the line of Kauffmann et al. 2003 (MNRAS 346, 1055) in the diagram of Baldwin,
    Phillips & Terlevich; hydrogen has the ratios of case B at 10,000 K, forbidden doublets those of atomic physics.
    """
    from hpctrain.kinds.spectra.simulated.narrow_lines import NARROW_LINES_AA

    log_n2 = np.where(is_quiescent, 0.1, draws.uniform(-1.2, -0.38))
    log_n2 = np.where(extreme, -1.5, log_n2)
    log_o3 = 0.61 / (np.minimum(log_n2, -0.3) - 0.05) + 1.3 - np.abs(draws.normal(0.1, 0.12))
    log_o3 = np.where(is_quiescent, 0.25, np.where(extreme, 0.78, log_o3.clip(-1.0, 0.85)))
    n2, hbeta = 10.0**log_n2, 1.0 / 2.86
    o3 = 10.0**log_o3 * hbeta
    o2 = draws.around(2.8, 0.15) * hbeta * np.where(extreme, 0.4, 1.0)
    doublet = draws.uniform(1.15, 1.45)  # low-density limit 1.5
    s2 = draws.around(0.32, 0.1) * np.where(extreme, 0.3, 1.0)
    s3 = draws.around(0.09, 0.1)
    ratios = {
        "[OII] 3727": o2 / (1 + doublet),
        "[OII] 3730": o2 * doublet / (1 + doublet),
        "[NeIII] 3870": 0.08 * o3 + np.where(extreme, 0.1, 0),
        "Hdelta": 0.259 * hbeta,
        "Hgamma": 0.469 * hbeta,
        "[OIII] 4364": np.where(extreme, 0.04, 0.003) * o3,
        "Hbeta": hbeta,
        "[OIII] 4960": o3 / 2.98,
        "[OIII] 5008": o3,
        "HeI 5877": 0.12 * hbeta,
        "[OI] 6302": np.where(is_quiescent, 0.15, 0.03),
        "[NII] 6550": n2 / 3.05,
        "Halpha": 1.0,
        "[NII] 6585": n2,
        "[SII] 6718": s2 * 0.57,
        "[SII] 6733": s2 * 0.43,
        "[SIII] 9071": s3,
        "[SIII] 9533": s3 * 2.47,
    }
    return {name: (NARROW_LINES_AA[name], ratio) for name, ratio in ratios.items()}


@cache
def _populations() -> np.ndarray:
    """Return spectra of old, middle-aged and young stars, 1 at 5500 AA, shape (3, P), float32."""
    blanketing = _step(3990, 28, 0.55) * _step(3250, 160, 0.55) * _step(2640, 70, 0.6)
    old = _black_body(4650) * blanketing * (1 - _weak_lines())
    for center, depth, sigma in _METAL_LINES:
        old *= 1 - depth * np.exp(-0.5 * ((GRID_AA - center) / np.hypot(sigma, 1.5)) ** 2)
    middle = _black_body(8600) * _step(3700, 45, 0.5) * _step(1700, 150, 0.2) * (1 - 0.25 * _weak_lines())
    young = (GRID_AA / 5500) ** -2.3 * _step(3690, 40, 0.78) * _step(1240, 25, 0.25)
    for order, center in enumerate(_BALMER_AA):
        fading = 0.93**order
        profile = 1.0 / (1.0 + ((GRID_AA - center) / 9.0) ** 2) + np.exp(-0.5 * ((GRID_AA - center) / 5.0) ** 2)
        middle *= 1 - 0.33 * fading * profile
        young *= 1 - 0.10 * fading * profile
    for center, depth, sigma in ((1260, 0.4, 1.6), (1302, 0.4, 2.0), (1335, 0.4, 1.6), (1397, 0.3, 3), (1549, 0.35, 4)):
        young *= 1 - depth * np.exp(-0.5 * ((GRID_AA - center) / sigma) ** 2)
    for center, depth, sigma in (
        (2344.2, 0.3, 1.8),
        (2382.8, 0.3, 1.8),
        (2600.2, 0.35, 2),
        (2796.4, 0.3, 2),
        (2803.5, 0.25, 2),
    ):
        young *= 1 - depth * np.exp(-0.5 * ((GRID_AA - center) / sigma) ** 2)
    populations = np.stack([_broaden(spectrum) for spectrum in (old, middle, young)])
    return (populations / populations[:, [pixel_of(5500)]]).astype(np.float32)


def _black_body(temperature_k: float) -> np.ndarray:
    return 1.0 / (GRID_AA**5 * np.expm1(1.438777e8 / (GRID_AA * temperature_k))) * 1e18


def _step(center_aa: float, width_aa: float, below: float) -> np.ndarray:
    """Return a smooth step from `below` to 1."""
    return below + (1 - below) / (1 + np.exp(-((GRID_AA - center_aa) / width_aa).clip(-50, 50)))


def _weak_lines() -> np.ndarray:
    """Return the depth of the many unresolved metal lines: fixed noise that fades to the red."""
    noise = np.random.default_rng(4000).standard_normal(GRID_PIXELS)
    smooth = _convolve(noise, 2.2)
    depth = 0.13 * np.exp(-((GRID_AA - 3500).clip(0, None)) / 1300) + 0.008
    return np.clip(depth * (0.6 + smooth / smooth.std()), 0, 0.6)


def _broaden(spectrum: np.ndarray) -> np.ndarray:
    return _convolve(spectrum, _STELLAR_SIGMA_KM_S / (LIGHT_KM_S * STEP))


def _convolve(values: np.ndarray, sigma_pixels: float) -> np.ndarray:
    offset = np.arange(-int(5 * sigma_pixels) - 1, int(5 * sigma_pixels) + 2)
    kernel = np.exp(-0.5 * (offset / sigma_pixels) ** 2)
    padded = np.pad(values, len(offset) // 2, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")
