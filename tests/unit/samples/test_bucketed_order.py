"""The order in which batches hold samples of similar length keeps what every order promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpctrain.samples.order import BucketedOrder, sample_order


def lengths_of(num: int) -> np.ndarray:
    return np.random.default_rng(1).integers(5, 500, num)


@pytest.mark.slow
@given(num=st.integers(1, 300), batch=st.integers(1, 40), window=st.integers(1, 9), cuts=st.lists(st.integers(0, 900)))
@settings(max_examples=30, deadline=None)
def test_each_epoch_holds_each_sample_once_wherever_batches_are_cut(num, batch, window, cuts):
    lengths = lengths_of(num)
    whole = BucketedOrder(3, lengths, batch, window)(np.arange(3 * num))
    for epoch in whole.reshape(3, num):
        assert np.array_equal(np.sort(epoch), np.arange(num))
    parts = np.split(np.arange(3 * num), sorted(cut % (3 * num) for cut in cuts))
    again = [BucketedOrder(3, lengths, batch, window)(part) for part in reversed(parts)]
    assert np.array_equal(whole, np.concatenate(again[::-1]))


def test_batches_hold_similar_lengths_in_random_order():
    num, batch = 2000, 32
    lengths = lengths_of(num)

    def batches(order: np.ndarray) -> np.ndarray:
        return lengths[order[: len(order) // batch * batch]].reshape(-1, batch)

    positions = np.arange(3 * num)  # an epoch ends within a batch
    plain, sorted_ = batches(sample_order(1, num, positions)), batches(BucketedOrder(1, lengths, batch, 10)(positions))
    padding = [1 - each.sum() / (each.max(axis=1) * batch).sum() for each in (plain, sorted_)]
    assert padding[0] > 0.4
    assert padding[1] < 0.2
    middle = sorted_.mean(axis=1)
    assert abs(np.corrcoef(middle[:-1], middle[1:])[0, 1]) < 0.25, "neighbouring batches are not of similar length"


def test_epochs_and_seeds_have_batches_of_their_own():
    lengths = lengths_of(100)
    orders = [BucketedOrder(seed, lengths, 10, 5)(epoch * 100 + np.arange(100)) for seed in (1, 2) for epoch in (0, 3)]
    assert len({tuple(order.tolist()) for order in orders}) == 4


def test_the_order_is_the_same_on_every_machine_and_version():
    """A change here silently breaks the resume of every run that exists: do not change these numbers."""
    found = BucketedOrder(1, np.array([3, 9, 1, 4, 1, 5, 9, 2, 6, 5]), 2, 3)(np.arange(20))
    assert found.tolist() == [4, 3, 5, 8, 2, 7, 0, 9, 6, 1, 7, 0, 8, 6, 2, 4, 5, 1, 3, 9]
