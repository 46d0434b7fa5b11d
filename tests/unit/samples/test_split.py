"""An object never changes sides."""

import numpy as np
import pytest

from hpctrain.profile.sections.data import SplitSection
from hpctrain.samples.split import TEST, TRAIN, VALIDATION, assign_split, choose_rows

IDS = np.arange(39_627_000_000_000, 39_627_000_000_000 + 50_000)


def test_shares_are_what_the_profile_says():
    side = assign_split(IDS, SplitSection(validation=0.1, test=0.2))
    assert np.bincount(side, minlength=3) / len(IDS) == pytest.approx([0.7, 0.1, 0.2], abs=0.01)


def test_all_rows_of_an_object_are_on_one_side_and_new_data_move_none():
    split = SplitSection(validation=0.3)
    before = assign_split(IDS[:100], split)
    after = assign_split(np.concatenate([IDS[::-1], IDS[:100]]), split)
    assert np.array_equal(before, after[-100:])
    assert np.array_equal(after[:-100][::-1][:100], before)


def test_a_larger_validation_share_keeps_those_held_out_and_touches_no_test_object():
    small = assign_split(IDS, SplitSection(validation=0.1, test=0.1))
    large = assign_split(IDS, SplitSection(validation=0.3, test=0.1))
    assert (large[small == VALIDATION] == VALIDATION).all()
    assert np.array_equal(large == TEST, small == TEST)


def test_no_share_holds_nobody_out():
    assert (assign_split(IDS, SplitSection(validation=0.0)) == TRAIN).all()


def test_other_salt_other_split():
    one = assign_split(IDS, SplitSection(validation=0.5))
    other = assign_split(IDS, SplitSection(validation=0.5, salt="again"))
    assert (one == other).mean() == pytest.approx(0.5, abs=0.02)


def test_the_split_is_the_same_on_every_machine_and_version():
    """A change here moves test objects of existing runs into training: do not change these numbers."""
    side = assign_split(np.arange(-3, 17), SplitSection(validation=0.3, test=0.3))
    assert side.tolist() == [1, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 2, 0, 1, 2, 1]


def test_fewer_spectra_are_a_part_of_more_whatever_else_is_in_the_set():
    rows = np.flatnonzero(IDS % 3 == 0)
    few, more = (choose_rows(IDS, rows, count, "hpctrain") for count in (100, 1000))
    assert len(few) == 100
    assert set(few) < set(more) < set(rows)
    assert choose_rows(IDS, rows, None, "hpctrain") is rows
