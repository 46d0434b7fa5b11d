"""A DESI-like spectrograph: three arms, a bright sky, photon noise, bad pixels. n spectra, L pixels."""

from __future__ import annotations

import numpy as np

ARMS_AA = ((3600.0, 5800.0), (5760.0, 7620.0), (7520.0, 9824.0))
"""Ranges of the blue, red and infrared arm [AA]; a coadd joins them, with less noise where two overlap."""

_DICHROICS_AA = (5780.0, 7570.0)
_NATIVE_STEP_AA = 0.8
_NOISE_UNIT = 0.05
"""Scales photon counts to a sigma near 0.5e-17 erg s-1 cm-2 AA-1 per pixel of 0.8 AA: an hour of a dark program."""
_READ_NOISE = 0.8

_SKY_LINES_AIR_AA = {
    # the brightest lines of the night: wavelength in air [AA] and peak, in units of the sky between the lines
    5577.34: 75, 5889.95: 7, 5895.92: 5, 6300.30: 22, 6363.78: 8, 6257.96: 2.5, 6498.73: 3.5, 6533.04: 4.5, 6553.62:
    3.5, 6577.18: 2, 6863.96: 5, 6871.07: 2, 6900.83: 3, 6912.62: 3, 6923.22: 6, 6939.52: 4, 6948.94: 3, 7240.0: 6,
    7244.91: 5, 7276.41: 9, 7284.44: 5, 7303.72: 6, 7316.28: 11, 7329.15: 6, 7340.89: 10, 7358.67: 3, 7369.25: 6,
    7392.21: 3, 7401.86: 4, 7438.0: 2, 7524.1: 3, 7571.75: 3, 7712.0: 4, 7716.0: 5, 7731.0: 4, 7750.64: 14, 7759.99:
    7, 7780.4: 8, 7794.11: 16, 7808.48: 9, 7821.50: 15, 7841.27: 9, 7853.24: 10, 7867.0: 5, 7890.0: 6, 7913.71: 16,
    7918.6: 8, 7949.20: 9, 7964.65: 22, 7993.33: 20, 8014.06: 8, 8025.81: 14, 8052.0: 6, 8062.0: 9, 8105.0: 5,
    8288.6: 8, 8298.4: 12, 8310.72: 13, 8344.60: 24, 8352.79: 14, 8382.39: 15, 8399.17: 30, 8415.23: 16, 8430.17:
    28, 8452.25: 15, 8465.36: 20, 8493.39: 15, 8504.63: 13, 8538.7: 7, 8548.7: 6, 8760.4: 9, 8767.91: 16, 8778.33:
    19, 8790.99: 22, 8811.0: 9, 8827.10: 34, 8836.02: 18, 8849.85: 13, 8867.61: 22, 8885.85: 42, 8903.11: 24,
    8919.64: 40, 8943.40: 22, 8957.98: 30, 8988.38: 24, 9001.2: 14, 9037.8: 13, 9049.8: 14, 9091.0: 7, 9102.1: 7,
    9158.0: 4, 9313.6: 16, 9324.3: 12, 9337.85: 24, 9375.98: 34, 9399.66: 14, 9419.73: 30, 9439.67: 50, 9458.53: 28,
    9476.83: 44, 9502.82: 26, 9519.24: 32, 9552.55: 26, 9567.59: 22, 9607.73: 15, 9620.63: 14, 9661.0: 8, 9700.0:
    10, 9720.0: 12, 9749.0: 9, 9777.0: 9, 9790.0: 14, 9799.0: 14, 9802.4: 20,
}  # fmt: skip
"""Wavelengths of oxygen, sodium and OH after Osterbrock et al. 1996, PASP 108, 277; strengths rounded."""

_TELLURIC = [
    # center [AA, vacuum], sigma, depth of the bands of O2 and water that dim the star and not the sky's noise
    (6872, 5, 0.35), (6892, 12, 0.2), (7190, 12, 0.15), (7242, 15, 0.12), (7296, 15, 0.12), (7604, 9, 0.6),
    (7628, 12, 0.5), (7655, 10, 0.25), (8170, 20, 0.12), (8230, 18, 0.15), (8290, 18, 0.1), (8970, 25, 0.15),
    (9080, 35, 0.15), (9160, 20, 0.12), (9340, 25, 0.4), (9400, 30, 0.35), (9480, 30, 0.3), (9560, 30, 0.2),
]  # fmt: skip


