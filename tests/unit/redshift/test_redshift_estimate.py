"""Redshift, class, error, warnings and density of spectra with known truth."""

import numpy as np
import pytest
import torch
from tiny_templates import STEP, TEMPLATES, WAVELENGTH, batch_of, model, noisy

from hpctrain.redshift.catalogue import COLUMNS
from hpctrain.redshift.density import Density
from hpctrain.redshift.estimate import MODEL_ERROR, RedshiftEstimator, with_model_error
from hpctrain.redshift.minima import Curve, find_minima
from hpctrain.redshift.search import NUM_POLYNOMIALS
from hpctrain.redshift.templates import Template, Templates
from hpctrain.redshift.zwarn import ZWarn, describe


@pytest.fixture(scope="module")
def estimator():
    return RedshiftEstimator(TEMPLATES)


def test_redshift_and_class_are_right_and_the_error_tells_how_far(estimator):
    batch, redshift, number = noisy(40, snr=3.0, seed=1)
    found = estimator(batch)
    assert set(found) == set(COLUMNS) - {"target_id"}
    assert (found["ZWARN"] == 0).all()
    assert found["SPECTYPE"].tolist() == [[b"GALAXY", b"QSO"][each] for each in number]
    pull = (found["Z"] - redshift) / found["ZERR"]
    assert np.abs(pull).max() < 5
    assert 0.5 < np.median(np.abs(pull)) / 0.67 < 2
    assert np.median(found["CHI2"] / found["NPIXELS"]) == pytest.approx(1 / (1 + (3 * MODEL_ERROR) ** 2), abs=0.1)
    np.testing.assert_allclose(found["COEFF"][:, 0], 12.0, atol=4.0)


def test_brighter_spectra_have_smaller_errors_and_larger_delta_chi2(estimator):
    faint, bright = (estimator(noisy(10, snr, seed=2)[0]) for snr in (3.0, 12.0))
    assert (bright["ZERR"] < 0.5 * faint["ZERR"]).all()
    assert (bright["DELTACHI2"] > 4 * faint["DELTACHI2"]).all()


def test_a_masked_pixel_does_not_matter(estimator):
    batch, _, _ = noisy(6, snr=3.0, seed=3)
    ivar = batch.ivar.clone()
    ivar[:, 100:160] = 0
    clean, spoilt = batch.flux.clone(), batch.flux.clone()
    clean[:, 100:160] = 0
    spoilt[:, 100:130], spoilt[:, 130:160] = 1e30, torch.nan
    one, other = (estimator(batch.replace(flux=flux, ivar=ivar)) for flux in (clean, spoilt))
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)
    assert (one["NPIXELS"] == len(WAVELENGTH) - 60).all()


