"""A rank that dies while the others join it is no fault of the site: the job is requeued, not given up."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
import torch

from hpctrain.distributed import group
from hpctrain.distributed.group import is_lost_peer, open_group
from hpctrain.distributed.world import World
from hpctrain.errors import SiteError
from hpctrain.launch.ranks import free_port, torchrun_variables
from hpctrain.rundir import RunDir

STORE = """
import sys, time
import torch.distributed as dist
store = dist.TCPStore("127.0.0.1", int(sys.argv[1]), is_master=True, wait_for_workers=False)
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture
def second_of_two(monkeypatch):
    before = set(os.environ)
    for name, value in torchrun_variables(1, 2, free_port()).items():
        monkeypatch.setenv(name, value)
    yield World.from_environment()
    for name in set(os.environ) - before:  # what joining a group tells its library
        del os.environ[name]


def test_a_rank_0_that_dies_while_others_join_is_a_lost_peer(second_of_two, tmp_path):
    command = [sys.executable, "-c", STORE, os.environ["MASTER_PORT"]]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as rank_0:
        assert rank_0.stdout.readline() == b"up\n"
        death = threading.Timer(0.5, rank_0.kill)
        death.start()
        with pytest.raises(RuntimeError) as found:
            open_group(second_of_two, torch.device("cpu"), RunDir(tmp_path), 60.0)
        death.join()
    assert is_lost_peer(found.value), found.value


def test_a_rank_0_that_never_comes_is_said_with_what_to_look_at(second_of_two, tmp_path, monkeypatch):
    monkeypatch.setattr(group, "RENDEZVOUS_TIMEOUT_S", 1.0)
    with pytest.raises(SiteError, match="check that every node reaches rank 0's node"):
        open_group(second_of_two, torch.device("cpu"), RunDir(tmp_path), 60.0)
