"""Extinction by the dust of our Galaxy: by a law for spectra, by coefficients for photometry, and maps of E(B-V)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.preprocess.units import plain

COEFFICIENTS: Mapping[str, Mapping[str, float]] = {
    "sdss": {"u": 4.239, "g": 3.303, "r": 2.285, "i": 1.698, "z": 1.263},
    "ps1": {"g": 3.172, "r": 2.271, "i": 1.682, "z": 1.322, "y": 1.087},
    "des": {"g": 3.237, "r": 2.176, "i": 1.595, "z": 1.217, "y": 1.058},
    "lsst": {"u": 4.145, "g": 3.237, "r": 2.273, "i": 1.684, "z": 1.323, "y": 1.088},
    "landolt": {"U": 4.334, "B": 3.626, "V": 2.742, "R": 2.169, "I": 1.505},
}
"""Extinction [mag] in a band for an E(B-V) of 1 mag of the map of Schlegel, Finkbeiner & Davis 1998, with R_V = 3.1.

From Schlafly & Finkbeiner 2011, ApJ 737, 103, table 6. They recalibrate that map: its E(B-V) is to be used as it is.
"""

LAWS = ("CCM89", "O94", "F99", "F04", "F19", "G23")
"""Laws of the package dust_extinction: Cardelli, Clayton & Mathis 1989; O'Donnell 1994; Fitzpatrick 1999 and 2004;
Fitzpatrick et al. 2019; Gordon et al. 2023."""


def extinction_mag(wavelength_aa: Any, ebv: Any, law: str = "F99", r_v: float = 3.1) -> np.ndarray:
    """Return the extinction at vacuum wavelengths [mag].

    Parameters
    ----------
    wavelength_aa : array_like or Quantity, shape (L,)
    ebv : float or ndarray, shape (...)
        E(B-V) [mag].
    law : str
        One of `LAWS`.
    r_v : float
        A(V) / E(B-V).

    Returns
    -------
    ndarray, shape (..., L), float64

    Raises
    ------
    DataError
        The package is absent, there is no such law, or a wavelength lies outside its range.
    """
    if law not in LAWS:
        raise DataError(f"extinction law '{law}' is not one of {', '.join(LAWS)}")
    try:
        from astropy import units
        from dust_extinction import parameter_averages
    except ImportError as error:
        raise DataError("extinction laws need dust_extinction; pip install 'hpctrain[extinction]'") from error
    wavelength = plain(wavelength_aa, "AA", "wavelength")
    model = getattr(parameter_averages, law)(Rv=r_v)
    low, high = (1e4 / float(end) for end in model.x_range[::-1])
    if wavelength.min() < low or wavelength.max() > high:
        message = f"{wavelength.min():g} to {wavelength.max():g} AA exceed the range of {law}, {low:g} to {high:g} AA"
        raise DataError(message)
    ratio = np.asarray(model(wavelength * units.AA))
    return np.multiply.outer(np.asarray(ebv, dtype=np.float64) * r_v, ratio)


def deredden(
    wavelength_aa: Any, flux: np.ndarray, ivar: np.ndarray, ebv: Any, law: str = "F99", r_v: float = 3.1
) -> tuple[np.ndarray, np.ndarray]:
    """Return flux (..., L) and its inverse variance as they would be without dust; see :func:`extinction_mag`."""
    factor = 10 ** (0.4 * extinction_mag(wavelength_aa, ebv, law, r_v))
    return flux * factor, ivar / factor**2


def band_extinction(ebv: Any, band: str, system: str) -> np.ndarray:
    """Return the extinction in a band [mag] for E(B-V) [mag] of the map of Schlegel et al., float64.

    Raises
    ------
    DataError
        There are no coefficients for this band.
    """
    known = COEFFICIENTS.get(system, {})
    if band not in known:
        listed = "; ".join(f"{name}: {', '.join(bands)}" for name, bands in COEFFICIENTS.items())
        raise DataError(f"no extinction coefficient of band '{band}' in '{system}'; there are {listed}")
    return known[band] * np.asarray(ebv, dtype=np.float64)


def ebv_of_maps(north: str | Path, south: str | Path, ra_deg: Any, dec_deg: Any) -> np.ndarray:
    """Return E(B-V) [mag] from the two FITS files of an all-sky map in polar projection (ZEA), float64.

    Parameters
    ----------
    north, south : str or Path
        Maps of the galactic hemispheres, such as ``SFD_dust_4096_ngp.fits`` and ``SFD_dust_4096_sgp.fits``.
    ra_deg, dec_deg : array_like or Quantity, shape (N,)
        Positions (ICRS) [deg].

    Raises
    ------
    DataError
        A file cannot be read.

    References
    ----------
    .. [1] Schlegel, Finkbeiner & Davis 1998, ApJ 500, 525, appendix C: the projection, and bilinear interpolation.
    """
    from astropy.coordinates import SkyCoord

    ra, dec = plain(ra_deg, "deg", "ra"), plain(dec_deg, "deg", "dec")
    galactic = SkyCoord(ra, dec, unit="deg").galactic
    longitude, latitude = np.atleast_1d(galactic.l.deg), np.atleast_1d(galactic.b.deg)
    found = np.full(len(latitude), np.nan)
    for path, here in ((Path(north), latitude >= 0), (Path(south), latitude < 0)):
        if here.any():
            found[here] = _interpolated(path, longitude[here], latitude[here])
    return found.reshape(np.shape(ra))


def _interpolated(path: Path, longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    from astropy.io import fits
    from astropy.wcs import WCS
    from scipy.ndimage import map_coordinates

    try:
        with fits.open(path) as hdus:
            image, wcs = np.asarray(hdus[0].data, dtype=np.float64), WCS(hdus[0].header)
    except (OSError, TypeError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a map in FITS ({error})") from error
    x, y = wcs.wcs_world2pix(longitude, latitude, 0)
    return map_coordinates(image, [y, x], order=1, mode="nearest")
