"""Coverage of credible intervals."""

import numpy as np
import pytest

from hpctrain.validation.uncertainty.coverage import central_level, coverage_curve, coverage_error, error_by_chance


def test_intervals_of_right_densities_cover_at_their_level():
    pit = np.random.default_rng(0).uniform(size=20_000)
    curve = coverage_curve(central_level(pit), np.arange(len(pit)), 0.999)
    for level, low, high in zip(curve["level"], curve["low"], curve["high"], strict=True):
        assert low <= level <= high


def test_the_coverage_error_is_the_area_between_the_curve_and_the_diagonal():
    level = np.random.default_rng(1).beta(2, 3, size=57)
    grid = np.linspace(0, 1, 200_001)
    curve = np.searchsorted(np.sort(level), grid, side="right") / len(level)
    assert coverage_error(level) == pytest.approx(np.trapezoid(np.abs(curve - grid), grid), abs=1e-4)
    assert coverage_error(np.zeros(10)) == pytest.approx(0.5)


def test_right_densities_have_the_coverage_error_of_chance():
    rng = np.random.default_rng(2)
    found = [coverage_error(rng.uniform(size=300)) for _ in range(500)]
    assert np.mean(found) == pytest.approx(error_by_chance(300), rel=0.08)
