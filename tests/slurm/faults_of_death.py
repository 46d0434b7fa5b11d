"""What dies under a run: ranks, srun, the batch shell, nodes.

Each function waits for its moment in the attempt that is under way, does the harm, and returns when that attempt has
ended, or when another one is sure to follow.
"""

from __future__ import annotations

import os
import signal
import time

from faulted_run import FaultedRun
from node_processes import kill_node


def kill_rank_1(run: FaultedRun) -> None:
    run.wait_for_steps(25)
    run.signal(signal.SIGKILL, 1)
    run.wait_for_end_of_attempt()


def kill_rank_0(run: FaultedRun) -> None:
    run.wait_for_steps(25)
    run.signal(signal.SIGKILL, 0)
    run.wait_for_end_of_attempt()


def kill_srun(run: FaultedRun) -> None:
    run.wait_for_steps(25)
    # Slurm takes seconds to notice; on an idle machine the run would be done before.
    with run.slowed([run.rank_pid(0), run.rank_pid(1)], go_s=0.1, stop_s=0.4):
        os.kill(run.srun_pid(), signal.SIGKILL)
        run.wait_for_end_of_attempt()


def kill_batch_shell(run: FaultedRun) -> None:
    """Nobody is left who could ask for a requeue; Slurm calls the job failed, and the user goes on with it."""
    run.wait_for_steps(25)
    os.kill(run.batch_shell(), signal.SIGKILL)
    assert run.wait_for_end_of_job() == "FAILED"
    run.wait_until(lambda: not run.processes(), "the ranks to leave")
    assert run.status()["state"] in ("failed", "stopped")
    run.resume()


def node_death(run: FaultedRun) -> None:
    run.wait_for_steps(25)
    kill_node(run.cluster, run.nodes()[1])
    run.wait_for_end_of_attempt()


def first_node_death(run: FaultedRun) -> None:
    """With the batch shell's own node: nobody is left to note the end of the attempt, and only Slurm can requeue."""
    run.wait_for_steps(25)
    kill_node(run.cluster, run.nodes()[0])
    run.wait_for_end_of_attempt()
    assert run.followed() == []


def bad_node(run: FaultedRun) -> None:
    """A node kills the rank on it twice; the next attempt stays away from it."""
    run.wait_for_steps(25)
    node = run.nodes()[1]
    run.signal(signal.SIGKILL, 1)
    run.wait_for_end_of_attempt()
    strikes = run.run.bad_nodes
    assert f"\t{node}\t{run.job}\tkilled" in strikes.read_text()
    with open(strikes, "a") as stream:  # the second strike: whether the job comes back to this node is Slurm's choice
        stream.write(f"{time.time():.0f}\t{node}\t{run.job}\tkilled\n")
    assert run.status()["avoided_nodes"] == [node]
    run.wait_for_steps(15)
    run.signal(signal.SIGUSR2, 0, 1)
    run.wait_until(lambda: len(run.followed()) == 2, "the end of the next attempt")
    run.wait_until(lambda: node in run.excluded_nodes(), "the node to be excluded")
