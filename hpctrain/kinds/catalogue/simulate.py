"""A photometric catalogue from smooth model spectra: galaxies, stars and quasars in five bands. N objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from hpctrain.files import NewFile

if TYPE_CHECKING:
    from hpctrain.kinds.catalogue.section import SimulateCatalogueSection

BANDS = ("u", "g", "r", "i", "z")
CENTRES_AA = np.array([3551.0, 4686.0, 6166.0, 7480.0, 8932.0])
"""Effective wavelengths of the SDSS bands [Å]."""

DEPTH_OFFSETS = np.array([-0.8, 0.3, 0.0, -0.4, -1.6])
"""Depth of each band relative to r [mag]."""

CLASSES = ("GALAXY", "STAR", "QSO")
_SHARES = (0.6, 0.25, 0.15)
_MISSING_SHARE = 0.01
_SENTINEL = -9999.0


def simulate(path: Path, section: SimulateCatalogueSection) -> None:
    """Write an HDF5 file with magnitudes, errors, class and redshift, whole or not at all.

    A galaxy is a spectrum with a break at 4000 Å whose height depends on its type, a star a black body, a quasar a
    power law with broad lines. Magnitudes have Gaussian noise that grows with faintness; one in a hundred is missing.

    Parameters
    ----------
    path : Path
    section : SimulateCatalogueSection
    """
    rng = np.random.default_rng(section.seed)
    num = section.num_objects
    kind = rng.choice(len(CLASSES), num, p=_SHARES)
    redshift = np.choose(kind, [rng.gamma(2.5, 0.09, num), np.zeros(num), 0.3 + rng.gamma(3.0, 0.55, num)])
    redshift = np.clip(redshift, 0, 5)
    colours = np.stack([_magnitudes(*values) for values in zip(kind, redshift, rng.random(num), strict=True)])
    brightness = np.choose(kind, [17.0 + 4 * redshift, np.full(num, 17.5), np.full(num, 19.0)]) + rng.normal(0, 1, num)
    true = brightness[:, None] + colours - colours[:, 2:3]
    error = np.hypot(0.01, 0.2 * 10 ** (0.4 * (true - section.depth - DEPTH_OFFSETS)))
    magnitude = true + error * rng.normal(size=true.shape)
    magnitude[rng.random(true.shape) < _MISSING_SHARE] = _SENTINEL
    with NewFile(path, durable=False) as new, h5py.File(new.stream, "w") as file:
        file.attrs["simulated"] = True
        file["target_id"] = np.arange(1, num + 1)
        for number, band in enumerate(BANDS):
            file[band] = magnitude[:, number].astype(np.float32)
            file[f"{band}_err"] = error[:, number].astype(np.float32)
        file["class"] = np.array(CLASSES, dtype="S6")[kind]
        file["redshift"] = redshift.astype(np.float32)


def _magnitudes(kind: int, redshift: float, type_: float) -> np.ndarray:
    """Return the magnitudes of one object in the bands (5,), up to a constant; `type_` is between 0 and 1."""
    offsets = np.linspace(-0.1, 0.1, 21)
    rest = CENTRES_AA[:, None] * (1 + offsets) / (1 + redshift)  # the bands are boxes of 20 % of their wavelength
    if CLASSES[kind] == "STAR":
        x = 1.4388e8 / (rest * (3500 + 9000 * type_**2))
        flux = rest**-5.0 / np.expm1(x) * rest  # photons
    elif CLASSES[kind] == "QSO":
        flux = (rest / 3000.0) ** (-0.9 - 0.8 * type_)
        for line, strength in ((1216, 1.2), (1549, 0.6), (1909, 0.4), (2799, 0.5), (4861, 0.4), (6563, 1.0)):
            flux = flux + flux * strength * np.exp(-0.5 * ((rest - line) / (0.02 * line)) ** 2)
        flux = flux * np.where(rest < 1216, 0.6, 1.0)
    else:
        step = 0.5 * (1 + np.tanh((rest - 4000) / 150))
        old = (0.3 + 0.7 * step) * (rest / 5500) ** 0.8
        young = (0.8 + 0.2 * step) * (rest / 5500) ** -0.8
        flux = type_ * old + (1 - type_) * young
    return -2.5 * np.log10(flux.mean(axis=1) + 1e-300)
