"""The error of a mean over folds allows for the training objects that they share."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hpctrain.validation.resampled import corrected_mean


def test_the_variance_is_that_of_nadeau_and_bengio():
    values = [0.80, 0.82, 0.78, 0.81, 0.84]
    found = corrected_mean(values, 0.25)
    error = math.sqrt((1 / 5 + 0.25) * np.var(values, ddof=1))
    assert (found.value, found.standard_error) == pytest.approx((0.81, error))
    assert (found.high - found.low) / 2 == pytest.approx(stats.t.ppf(0.975, 4) * error)


def test_without_shared_objects_it_is_the_interval_of_student():
    values = np.random.default_rng(1).normal(size=12)
    found = corrected_mean(values, 0.0)
    low, high = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_a_fold_without_a_value_does_not_count_and_one_fold_has_no_error():
    assert corrected_mean([1.0, math.nan, 3.0], 0.1).value == 2.0
    alone = corrected_mean([1.0], 0.1)
    assert alone.value == 1.0
    assert math.isnan(alone.standard_error)
    assert math.isnan(corrected_mean([], 0.1).value)
