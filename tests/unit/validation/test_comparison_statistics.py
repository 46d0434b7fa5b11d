"""Tests of two models on the same rows, against published values, closed forms, scipy and statsmodels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hpctrain.validation.comparison.difference import Difference, compare_tasks
from hpctrain.validation.comparison.losses import cohen_d, signed_rank, superiority
from hpctrain.validation.comparison.multiple import holm
from hpctrain.validation.comparison.paired import detectable, ends, p_value, paired_draws
from hpctrain.validation.comparison.repeated import corrected_resampled_t
from hpctrain.validation.comparison.shares import mcnemar, share_interval, swap_test
from hpctrain.validation.intervals import Groups
from hpctrain.validation.tasks.classes import class_task
from hpctrain.validation.tasks.task import Task
from hpctrain.validation.tasks.values import number_task


def redshifts(rng: np.random.Generator, num: int, scale: float = 1.0) -> tuple[Task, Task]:
    """Return two models whose errors have a common part; the second has `scale` times the scatter."""
    z, common = rng.uniform(0, 1, num), rng.normal(0, 0.01, num)
    errors = [factor * (common + rng.normal(0, 0.01, num)) for factor in (1.0, scale)]
    first, second = (number_task("Z", "redshift", z, z + error * (1 + z)) for error in errors)
    return first, second


def alone(num: int) -> Groups:
    """Return groups of one row each."""
    return Groups(np.arange(num), np.arange(num), np.ones(num))


def one(first: Task, second: Task, name: str, group: np.ndarray, **options: float) -> Difference:
    """Return the difference of one metric."""
    return compare_tasks(first, second, [name], group, **options)[name]  # type: ignore[arg-type]


def test_holm_equals_statsmodels_and_leaves_out_tests_that_were_not_made() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(3).uniform(0, 0.2, 12)
    assert holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])
    with_gap = holm(np.array([0.01, np.nan, 0.04]))
    assert with_gap[[0, 2]] == pytest.approx([0.02, 0.04])
    assert math.isnan(with_gap[1])


@pytest.mark.parametrize(("second", "first"), [(3, 9), (0, 5), (12, 12), (40, 22), (150, 86)])
def test_mcnemar_of_single_rows_equals_statsmodels(second: int, first: int) -> None:
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    p, is_exact = mcnemar(np.array([1] * second + [-1] * first + [0] * 30))
    expected = tables.mcnemar([[30, second], [first, 30]], exact=is_exact, correction=False)
    assert p == pytest.approx(float(expected.pvalue))
    assert is_exact == (first + second < 25)


def test_exact_mcnemar_over_groups_counts_all_signs_of_the_groups() -> None:
    differences = np.array([3, -1, 2, 2, 0, 1, -2])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1)
    sums = np.abs(differences[differences != 0] @ signs)
    p, is_exact = mcnemar(differences)
    assert is_exact
    assert p == pytest.approx(np.mean(sums >= abs(differences.sum())))


def test_the_interval_of_a_share_is_that_of_bonett_and_price() -> None:
    # ci.prop.ps(.05, 12, 4, 26, 6) of the R package statpsych gives 0.2548067 to 0.6251933.
    differences = np.array([1] * 26 + [-1] * 4 + [0] * 18)
    low, high, _ = share_interval(differences, 30, np.ones(48), 0.95)
    assert (low, high) == pytest.approx((0.2548067, 0.6251933), abs=1e-7)


def test_rows_of_a_group_that_agree_widen_the_interval_of_a_share() -> None:
    differences = np.array([1] * 26 + [-1] * 4 + [0] * 18)
    low, high, _ = share_interval(differences, 30, np.ones(48), 0.95)
    grouped = share_interval(3 * differences, 90, np.full(48, 3), 0.95)
    assert grouped[0] == pytest.approx(low, abs=0.01)
    assert grouped[1] == pytest.approx(high, abs=0.01)


def test_exchanging_groups_equals_mcnemar_where_both_apply() -> None:
    rng = np.random.default_rng(5)
    first, second = (np.stack([rng.random(200) < share, np.ones(200)], axis=1).astype(float) for share in (0.8, 0.87))
    exact = stats.binomtest(int(((second > first)[:, 0]).sum()), int((second != first)[:, 0].sum()), 0.5).pvalue
    p = swap_test(first, second, lambda sums: sums[:, 0] / sums[:, 1], swaps=20_000)
    assert p == pytest.approx(exact, abs=0.01)


def test_signed_ranks_equal_the_example_of_hollander_and_wolfe() -> None:
    # Depression scores in the help of R's wilcox.test: V = 40, one-sided p = 0.01953.
    before = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
    after = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])
    assert signed_rank(after - before) == pytest.approx(2 * 0.01953, abs=1e-5)
    assert math.isnan(signed_rank(np.array([1.0, 2.0, 0.0, np.nan])))


def test_sizes_of_effects_follow_their_definitions() -> None:
    differences = np.array([-2.0, -1.0, 0.0, 1.0, -3.0, np.nan])
    assert cohen_d(differences) == pytest.approx(-1.0 / np.std(differences[:5], ddof=1))
    assert superiority(differences) == pytest.approx((3 + 0.5) / 5)


def test_the_corrected_t_has_the_variance_of_nadeau_and_bengio() -> None:
    differences = np.array([0.010, 0.014, -0.002, 0.006, 0.011])
    plain = stats.ttest_1samp(differences, 0.0)
    found = corrected_resampled_t(differences, 1 / 5)
    factor = math.sqrt((1 / 5 + 0.2 / 0.8) / (1 / 5))
    assert found.value / found.standard_error == pytest.approx(plain.statistic / factor)
    assert found.p == pytest.approx(2 * stats.t.sf(plain.statistic / factor, 4))
    assert found.low < 0 < found.high
    assert corrected_resampled_t(differences, 1e-12).p == pytest.approx(plain.pvalue)


@pytest.mark.parametrize(("differences", "share"), [([0.1], 0.2), ([0.1, 0.2], 0.0), ([0.1, 0.2], 1.0)])
def test_the_corrected_t_refuses_what_has_no_answer(differences: list[float], share: float) -> None:
    with pytest.raises(ValueError, match=r"t test needs|test_share"):
        corrected_resampled_t(np.array(differences), share)


def test_both_models_are_judged_on_the_same_draws() -> None:
    first, _ = redshifts(np.random.default_rng(0), 80)
    pairs = {name: (first.statistic(name), first.statistic(name)) for name in ("nmad", "mae")}
    for drawn in paired_draws(pairs, alone(80), 50).values():
        assert drawn.shape == (2, 50)
        assert np.array_equal(drawn[0], drawn[1])
        assert drawn[0].std() > 0


def test_the_draws_of_a_mean_scatter_by_its_standard_error() -> None:
    first, second = redshifts(np.random.default_rng(1), 300)
    drawn = paired_draws({"mae": (first.statistic("mae"), second.statistic("mae"))}, alone(300), 3000)["mae"]
    values = second.per_row("mae") - first.per_row("mae")
    assert (drawn[1] - drawn[0]).std() == pytest.approx(values.std() / math.sqrt(300), rel=0.05)


def test_for_many_groups_the_ends_are_percentiles_and_for_few_those_of_student() -> None:
    drawn = stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    assert ends(drawn, 100_000, 0.95) == pytest.approx((-1.96, 1.96), abs=1e-3)
    # Divided by n instead of n - 1, the variance of draws is too small by (n - 1) / n.
    assert ends(drawn, 10, 0.95)[1] == pytest.approx(stats.t.ppf(0.975, 9) * math.sqrt(10 / 9), abs=1e-2)


def test_p_is_the_confidence_at_which_the_interval_reaches_zero() -> None:
    drawn = 2.3 + stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    for groups in (12, 5000):
        p = p_value(drawn, groups)
        assert ends(drawn, groups, 1 - p)[0] == pytest.approx(0.0, abs=1e-3)
    assert p_value(drawn - 2.3, 100) > 0.99
    assert p_value(np.zeros(500), 100) == 1.0
    assert p_value(drawn + 10, 5000) < 1e-20


def test_the_difference_to_be_seen_is_that_of_a_test_of_means() -> None:
    # Two-sided 5 % and 80 % power: 1.96 + 0.84 standard errors.
    assert detectable(1.0, 10**6, 0.95) == pytest.approx(2.8016, abs=1e-3)


def test_predictions_that_are_the_same_differ_by_nothing() -> None:
    first, _ = redshifts(np.random.default_rng(2), 60)
    for found in compare_tasks(first, first, [m.name for m in first.metrics], np.arange(60), draws=100).values():
        assert (found.value, found.p) == (0.0, 1.0)
        assert found.low <= 0 <= found.high


def test_a_worse_model_is_found_and_its_sign_is_that_of_the_second_run() -> None:
    first, second = redshifts(np.random.default_rng(3), 400, scale=1.5)
    found = one(first, second, "mae", np.arange(400))
    assert found.value > 0
    assert 0 < found.low < found.value < found.high
    assert found.p < 1e-6
    assert found.signed_rank < 1e-3
    assert found.superiority < 0.5


def test_a_bias_is_worse_if_it_is_further_from_zero_on_either_side() -> None:
    z, rng = np.full(500, 0.5), np.random.default_rng(4)
    errors = rng.normal(0, 0.01, 500)
    tasks = [number_task("Z", "value", z, z + shift + errors) for shift in (0.001, -0.02, 0.02)]
    for other in tasks[1:]:
        found = one(tasks[0], other, "mean_bias", np.arange(500))
        assert found.value == pytest.approx(0.019, abs=2e-3)
        assert found.low > 0
        assert found.p < 1e-4
    assert one(tasks[1], tasks[2], "mean_bias", np.arange(500)).p > 0.5


def test_rows_of_an_object_count_as_one_measurement() -> None:
    first, second = redshifts(np.random.default_rng(6), 100)
    rows = np.repeat(np.arange(100), 9)
    many = [number_task("Z", "redshift", t.arrays["true"][rows], t.arrays["predicted"][rows]) for t in (first, second)]
    single = one(first, second, "mae", np.arange(100))
    grouped = one(*many, "mae", rows)
    assert grouped.value == pytest.approx(single.value)
    assert (grouped.low, grouped.high) == pytest.approx((single.low, single.high))
    assert grouped.num_rows == 900
    assert grouped.num_groups == 100


def test_rows_that_only_one_model_can_predict_do_not_count() -> None:
    z = np.linspace(0.1, 1, 50)
    gap = np.where(np.arange(50) < 10, np.nan, z + 0.01)
    found = one(number_task("Z", "value", z, z + 0.02), number_task("Z", "value", z, gap), "mae", np.arange(50))
    assert found.num_rows == 40


def test_purities_of_different_rows_are_tested_by_exchanging_the_models() -> None:
    rng = np.random.default_rng(7)
    true = rng.integers(0, 2, 300)
    tasks = [
        class_task("type", ("A", "B"), true, np.where(rng.random(300) < right, true, 1 - true), None)
        for right in (0.7, 0.95)
    ]
    purity, accuracy = one(*tasks, "purity.B", np.arange(300)), one(*tasks, "accuracy", np.arange(300))
    assert purity.test == "swapped groups"
    assert purity.p < 0.001
    assert accuracy.test.startswith("McNemar")
    assert accuracy.low < accuracy.value < accuracy.high


def test_equal_models_raise_no_more_false_alarms_than_the_level() -> None:
    repeats, alarms = 100, 0
    for repeat in range(repeats):
        rng = np.random.default_rng([repeat, 1])
        first, second = redshifts(rng, 120)
        alarms += one(first, second, "rmse", np.arange(120) // 2, draws=199, seed=repeat).p < 0.05
    assert alarms <= 11  # 5 are expected; more than 11 happen once in 230 times
