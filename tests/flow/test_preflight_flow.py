"""Nodes that are not fit are named before the first step, and a rank that stands still does not hold the others."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest

from hpctrain.errors import EXIT_RANKS_LOST, NodeError
from hpctrain.launch.ranks import free_port

CAN_MOUNT = (
    shutil.which("unshare") is not None
    and subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0
)


@pytest.mark.skipif(not CAN_MOUNT, reason="changing what one rank sees needs a mount namespace (root)")
@pytest.mark.parametrize(
    ("mount", "complaint"),
    [
        ("mount -t tmpfs none {folder}", "is the file system mounted on that node?"),
        ("mkfifo {folder}/../pipe && mount --bind {folder}/../pipe {folder}/spectra.h5", "did not answer within 8 s"),
    ],
    ids=["not mounted", "hanging"],
)
def test_a_node_whose_data_are_not_mounted_or_hang_is_named_and_the_others_are_not(
    make_run, tmp_path, spectra_file, mount, complaint
):
    """Rank 1 sees an empty folder, or a pipe, whose opening waits for ever as that of a file on a dead server does."""
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copy(spectra_file, folder / "spectra.h5")
    run = make_run(launch={"ranks_per_node": 2}, data={"files": [str(folder / "*.h5")]})
    trainer = [sys.executable, "-m", "hpctrain.train", str(run.path)]
    hidden = ["unshare", "-m", "sh", "-c", f'{mount.format(folder=folder)} && exec "$@"', "sh", *trainer]
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank), "SLURMD_NODENAME": f"n{rank + 1}"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, command in enumerate([trainer, hidden])
    ]
    errors = [process.communicate(timeout=600)[1] for process in processes]
    assert [process.returncode for process in processes] == [NodeError.exit_code] * 2, errors
    assert "pre-flight: 1 of 2 node(s) not fit: n2" in errors[0]
    assert complaint in errors[0]
    assert "Traceback" not in errors[0]
    assert run.bad_nodes.read_text().split("\t")[1] == "n2"
    assert [record["exit_code"] for record in run.read_metrics("event") if record["event"] == "failed"] == [77]


def test_a_rank_that_hangs_is_ended_with_the_others_and_the_run_goes_on_afterwards(make_run, start):
    run = make_run(
        launch={"ranks_per_node": 2}, train={"epochs": 20, "accumulation": 1}, monitor={"hang_timeout_s": 15.0}
    )
    ranks = start(run, 2)
    ranks.wait_for_step(7)
    ranks.signal(signal.SIGSTOP, ranks=[1])  # alive for Slurm, and deaf
    assert ranks.processes[0].wait(600) == EXIT_RANKS_LOST
    ranks.signal(signal.SIGKILL, ranks=[1])
    ranks.wait()
    assert "nothing happened for" in ranks.stderr
    assert "loop.py" in (run.logs / "stacks-rank-0000.txt").read_text()  # in which collective it waits is chance
    assert start(run, 2).wait() == [0, 0]
    steps = [record["step"] for record in run.read_metrics("train")]
    assert steps == sorted(set(steps))
