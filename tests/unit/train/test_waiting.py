"""The time that the loop waits for its batches."""

from __future__ import annotations

import itertools

from hpctrain.train.waiting import TimedBatches


def test_only_the_time_within_the_wait_for_a_batch_counts():
    seconds = iter([0.0, 2.0, 10.0, 10.5])
    timed = TimedBatches(iter("ab"), clock=lambda: next(seconds))
    assert list(itertools.islice(timed, 2)) == ["a", "b"]
    assert timed.waited_s == 2.5


def test_closing_it_closes_the_batches():
    def batches():
        try:
            yield 1
        finally:
            ended.append(True)

    ended: list[bool] = []
    timed = TimedBatches(batches())
    next(timed)
    timed.close()
    assert ended
