"""The order in two levels keeps the promises of the plain one, and decodes each block once per epoch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpctrain.samples.order import WindowedOrder


def make_blocks(num_samples, lengths):
    """Cut an epoch into blocks of these lengths, again and again."""
    starts, at = [], 0
    while at < num_samples:
        starts.append(at)
        at += lengths[len(starts) % len(lengths)]
    return np.array(starts)


LENGTHS = st.lists(st.integers(1, 70), min_size=1, max_size=5)


@pytest.mark.slow
@given(num_samples=st.integers(1, 3000), lengths=LENGTHS, window=st.integers(1, 4000), epoch=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_each_epoch_holds_each_sample_exactly_once(num_samples, lengths, window, epoch):
    order = WindowedOrder(1, num_samples, make_blocks(num_samples, lengths), window)
    samples = order(epoch * num_samples + np.arange(num_samples))
    assert np.array_equal(np.sort(samples), np.arange(num_samples))


@pytest.mark.slow
@given(num_samples=st.integers(1, 500), lengths=LENGTHS, cuts=st.lists(st.integers(0, 2000), max_size=6))
@settings(max_examples=40, deadline=None)
def test_the_order_does_not_depend_on_where_batches_are_cut_or_where_a_run_begins(num_samples, lengths, cuts):
    blocks = make_blocks(num_samples, lengths)
    places = np.arange(min(2000, 5 * num_samples))
    whole = WindowedOrder(7, num_samples, blocks, 100)(places)
    parts = [WindowedOrder(7, num_samples, blocks, 100)(part) for part in np.split(places, sorted(cuts))]
    assert np.array_equal(whole, np.concatenate(parts))


def test_no_more_than_a_window_of_blocks_is_in_use_and_none_comes_back():
    n, window = 20_000, 1024
    blocks = make_blocks(n, [64])
    samples = WindowedOrder(3, n, blocks, window)(np.arange(n))
    block = np.searchsorted(blocks, samples, side="right") - 1
    first = np.array([np.flatnonzero(block == number)[0] for number in range(len(blocks))])
    last = np.array([np.flatnonzero(block == number)[-1] for number in range(len(blocks))])
    in_use = [((first <= place) & (last >= place)).sum() for place in range(0, n, 50)]
    assert max(in_use) <= 1.1 * window / 64
    assert (last - first < 1.1 * window).all()


def test_windows_are_of_about_equal_size_so_that_none_is_shuffled_badly():
    n = 10_300  # ten windows and a little more
    samples = WindowedOrder(3, n, make_blocks(n, [64]), 1024)(np.arange(n))
    tail = samples[-700:]
    assert len(np.unique(tail // 64)) > 10


def test_neighbours_of_a_batch_come_from_all_over_the_file():
    """How far it is from a uniform shuffle; docs/data.md states these figures."""
    n = 100_000
    redshift = np.linspace(0, 1, n)  # a file that is sorted, the worst that can be
    order = WindowedOrder(5, n, make_blocks(n, [64]), 4096)
    samples = order(np.arange(n))
    assert abs(np.corrcoef(redshift[samples[:-1]], redshift[samples[1:]])[0, 1]) < 0.05
    batches = redshift[samples[: n // 128 * 128]].reshape(-1, 128)
    uniform = np.random.default_rng(0).permutation(redshift)[: n // 128 * 128].reshape(-1, 128)
    # Means of batches scatter more than those of a uniform shuffle, for 64 blocks stand behind a window, not all.
    assert batches.mean(axis=1).std() < 2.0 * uniform.mean(axis=1).std()


def test_epochs_and_seeds_have_orders_of_their_own():
    n = 5000
    blocks = make_blocks(n, [64])
    orders = [WindowedOrder(seed, n, blocks, 640)(e * n + np.arange(n)) for seed in (1, 2) for e in (0, 1, 9)]
    for i, one in enumerate(orders):
        for other in orders[:i]:
            assert (one == other).sum() < 12


def test_the_order_is_the_same_on_every_machine_and_version():
    """A change here silently breaks the resume of every run that exists: do not change these numbers."""
    order = WindowedOrder(1, 10, np.array([0, 3, 7]), 5)(np.arange(20))
    assert order.tolist() == [8, 7, 9, 3, 5, 4, 1, 0, 6, 2, 8, 7, 9, 5, 0, 1, 3, 2, 6, 4]


@pytest.mark.parametrize("blocks", [[], [1], [0, 0], [0, 10]])
def test_nonsense_is_refused(blocks):
    with pytest.raises(ValueError, match="blocks begin at 0"):
        WindowedOrder(1, 10, np.array(blocks), 5)
