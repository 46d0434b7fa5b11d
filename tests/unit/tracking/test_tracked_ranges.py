"""Sets of trials as short texts."""

import pytest

from hpctrain.tracking.numbers import ranges_of, read_ranges


@pytest.mark.parametrize(
    ("numbers", "text"), [((), ""), ((7,), "7"), ((3, 1, 2, 2), "1-3"), ((0, 1, 5, 9, 8), "0-1,5,8-9")]
)
def test_numbers_come_back_from_their_ranges(numbers, text):
    assert ranges_of(numbers) == text
    assert read_ranges(text) == set(numbers)


@pytest.mark.parametrize("text", ["a", "1-", "1-b", "-3", "1;2"])
def test_a_text_that_holds_no_ranges_means_no_number(text):
    assert read_ranges(text) == set()
