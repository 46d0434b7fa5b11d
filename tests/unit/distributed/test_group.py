"""What the process group is told about time."""

from __future__ import annotations

from hpctrain.distributed.group import collective_timeout_s
from hpctrain.distributed.watchdog import START_UP_S


def test_the_watchdog_comes_before_the_time_out_of_a_collective_even_in_the_first_step():
    for hang_timeout_s in (5.0, 1800.0):
        assert collective_timeout_s(hang_timeout_s) > hang_timeout_s + START_UP_S


def test_without_a_watchdog_a_collective_still_ends():
    assert collective_timeout_s(None) == 86400.0
