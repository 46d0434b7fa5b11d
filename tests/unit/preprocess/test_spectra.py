"""Wavelengths, velocities, continua and extinction of spectra, against other ways to compute them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import EarthLocation, SkyCoord
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS

from hpctrain.errors import DataError
from hpctrain.preprocess.continuum import fit_continuum
from hpctrain.preprocess.extinction import band_extinction, deredden, ebv_of_maps, extinction_mag
from hpctrain.preprocess.wavelength import (
    SPEED_OF_LIGHT_KMS,
    air_to_vacuum,
    shift_wavelength,
    vacuum_to_air,
    velocity_correction,
)

GRID = np.linspace(3800.0, 9200.0, 2000)


def test_air_and_vacuum_are_inverse_and_take_units():
    np.testing.assert_allclose(vacuum_to_air(air_to_vacuum(GRID)), GRID, rtol=0, atol=1e-7)
    np.testing.assert_allclose(air_to_vacuum(GRID / 10 * units.nm), air_to_vacuum(GRID))
    assert vacuum_to_air(1215.67) == 1215.67
    with pytest.raises(DataError, match="wavelength: is in kg, which is no AA"):
        air_to_vacuum(3 * units.kg)


@pytest.mark.parametrize("frame", ["barycentric", "heliocentric"])
def test_the_velocity_correction_is_how_fast_the_light_travel_time_changes(frame):
    place = (-70.8, -30.2, 2200.0)
    star = SkyCoord(26.0, -15.9, unit="deg")
    step_s = 2000.0
    moments = Time(58000 + np.array([-step_s, step_s]) / 86400, format="mjd", scale="utc")
    delay = moments.light_travel_time(star, frame, location=EarthLocation.from_geodetic(*place))
    expected = SPEED_OF_LIGHT_KMS * np.diff(delay.to_value("s"))[0] / (2 * step_s)
    found = velocity_correction(26.0, -15.9, 58000.0, place, frame)
    assert 10 < found < 20
    assert found == pytest.approx(expected, abs=0.01)  # 10 m/s: gravity and the second order of v / c
    longer = 5000 * (1 + found / SPEED_OF_LIGHT_KMS)
    assert shift_wavelength(5000.0, found * units.km / units.s) == pytest.approx(longer)


def test_a_continuum_is_found_below_emission_and_above_absorption():
    rng = np.random.default_rng(1)
    x = (GRID - 6500) / 2700
    true = 3 + x - 0.8 * x**2
    peaks = ((-1.2, 4100), (-1.0, 5200), (2.5, 6563), (1, 5007))
    lines = sum(height * np.exp(-0.5 * ((GRID - place) / 12) ** 2) for height, place in peaks)
    sigma = 0.05
    flux = np.stack([true + lines + sigma * rng.normal(size=len(GRID)), np.full(len(GRID), np.nan)])
    ivar = np.full(flux.shape, sigma**-2)
    flux[0, 300:320], ivar[0, 300:320] = 1e6, 0
    found = fit_continuum(GRID, flux, ivar)
    assert np.abs(found[0] / true - 1).max() < 0.02
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(fit_continuum(GRID, flux[0], ivar[0]), found[0])
    with pytest.raises(DataError, match="do not fit together"):
        fit_continuum(GRID[1:], flux, ivar)


def test_extinction_follows_the_published_laws():
    pytest.importorskip("dust_extinction")
    # A(V) / E(B-V) is R_V; Fitzpatrick 1999, table 3: A(lambda) / E(B-V) at 26500, 12200, 6000, 5470, 4670, 4110 AA
    knots = np.array([26500, 12200, 6000, 5470, 4670, 4110.0])
    np.testing.assert_allclose(extinction_mag(knots, 1.0), [0.265, 0.829, 2.688, 3.055, 3.806, 4.315], atol=0.005)
    flux, ivar = deredden(GRID, np.ones(2000), np.full(2000, 4.0), 0.1)
    np.testing.assert_allclose(flux, 10 ** (0.4 * extinction_mag(GRID, 0.1)))
    np.testing.assert_allclose(ivar * flux**2, 4.0)
    assert extinction_mag(GRID, np.array([0.1, 0.2])).shape == (2, 2000)
    with pytest.raises(DataError, match="exceed the range of F99"):
        extinction_mag([50.0], 0.1)
    with pytest.raises(DataError, match="is not one of CCM89"):
        extinction_mag(GRID, 0.1, law="grey")


def test_the_coefficients_of_bands_follow_the_recalibrated_law():
    pytest.importorskip("dust_extinction")
    centres = {"u": 3551, "g": 4686, "r": 6166, "i": 7480, "z": 8932}
    for band, centre in centres.items():
        recalibrated = 0.86 * extinction_mag([float(centre)], 1.0)[0]  # Schlafly & Finkbeiner 2011, section 5
        assert band_extinction(1.0, band, "sdss") == pytest.approx(recalibrated, rel=0.04)
    with pytest.raises(DataError, match="no extinction coefficient of band 'w' in 'sdss'"):
        band_extinction(0.1, "w", "sdss")


def dust_map(path: Path, south: bool) -> Path:
    """Write a hemisphere in the projection of Schlegel et al. in which E(B-V) is linear in pixels."""
    num = 64
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["GLON-ZEA", "GLAT-ZEA"]
    wcs.wcs.crval = [0.0, -90.0 if south else 90.0]
    wcs.wcs.crpix = [num / 2 + 0.5] * 2
    wcs.wcs.cdelt = [-2.6, 2.6]
    wcs.wcs.lonpole = 0.0 if south else 180.0
    x = np.arange(num) / 1000
    fits.writeto(path, (x[None] + 10 * x[:, None] + (5 if south else 0)).astype(np.float32), wcs.to_header())
    return path


def test_dust_maps_of_both_hemispheres_are_interpolated(tmp_path):
    maps = dust_map(tmp_path / "ngp.fits", south=False), dust_map(tmp_path / "sgp.fits", south=True)
    sky = SkyCoord([10.0, 200.0, 10.0], [40.0, 80.0, -40.0], unit="deg", frame="galactic")
    found = ebv_of_maps(*maps, sky.icrs.ra, sky.icrs.dec.deg)
    for place, (path, value) in enumerate(zip((maps[0], maps[0], maps[1]), found, strict=True)):
        x, y = WCS(fits.getheader(path)).wcs_world2pix([[sky.l.deg[place], sky.b.deg[place]]], 0)[0]
        assert value == pytest.approx(x / 1000 + y / 100 + (5 if place == 2 else 0), abs=1e-6)
    assert ebv_of_maps(*maps, 10.0, 40.0).shape == ()
    with pytest.raises(DataError, match="cannot be read as a map in FITS"):
        ebv_of_maps(tmp_path / "absent.fits", maps[1], 192.0, 27.0)
