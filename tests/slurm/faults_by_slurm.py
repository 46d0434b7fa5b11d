"""What Slurm does to a run: time limits, pre-emption, requeues, cancellation, and a controller that goes away.

Each function waits for its moment in the attempt that is under way, does the harm, and returns when that attempt has
ended, or when another one is sure to follow.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from faulted_run import FaultedRun
from processes import wait_until
from slurm_cluster import SlurmCluster


def time_limit(run: FaultedRun) -> None:
    run.wait_for_steps(10)
    run.signal(signal.SIGSTOP, 0, 1)  # a slow step, which lasts until Slurm has sent its warning
    run.scontrol("update", f"JobId={run.job}", "EndTime=now+35")
    for rank in (0, 1):
        run.wait_for_pending(signal.SIGUSR2, rank)
    run.signal(signal.SIGCONT, 0, 1)
    run.wait_for_end_of_attempt()


def time_limit_without_warning(run: FaultedRun) -> None:
    """Nobody can agree on a stop before Slurm's TERM, and the CONT with it; then they can, until its KILL."""
    run.wait_for_steps(1)
    run.signal(signal.SIGSTOP, 1)
    run.wait_for_end_of_attempt()
    assert "DUE TO TIME LIMIT" in run.log("*batch.log")


def time_limit_shortened(run: FaultedRun) -> None:
    """The deadline that the batch script has read is minutes away, and a rank hangs until it is killed."""
    run.wait_for_steps(10)
    with run.slowed([run.rank_pid(1)], go_s=0, stop_s=1):
        run.scontrol("update", f"JobId={run.job}", "EndTime=now+5")
        run.wait_for_end_of_attempt()
        assert [(ended.exit_code, ended.followed) for ended in run.ended()] == [(143, "requeued")]
        assert "DUE TO TIME LIMIT" in run.log("*batch.log")


def preemption_with_grace(run: FaultedRun) -> None:
    _push_out(run)


def preemption_without_grace(run: FaultedRun) -> None:
    _push_out(run)


def _push_out(run: FaultedRun) -> None:
    run.wait_for_steps(10)
    run.signal(signal.SIGSTOP, 0, 1)  # a slow step, which lasts until Slurm has decided
    run.cluster.sbatch("-p", "hi", "-N2", "-n2", "-w", ",".join(run.nodes()), "-o", "/dev/null", "--wrap", "sleep 2")
    for rank in (0, 1):
        run.wait_for_pending(signal.SIGTERM, rank)
    run.signal(signal.SIGCONT, 0, 1)
    run.wait_for_end_of_attempt()


def scontrol_requeue(run: FaultedRun) -> None:
    run.wait_for_steps(10)
    run.scontrol("requeue", run.job)
    run.wait_for_end_of_attempt()


def scancel(run: FaultedRun) -> None:
    run.wait_for_steps(10)
    run.cluster.run(["scancel", run.job])
    assert run.wait_for_end_of_job() == "CANCELLED"
    run.wait_for_end_of_attempt()
    assert run.status()["state"] == "cancelled"
    assert run.processes() == {}
    run.resume()


def controller_restarted(run: FaultedRun) -> None:
    """The controller is away while the ranks save and the batch script asks for a requeue."""
    run.wait_for_steps(10)
    _end_controller(run.cluster, signal.SIGTERM)
    run.signal(signal.SIGUSR2, 0, 1)
    run.wait_for_end_of_attempt()
    time.sleep(3)
    _start_controller(run.cluster)


def controller_killed(run: FaultedRun) -> None:
    """In the shared lab others' jobs of the last five seconds would be lost with what it had not written."""
    run.wait_for_steps(10)
    with run.slowed([run.rank_pid(0), run.rank_pid(1)], go_s=0.2, stop_s=0.3):  # or they are done before it is back
        _end_controller(run.cluster, signal.SIGKILL)
        run.wait_for_steps(run.steps_made() + 5)  # training goes on
        _start_controller(run.cluster)
        assert run.cluster.job(run.job)["JobState"] == "RUNNING"
        run.signal(signal.SIGUSR2, 0, 1)
        run.wait_for_end_of_attempt()
    assert run.followed() == ["requeued"]


def _end_controller(cluster: SlurmCluster, number: signal.Signals) -> None:
    controller = int((cluster.directory / "run/slurmctld.pid").read_text())
    os.kill(controller, number)
    wait_until(lambda: not Path(f"/proc/{controller}").exists())


def _start_controller(cluster: SlurmCluster) -> None:
    with open(cluster.directory / "log/start.log", "a") as log:
        command = ["slurmctld", "-f", str(cluster.directory / "etc/slurm.conf")]
        subprocess.run(command, check=True, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=cluster.env)
    wait_until(lambda: cluster.run(["squeue"], check=False).returncode == 0)
