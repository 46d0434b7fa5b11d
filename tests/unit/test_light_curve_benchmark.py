"""The plain features and folds of benchmarks/science_light_curves.py."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.light_curve_features import features_of
from benchmarks.science_light_curves import _folds
from hpctrain.kinds.light_curves.layout import Curves


def test_plain_features_of_light_curves_find_the_harmonics_of_a_period():
    rng = np.random.default_rng(5)
    time = np.sort(rng.uniform(0, 50, 200))
    value = np.sin(2 * np.pi * time / 3.0) + 0.2 * np.sin(4 * np.pi * time / 3.0)
    curves = Curves(
        np.array([0, 200]), time, value, np.full(200, 0.01), np.zeros(200, int), ["V"], np.ones(1), {}, "mag"
    )
    [found] = features_of(curves, np.array([3.0]), np.array([1.0]))
    amplitudes = 10 ** found[-18:-14]
    np.testing.assert_allclose(amplitudes, [1, 0.2, 0, 0], atol=1e-3)
    assert found[0] == pytest.approx(np.log10(3))


def test_folds_spread_each_class_evenly():
    fold = _folds(np.repeat(["a", "b"], [50, 11]))
    assert np.bincount(fold[:50]).tolist() == [10] * 5
    assert np.bincount(fold[50:], minlength=5).max() == 3
