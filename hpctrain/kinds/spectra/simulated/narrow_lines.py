"""Nebular lines, integrated over the observed pixels, as they are narrower than some grids. n objects, K lines."""

from __future__ import annotations

import numpy as np

from hpctrain.kinds.spectra.simulated.rest_frame import LIGHT_KM_S

RESOLUTION_AA = 1.8 / 2.355
"""Dispersion of the spectrograph's line spread [AA]: DESI has a nearly constant width of 1.8 AA FWHM."""

_NUM_SIGMA = 4.5
"""Profiles are cut off at this many sigma."""

NARROW_LINES_AA = {
    "[NeV] 3427": 3426.85,
    "[OII] 3727": 3727.09,
    "[OII] 3730": 3729.88,
    "[NeIII] 3870": 3869.86,
    "Hdelta": 4102.89,
    "Hgamma": 4341.68,
    "[OIII] 4364": 4364.44,
    "HeII 4687": 4687.02,
    "Hbeta": 4862.68,
    "[OIII] 4960": 4960.30,
    "[OIII] 5008": 5008.24,
    "HeI 5877": 5877.25,
    "[OI] 6302": 6302.05,
    "[NII] 6550": 6549.85,
    "Halpha": 6564.61,
    "[NII] 6585": 6585.27,
    "[SII] 6718": 6718.29,
    "[SII] 6733": 6732.67,
    "[SIII] 9071": 9071.1,
    "[SIII] 9533": 9533.2,
}
"""Vacuum wavelengths [AA] (NIST)."""


def add_narrow_lines(
    flux: np.ndarray,
    edges_aa: np.ndarray,
    redshift: np.ndarray,
    areas: dict[str, np.ndarray],
    sigma_km_s: np.ndarray,
) -> None:
    """Add lines to observed spectra, in place.

    Parameters
    ----------
    flux : ndarray, shape (n, L), float32
    edges_aa : ndarray, shape (L + 1,), float64
        Borders of the pixels [AA], equally spaced.
    redshift : ndarray, shape (n,)
    areas : dict of ndarray, shape (n,)
        Rest-frame flux of each line by its name in `NARROW_LINES_AA` [unit of flux times AA].
    sigma_km_s : ndarray, shape (n,)
        Dispersion of the gas [km/s].
    """
    step = edges_aa[1] - edges_aa[0]
    num_pixels = len(edges_aa) - 1
    for name, area in areas.items():
        center = NARROW_LINES_AA[name] * (1.0 + redshift)
        sigma = np.hypot(center * sigma_km_s / LIGHT_KM_S, RESOLUTION_AA)
        margin = _NUM_SIGMA * sigma + step
        seen = np.flatnonzero((center > edges_aa[0] - margin) & (center < edges_aa[-1] + margin))
        if not seen.size:
            continue
        center, sigma = center[seen], sigma[seen]
        reach = int(margin[seen].max() / step) + 1
        edge = ((center - edges_aa[0]) / step).astype(np.int64)[:, None] + np.arange(-reach, reach + 2)
        offset = ((edges_aa[0] + edge * step - center[:, None]) / sigma[:, None]).astype(np.float32)
        height = (area[seen] * (1.0 + redshift[seen]) / step).astype(np.float32)
        # Cut at its own width, as the window is that of the broadest of the block.
        added = np.diff(_normal_cdf(offset.clip(-_NUM_SIGMA, _NUM_SIGMA)), axis=1) * height[:, None]
        pixel = edge[:, :-1]
        inside = (pixel >= 0) & (pixel < num_pixels)
        # Each pixel of a row occurs once, so adding by index is safe, and much faster than ufunc.at.
        flux.reshape(-1)[(seen[:, None] * num_pixels + pixel)[inside]] += added[inside]


def _normal_cdf(x: np.ndarray) -> np.ndarray:
    """Cumulative normal distribution to 3e-4 (Page 1977), without scipy."""
    return 0.5 + 0.5 * np.tanh(np.float32(np.sqrt(2.0 / np.pi)) * (x + np.float32(0.044715) * x * x * x))
