"""Magnitudes against astropy and the published constants."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units

from hpctrain.errors import DataError
from hpctrain.preprocess.photometry import (
    AB_ZERO_JY,
    SDSS_SOFTENING,
    ab_magnitude,
    asinh_magnitude,
    asinh_magnitude_error,
    flux_jy,
    flux_of_asinh,
    magnitude_error,
)


def test_ab_magnitudes_are_those_of_astropy_in_any_unit():
    flux = np.array([1e-3, 3.631e3, 2.0])
    expected = (flux * units.Jy).to_value(units.ABmag)
    np.testing.assert_allclose(ab_magnitude(flux), expected, atol=1e-12)
    np.testing.assert_allclose(ab_magnitude(flux * 1e6 * units.uJy), expected, atol=1e-12)
    np.testing.assert_allclose(flux_jy(expected), flux)
    assert (AB_ZERO_JY * units.Jy).to_value("erg s-1 cm-2 Hz-1") == pytest.approx(10 ** (-48.6 / 2.5))
    assert ab_magnitude(1.0, zero_point=22.5) == 22.5
    assert np.isnan(ab_magnitude([-1.0, 0.0])).all()
    with pytest.raises(DataError, match="flux: is in km"):
        ab_magnitude(1 * units.km)


def test_asinh_magnitudes_have_the_published_values_and_are_inverted():
    # https://www.sdss4.org/dr17/algorithms/magnitudes: magnitude of zero flux, and where the flux is 10 b
    for band, zero, ten in (("u", 24.63, 22.12), ("g", 25.11, 22.60), ("r", 24.80, 22.29), ("i", 24.36, 21.85)):
        b = SDSS_SOFTENING[band]
        assert asinh_magnitude(0.0, b) == pytest.approx(zero, abs=0.006)
        assert asinh_magnitude(10 * b, b) == pytest.approx(ten, abs=0.006)
    flux = np.array([-5.0, 0.0, 0.1, 3.0, 1e4])
    found = asinh_magnitude(flux, 0.5, 22.5)
    np.testing.assert_allclose(flux_of_asinh(found, 0.5, 22.5), flux, atol=1e-12)
    assert found[-1] == pytest.approx(ab_magnitude(1e4, zero_point=22.5), abs=1e-8)


def test_errors_of_magnitudes_are_derivatives():
    flux, error, step = np.array([0.3, 2.0, 50.0]), np.array([0.1, 0.2, 0.3]), 1e-6
    for magnitude, found in (
        (lambda f: ab_magnitude(f, 22.5), magnitude_error(flux, error)),
        (lambda f: asinh_magnitude(f, 0.4, 22.5), asinh_magnitude_error(flux, error, 0.4)),
    ):
        slope = np.abs(magnitude(flux + step) - magnitude(flux - step)) / (2 * step)
        np.testing.assert_allclose(found, slope * error, rtol=1e-6)
    assert np.isfinite(asinh_magnitude_error(-1.0, 0.1, 0.4))