def test_the_redshift_does_not_depend_on_the_batch(estimator):
    batch, _, _ = noisy(7, snr=2.0, seed=5)
    together = estimator(batch)
    for row in range(7):
        alone = estimator(batch_of(batch.flux[row : row + 1].numpy(), batch.ivar[row : row + 1].numpy()))
        for name, values in alone.items():
            if values.dtype.kind == "S":
                assert values[0] == together[name][row]
            else:
                np.testing.assert_allclose(values[0], together[name][row], rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_spectrum_without_information_gets_its_warning(estimator):
    batch, _, _ = noisy(4, snr=3.0, seed=6)
    ivar = batch.ivar.clone()
    ivar[0] = 0
    ivar[1, 5:] = 0
    flux = batch.flux.clone()
    flux[2] = torch.from_numpy(np.random.default_rng(0).normal(size=len(WAVELENGTH))) * 4.0
    found = estimator(batch.replace(flux=flux, ivar=ivar))
    assert found["ZWARN"][0] == ZWarn.NODATA | ZWarn.LITTLE_COVERAGE
    assert found["SPECTYPE"][0] == b""
    assert np.isnan(found["Z"][0])
    assert np.isnan(found["PZ"][0]).all()
    assert found["ZWARN"][1] & ZWarn.LITTLE_COVERAGE
    assert found["ZWARN"][2] & ZWarn.SMALL_DELTA_CHI2
    assert found["ZWARN"][3] == 0


def test_the_error_of_the_templates_limits_the_weight_of_bright_pixels():
    flux = np.full((3, 100), 20.0)
    ivar = np.full((3, 100), [[1e6], [1e-6], [0.0]])
    flux[0, :30], ivar[0, :30] = 1e9, 0.0
    found = with_model_error(batch_of(flux, ivar, WAVELENGTH[:100])).ivar.numpy()
    np.testing.assert_allclose(found[0, 30:], (MODEL_ERROR * 20.0) ** -2, rtol=1e-4)
    np.testing.assert_allclose(found[1], 1e-6, rtol=1e-4)
    assert not found[0, :30].any()
    assert not found[2].any()


def test_two_redshifts_that_fit_alike_are_both_reported(estimator):
    """One line in a short piece of spectrum: it can be any line of the galaxy."""
    wavelength = WAVELENGTH[400:640]
    truth = np.array([0.2])
    flux = model(0, truth, np.zeros((1, 2)), wavelength)
    rng = np.random.default_rng(3)
    found = estimator(batch_of(flux + 0.5 * rng.normal(size=flux.shape), np.full(flux.shape, 4.0), wavelength))
    assert found["ZWARN"][0] & ZWarn.SMALL_DELTA_CHI2
    assert abs(np.log1p(found["Z"][0]) - np.log1p(found["Z_SECOND"][0])) > 1000 / 299792
    assert 0 < found["DELTACHI2"][0] < 25


def test_a_redshift_at_the_edge_of_the_range_gets_its_warning(estimator):
    flux = model(1, np.array([1.5, 1.0]), np.zeros((2, 2)))
    found = estimator(batch_of(flux, np.full(flux.shape, 100.0)))
    only_quasars = RedshiftEstimator(Templates(STEP, STEP, TEMPLATES.classes[1:]))
    beyond = only_quasars(batch_of(model(1, np.array([1.402, 1.0]), np.zeros((2, 2))), np.full(flux.shape, 100.0)))
    assert found["ZWARN"][1] == 0
    assert (beyond["ZWARN"] & ZWarn.Z_FITLIMIT != 0).tolist() == [True, False]


def test_an_upside_down_spectrum_gets_its_warning(estimator):
    flux = -model(1, np.array([0.8]), np.zeros((1, 2)))
    assert estimator(batch_of(flux, np.full(flux.shape, 100.0)))["ZWARN"][0] & ZWarn.NEGATIVE_MODEL


def test_the_density_is_one_in_all_and_is_where_the_redshift_is(estimator):
    batch, redshift, _ = noisy(20, snr=3.0, seed=8)
    found = estimator(batch)
    np.testing.assert_allclose(found["PZ"].sum(axis=1), 1.0)
    bins = np.searchsorted(estimator.edges, redshift) - 1
    near = np.stack([found["PZ"][np.arange(20), bins + shift] for shift in (-1, 0, 1)]).sum(axis=0)
    assert (near > 0.99).all()
    assert found["PZ"].shape[1] == len(estimator.edges) - 1


def test_the_density_adds_up_classes_and_knows_imperfect_templates():
    chi2 = torch.tensor([[10.0, 0.0, 10.0, 4.0]], dtype=torch.float64)
    curves = [Curve(chi2, 0), Curve(chi2[:, :2], 5)]
    density = Density(0, 6, step=0.0025)
    exact = density(curves, torch.tensor([100]))[0]
    assert len(exact) == 4  # bins of two shifts: 0-1, 2-3, 4-5, 6-7
    weights = torch.exp(-0.5 * torch.tensor([10.0, 0.0, 10.0, 4.0, 0, 10.0, 0.0]))
    weights[4] = 0
    expected = torch.tensor([weights[0] + weights[1], weights[2] + weights[3], weights[5], weights[6]])
    torch.testing.assert_close(exact, (expected / expected.sum()).double())
    worse = density([Curve(curve.chi2 + 300.0, curve.first_shift) for curve in curves], torch.tensor([100]))[0]
    assert worse[1] > exact[1]


def test_the_minimum_of_a_parabola_is_found_between_the_redshifts():
    place = torch.arange(50, dtype=torch.float64)
    chi2 = ((place - 20.3) / 1.5).square()[None] + 7.0
    minima = find_minima([Curve(chi2, 100)], 1e-3)
    assert float(minima.log_redshift[0]) == pytest.approx(0.1203, abs=1e-9)
    assert float(minima.error[0]) == pytest.approx(1.5e-3)
    assert float(minima.chi2[0]) == pytest.approx(7.0)
    assert not bool(minima.at_limit[0])
    assert int(minima.second_number[0]) == -1


def test_a_class_with_fewer_components_is_searched_with_the_others():
    short = Template("STAR", TEMPLATES.classes[0].first, TEMPLATES.classes[0].basis[:1], -0.005, 0.005, 9)
    found = RedshiftEstimator(Templates(STEP, STEP, [*TEMPLATES.classes, short]))(noisy(4, 3.0, 9)[0])
    assert found["SPECTYPE"].tolist() == [b"GALAXY", b"QSO"] * 2
    assert found["COEFF"].shape == (4, 3 + NUM_POLYNOMIALS)


def test_warnings_are_counted_by_name():
    lines = describe(np.array([0, 4, 4 | 32]))
    assert [line.split(":")[0].split() for line in lines] == [["2", "SMALL_DELTA_CHI2"], ["1", "Z_FITLIMIT"]]
