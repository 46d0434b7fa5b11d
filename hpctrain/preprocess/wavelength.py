"""Wavelengths in air and in vacuum, and in other velocity frames."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpctrain.preprocess.units import plain

AIR_BEGINS_AA = 2000.0
"""Wavelength [AA] below which everyone states wavelengths in vacuum."""

SPEED_OF_LIGHT_KMS = 299792.458


def air_to_vacuum(wavelength_aa: Any) -> np.ndarray:
    """Return vacuum wavelengths of wavelengths in dry air at 15 C and 101325 Pa with 0.045 % of CO2.

    Parameters
    ----------
    wavelength_aa : array_like or Quantity
        In air [AA]; values below 2000 AA are in vacuum already and stay as they are.

    Returns
    -------
    ndarray, float64
        In vacuum [AA]. H alpha, 6562.80 in air, becomes 6564.61.

    References
    ----------
    .. [1] Ciddor 1996, Applied Optics 35, 1566, equation 1 for the refractivity of air; it is a function of the vacuum
       wavelength, so it is solved by iteration, which converges to 1e-9 AA in three steps.
    """
    air = plain(wavelength_aa, "AA", "wavelength")
    vacuum = air
    with np.errstate(all="ignore"):
        for _ in range(3):
            vacuum = air * (1 + refractivity_of_air(vacuum))
        return np.where(air < AIR_BEGINS_AA, air, vacuum)


def vacuum_to_air(wavelength_aa: Any) -> np.ndarray:
    """Return wavelengths in air [AA] of wavelengths in vacuum; the inverse of :func:`air_to_vacuum`."""
    vacuum = plain(wavelength_aa, "AA", "wavelength")
    with np.errstate(all="ignore"):
        air = vacuum / (1 + refractivity_of_air(vacuum))
        return np.where(air < AIR_BEGINS_AA, vacuum, air)


def refractivity_of_air(vacuum_aa: np.ndarray) -> np.ndarray:
    """Return the refractive index of air minus 1 at vacuum wavelengths [AA]; the reference is in `air_to_vacuum`."""
    wavenumber2 = (1e4 / vacuum_aa) ** 2  # [um^-2]
    return 0.05792105 / (238.0185 - wavenumber2) + 0.00167917 / (57.362 - wavenumber2)


def shift_wavelength(wavelength_aa: Any, velocity_kms: Any) -> np.ndarray:
    """Return wavelengths times 1 + v / c [AA], float64.

    Parameters
    ----------
    wavelength_aa : array_like or Quantity
    velocity_kms : float, array_like or Quantity
        Change of the radial velocities c z [km/s], such as what :func:`velocity_correction` returns.
    """
    beta = plain(velocity_kms, "km/s", "velocity") / SPEED_OF_LIGHT_KMS
    return plain(wavelength_aa, "AA", "wavelength") * (1 + beta)


def velocity_correction(ra_deg: Any, dec_deg: Any, time_mjd: Any, place: Any, frame: str = "barycentric") -> np.ndarray:
    """Return what to add to radial velocities measured on Earth [km/s].

    Parameters
    ----------
    ra_deg, dec_deg : array_like or Quantity
        Position (ICRS) [deg].
    time_mjd : array_like
        Middle of the exposure, as modified Julian date in UTC.
    place : astropy.coordinates.EarthLocation or (float, float, float)
        Observatory, or its longitude (east) [deg], latitude [deg] and height [m].
    frame : {"barycentric", "heliocentric"}
        Rest frame of the new velocities.

    Notes
    -----
    Nothing is downloaded: the tables of the rotation of the Earth are those that astropy brings, whose errors are
    below 1 m/s here.

    References
    ----------
    .. [1] Wright & Eastman 2014, PASP 126, 838.
    """
    from astropy.coordinates import EarthLocation, SkyCoord
    from astropy.time import Time
    from astropy.utils import iers

    if not isinstance(place, EarthLocation):
        place = EarthLocation.from_geodetic(*place)
    ra, dec = (plain(values, "deg", name) for values, name in ((ra_deg, "ra"), (dec_deg, "dec")))
    with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("iers_degraded_accuracy", "warn"):
        time = Time(np.asarray(time_mjd, dtype=np.float64), format="mjd", scale="utc")
        found = SkyCoord(ra, dec, unit="deg").radial_velocity_correction(frame, obstime=time, location=place)
    return np.asarray(found.to_value("km/s"))
