"""The forest of a bundle scores as scikit-learn's does, without scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest as Forest

from hpctrain.edge.forest import IsolationForest


def latents(num, seed, spread=1.0):
    return (np.random.default_rng(seed).normal(size=(num, 4)) * spread).astype("f4")


@pytest.mark.slow
def test_scores_are_those_of_scikit_learn():
    train, new = latents(700, 0), latents(300, 1, spread=2.0)
    theirs = Forest(n_estimators=200, random_state=3).fit(train).decision_function(new)
    np.testing.assert_allclose(IsolationForest.fit(train, 3).score(new), theirs, atol=1e-6)
    assert (theirs < 0).any()
    assert (theirs > 0).any()


def test_a_forest_of_few_objects_scores_too():
    train = latents(3, 0)
    theirs = Forest(n_estimators=200, random_state=3).fit(train).decision_function(train)
    np.testing.assert_allclose(IsolationForest.fit(train, 3).score(train), theirs, atol=1e-6)


def test_latents_that_are_not_finite_have_no_score():
    new = latents(5, 1)
    new[2, 1] = np.nan
    scores = IsolationForest.fit(latents(50, 0), 3).score(new)
    assert np.isnan(scores[2])
    assert np.isfinite(np.delete(scores, 2)).all()


def test_it_survives_a_file(tmp_path):
    forest = IsolationForest.fit(latents(100, 0), 3)
    np.savez(tmp_path / "forest.npz", **forest.to_arrays())
    with np.load(tmp_path / "forest.npz", allow_pickle=False) as file:
        again = IsolationForest.from_arrays(dict(file))
    np.testing.assert_array_equal(again.score(latents(20, 2)), forest.score(latents(20, 2)))
