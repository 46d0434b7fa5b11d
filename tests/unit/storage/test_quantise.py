"""Quantised spectra stay within a sixteenth of a sigma, and rounding them again changes nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpctrain.storage.loss import Loss
from hpctrain.storage.quantise import quantise, step_exponent

FLOATS = st.floats(-(2.0**99), 2.0**99, width=32)
WEIGHTS = st.floats(2.0**-100, 2.0**100, width=32)


def as_spectrum(*values):
    return np.array([values], np.float32)


@given(st.lists(WEIGHTS, min_size=1, max_size=50))
def test_the_step_is_the_largest_power_of_two_up_to_an_eighth_of_sigma(weights):
    ivar = np.array(weights, np.float32)
    step, eighth = 2.0 ** step_exponent(ivar).astype(float), ivar.astype(float) ** -0.5 / 8
    assert (step <= eighth * (1 + 1e-12)).all()
    assert (2 * step > eighth * (1 - 1e-12)).all()


@given(st.lists(st.tuples(FLOATS, WEIGHTS), min_size=1, max_size=50))
def test_a_flux_moves_by_a_sixteenth_of_sigma_at_most(pixels):
    flux, ivar = (as_spectrum(*values) for values in zip(*pixels, strict=True))
    kept, kept_ivar = quantise(flux, ivar)
    # One part in 2^24 more: that is how well float32 knows the flux itself.
    room = ivar.astype(float) ** -0.5 / 16 * 1.002 + np.abs(flux) * 2.0**-24
    assert (np.abs(kept.astype(float) - flux) <= room).all()
    assert (np.abs(kept_ivar.astype(float) - ivar) <= ivar.astype(float) * 2.0**-8).all()


@given(st.lists(st.tuples(FLOATS, WEIGHTS), min_size=1, max_size=50))
def test_quantising_twice_is_quantising_once(pixels):
    once = quantise(*(as_spectrum(*values) for values in zip(*pixels, strict=True)))
    twice = quantise(*once)
    assert np.array_equal(once[0], twice[0])
    assert np.array_equal(once[1], twice[1])


@pytest.mark.parametrize("ivar", [0.0, -1.0, np.nan, np.inf])
def test_what_has_no_weight_becomes_nothing_and_keeps_its_ivar(ivar):
    flux, kept = quantise(as_spectrum(5.0, np.nan), as_spectrum(ivar, ivar))
    assert flux.tolist() == [[0.0, 0.0]]
    assert np.array_equal(kept, as_spectrum(ivar, ivar), equal_nan=True)


def test_a_flux_that_is_not_finite_stays_visible_where_it_has_weight():
    flux, _ = quantise(as_spectrum(np.nan, np.inf, 3.0), as_spectrum(1.0, 1.0, 1.0))
    assert np.isnan(flux[0, 0])
    assert flux[0, 1:].tolist() == [np.inf, 3.0]


def test_the_largest_and_smallest_numbers_neither_overflow_nor_vanish():
    huge, tiny = np.finfo("f4").max, np.float32(1e-40)
    flux, ivar = quantise(as_spectrum(huge, 1.0, 1e-30), as_spectrum(huge, huge, tiny))
    assert np.isfinite(flux).all()
    assert flux[0, 0] == huge
    assert np.isfinite(ivar).all()
    assert (ivar > 0).all()


def test_noise_grows_by_less_than_a_thousandth():
    random = np.random.default_rng(1)
    ivar = (10 ** random.uniform(-3, 3, size=(40, 5000))).astype("f4")
    flux = (random.normal(size=ivar.shape) / np.sqrt(ivar)).astype("f4")
    loss = Loss()
    loss.add(flux, ivar, *quantise(flux, ivar))
    facts = loss.as_dict()
    assert 0.02 < facts["flux_rms_sigma"] <= 0.03
    assert facts["flux_max_sigma"] <= 0.0627
    assert facts["ivar_max_relative"] <= 2**-8
    assert facts["num_lost_weights"] == 0
