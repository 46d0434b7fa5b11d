"""The run directory of a job that was submitted by hand: ``sbatch slurm/train_hpc.sh profile.yaml``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpctrain.errors import Problem, ProfileError, SiteError
from hpctrain.launch.plan import plan_job
from hpctrain.launch.resume import resume_problems
from hpctrain.launch.runs import job_ids, newest_runs, read_job
from hpctrain.launch.submit import (
    Submission,
    record_job,
    with_absolute_paths,
    with_access,
    with_global_batch,
    with_site_alerts,
    write_runs,
)
from hpctrain.launch.targets.slurm import SlurmTarget
from hpctrain.profile.load import load_profile
from hpctrain.profile.sections.launch import LaunchSection
from hpctrain.profile.site import load_site
from hpctrain.rundir import RunDir, new_run_id
from hpctrain.trail.note import note


def run_of_this_job(
    profile_path: str | Path,
    overrides: Sequence[str],
    environment: Mapping[str, str] = os.environ,
    resume: RunDir | None = None,
) -> tuple[RunDir, LaunchSection]:
    """Return the run directory of the Slurm job that this process is in.

    The first start of the job makes the run directory, or resumes `resume`; after a requeue the job finds it again.
    The nodes, ranks, GPUs and cores that sbatch was asked for override the profile's ``launch``; the run's own profile
    records them. The global batch remains the profile's; the accumulation is adapted.

    Parameters
    ----------
    profile_path : str or Path
    overrides : sequence of str
    environment : mapping
        Environment of a batch step.
    resume : RunDir, optional
        Resume this run; `profile_path` is its own profile.

    Raises
    ------
    SiteError
        This process is not in a batch script.
    ProfileError
        The profile is wrong or does not fit the run that is resumed, or no accumulation gives its global batch on the
        ranks of this job.
    """
    job_id = environment.get("SLURM_JOB_ID")
    if job_id is None:
        raise SiteError("not inside a Slurm job; this is for sbatch slurm/train_hpc.sh, else use hpc-submit")
    if "SLURM_ARRAY_JOB_ID" in environment:
        job_id = f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    cluster_name = environment.get("SLURM_CLUSTER_NAME", "")
    is_restart = "SLURM_RESTART_COUNT" in environment
    if resume is not None and is_restart and _is_of_job(resume, job_id, cluster_name):
        return resume, load_profile(resume.profile).launch
    loaded = with_absolute_paths(load_profile(profile_path, overrides), Path.cwd())
    if loaded.launch.engine is not None:
        message = f"{loaded.launch.engine} needs the job script that hpc-submit writes; remove it, or use hpc-submit"
        raise ProfileError(str(profile_path), [Problem("launch.engine", message)])
    profile = loaded.model_copy(update={"launch": as_allocated(loaded.launch, environment)})
    global_batch = loaded.global_batch
    runs_dir = Path(profile.launch.runs_dir)
    if resume is not None:
        if problems := resume_problems(resume, loaded, overrides):
            raise ProfileError(str(resume.profile), problems)
        global_batch = load_profile(resume.profile).global_batch
    elif is_restart:
        for run in newest_runs(runs_dir):
            if _is_of_job(run, job_id, cluster_name):
                return run, profile.launch
    profile = with_global_batch(profile, global_batch, str(profile_path))
    run = resume or RunDir(runs_dir / profile.name / f"{new_run_id()}-job{job_id}")
    site = load_site(profile.launch.site) if profile.launch.site else None
    profile = with_site_alerts(with_access(profile, site), site)
    target = SlurmTarget()
    plan = plan_job(profile, run.path, target)
    if problems := target.check(plan, None):
        raise ProfileError(str(profile_path), problems)
    submission = Submission(target.name, (run,), (profile,), plan, {}, resume is not None)
    write_runs(submission, Path.cwd())
    record_job(run, job_id, cluster_name=cluster_name, job_name=environment.get("SLURM_JOB_NAME", ""))
    note("start", run.path, job_id=job_id, cluster=target.name)
    return run, profile.launch


def _is_of_job(run: RunDir, job_id: str, cluster_name: str) -> bool:
    return job_id in job_ids(run) and read_job(run)["submissions"][-1].get("cluster_name") == cluster_name


def as_allocated(launch: LaunchSection, environment: Mapping[str, str]) -> LaunchSection:
    """Return `launch` with the shape that Slurm has given the job."""
    nodes = int(environment.get("SLURM_JOB_NUM_NODES", launch.nodes))
    ranks = int(environment.get("SLURM_NTASKS", nodes))
    shape = {
        "cluster": SlurmTarget.name,
        "nodes": nodes,
        "ranks_per_node": max(1, ranks // nodes),
        "gpus_per_node": int(environment.get("SLURM_GPUS_ON_NODE") or 0),
        "cpus_per_rank": int(environment.get("SLURM_CPUS_PER_TASK", 1)),
    }
    return launch.model_copy(update=shape)
