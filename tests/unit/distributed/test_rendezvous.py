"""A rank that is lost while the others wait for it, or a wish to stop, is noticed there; the job can be requeued."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpctrain.launch.ranks import LocalRanks
from hpctrain.rundir import RunDir, write_json

FOR_EVER_S = 600.0
"""Far longer than any test takes: ranks that end have noticed by themselves."""


class Ranks:
    """Forked ranks of a run, and what they have printed."""

    def __init__(self, run):
        self.run = run
        command = [sys.executable, str(Path(__file__).with_name("rendezvous_ranks.py"))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **order):
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, world_size):
        self.pids = self.ask(start=world_size, run=str(self.run.path))

    def join(self, rank, **others):
        """Let a rank begin to wait for the others, and see that it has."""
        self.ask(join=rank, **{"timeout_s": FOR_EVER_S, **others})
        wait_until(lambda: list(self.run.attempts.glob(f"rendezvous-*/*/rank-{rank:04d}.json")))

    def code(self, rank):
        return self.ask(wait=rank)

    def log(self, rank):
        return (self.run.path / f"log-{rank}").read_text()

    def close(self):
        self.ask(end=True)
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def wait_until(condition):
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def _server(tmp_path_factory):
    ranks = Ranks(None)
    yield ranks
    ranks.close()


@pytest.fixture
def ranks(_server, tmp_path):
    _server.run = RunDir.create(tmp_path, "test", "run")
    yield _server
    _server.ask(end=True)


def test_ranks_that_have_all_come_join_and_leave_nothing_behind(ranks):
    ranks.start(3)
    for rank in (2, 1, 0):
        ranks.join(rank) if rank else ranks.ask(join=0)
    assert [ranks.code(rank) for rank in range(3)] == [0, 0, 0], ranks.log(0)
    assert list(ranks.run.attempts.iterdir()) == []


def test_ranks_of_a_node_that_cannot_write_join_so_that_the_preflight_names_the_node(ranks):
    ranks.start(2)
    ranks.join(0)
    ranks.ask(join=1, unfit=True)
    assert [ranks.code(rank) for rank in range(2)] == [0, 0], ranks.log(1)


@pytest.mark.parametrize("dying", [0, 2], ids=["rank 0", "another rank"])
def test_a_rank_that_dies_while_ranks_are_waited_for_is_lost_to_the_others(ranks, dying):
    ranks.start(3)
    for rank in (0, 2):  # rank 1 never comes
        ranks.join(rank)
    os.kill(ranks.pids[dying], signal.SIGKILL)
    assert ranks.code(dying) == -signal.SIGKILL
    other = 2 - dying
    assert ranks.code(other) == 76
    assert f"rank {dying} on " in ranks.log(other)
    assert "ended before all ranks had started" in ranks.log(other)
    assert "Traceback" not in ranks.log(other)


@pytest.mark.parametrize("waiting", [0, 1])
@pytest.mark.parametrize(("number", "code"), [("TERM", 75), ("USR2", 75), ("INT", 130)])
def test_a_signal_is_heard_while_a_rank_waits_for_another(ranks, waiting, number, code):
    ranks.start(2)
    ranks.join(waiting)
    os.kill(ranks.pids[waiting], getattr(signal, f"SIG{number}"))
    assert ranks.code(waiting) == code
    said = f"hpctrain: stopped by {number} before all ranks had started; training had not begun\n"
    assert ranks.log(waiting).endswith(said)  # torch may warn before that its own wait was interrupted


def test_ranks_that_never_come_are_named_and_the_job_may_be_requeued(ranks):
    ranks.start(4)
    ranks.join(1, timeout_s=1.0)
    assert ranks.code(1) == 76
    assert "3 of 4 ranks (0, 2, 3) did not start within 1 s" in ranks.log(1)


def test_ranks_that_have_come_but_do_not_reach_each_other_are_a_matter_of_the_site(ranks):
    ranks.start(2)
    ranks.join(0)
    ranks.join(1, timeout_s=1.0, address="192.0.2.1")  # kept for documentation: nobody has it
    assert ranks.code(1) == 3
    assert "check that every node can reach rank 0's node" in ranks.log(1)


@pytest.mark.slow
def test_a_record_that_an_earlier_start_has_left_is_no_lost_rank(ranks):
    ranks.start(2)
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    process = process_of(ended.pid)
    ended.wait()
    ranks.join(1)
    [mine] = ranks.run.attempts.glob("rendezvous-*/*/rank-0001.json")
    stale = {"rank": 0, "host": "here", "process": process, "written_ticks": 1}
    write_json(mine.with_name("rank-0000.json"), stale)
    time.sleep(1.0)  # the other one looks several times
    ranks.ask(join=0)
    assert [ranks.code(rank) for rank in range(2)] == [0, 0], ranks.log(1)


def process_of(pid):
    """Return what tells a process of this host from all others."""
    from hpctrain.distributed import process

    return {**process.identity(), "pid": pid, "started_ticks": process._started_ticks(pid)}


WAITS = """
import os, sys, time
import torch
from hpctrain.distributed.group import open_group
from hpctrain.distributed.stop import StopRequest
from hpctrain.distributed.world import World
from hpctrain.rundir import RunDir
stop = StopRequest()
stop.install()
if os.environ["RANK"] == "0":
    time.sleep(600)
open_group(World.from_environment(), torch.device("cpu"), RunDir(sys.argv[1]), None, stop)
"""


@pytest.mark.slow
def test_a_rank_killed_before_it_comes_ends_the_others_without_a_kill_under_a_launcher(tmp_path):
    """Nobody but the launcher can know; its TERM is heard."""
    run = RunDir.create(tmp_path, "test", "run")
    said = []
    command = [sys.executable, "-c", WAITS, str(run.path)]
    with LocalRanks(command, 3, lambda rank: run.logs / f"{rank}.log", os.environ) as local:
        wait_until(lambda: len(list(run.attempts.glob("rendezvous-*/*/rank-*.json"))) == 2)
        local.signal(signal.SIGKILL, [0])
        assert local.join(grace_s=FOR_EVER_S, say=said.append) == [-signal.SIGKILL, 75, 75]
    assert local.first_failure == -signal.SIGKILL
    assert said == []
