"""Rest-frame spectra of quasars. n objects, P rest-frame pixels."""

from __future__ import annotations

import numpy as np

from hpctrain.kinds.spectra.simulated.draws import Draws
from hpctrain.kinds.spectra.simulated.rest_frame import (
    GRID_AA,
    LN_GRID,
    absorb_line,
    add_line,
    combine,
    gaussian_bumps,
    pixel_of,
    smc_dust,
)

BROAD_LINES = [
    # rest wavelength [AA], equivalent width [AA], width and blueshift in units of the object's
    (1033.8, 9.0, 1.3, 0.5),  # Ly-beta and O VI
    (1215.67, 46.0, 1.1, 0.3),
    (1240.81, 15.0, 1.1, 0.5),  # N V
    (1262.6, 1.5, 1.2, 0.2),
    (1304.4, 2.2, 1.0, 0.2),  # O I and Si II
    (1335.3, 0.9, 1.0, 0.1),  # C II
    (1397.2, 8.5, 1.4, 0.5),  # Si IV and O IV]
    (1549.06, 26.0, 1.15, 1.0),  # C IV
    (1640.42, 5.0, 1.5, 0.9),  # He II
    (1663.48, 3.0, 1.1, 0.3),  # O III]
    (1750.26, 0.7, 1.2, 0.2),
    (1857.4, 2.8, 1.3, 0.2),  # Al III
    (1892.03, 3.5, 1.1, 0.1),  # Si III]
    (1908.73, 17.0, 1.35, 0.3),  # C III]
    (2326.44, 2.0, 1.2, 0.1),  # C II]
    (2423.8, 1.0, 0.8, 0.1),
    (2798.75, 31.0, 0.85, 0.0),  # Mg II
    (4102.89, 6.0, 1.0, 0.0),
    (4341.68, 14.0, 1.0, 0.0),
    (4862.68, 46.0, 1.0, 0.0),
    (5877.25, 5.0, 1.1, 0.0),
    (6564.61, 195.0, 0.9, 0.0),
    (7067.2, 3.0, 1.0, 0.0),
    (8448.7, 9.0, 0.9, 0.0),  # O I
]
"""Composite of Vanden Berk et al. 2001, AJ 122, 549, table 2, rounded; blends split."""

NARROW_WIDTHS_AA = {
    "[NeV] 3427": 1.2,
    "[OII] 3727": 0.6,
    "[OII] 3730": 0.8,
    "[NeIII] 3870": 1.6,
    "[OIII] 4364": 0.6,
    "Hbeta": 1.3,
    "[OIII] 4960": 4.4,
    "[OIII] 5008": 13.2,
    "[OI] 6302": 0.8,
    "[NII] 6550": 1.3,
    "Halpha": 6.0,
    "[NII] 6585": 4.0,
    "[SII] 6718": 1.8,
    "[SII] 6733": 1.6,
}
"""Equivalent widths [AA] of the narrow lines, of the same table."""

_IRON_UV = gaussian_bumps(
    [
        (2080, 35, 0.6), (2240, 45, 0.6), (2330, 40, 0.8), (2410, 38, 1.1), (2480, 40, 1.3), (2555, 32, 1.0),
        (2610, 30, 1.1), (2690, 35, 0.5), (2745, 28, 0.8), (2845, 30, 0.5), (2930, 40, 0.45), (3180, 60, 0.3),
    ]
)  # fmt: skip
_IRON_OPTICAL = gaussian_bumps(
    [
        (4180, 60, 0.35), (4490, 30, 0.7), (4560, 35, 1.0), (4635, 28, 0.8),
        (5190, 28, 0.7), (5270, 35, 0.95), (5325, 30, 0.9), (5540, 40, 0.25),
    ]
)  # fmt: skip
_BALMER_CONTINUUM = np.where(GRID_AA < 3646, (GRID_AA / 3646) ** 3 * np.exp(-(((3646 - GRID_AA) / 1100) ** 2)), 0)
_BALMER_CONTINUUM += np.where(GRID_AA >= 3646, np.exp(-(((GRID_AA - 3646) / 120) ** 2)), 0)  # blended high orders

_ABOVE_BREAK = np.maximum(LN_GRID - np.log(4661.0), 0.0)
_BELOW_BREAK = np.minimum(LN_GRID - np.log(4661.0), 0.0)
_FAR_UV = np.minimum(LN_GRID - np.log(1200.0), 0.0)
_CONTINUUM_BASIS = np.stack([_BELOW_BREAK, _ABOVE_BREAK, _FAR_UV, -0.4 * np.log(10.0) * smc_dust(GRID_AA)])
_CONTINUUM_BASIS = _CONTINUUM_BASIS.astype(np.float32)

_TROUGHS = [(1549.06, 1.0), (1397.2, 0.45), (1240.81, 0.8), (1215.67, 0.35), (1033.8, 0.6)]
"""Lines that show broad absorption, and its depth relative to C IV."""
_LOW_IONISATION_TROUGHS = [*_TROUGHS, (1857.4, 0.8), (2798.75, 0.9), (2600.0, 0.7), (2400.0, 0.8), (1671.0, 0.5)]


