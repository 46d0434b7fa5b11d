"""Work before the first step, on a rank that is alone: results, errors, signs of life, and being asked to stop."""

from __future__ import annotations

import threading
import time

import pytest

import hpctrain.train.together as together_module
from hpctrain.distributed.stop import StopRequest
from hpctrain.distributed.world import World
from hpctrain.errors import DataError
from hpctrain.train.together import Crew, StoppedBeforeTrainingError


class Watched:
    """A watchdog that counts."""

    def __init__(self):
        self.signs = 0

    def progress(self):
        self.signs += 1


@pytest.fixture
def crew():
    return Crew(World(), StopRequest(), Watched())


def test_what_the_work_returns_comes_back(crew):
    assert crew.work("testing", lambda activity: {"answer": 42}) == {"answer": 42}


def test_what_it_raises_is_raised_as_it_was(crew):
    def fail(activity):
        raise DataError("damaged")

    with pytest.raises(DataError, match=r"^damaged$"):
        crew.work("testing", fail)


def test_each_sign_of_the_work_is_one_for_the_watchdog_and_none_is_made_up(crew):
    asked = threading.Event()

    def work(activity):
        for _ in range(3):
            before = crew.watchdog.signs
            activity.moved(10)
            while crew.watchdog.signs == before:
                time.sleep(0.01)
        before = crew.watchdog.signs
        asked.wait(0.5)  # several meetings pass in which nothing has moved
        return {"silent": crew.watchdog.signs - before}

    assert crew.work("testing", work)["silent"] == 0


def test_a_signal_ends_the_work_at_its_next_look(crew):
    def work(activity):
        crew.stop.cause = "USR2"
        while True:
            activity.check()
            time.sleep(0.01)

    with pytest.raises(StoppedBeforeTrainingError) as stopped:
        crew.work("testing", work)
    assert not stopped.value.is_interrupted


def test_work_that_hangs_does_not_keep_a_rank_that_was_asked_to_stop(crew, monkeypatch):
    monkeypatch.setattr(together_module, "_LONGEST_PAUSE_S", 0.02)
    hangs = threading.Event()

    def work(activity):
        crew.stop.cause = "INT"
        hangs.wait()
        return {}

    with pytest.raises(StoppedBeforeTrainingError) as stopped:
        crew.work("testing", work)
    assert stopped.value.is_interrupted
    hangs.set()
