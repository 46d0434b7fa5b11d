"""Distances from the training samples."""

import numpy as np
import pytest
from judged_parts import made_up

from hpctrain.drawing.described.figure import read_figure
from hpctrain.validation.uncertainty.outliers import Detector, _figures, judge_scores


@pytest.mark.parametrize("method", ["neighbours", "mahalanobis"])
def test_samples_unlike_the_training_score_above_those_like_it(method):
    rng = np.random.default_rng(0)
    like, unlike = rng.normal(size=(300, 4)), rng.normal(size=(300, 4)) + 6
    detector = Detector(rng.normal(size=(1000, 4)), method)
    assert detector.scores(like).max() < detector.scores(unlike).min()


def test_the_square_of_the_mahalanobis_distance_is_that_of_chi_square():
    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(5, 5))
    scores = Detector(rng.normal(size=(5000, 5)) @ mixing, "mahalanobis").scores(rng.normal(size=(5000, 5)) @ mixing)
    assert np.mean(scores**2) == pytest.approx(5, abs=0.2)
    assert np.var(scores**2) == pytest.approx(10, rel=0.2)


def test_missing_numbers_count_as_the_median_and_many_numbers_are_reduced():
    rng = np.random.default_rng(2)
    training = rng.normal(size=(500, 100))
    detector = Detector(training)
    samples = rng.normal(size=(3, 100))
    samples[1, 7], samples[2] = np.nan, np.nan
    filled = samples[1].copy()
    filled[7] = np.median(training[:, 7])
    scores = detector.scores(samples)
    assert np.isnan(scores).tolist() == [False, False, True]
    assert scores[1] == pytest.approx(detector.scores(filled[None])[0])


def test_the_threshold_raises_as_many_false_alarms_as_asked(tmp_path):
    rates, first = [], made_up(tmp_path, size=500)
    rng = np.random.default_rng(3)
    for _ in range(60):
        judged = first.take(rng.permutation(500)) if rates else first
        found = judge_scores(rng.exponential(size=500), judged, rate=0.05)
        rates.append(found["flagged"]["share"])
    # the expected share is between 0.05 - 1 / (n + 1) and 0.05, with n about 250
    assert 0.046 - 4 * np.std(rates) / 60**0.5 < np.mean(rates) < 0.05 + 4 * np.std(rates) / 60**0.5


def test_the_error_far_from_the_training_is_told_apart(tmp_path):
    judged = made_up(tmp_path)
    far = np.abs(judged.tasks[1].arrays["residual"])
    found = judge_scores(np.where(np.arange(len(far)) < 5, np.nan, far), judged, rate=0.05)
    assert found["tasks"]["teff"]["flagged"] > 2 * found["tasks"]["teff"]["others"]
    assert np.all(np.diff(found["tasks"]["teff"]["by_score"]) > 0)
    assert [read_figure(each).key for each in _figures(found)] == ["kind.outliers", "teff.outliers"]
