"""Slurm: a job is a batch script that sbatch takes, and that requeues itself.

This module stays light: what renders and submits the script imports submitit, and is imported when it is needed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hpctrain.errors import Problem, SiteError
from hpctrain.launch.targets.slurm_queue import SlurmQueue
from hpctrain.launch.targets.slurm_ray import ENGINE, check_inside, files_for_ray, need_engine, options_inside
from hpctrain.states import CANCELLED, FAILED, UNKNOWN

if TYPE_CHECKING:
    from hpctrain.launch.plan import Job, JobPlan, Options
    from hpctrain.launch.targets.target import JobState
    from hpctrain.profile.sections.launch import LaunchSection
    from hpctrain.profile.site import Site

SCRIPT = "job.sh"
_JOB_ID = re.compile(r"\d+(_\d+)?")
_FORBIDDEN_IN_PATHS = {"\n": "a line break", "\r": "a carriage return", "\\": "a backslash", "\t": "a tab"}
"""Characters that Slurm reads differently in ``#SBATCH`` lines."""
_ANSWERS_WITHIN_S = 15.0


class SlurmTarget:
    """The Slurm cluster that this host belongs to."""

    name = "slurm"
    requeues: Literal["script", "supervisor", "platform"] = "script"
    has_queue = True
    is_this_machine = False
    runs_images = False
    engines = (ENGINE,)

    def __init__(self) -> None:
        self._queue = SlurmQueue()

    def sees_our_files(self, site: Site | None) -> bool:
        """Return True."""
        return True

    def is_available(self) -> bool:
        """Return whether this host has sbatch."""
        return shutil.which("sbatch") is not None

    def answers(self) -> bool:
        """Return whether a controller answers: sbatch alone does not mean that there is a cluster."""
        if not self.is_available() or not shutil.which("sinfo"):
            return False
        command = ["sinfo", "-h", "-o", "%D"]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWERS_WITHIN_S, check=False)
        except subprocess.TimeoutExpired:
            return False
        return answer.returncode == 0 and bool(answer.stdout.strip())

    def options(self, launch: LaunchSection, site: Site | None) -> Options:
        """Return the options of sbatch that a neutral plan has no words for; the profile overrides the site."""
        options: Options = dict(site.sbatch) if site else {}
        if launch.gpus_per_node:
            options |= _gpu_option(launch, site)
        named = {
            "partition": launch.partition or (site.default_partition if site else None),
            "account": launch.account,
            "qos": launch.qos,
            "constraint": launch.constraint,
            "reservation": launch.reservation,
            "exclude": ",".join(launch.exclude),
            "time-min": launch.slices.shortest if launch.slices else None,
        }
        options |= {name: value for name, value in named.items() if value}
        options |= launch.sbatch
        options |= options_inside(launch, site)
        return {name: value for name, value in options.items() if value is not False}

    def check(self, plan: JobPlan, site: Site | None) -> list[Problem]:
        """Return what Slurm could not do with the plan; the rules of the profile have compared it with the site."""
        problems = []
        for character, word in _FORBIDDEN_IN_PATHS.items():
            if character in plan.run_dir:
                message = (
                    f"{plan.run_dir!r}: the path of a run directory must not contain {word}; Slurm cannot write logs "
                    "there. Choose another launch.runs_dir."
                )
                problems.append(Problem("launch.runs_dir", message))
        if plan.after and "dependency" in plan.options:
            problems.append(Problem("--after", "launch.sbatch.dependency is set too; use one of them"))
        problems += check_inside(plan, site)
        return problems + [_no_job(job) for job in plan.after if not _is_here(job)]

    def files(self, plan: JobPlan) -> dict[str, str]:
        """Return the batch script, and what it asks of Ray if it starts one."""
        from hpctrain.launch.targets.slurm_script import render

        return {SCRIPT: render(plan), **files_for_ray(plan)}

    def ask(self, plan: JobPlan, files: Mapping[str, str]) -> list[str]:
        """Let Slurm itself check the job: the answer of ``sbatch --test-only``, such as when the job would start."""
        from hpctrain.launch.targets.slurm_script import test_only

        need_engine(plan)
        for job in plan.after:
            self._refuse_to_wait(job)
        return [f"sbatch: {test_only(plan, files[SCRIPT])}"]

    def _refuse_to_wait(self, job: Job) -> None:
        """Raise an error if a job that is not a run of ours has failed or is unknown.

        Slurm itself takes a dependency on a job that it does not know for one that is fulfilled.
        """
        if job.run_dir is not None:
            return
        answer = self.state(job)
        if answer.state == UNKNOWN:
            raise SiteError(
                f"--after: Slurm does not know job {job.id} ({'; '.join(answer.silent)}), and would not wait for it; "
                "omit a job that has finished"
            )
        if answer.state in (FAILED, CANCELLED):
            raise SiteError(f"--after: job {job.id} has ended ({answer.state}), so this job would never start")

    def submit(self, plan: JobPlan, files: Mapping[str, Path]) -> list[str]:
        """Call sbatch; the tasks of an array have the ids ``<job id>_0``, ``<job id>_1`` ..."""
        from hpctrain.launch.targets.slurm_script import submit

        need_engine(plan)
        job_id = submit(plan, files[SCRIPT])
        return [f"{job_id}_{index}" for index in plan.tasks] or [job_id]

    def home(self, plan: JobPlan) -> str | None:
        """Return None."""
        return None

    def state(self, job: Job) -> JobState:
        """Ask squeue, then scontrol, then sacct."""
        return self._queue.ask(job.id, job.name)

    def logs(self, job: Job) -> list[Path]:
        """Return the logs of the batch scripts of all jobs of the run."""
        if job.run_dir is None:
            return []
        return sorted((job.run_dir / "logs").glob("job-*-batch.log"), key=lambda path: os.lstat(path).st_mtime)

    def warn(self, job: Job) -> str:
        """Send USR2 to the ranks, as Slurm does before the time limit."""
        command = ["scancel", "--signal=USR2", job.id]
        subprocess.run(command, check=False)
        return shlex.join(command)

    def cancel(self, job: Job) -> str:
        """Call scancel, unless another user wrote the job id."""
        _refuse_if_foreign(job)
        if shutil.which("scancel") is None:
            raise SiteError(f"there is no scancel on this host; on a login node: scancel {job.id}")
        done = subprocess.run(["scancel", job.id], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SiteError(f"scancel refuses: {done.stderr.strip()}")
        return f"job {job.id} is cancelled; its ranks save and exit"


TARGET = SlurmTarget


def _gpu_option(launch: LaunchSection, site: Site | None) -> Options:
    kind = site.gpu_type if site else None
    count = f"{kind}:{launch.gpus_per_node}" if kind else str(launch.gpus_per_node)
    if site and site.gpu_option == "gres":
        return {"gres": f"gpu:{count}"}
    return {"gpus-per-node": count}


def _is_here(job: Job) -> bool:
    return job.cluster == SlurmTarget.name and _JOB_ID.fullmatch(job.id) is not None


def _no_job(job: Job) -> Problem:
    if job.cluster != SlurmTarget.name:
        return Problem("--after", f"{job.run_dir} runs on '{job.cluster}'; Slurm can wait only for jobs of its own")
    return Problem("--after", f"'{job.id}' is neither a run nor the id of a job, such as 1234 or 1234_0")


def _refuse_if_foreign(job: Job) -> None:
    """Raise an error if another user wrote the job id: it could name another job of this user."""
    if job.run_dir is None:
        return
    record = job.run_dir / "job.json"
    try:
        owner = os.lstat(record).st_uid
    except OSError:
        return
    if owner != os.geteuid():
        raise SiteError(
            f"{record}: belongs to another user (uid {owner}), so the job id in it is not trusted; nothing was "
            f"cancelled. If the job is yours to cancel: scancel {job.id}"
        )
