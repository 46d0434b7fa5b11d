"""This machine: submitit's local executor starts a supervisor that outlives the submitting command.

The supervisor (:mod:`hpctrain.launch.supervisor`) takes the role of a queue: it waits for other runs, starts the ranks,
and starts further attempts.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hpctrain.distributed.process import send_signal
from hpctrain.errors import Problem, SiteError
from hpctrain.files import is_in_the_way, open_append, put_aside
from hpctrain.launch.environment import environment_of_ranks
from hpctrain.launch.supervisor import (
    ALL_GPUS,
    VISIBLE_GPUS,
    is_supervised,
    lock_holder,
    read_supervisor,
    supervisor_path,
)
from hpctrain.launch.targets.target import JobState
from hpctrain.rundir import RunDir
from hpctrain.states import PENDING, RUNNING

if TYPE_CHECKING:
    from hpctrain.launch.plan import Job, JobPlan, Options
    from hpctrain.profile.sections.launch import LaunchSection
    from hpctrain.profile.site import Site

_START_WITHIN_S = 30.0


class LocalTarget:
    """The machine on which the command is called."""

    name = "local"
    requeues: Literal["script", "supervisor", "platform"] = "supervisor"
    has_queue = False
    is_this_machine = True
    runs_images = False

    def sees_our_files(self, site: Site | None) -> bool:
        """Return True."""
        return True

    def is_available(self) -> bool:
        """Return True."""
        return True

    def answers(self) -> bool:
        """Return True."""
        return True

    def options(self, launch: LaunchSection, site: Site | None) -> Options:
        """Return nothing: the ranks are plain processes."""
        return {}

    def check(self, plan: JobPlan, site: Site | None) -> list[Problem]:
        """Return what one machine without a queue cannot do."""
        problems = []
        if plan.resources.nodes > 1:
            message = f"{plan.resources.nodes} nodes, and a local run has one; --set launch.nodes=1"
            problems.append(Problem("launch.nodes", message))
        if plan.tasks:
            problems.append(Problem("--array", "needs Slurm; on this machine submit the runs one after the other"))
        for job in plan.after:
            if job.run_dir is None:
                message = (
                    f"'{job.id}' is not a run; name one by its path, name, run id or job id: the supervisor reads it"
                )
                problems.append(Problem("--after", message))
        return problems

    def files(self, plan: JobPlan) -> dict[str, str]:
        """Return nothing: the supervisor reads ``job.json``."""
        return {}

    def ask(self, plan: JobPlan, files: Mapping[str, str]) -> list[str]:
        """Return nothing: there is nobody to ask."""
        return []

    def submit(self, plan: JobPlan, files: Mapping[str, Path]) -> list[str]:
        """Start the supervisor of the run."""
        return [start_local(RunDir(plan.run_dir))]

    def home(self, plan: JobPlan) -> str | None:
        """Return None."""
        return None

    def state(self, job: Job) -> JobState:
        """Return ``running`` or ``pending`` while the supervisor lives; else the run directory knows more."""
        if job.run_dir is None or not is_supervised(run := RunDir(job.run_dir)):
            return JobState()
        record = read_supervisor(run)
        if waits_for := record.get("waits_for"):
            return JobState(PENDING, "supervisor", reason=f"waits for {', '.join(waits_for)}")
        return JobState(RUNNING, "supervisor", where=f"supervisor {record.get('pid', 'unknown')}")

    def logs(self, job: Job) -> list[Path]:
        """Return the logs of the supervisors of the run."""
        if job.run_dir is None:
            return []
        found = RunDir(job.run_dir).logs.glob("supervisor/*_log.out")
        return sorted(found, key=lambda path: os.lstat(path).st_mtime)

    def warn(self, job: Job) -> str:
        """Send USR2 to the ranks that live on this machine."""
        ranks = RunDir(job.run_dir).read_heartbeats() if job.run_dir else []
        for rank in ranks:
            send_signal(rank.get("process"), signal.SIGUSR2)
        return shlex.join(["kill", "-USR2", *(str(rank.get("pid")) for rank in ranks)])

    def cancel(self, job: Job) -> str:
        """Ask the supervisor to stop, if this host can prove that it is the supervisor of this run."""
        if job.run_dir is None:
            raise SiteError(f"'{job.id}' has no run directory; nothing was signalled")
        run = RunDir(job.run_dir)
        record = read_supervisor(run)
        if not cancel_local(run):
            holder = lock_holder(run)
            seen = f"process {holder} holds its lock" if holder else "no process of this host holds its lock"
            raise SiteError(
                f"{run.path}: cannot prove that process {record.get('pid', 'unknown')} on "
                f"{record.get('host', 'an unknown host')} is the supervisor of this run and yours: {seen}; nothing was "
                "signalled. Cancel it on its own host, as the user who started it"
            )
        return f"asked supervisor {record['pid']} to stop; its ranks save and exit"


TARGET = LocalTarget


def start_local(run: RunDir) -> str:
    """Start the run on this machine.

    Parameters
    ----------
    run : RunDir
        With profile and ``job.json`` written.

    Returns
    -------
    str
        Job id ``local-<pid of the supervisor>``.

    Raises
    ------
    SiteError
        The supervisor did not start in time.
    """
    if is_in_the_way(supervisor_path(run)):
        put_aside(supervisor_path(run))
    supervisor_path(run).unlink(missing_ok=True)
    _in_a_session_of_its_own(run)
    deadline = time.monotonic() + _START_WITHIN_S
    while time.monotonic() < deadline:
        record = read_supervisor(run)
        if "job_id" in record:
            return record["job_id"]
        time.sleep(0.05)
    raise SiteError(f"the local run did not start within {_START_WITHIN_S:.0f} s; see {run.logs / 'supervisor.log'}")


def cancel_local(run: RunDir) -> bool:
    """Ask the supervisor on this host to let the ranks save and to end the run.

    Anybody may have written the file that names the supervisor, so this function does not trust it. According to the
    kernel the process must hold the lock of the run. It must also be the one that wrote the file, and belong to this
    user.

    Returns
    -------
    bool
        False if there is no such process on this host; nothing was signalled.
    """
    process = read_supervisor(run).get("process")
    if process is None or process["pid"] != lock_holder(run):
        return False
    return send_signal(process, signal.SIGTERM)


def _in_a_session_of_its_own(run: RunDir) -> None:
    """Let a process without a terminal call submitit, so that the supervisor survives a closed session and Ctrl-C.

    A new process rather than a fork: the caller may be a notebook, whose threads may hold any lock.
    """
    environment = environment_of_ranks()
    environment[VISIBLE_GPUS] = os.environ.get("CUDA_VISIBLE_DEVICES", ALL_GPUS)
    command = [sys.executable, "-m", "hpctrain.launch.targets.local_start", str(run.path)]
    log = open_append(run.logs / "supervisor.log")
    try:
        subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            check=False,
        )
    finally:
        os.close(log)
