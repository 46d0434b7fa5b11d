"""Intervals: equal to published ones, over objects instead of rows, and with the coverage that they claim."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hpctrain.validation.intervals import Groups, interval, intervals, wilson
from hpctrain.validation.rule import wilson_of
from hpctrain.validation.tasks.classes import class_task
from hpctrain.validation.tasks.sums import share
from hpctrain.validation.tasks.values import REDSHIFT, VALUE, number_task


@pytest.mark.parametrize(
    ("right", "number", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_a_share_of_independent_rows_has_the_published_interval(right, number, low, high):
    """Newcombe 1998, Statistics in Medicine 17, 857, table I, method 3."""
    is_right = np.arange(number) < right
    found = wilson(share(is_right, np.ones(number, dtype=bool)), np.ones(number), np.arange(number), 0.95)
    assert found == pytest.approx((low, high), abs=5e-5)
    assert wilson_of(right / number, number, 0.95) == pytest.approx((low, high), abs=5e-5)


def sample(num=120, seed=1):
    rng = np.random.default_rng(seed)
    true = rng.uniform(0.1, 1, num)
    columns = {"PIT": rng.uniform(size=num), "CRPS": rng.gamma(1, 0.1, num)}
    return number_task("z", REDSHIFT, true, true + 0.03 * rng.normal(size=num), columns=columns)


def test_the_mean_has_the_t_interval_of_scipy():
    task = sample()
    found = interval(task, "mean_bias", np.arange(120))
    expected = stats.ttest_1samp(task.arrays["residual"], 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-9)
    assert (found.num_rows, found.num_objects, found.method, found.note) == (120, 120, "t", "")


def test_rows_that_repeat_an_object_make_no_interval_narrower():
    rng = np.random.default_rng(3)
    true, guess = rng.integers(0, 2, 150), rng.integers(0, 2, 150)
    probability = np.eye(2)[guess] * 0.6 + 0.2 + 0.001 * rng.random((150, 1)) * [1, -1]
    one = class_task("c", ("a", "b"), true, guess, probability)
    four = class_task("c", ("a", "b"), *(np.repeat(each, 4, axis=0) for each in (true, guess, probability)))
    names = [metric.name for metric in one.metrics if not metric.name.startswith("recall_")]
    single = intervals(one, names, np.arange(150), draws=200)
    repeated = intervals(four, names, np.repeat(np.arange(150), 4), draws=200)
    as_if_independent = intervals(four, names, np.arange(600), draws=200)
    for name in names:
        assert (repeated[name].low, repeated[name].high) == pytest.approx(
            (single[name].low, single[name].high), rel=1e-6
        )
        assert (repeated[name].num_rows, repeated[name].num_objects) == (
            4 * single[name].num_rows,
            single[name].num_rows,
        )
        width = as_if_independent[name].high - as_if_independent[name].low
        assert width < 0.7 * (single[name].high - single[name].low)


def test_rows_that_are_left_out_or_have_no_weight_do_not_count():
    task, rows = sample(), np.arange(120) % 3 > 0
    kept = number_task("z", REDSHIFT, task.arrays["true"][rows], task.arrays["predicted"][rows])
    for name in ("nmad", "rmse", "outliers_0.05", "mean_bias"):
        expected = interval(kept, name, np.arange(120)[rows], draws=100)
        found = interval(task, name, np.arange(120), rows, draws=100)
        assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))
        assert interval(task, name, np.arange(120), draws=100, weights=2.0 * rows).low == pytest.approx(expected.low)
    nothing = interval(task, "nmad", np.arange(120), np.zeros(120, dtype=bool))
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()
    assert nothing.num_objects == 0


def test_no_rows_have_no_interval():
    task = sample()
    for found in intervals(task, [metric.name for metric in task.metrics], np.arange(120), np.empty(0, int)).values():
        assert np.isnan([found.value, found.low, found.high]).all()
        assert found.num_rows == 0


def test_every_interval_contains_its_value_and_stays_within_its_range():
    task = sample()
    for name, score in intervals(task, [metric.name for metric in task.metrics], np.arange(120), draws=200).items():
        assert score.low <= score.value <= score.high, name
        assert score.method
        if name.startswith(("outliers", "pit_ks")):
            assert 0 <= score.low <= score.high <= 1


def test_perfect_classes_have_an_interval_that_is_no_point():
    true = np.arange(40) % 2
    task = class_task("c", ("a", "b"), true, true, np.eye(2)[true] * 0.9 + 0.05)
    for name in ("accuracy", "macro_f1", "f1.a", "completeness.b", "roc_auc.a", "average_precision"):
        score = interval(task, name, np.arange(40), draws=100)
        assert score.value == score.high == pytest.approx(1.0)
        assert 0.7 < score.low < 1


def test_intervals_that_need_care_say_so():
    rng = np.random.default_rng(0)
    residual = 0.01 * rng.normal(size=200)
    residual[0] = 9.0
    task = number_task("v", VALUE, np.zeros(200) + rng.normal(size=200), residual)
    assert interval(task, "nmad", np.arange(200), draws=100).note == ""
    far = number_task("v", VALUE, np.zeros(200), residual)
    assert interval(far, "rmse", np.arange(200), draws=100).note == "a few objects decide it"
    assert interval(task, "nmad", np.arange(200), np.arange(12), draws=100).note == "fewer than 30 objects"


def test_draws_depend_on_the_seed_alone_and_not_on_how_many_are_in_memory():
    groups = Groups(np.array([5, 5, 7, 9]), np.array([0, 1, 3, 4]), np.array([1.0, 2.0, 1.0, 1.0]))
    all_at_once = np.concatenate(list(groups.counts(10, 3, 10)))
    np.testing.assert_array_equal(all_at_once, np.concatenate(list(groups.counts(10, 3, 3))))
    assert (all_at_once.sum(axis=1) == 3).all()
    weights = groups.row_weights(all_at_once, 6)
    assert (weights[:, [2, 5]] == 0).all()
    np.testing.assert_array_equal(weights[:, 1], 2 * weights[:, 0])


def test_intervals_cover_the_truth_as_often_as_they_claim():
    """Skewed errors, three rows per object; 114 of 120 are expected. The benchmark has the exact figures."""
    rng, held = np.random.default_rng(11), {"mae": 0, "nmad": 0, "outliers": 0, "mean_bias": 0}
    own = np.repeat(np.arange(80), 3)
    many = rng.gamma(2.0, 0.5, 200_000) * rng.gamma(4.0, 0.25, 200_000)
    truths = {"mae": 1.0, "mean_bias": 0.0, "nmad": 1.4826 * np.median(many), "outliers": np.mean(many > 2.0)}
    for _ in range(120):
        size = rng.gamma(2.0, 0.5, 80)[own] * rng.gamma(4.0, 0.25, 240)
        task = number_task("v", VALUE, np.zeros(240), size * rng.choice([-1, 1], 240), outlier=2.0)
        for name, score in intervals(task, list(held), own, draws=100, seed=1).items():
            held[name] += score.low <= truths[name] <= score.high
    assert all(104 <= number <= 120 for number in held.values()), held
