"""The order of samples is a function; these properties are what exact resume and fair epochs stand on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpctrain.samples.order import sample_order


@given(num_samples=st.integers(1, 3000), seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_each_epoch_holds_each_sample_exactly_once(num_samples, seed, epoch):
    order = sample_order(seed, num_samples, epoch * num_samples + np.arange(num_samples))
    assert np.array_equal(np.sort(order), np.arange(num_samples))


@given(num_samples=st.integers(1, 500), seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 2000), max_size=6))
@settings(max_examples=40, deadline=None)
def test_the_order_does_not_depend_on_where_batches_are_cut(num_samples, seed, cuts):
    whole = sample_order(seed, num_samples, np.arange(2000))
    parts = [sample_order(seed, num_samples, part) for part in np.split(np.arange(2000), sorted(cuts))]
    assert np.array_equal(whole, np.concatenate(parts))


def test_epochs_and_seeds_have_orders_of_their_own():
    n = 1000
    orders = [sample_order(seed, n, epoch * n + np.arange(n)) for seed in (1, 2) for epoch in (0, 1, 7)]
    for i, one in enumerate(orders):
        for other in orders[:i]:
            assert (one == other).sum() < 12  # two random permutations agree in one place on average


def test_a_position_far_into_the_run_needs_no_earlier_one():
    n = 3_000_000_000
    far = np.array([0, n - 1, n, 10**15], dtype=np.int64)
    order = sample_order(3, n, far)
    assert order.dtype == np.int64
    assert ((order >= 0) & (order < n)).all()
    assert np.array_equal(order, sample_order(3, n, far))


def test_the_order_is_the_same_on_every_machine_and_version():
    """A change here silently breaks the resume of every run that exists: do not change these numbers."""
    assert sample_order(1, 10, np.arange(20)).tolist() == [3, 5, 8, 4, 7, 0, 9, 2, 6, 1, 0, 6, 8, 7, 3, 9, 5, 2, 4, 1]


@pytest.mark.parametrize("num_samples", [2, 3, 5, 8, 13, pytest.param(100, marks=pytest.mark.slow)])
def test_each_sample_is_as_likely_as_any_other_at_each_place(num_samples):
    """Chi-square of how often sample i stands at place j, over epochs; 5 sigma."""
    epochs = 400 * num_samples
    order = sample_order(11, num_samples, np.arange(epochs * num_samples)).reshape(epochs, num_samples)
    expected = epochs / num_samples
    counts = np.stack([np.bincount(order[:, place], minlength=num_samples) for place in range(num_samples)])
    chi2 = ((counts - expected) ** 2 / expected).sum()
    freedom = (num_samples - 1) ** 2
    assert abs(chi2 - freedom) < 5 * np.sqrt(2 * freedom) + 5


def test_neighbours_in_the_file_are_not_neighbours_in_the_order():
    n = 20_000
    order = sample_order(5, n, np.arange(n)).astype(float)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 5 / np.sqrt(n)
    assert abs(np.corrcoef(order, np.arange(n))[0, 1]) < 5 / np.sqrt(n)
    following = np.diff(order) == 1
    assert following.sum() < 10  # one on average


def test_the_network_is_no_smaller_group_than_all_orders_of_few_samples():
    n = 4
    orders = sample_order(2, n, np.arange(6000 * n)).reshape(-1, n)
    assert len({tuple(order) for order in orders.tolist()}) == 24


@pytest.mark.parametrize(("num_samples", "positions"), [(0, [0]), (5, [-1])])
def test_nonsense_is_refused(num_samples, positions):
    with pytest.raises(ValueError, match=r"at least one|start at 0"):
        sample_order(1, num_samples, np.array(positions))
