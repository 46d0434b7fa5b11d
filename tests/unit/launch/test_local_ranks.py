"""Ranks on this machine know their places, are ended together, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from hpctrain.launch.ranks import LocalRanks

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
PARENT = "import subprocess, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"


def start(tmp_path, program, world_size=2):
    return LocalRanks([sys.executable, "-c", program], world_size, lambda rank: tmp_path / f"{rank}.log", os.environ)


def wait_until(condition, timeout_s=600):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_each_rank_is_told_its_place_as_by_torchrun(tmp_path):
    program = (
        "import os; names = 'RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR'; "
        "print(*(os.environ[name] for name in names.split()))"
    )
    with start(tmp_path, program) as ranks:
        assert ranks.join(grace_s=5) == [0, 0]
    assert ranks.first_failure is None
    assert [(tmp_path / f"{rank}.log").read_text() for rank in range(2)] == [
        "0 2 0 2 127.0.0.1\n",
        "1 2 1 2 127.0.0.1\n",
    ]


def test_a_rank_that_fails_takes_the_others_down_even_deaf_ones(tmp_path):
    said = []
    program = f"import os, time\nif os.environ['RANK'] == '0': time.sleep(0.5); os._exit(4)\n{DEAF}"
    with start(tmp_path, program) as ranks:
        assert ranks.join(grace_s=1.0, say=said.append) == [4, -signal.SIGKILL]
    assert ranks.first_failure == 4
    assert said == ["ranks did not exit within 1 s and are killed"]


def test_whatever_still_runs_at_the_end_is_killed_with_what_it_has_started(tmp_path):
    with start(tmp_path, PARENT) as ranks:
        wait_until(lambda: all((tmp_path / f"{rank}.log").read_text() for rank in range(2)))
        children = [int((tmp_path / f"{rank}.log").read_text()) for rank in range(2)]
        assert all(map(is_running, children))
        ranks.signal(signal.SIGKILL, [0])
        wait_until(lambda: ranks.codes()[0] is not None)
        wait_until(lambda: not is_running(children[0]))
        assert is_running(children[1])
    assert ranks.codes() == [-signal.SIGKILL] * 2
    wait_until(lambda: not is_running(children[1]))


def test_ranks_that_were_started_are_ended_where_a_later_one_cannot_be(tmp_path):
    def log(rank):
        if rank == 1:
            raise OSError("no room")
        return tmp_path / "0.log"

    with pytest.raises(OSError, match="no room"):
        LocalRanks([sys.executable, "-c", "import time; time.sleep(60)", str(tmp_path)], 2, log, os.environ)
    running = [path for path in Path("/proc").glob("[0-9]*/cmdline") if _names(path, str(tmp_path))]
    assert running == []


def _names(cmdline, text):
    try:
        return text in cmdline.read_text(errors="replace") and int(cmdline.parent.name) != os.getpid()
    except OSError:
        return False
