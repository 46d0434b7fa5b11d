import numpy as np
import pytest

from hpctrain.families.spectral_vae.figures import flux_limits, near_data, reduced_chi2, row_of, smooth
from hpctrain.kinds.spectra.lines import observed_lines


def test_chi2_counts_only_pixels_that_are_measured_and_covered():
    spectrum = {
        "flux": np.array([1.0, 3.0, 9.0, 9.0]),
        "ivar": np.array([1.0, 4.0, 0.0, 1.0]),
        "reconstruction": np.array([0.0, 1.0, 0.0, 0.0]),
        "covered": np.array([True, True, True, False]),
    }
    assert reduced_chi2(spectrum) == pytest.approx((1 + 16) / 2)


def test_smoothing_weights_by_ivar_and_leaves_masked_pixels_empty():
    flux, ivar = np.array([1.0, 100.0, 3.0]), np.array([1.0, 0.0, 3.0])
    smoothed = smooth(flux, ivar, 3)
    assert smoothed[0] == 1.0
    assert np.isnan(smoothed[1])
    assert smoothed[2] == 3.0


def test_a_row_keeps_the_shared_grid_and_scalars():
    arrays = {"wavelength_aa": np.arange(5.0), "flux": np.arange(10.0).reshape(2, 5), "step": np.int64(7)}
    row = row_of(arrays, 1)
    assert row["wavelength_aa"].shape == (5,)
    assert row["flux"].tolist() == [5, 6, 7, 8, 9]
    assert int(row["step"]) == 7


def test_limits_hold_the_reconstruction_and_ignore_a_wild_pixel():
    flux = np.ones(2000)
    flux[5] = 1e6
    low, high = flux_limits(flux, np.ones(2000), np.linspace(0, 4, 2000))
    assert low < 0 < 4 < high < 100


def test_a_noisy_end_of_the_spectrum_does_not_stretch_the_axis():
    flux, sigma = np.ones(2000), np.full(2000, 0.1)
    flux[:200], sigma[:200] = np.random.default_rng(0).normal(0, 50, 200), 50.0
    low, high = flux_limits(flux, sigma, np.ones(2000))
    assert -1 < low < high < 3


def test_a_wide_gap_has_no_data_nearby_and_a_masked_pixel_has():
    wavelength_aa, valid = np.arange(4000.0, 5000.0), np.ones(1000, dtype=bool)
    valid[[100, 101]] = False
    valid[400:600] = False
    valid[900:] = False
    near = near_data(wavelength_aa, valid, 10.0)
    assert near[:400].all()
    assert not near[400:600].any()
    assert near[600:900].all()
    assert not near[900:].any()
    assert not near_data(wavelength_aa, np.zeros(1000, dtype=bool), 10.0).any()


@pytest.mark.parametrize(("redshift", "expected"), [(2.0, "C IV"), (0.0, "Hα")])
def test_lines_are_where_the_redshift_puts_them(redshift, expected):
    lines = dict(observed_lines(redshift, 3600, 9824))
    assert expected in lines
    assert all(3600 < wavelength_aa < 9824 for wavelength_aa in lines.values())


def test_an_unknown_redshift_has_no_lines():
    assert observed_lines(float("nan"), 3600, 9824) == []
