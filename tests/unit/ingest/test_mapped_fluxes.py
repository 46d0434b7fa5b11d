"""Fluxes of any unit become 1e-17 erg s-1 cm-2 AA-1, errors of any kind inverse variances in the same unit."""

from __future__ import annotations

import numpy as np
import pytest

from hpctrain.errors import DataError
from hpctrain.ingest.mapped.fluxes import (
    FluxScale,
    as_ivar,
    assumed_ivar,
    factor_of_noise,
    measured_ivar,
    without_empty_ends,
)

WAVELENGTH = np.array([4000.0, 5000.0, 8000.0])
F_NU = 2.99792458e18 / WAVELENGTH**2 * 1e17
"""From erg s-1 cm-2 Hz-1."""


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("1e-17 erg s-1 cm-2 AA-1", 1.0), ("1E-17 erg/cm^2/s/Ang", 1.0), ("10**-17 erg/(s cm2 Angstrom)", 1.0),
        ("10^-17 ergs/s/cm^2/A", 1.0), ("erg/s/cm2/A", 1e17), ("Flambda", 1e17), ("W m-2 um-1", 1e16),
        ("erg/s/cm2/Hz", F_NU), ("Jy", 1e-23 * F_NU), ("mJy", 1e-26 * F_NU), ("uJy", 1e-29 * F_NU),
        ("relative", 1.0), ("", 1.0), ("0.001", 1e-3), ("counts", 1.0), ("electron/s", 1.0),
    ],
)  # fmt: skip
def test_units_of_flux_are_converted(unit: str, factor: float | np.ndarray) -> None:
    assert np.allclose(FluxScale(unit).factor(WAVELENGTH), factor, rtol=1e-8)


@pytest.mark.parametrize("unit", ["K", "erg", "mag", "Angstrom"])
def test_what_is_no_flux_density_is_refused_with_the_option_that_replaces_it(unit: str) -> None:
    with pytest.raises(DataError, match="--flux-unit"):
        FluxScale(unit).factor(WAVELENGTH)


@pytest.mark.parametrize(
    ("role", "unit"),
    [
        ("error", "erg/s/cm2/Hz"), ("error", ""), ("variance", "(erg/s/cm2/Hz)^2"),
        ("ivar", "s2 cm4 Hz2 / erg2"), ("ivar", ""),
    ],
)  # fmt: skip
def test_signal_to_noise_survives_the_conversion(role: str, unit: str) -> None:
    flux, error = np.full(3, 3e-27), np.full(3, 1e-28)
    power = {"error": 1.0, "variance": 2.0, "ivar": -2.0}[role]
    scale = FluxScale("erg/s/cm2/Hz")
    ivar = as_ivar(error**power, role) * factor_of_noise(role, unit, scale, WAVELENGTH)
    assert np.allclose(flux * scale.factor(WAVELENGTH) * np.sqrt(ivar), 30.0)


def test_errors_in_another_unit_of_flux_are_converted_on_their_own() -> None:
    scale = FluxScale("Jy")
    assert np.allclose(
        factor_of_noise("error", "mJy", scale, WAVELENGTH) / factor_of_noise("error", "Jy", scale, WAVELENGTH), 1e6
    )


def test_errors_in_a_foreign_unit_are_refused() -> None:
    with pytest.raises(DataError, match="does not fit the flux's unit"):
        factor_of_noise("ivar", "Jy", FluxScale("Jy"), WAVELENGTH)


def test_pixels_without_a_usable_error_get_no_weight() -> None:
    assert as_ivar(np.array([0.0, -1.0, np.nan, np.inf, 2.0]), "error").tolist() == [0, 0, 0, 0, 0.25]


def test_assumed_errors_give_the_signal_to_noise_that_was_asked_for() -> None:
    flux = np.array([[1.0, 2.0, 3.0, np.nan], [0.0, 0.0, 0.0, 0.0]])
    ivar = assumed_ivar(flux, 50.0)
    assert 2.0 * np.sqrt(ivar[0, 0]) == pytest.approx(50.0)
    assert ivar[0, 3] == 0
    assert not ivar[1].any()


def test_measured_errors_are_those_of_the_noise() -> None:
    rng = np.random.default_rng(1)
    slope = np.linspace(10, 20, 4000)
    flux = np.stack([slope + rng.normal(0, 0.5, 4000), slope + rng.normal(0, 3.0, 4000), slope])
    ivar = measured_ivar(flux)
    assert ivar[:2, 0] ** -0.5 == pytest.approx([0.5, 3.0], rel=0.05)
    assert np.all(ivar[2] > 1e10) or not ivar[2].any()  # a straight line has no noise


def test_zeros_at_the_ends_are_pixels_that_were_not_observed() -> None:
    flux = np.array([[0.0, 0.0, 1.0, 0.0, 2.0, 0.0], [0.0] * 6])
    assert np.isnan(without_empty_ends(flux)).tolist() == [[True, True, False, False, False, True], [True] * 6]
