"""Conformal sets and intervals: coverage in simulations, and the numbers of MAPIE."""

import math

import numpy as np
import pytest

from hpctrain.families.labels.conformal import (
    Base,
    base_of,
    class_scores,
    conformal_columns,
    group_of,
    taken,
    threshold,
)
from hpctrain.validation.uncertainty.figures import conformal_figures

CLASSES = [{"column": "kind", "kind": "class", "classes": ["a", "b", "c"]}]
SHARES = np.array([0.7, 0.25, 0.05])


def objects(size, rng):
    """Classes of unequal shares, and probabilities of a model that is too sure."""
    true = rng.choice(3, size=size, p=SHARES)
    logits = 1.2 * np.eye(3)[true] + rng.normal(size=(size, 3)) + np.log(SHARES)
    p = np.exp(1.8 * logits)
    return true, p / p.sum(axis=1, keepdims=True), rng.integers(2**60, size=size)


@pytest.mark.parametrize("method", ["lac", "aps"])
def test_sets_of_classes_cover_as_often_as_asked_for_all_and_for_each_class(method):
    rng = np.random.default_rng(0)
    covered, of_class = [], []
    for _ in range(300):
        true, p, ids = objects(400, rng)
        scores = class_scores(p, method, ids)
        own = scores[np.arange(400), true]
        limit = threshold(own[:200], 0.1)
        covered.append(np.mean(own[200:] <= limit))
        rare = true == 1
        limit = threshold(own[:200][rare[:200]], 0.1)
        of_class.append(np.mean(own[200:][rare[200:]] <= limit))
    # between 0.9 and 0.9 + 1 / (n + 1), and four standard errors of the mean over the repeats
    assert 0.9 - 4 * np.std(covered) / 300**0.5 < np.mean(covered) < 0.905 + 4 * np.std(covered) / 300**0.5
    assert 0.9 - 4 * np.std(of_class) / 300**0.5 < np.mean(of_class) < 0.92 + 4 * np.std(of_class) / 300**0.5


def test_the_threshold_is_the_right_order_statistic_and_infinite_where_objects_are_too_few():
    scores = np.random.default_rng(1).permutation(np.arange(1.0, 100.0))
    assert threshold(scores, 0.1) == 90  # ceil(100 * 0.9)
    assert threshold(scores[:8], 0.1) == math.inf
    assert threshold(np.arange(1.0, 10.0), 0.1) == 9


def test_each_group_has_its_threshold_and_an_unknown_one_has_the_widest():
    group = group_of(np.array([1.0, 2.5, np.nan, 9.0]), [2.0, 5.0])
    assert group.tolist() == [0, 1, -1, 2]
    assert taken(np.array([0.2, 0.9, 0.5]), group).tolist() == [0.2, 0.9, 0.9, 0.5]


def test_an_interval_holds_the_truth_exactly_where_its_score_is_below_the_threshold():
    rng = np.random.default_rng(2)
    true = rng.uniform(0.05, 1.2, size=500)
    z = {"z_LOW": true - rng.uniform(-0.05, 0.2, 500), "z_HIGH": true + rng.uniform(0, 0.2, 500)}
    angle = {"a_PRED": rng.uniform(0, 360, 500), "a_ERR": rng.uniform(1, 60, 500)}
    log = {"m_PRED": true * rng.lognormal(size=500), "m_ERR": 0.2 * true}
    labels = [
        ({"column": "z", "kind": "density", "spacing": "log1p", "range": [0.0, 1.5]}, z, true),
        ({"column": "m", "kind": "value", "log10": True}, log, true),
        ({"column": "a", "kind": "circular", "period": 360.0}, angle, rng.uniform(0, 360, 500)),
    ]
    for label, columns, truth in labels:
        base = base_of(label, columns)
        for limit in (-0.5, 0.7, 3.0, np.inf):
            low, high = base.widened(np.full(500, limit))
            inside = (truth >= low) & (truth <= high)
            if base.period is not None:
                inside = np.where(low <= high, inside, (truth >= low) | (truth <= high))
            assert np.array_equal(inside, base.scores(truth) <= limit)


def test_stored_thresholds_give_sets_and_intervals_and_nothing_for_a_sample_without_prediction():
    p = np.array([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [np.nan] * 3])
    columns = {"kind_PRED": np.array([b"a", b"a", b""]), "kind_PROB": p, "x_PRED": np.array([1.0, 2.0, np.nan])}
    columns["x_ERR"] = np.array([0.1, 0.2, np.nan])
    stored = {
        "labels": {
            "kind": {"method": "lac", "thresholds": [[0.5, 0.7, None]], "groups": None},
            "x": {"thresholds": [[1.0], [None]], "groups": {"column": "mag", "edges": [20.0]}},
        }
    }
    read = {"target_id": np.arange(3), "mag": np.array([19.0, 21.0, 19.0])}.__getitem__
    found = conformal_columns(stored, [*CLASSES, {"column": "x", "kind": "value"}], columns, read)
    assert found["kind_SET"].tolist() == [[1, 0, 1], [0, 1, 1], [0, 0, 0]]
    assert found["x_INTERVAL_LOW"] == pytest.approx([0.8, -np.inf, np.nan], nan_ok=True)
    assert found["x_INTERVAL_HIGH"] == pytest.approx([1.2, np.inf, np.nan], nan_ok=True)


def test_sets_and_intervals_are_those_of_mapie():
    pytest.importorskip("mapie")
    from mapie.classification import SplitConformalClassifier
    from mapie.regression import SplitConformalRegressor
    from sklearn.dummy import DummyRegressor

    class Given:
        """A fitted classifier whose inputs are its probabilities."""

        classes_ = np.arange(3)
        n_features_in_ = 3
        predict_proba = staticmethod(lambda x: np.asarray(x))
        predict = staticmethod(lambda x: np.asarray(x).argmax(axis=1))
        fit = __sklearn_is_fitted__ = lambda self, *_: self
        get_params = lambda self, deep=True: {}  # noqa: E731

    rng = np.random.default_rng(3)
    true, p, ids = objects(600, rng)
    theirs = SplitConformalClassifier(Given(), confidence_level=0.9, conformity_score="lac", prefit=True)
    theirs.conformalize(p[:300], true[:300])
    scores = class_scores(p, "lac", ids)
    limit = threshold(scores[np.arange(300), true[:300]], 0.1)
    assert np.array_equal(theirs.predict_set(p[300:])[1][:, :, 0], scores[300:] <= limit)
    y = rng.normal(size=300)
    constant = DummyRegressor(strategy="constant", constant=0.3).fit(y[:, None], y)
    numbers = SplitConformalRegressor(constant, confidence_level=0.9, prefit=True)
    numbers.conformalize(y[:, None], y)
    base = Base(np.full(300, 0.3 - 1.0), np.full(300, 0.3 + 1.0))
    low, high = base.widened(np.full(300, threshold(base.scores(y), 0.1)))
    assert np.stack([low, high], axis=1) == pytest.approx(numbers.predict_interval(y[:, None])[1][:, :, 0])


def test_the_figure_of_each_column_names_that_column():
    part = {"low": None, "high": 1.0, "coverage": 0.9, "coverage_low": 0.8, "coverage_high": 1.0, "n": 50}
    found = {"methods": {"lac": {"bins": {"r": [part], "z": [part]}}}}
    figures = conformal_figures("Z", found, 0.1)
    assert [each["axes"]["x"]["label"] for each in figures] == ["r", "z"]
