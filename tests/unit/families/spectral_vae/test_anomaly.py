"""Isolation Forest on latents, FOREST_SCORE of a catalogue."""

import numpy as np
import pytest

from hpctrain.families.spectral_vae.anomaly import isolation_scores


def latents(num: int = 500, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num, 4)).astype(np.float32)


def test_a_point_far_from_all_others_has_the_lowest_score_and_it_is_negative():
    values = latents()
    values[123] = 8.0
    scores = isolation_scores(values, seed=1)
    assert scores.argmin() == 123
    assert scores[123] < 0 < np.median(scores)
    assert scores.dtype == np.float32


@pytest.mark.slow
def test_same_seed_same_scores():
    assert np.array_equal(isolation_scores(latents(), 3), isolation_scores(latents(), 3))
    assert not np.array_equal(isolation_scores(latents(), 3), isolation_scores(latents(), 4))


def test_rejected_rows_have_no_score_and_do_not_change_those_of_others():
    values = latents()
    with_gap = np.insert(values, 10, np.nan, axis=0)
    scores = isolation_scores(with_gap, 1)
    assert np.isnan(scores[10])
    assert np.array_equal(np.delete(scores, 10), isolation_scores(values, 1))


def test_too_few_objects_get_no_score():
    assert np.isnan(isolation_scores(latents(1), 0)).all()
    assert isolation_scores(np.empty((0, 3), np.float32), 0).shape == (0,)


def test_a_large_seed_is_taken():
    assert np.isfinite(isolation_scores(latents(20), 2**63 - 1)).all()
