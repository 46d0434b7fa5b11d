"""Reliability of probabilities against closed forms."""

import numpy as np
import pytest
from scipy import stats

from hpctrain.validation.uncertainty.reliability import equal_bins, folded_normal_mean, reliability


def overconfident(size, slope=0.8, seed=0):
    """Probabilities p, uniform, of events that happen with 1/2 + slope (p - 1/2); the calibration error is
    (1 - slope) E|p - 1/2| = (1 - slope) / 4."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(size=size)
    return p, rng.uniform(size=size) < 0.5 + slope * (p - 0.5), np.arange(size)


def test_the_calibration_error_of_known_miscalibration_is_its_closed_form():
    found = reliability(*overconfident(20_000))
    assert found.debiased_error == pytest.approx(0.05, abs=0.01)
    low, high = found.error_interval(0.999, 100)
    assert low < 0.05 < high


def test_true_probabilities_have_the_calibration_error_of_chance():
    found = [reliability(*overconfident(2000, slope=1.0, seed=seed)) for seed in range(40)]
    errors = np.array([each.error for each in found])
    assert errors.mean() == pytest.approx(np.mean([each.error_by_chance for each in found]), rel=0.1)
    assert np.mean([each.debiased_error for each in found]) < 0.65 * errors.mean()


def test_the_interval_of_the_calibration_error_of_true_probabilities_begins_at_0():
    found = [reliability(*overconfident(1000, slope=1.0, seed=seed)).error_interval(0.95, 50) for seed in range(60)]
    assert np.mean([low == 0 for low, _ in found]) > 0.85  # 0.95, less 3.5 standard errors


def test_the_parts_of_the_brier_score_add_up_to_it():
    p, happened, target_id = overconfident(3000)
    parts = reliability(p, happened, target_id).brier_parts()
    assert parts["brier"] == pytest.approx(np.mean((p - happened) ** 2))
    total = parts["reliability"] - parts["resolution"] + parts["uncertainty"] + parts["within"]
    assert parts["brier"] == pytest.approx(total, abs=1e-12)


def test_bins_have_equally_many_rows_and_equal_values_stay_together():
    assert np.bincount(equal_bins(np.random.default_rng(0).normal(size=1000), 10)).tolist() == [100] * 10
    tied = equal_bins(np.repeat([0.1, 0.5, 0.9], [500, 5, 3]), 10)
    assert len(set(tied[:500])) == 1
    assert len(set(tied[500:505])) == 1


def test_rows_of_one_object_count_once_for_the_intervals():
    p, happened, target_id = overconfident(400)
    once, thrice = (
        reliability(np.repeat(p, times), np.repeat(happened, times), np.repeat(target_id, times), num_bins=4)
        for times in (1, 3)
    )
    assert once.bands(0.95) == pytest.approx(thrice.bands(0.95), abs=0.01)


def test_the_mean_of_a_folded_normal_is_that_of_scipy():
    mean, sigma = np.array([0.0, 0.3, 2.0]), np.array([1.0, 0.5, 0.1])
    expected = [stats.foldnorm.mean(m / s, scale=s) for m, s in zip(mean, sigma, strict=True)]
    assert folded_normal_mean(mean, sigma) == pytest.approx(expected)
    assert folded_normal_mean(np.array([0.7]), np.array([0.0])) == pytest.approx([0.7])
