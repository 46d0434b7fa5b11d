"""Weights of another population, and where the training does not reach."""

import numpy as np
import pytest

from hpctrain.validation.bias.density_ratio import density_ratio, effective_size
from hpctrain.validation.bias.target_block import reach_of


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_the_effective_size_is_the_number_of_equal_weights():
    assert effective_size(np.array([2.0, 2.0, 2.0, 0.0])) == pytest.approx(3)
    assert effective_size(np.zeros(3)) == 0


@pytest.mark.parametrize("method", ["neighbours", "classifier"])
def test_weighted_objects_have_the_mean_and_the_shares_of_the_target(rng, method):
    objects, target = rng.normal(size=(1500, 2)), rng.normal([0.7, -0.3], 0.8, size=(1500, 2))
    weights = density_ratio(objects, target, method)
    assert weights.mean() == pytest.approx(1)
    assert np.average(objects, axis=0, weights=weights) == pytest.approx([0.7, -0.3], abs=0.12)
    assert np.average(objects[:, 0] > 1, weights=weights) == pytest.approx(np.mean(target[:, 0] > 1), abs=0.05)


def test_the_same_population_gets_weights_near_one(rng):
    weights = density_ratio(rng.normal(size=(2000, 2)), rng.normal(size=(20_000, 2)))
    assert effective_size(weights) > 0.85 * len(weights)


def test_target_objects_beyond_the_training_are_counted_where_they_are(rng):
    training, held_out = rng.uniform(0, 1, (2000, 1)), rng.uniform(0, 1, (1000, 1))
    target = np.concatenate([rng.uniform(0, 1, (750, 1)), rng.uniform(1.5, 2, (250, 1))])
    found = reach_of(training, held_out, target, ["r"], 0.95)
    assert found["share"] == pytest.approx(0.25, abs=0.02)
    assert found["low"] < 0.25 < found["high"] + 0.01
    assert found["where"]["r"]["share"][-1] == pytest.approx(1.0)
    assert found["where"]["r"]["share"][0] < 0.05