class Spectrograph:
    """Noise of a given wavelength grid.

    Parameters
    ----------
    wavelength_aa : ndarray, shape (L,), float64
        Pixel centres [AA], equally spaced.

    Attributes
    ----------
    sky_variance : ndarray, shape (L,), float32
        Of a pixel without any object [(1e-17 erg s-1 cm-2 AA-1)^2].
    photon_variance : ndarray, shape (L,), float32
        What each unit of an object's flux adds.
    """

    def __init__(self, wavelength_aa: np.ndarray) -> None:
        step = wavelength_aa[1] - wavelength_aa[0]
        # Noise is computed on the native pixels and averaged, so a coarse grid sees the same sky.
        oversampling = max(1, round(step / _NATIVE_STEP_AA))
        fine = (wavelength_aa[:, None] + step * ((np.arange(oversampling) + 0.5) / oversampling - 0.5)).reshape(-1)
        sky, through = _sky(fine), _telluric(fine)
        ivar, weight = np.zeros_like(fine), np.zeros_like(fine)
        for number, (low, high) in enumerate(ARMS_AA):
            efficiency = _efficiency(fine, number) * through
            # The outer arms extend to the ends of the grid, whose first pixel may begin bluer than the nominal range.
            seen = (fine >= low if number > 0 else True) & (fine <= high if number < 2 else True)
            ivar += seen * efficiency**2 / (_NOISE_UNIT * (efficiency * sky + _READ_NOISE))
            weight += seen * efficiency
        scale = _NATIVE_STEP_AA / step
        self.sky_variance = (scale / ivar.reshape(-1, oversampling).mean(axis=1)).astype(np.float32)
        self.photon_variance = (scale * _NOISE_UNIT / weight.reshape(-1, oversampling).mean(axis=1)).astype(np.float32)
        self._arm_pixels = [np.searchsorted(wavelength_aa, arm) for arm in ARMS_AA]
        self.wavelength_aa = wavelength_aa

    def sigma(self, flux: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Return the noise of each pixel, shape (n, L), float32: the sky's and the object's own photons.

        Parameters
        ----------
        flux : ndarray, shape (n, L), float32
            Of the objects, without noise.
        depth : ndarray, shape (n,), float32
            Variance of the exposure relative to the nominal one.
        """
        variance = np.maximum(flux, 0)
        variance *= self.photon_variance
        variance += self.sky_variance
        variance *= depth[:, None]
        return np.sqrt(variance, out=variance)

    def spoil(self, flux: np.ndarray, ivar: np.ndarray, random: np.random.Generator) -> None:
        """Put into one exposure, in place, what pipelines mask: cosmic rays, bad columns, a lost arm, a dead fibre."""
        num_pixels = len(flux)
        for place in random.integers(0, num_pixels, random.poisson(4)).tolist():
            width = 1 + place % 3
            # The ray stays in the flux, as in real files; only the weight says that it is none.
            flux[place : place + width] += random.uniform(5, 80)
            ivar[place : place + width] = 0
        if random.random() < 0.5:
            place, width = random.integers(0, num_pixels), random.integers(2, 9)
            flux[place : place + width], ivar[place : place + width] = 0, 0
        accident = random.random()
        if accident < 0.003:
            flux[:], ivar[:] = 0, 0
        elif accident < 0.007:
            first, last = self._arm_pixels[random.integers(0, 3)]
            flux[first:last], ivar[first:last] = 0, 0


def _efficiency(wavelength_aa: np.ndarray, arm: int) -> np.ndarray:
    """Return the share of light that one arm records."""
    blue_edge, red_edge = _DICHROICS_AA
    below = 1 / (1 + np.exp(((wavelength_aa - blue_edge) / 14).clip(-50, 50)))
    beyond = 1 / (1 + np.exp((-(wavelength_aa - red_edge) / 22).clip(-50, 50)))
    if arm == 0:
        return below * 0.8 * (0.12 + 0.88 / (1 + np.exp(-(wavelength_aa - 4020) / 190)))
    if arm == 1:
        return (1 - below) * (1 - beyond) * 0.85
    return beyond * 0.85 * (1 - 0.55 / (1 + np.exp(-(wavelength_aa - 9600) / 110)))


def _sky(wavelength_aa: np.ndarray) -> np.ndarray:
    """Return the brightness of the dark sky through a fibre [1e-17 erg s-1 cm-2 AA-1]."""
    between_lines = 2.2 + 0.8 * (wavelength_aa - 6000) / 4000
    lines = np.zeros_like(wavelength_aa)
    for air, peak in _SKY_LINES_AIR_AA.items():
        center = air * (1 + 2.735182e-4 + 131.4182 / air**2 + 2.76249e8 / air**4)
        lines += peak * np.exp(-0.5 * ((wavelength_aa - center) / 0.9) ** 2)
        lines += 0.02 * peak / (1 + ((wavelength_aa - center) / 4) ** 2)  # scattered by the grating
    return between_lines * (1 + lines)


def _telluric(wavelength_aa: np.ndarray) -> np.ndarray:
    through = np.ones_like(wavelength_aa)
    for center, sigma, depth in _TELLURIC:
        through *= 1 - depth * np.exp(-0.5 * ((wavelength_aa - center) / sigma) ** 2)
    return through
