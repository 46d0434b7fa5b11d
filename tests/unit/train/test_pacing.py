"""Rests between micro-batches: as long as the duty asks for, never too long, and never deaf."""

from __future__ import annotations

import time

import pytest
import torch
from machines import Machine

from hpctrain.distributed.heartbeat import Heartbeat
from hpctrain.distributed.stop import StopRequest
from hpctrain.distributed.watchdog import Watchdog
from hpctrain.distributed.world import World
from hpctrain.monitor.ledger import Ledger
from hpctrain.monitor.pace import Governor
from hpctrain.monitor.sampler import Sampler
from hpctrain.monitor.sensors import Sensors
from hpctrain.rundir import RunDir
from hpctrain.train.pacing import LONGEST_REST_S, FullSpeed, PaceFlags, Pacer

WORK_S = 0.05


class CountingWatchdog(Watchdog):
    """Counts the signs of progress it is given."""

    signs = 0

    def progress(self):
        self.signs += 1
        super().progress()


class Board:
    """A recorded board, a rank on it, and the seconds it was told to sleep."""

    def __init__(self, folder):
        self.machine = Machine(folder / "machine", "agx-orin-64gb")
        run = RunDir.create(folder, "run")
        self.slept_s, self.on_sleep = [], lambda: None
        self.sampler = Sampler(Sensors(self.machine.root), Governor(0.0), Ledger(run, 0, 1, "here"), 5.0, lambda: 0)
        self.stop = StopRequest()
        self.heartbeat = Heartbeat(run, World(), 1, 10.0)
        self.watchdog = CountingWatchdog(None, run.logs / "stacks.txt", str)
        self.pacer = Pacer(
            World(), torch.device("cpu"), self.stop, self.heartbeat, self.watchdog, self.sampler, self.sleep
        )

    def sleep(self, seconds):
        self.slept_s.append(seconds)
        self.on_sleep()

    def heat(self, celsius):
        self.machine.heat(celsius)
        self.sampler.sample()

    def rest_after(self, work_s):
        """Return how long it rests after so much work, on a clock that stands still but for that."""
        with pytest.MonkeyPatch.context() as patch:
            now_s = [0.0]
            patch.setattr(time, "perf_counter", lambda: now_s[0])
            self.pacer.rest()
            now_s[0] += work_s
            self.slept_s.clear()
            self.pacer.rest()
        return sum(self.slept_s)


@pytest.fixture
def board(tmp_path):
    return Board(tmp_path)


def test_at_full_speed_nobody_rests(board):
    board.heat(60.0)
    assert board.rest_after(WORK_S) == 0.0
    assert board.pacer.flags() == PaceFlags(0.0, 0.0)


def test_a_warm_board_rests_in_proportion_to_its_work(board):
    board.heat(88.5)  # half way between warm and hot: computes for 55 % of the time
    assert board.rest_after(WORK_S) == pytest.approx(WORK_S * (1 / 0.55 - 1), rel=0.01)
    assert board.rest_after(4 * WORK_S) == pytest.approx(4 * WORK_S * (1 / 0.55 - 1), rel=0.01)
    assert board.sampler.rested_s > 0


def test_the_first_micro_batch_after_full_speed_has_nothing_to_make_up_for(board):
    board.heat(60.0)
    board.pacer.rest()
    board.heat(88.5)
    board.pacer.rest()
    assert board.slept_s == []


def test_no_rest_is_longer_than_others_can_wait_for(board, monkeypatch):
    board.heat(91.9)
    seconds = iter((0.0, 0.0, 3600.0, 3600.0))
    monkeypatch.setattr(time, "perf_counter", lambda: next(seconds))
    board.pacer.rest()
    board.pacer.rest()
    assert sum(board.slept_s) == pytest.approx(LONGEST_REST_S)


def test_a_rest_ends_when_the_run_is_asked_to_stop(board):
    board.heat(91.0)

    def ask():
        board.stop.cause = "TERM"

    board.on_sleep = ask
    board.rest_after(0.2)
    assert len(board.slept_s) == 1


def test_it_waits_until_it_is_cool_and_says_what_it_does(board):
    board.heat(93.0)
    assert board.pacer.flags() == PaceFlags(1.0, 0.0)
    board.heartbeat.state = "training"
    states = []

    def cool():
        states.append(board.heartbeat.state)
        board.heat(93.0 - 2.0 * len(states))

    board.on_sleep = cool
    assert board.pacer.wait_until_cool() == (False, False, False)
    assert set(states) == {"cooling"}
    assert len(states) == 4  # 85 °C: 5 °C below where hot begins, and 2 to spare
    assert board.heartbeat.state == "training"


def test_a_run_that_waits_is_no_run_that_hangs(board):
    """The watchdog hears of it before each slice of the pause, which are a quarter of a second each."""
    board.heat(93.0)
    signs = []

    def wait():
        signs.append(board.watchdog.signs)
        if len(signs) == 100:
            board.heat(50.0)

    board.on_sleep = wait
    board.pacer.wait_until_cool()
    assert signs == list(range(1, 101))
    assert max(board.slept_s) <= 0.25


def test_a_critical_moment_is_heard_even_if_it_was_short(board):
    board.heat(100.0)
    assert board.pacer.flags() == PaceFlags(1.0, 1.0)
    assert board.stop.cause.startswith("critical: tj 100.0 °C")
    board.heat(20.0)
    assert board.pacer.flags().critical == 1.0
    assert board.pacer.wait_until_cool() == (True, False, True)


def test_a_measurement_runs_at_full_speed():
    pace = FullSpeed()
    pace.rest()
    assert pace.flags() == PaceFlags()
