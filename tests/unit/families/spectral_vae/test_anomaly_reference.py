"""Anomaly scores: odd objects, not bright ones; false alarms as often as the score says."""

from __future__ import annotations

import numpy as np
import pytest

from hpctrain.families.spectral_vae.anomaly import MIN_OBJECTS, fit_reference, fit_tail
from hpctrain.families.spectral_vae.anomaly_reference import (
    BOTH,
    NOT_SCORED,
    ORDINARY,
    POOR_FIT,
    RARE_LATENTS,
    AnomalyReference,
)


def objects(num=3000, seed=0):
    """Ordinary objects: chi-square grows with the square of the signal to noise ratio, and latents are two clouds."""
    rng = np.random.default_rng(seed)
    snr, redshift = np.exp(rng.normal(1.5, 0.7, num)), rng.uniform(0, 3, num)
    chi2 = (1 + (0.05 * snr) ** 2) * np.exp(rng.normal(0, 0.08, num))
    latents = rng.normal(size=(num, 3)) * 0.5 + np.where(rng.uniform(size=num) < 0.3, 2.0, -1.0)[:, None]
    return latents.astype("f4"), chi2, snr, redshift


@pytest.fixture(scope="module")
def reference():
    return fit_reference(*objects(), 1)


def one(latents=(-1.0, -1.0, -1.0), chi2=1.05, snr=4.5, redshift=1.0):
    return np.array([latents], "f4"), np.array([chi2]), np.array([snr]), np.array([redshift])


def test_a_bright_object_is_ordinary_and_a_badly_fitted_faint_one_is_not(reference):
    bright = reference.score(*one(chi2=1 + (0.05 * 30) ** 2, snr=30.0))
    faint = reference.score(*one(chi2=1.9, snr=4.5))
    assert bright["ANOMALY_SCORE"] < 1
    assert bright["ANOMALY_REASON"] == ORDINARY
    assert faint["ANOMALY_SCORE"] > 3
    assert faint["LOCAL_CHI2"] > 5
    assert faint["ANOMALY_REASON"] == POOR_FIT


def test_a_gap_between_two_clouds_of_latents_is_unusual_although_it_is_near_the_mean(reference):
    between = reference.score(*one(latents=(2.0, 2.0, -1.0)))
    assert between["ANOMALY_SCORE"] > 2
    assert between["ANOMALY_REASON"] == RARE_LATENTS
    assert reference.score(*one(latents=(2.0, -4.0, 2.0), chi2=3.0))["ANOMALY_REASON"] == BOTH


def test_other_ordinary_objects_raise_as_many_false_alarms_as_the_score_says(reference):
    score = reference.score(*objects(20_000, seed=7))["ANOMALY_SCORE"]
    assert np.mean(score >= 1) == pytest.approx(0.1, rel=0.25)
    assert np.mean(score >= 2) == pytest.approx(0.01, rel=0.6)


def test_a_small_reference_for_other_objects_is_calibrated_by_fits_that_leave_out_its_own():
    """A reference that judges its own objects takes others for unusual: it was fitted to its own."""
    new = objects(1000, seed=99)
    shares = {True: [], False: []}
    for seed in range(8):
        for for_others, found in shares.items():
            reference = fit_reference(*objects(40, seed), seed, for_others=for_others)
            found.append(np.mean(reference.score(*new)["ANOMALY_SCORE"] >= 1))
    assert np.mean(shares[True]) == pytest.approx(0.1, abs=0.04)
    assert np.mean(shares[False]) > 1.4 * np.mean(shares[True])


def test_a_few_unusual_objects_among_the_reference_do_not_hide_each_other():
    latents, chi2, snr, redshift = objects()
    chi2[:20] *= 3
    found = fit_reference(latents, chi2, snr, redshift, 1).score(latents, chi2, snr, redshift)
    assert (found["ANOMALY_SCORE"][:20] > 3).all()
    assert set(np.argsort(-found["ANOMALY_SCORE"])[:20]) == set(range(20))


def test_the_density_is_that_of_a_mixture_of_gaussians():
    from scipy.stats import multivariate_normal

    rng = np.random.default_rng(3)
    latents = (rng.normal(size=(500, 2)) @ np.array([[1.0, 0.7], [0.0, 0.3]]) + [3.0, -1.0]).astype("f4")
    values = np.ones(500), np.full(500, 4.0), rng.uniform(0, 1, 500)
    reference = fit_reference(latents, *values, 0)
    weight = np.array([1.0])
    assert len(reference.mean) == len(weight)
    truth = multivariate_normal(latents.mean(axis=0), np.cov(latents.T)).logpdf(latents)
    np.testing.assert_allclose(reference.log_density(latents), truth, atol=0.15)


def test_the_same_objects_and_seed_give_the_same_scores_also_from_a_file(reference, tmp_path):
    path = tmp_path / "reference.npz"
    np.savez(path, **reference.to_arrays())
    with np.load(path, allow_pickle=False) as file:
        again = AnomalyReference.from_arrays(dict(file))
    rows = objects(50, seed=2)
    for other in (again, fit_reference(*objects(), 1)):
        for name, values in reference.score(*rows).items():
            np.testing.assert_array_equal(other.score(*rows)[name], values, err_msg=name)


def test_a_file_of_an_older_version_has_no_reference():
    assert AnomalyReference.from_arrays({"forest_feature": np.zeros(3)}) is None


def test_rejected_rows_have_no_score_and_do_not_change_those_of_others():
    latents, chi2, snr, redshift = objects(200)
    whole = fit_reference(latents, chi2, snr, redshift, 1).score(latents, chi2, snr, redshift)
    gap = np.insert(latents, 10, np.nan, axis=0), *(np.insert(column, 10, np.nan) for column in (chi2, snr, redshift))
    found = fit_reference(*gap, 1).score(*gap)
    assert found["ANOMALY_REASON"][10] == NOT_SCORED
    for name, values in found.items():
        assert name == "ANOMALY_REASON" or np.isnan(values[10])
        np.testing.assert_array_equal(np.delete(values, 10), whole[name], err_msg=name)


def test_too_few_objects_are_no_reference():
    assert fit_reference(*objects(MIN_OBJECTS - 1), 0) is None
    assert fit_reference(*objects(MIN_OBJECTS), 0) is not None


def test_objects_that_are_all_alike_get_scores():
    same = np.ones((40, 2), "f4"), np.ones(40), np.full(40, 5.0), np.full(40, 0.3)
    assert np.isfinite(fit_reference(*same, 0).score(*same)["ANOMALY_SCORE"]).all()


def test_a_tail_falls_without_end_and_never_rises():
    tail = fit_tail(np.random.default_rng(0).exponential(2.0, 5000))
    values = np.linspace(-1, 60, 500)
    log_p = tail(values)
    assert (np.diff(log_p) <= 0).all()
    assert log_p[0] == pytest.approx(0, abs=1e-2)
    np.testing.assert_allclose(tail(np.array([30.0])), -15.0, rtol=0.15)