def quasar_redshifts(draws: Draws) -> np.ndarray:
    """Return redshifts from 0.3 to 3.5 with the broad peak near 1.6 of DESI's quasars."""
    # Sum of uniforms: a bell with bounded ends.
    bell = (draws.uniform() + draws.uniform() + draws.uniform()) / 3.0
    return 0.3 + 3.2 * bell**1.3


def quasar_spectra(draws: Draws, reddened: np.ndarray, absorbed: np.ndarray, extreme: np.ndarray):
    """Return rest-frame spectra and narrow lines of quasars.

    Parameters
    ----------
    draws : Draws
        Of n objects.
    reddened, absorbed, extreme : ndarray, shape (n,), bool
        Objects to be unusual: heavy dust, deep low-ionisation broad absorption, extreme emission lines.

    Returns
    -------
    spectra : ndarray, shape (n, P), float32
        About 1 at 4661 AA.
    areas : dict of ndarray, shape (n,)
        Narrow lines [AA times the unit of `spectra`].
    sigma_km_s : ndarray, shape (n,)
        Their dispersion [km/s].
    """
    brightness = draws.normal()
    dust = np.where(reddened, draws.uniform(0.35, 0.6), -0.035 * np.log1p(-draws.uniform(0, 0.99)))
    slopes = np.stack([draws.normal(-1.6, 0.2), draws.normal(-0.1, 0.25), draws.normal(0.9, 0.3), dust], axis=1)
    spectra = np.exp(combine(slopes, _CONTINUUM_BASIS))
    continuum_at = {line: spectra[:, _clipped_pixel(line)].copy() for line, *_ in BROAD_LINES}
    narrow_at = {name: spectra[:, _clipped_pixel(_narrow_wavelength(name))] for name in NARROW_WIDTHS_AA}

    iron_uv, iron_optical = draws.around(0.17, 0.2), draws.around(0.13, 0.25)
    balmer = draws.around(0.09, 0.2)
    bumps = np.stack([iron_uv, balmer], axis=1) * continuum_at[2798.75][:, None]
    spectra += combine(bumps, np.stack([_IRON_UV, _BALMER_CONTINUUM]))
    spectra += (iron_optical * continuum_at[4862.68]).astype(np.float32)[:, None] * _IRON_OPTICAL

    # Baldwin effect: the brighter, the weaker the lines.
    strength = 10.0 ** (-0.08 * brightness + draws.normal(0, 0.1)) * np.where(extreme, 3.5, 1.0)
    sigma = draws.around(4200.0, 0.13).clip(1500, 12000) / 2.355
    blueshift = np.abs(draws.normal(500.0, 450.0))
    scatter = [draws.around(1.0, 0.08) for _ in BROAD_LINES]
    for (line, width_aa, relative_sigma, relative_shift), factor in zip(BROAD_LINES, scatter, strict=True):
        area = width_aa * strength * factor * continuum_at[line]
        # Real profiles have a core and wings; two Gaussians of the same centre.
        for share, broader in ((0.55, 0.62), (0.45, 1.7)):
            add_line(spectra, line, share * area, -relative_shift * blueshift, broader * relative_sigma * sigma)
    _absorb_broadly(spectra, draws, absorbed)

    narrow = draws.around(1.0, 0.3) * np.where(extreme, 4.0, 1.0)
    areas = {name: width_aa * narrow * narrow_at[name] for name, width_aa in NARROW_WIDTHS_AA.items()}
    return spectra, areas, draws.around(180.0, 0.12)


def _absorb_broadly(spectra: np.ndarray, draws: Draws, low_ionisation: np.ndarray) -> None:
    """Put broad absorption troughs into one quasar in eight, and into all `absorbed` ones."""
    has_troughs = (draws.uniform() < 0.12) | low_ionisation
    for number in range(3):
        present = has_troughs & ((draws.uniform() < 0.6) | (number == 0))
        velocity = draws.uniform(-20000.0, -3500.0)
        sigma = draws.around(1100.0, 0.2).clip(400, 3500)
        depth = np.where(low_ionisation, draws.uniform(2.0, 5.0), draws.uniform(0.5, 2.2))
        for troughs, chosen in (
            (_TROUGHS, np.flatnonzero(present & ~low_ionisation)),
            (_LOW_IONISATION_TROUGHS, np.flatnonzero(present & low_ionisation)),
        ):
            if not chosen.size:
                continue
            part = spectra[chosen]
            for line, relative in troughs:
                absorb_line(part, line, relative * depth[chosen], velocity[chosen], sigma[chosen])
            spectra[chosen] = part


def _narrow_wavelength(name: str) -> float:
    from hpctrain.kinds.spectra.simulated.narrow_lines import NARROW_LINES_AA

    return NARROW_LINES_AA[name]


def _clipped_pixel(wavelength_aa: float) -> int:
    return min(max(pixel_of(wavelength_aa), 0), len(GRID_AA) - 1)
