"""The run directory of a job that was submitted by hand: ``sbatch slurm/train_hpc.sh profile.yaml``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpctrain.errors import SiteError
from hpctrain.launch.plan import plan_job
from hpctrain.launch.runs import all_runs, job_ids, read_job
from hpctrain.launch.submit import Submission, record_job, with_absolute_paths, with_global_batch
from hpctrain.profile.load import load_profile
from hpctrain.profile.schema import LaunchSection, Profile
from hpctrain.rundir import RunDir, new_run_id, write_atomic


def run_of_this_job(
    profile_path: str, overrides: Sequence[str], environment: Mapping[str, str] = os.environ
) -> tuple[RunDir, LaunchSection]:
    """Return the run directory of the Slurm job this process is in, made at its first start and found at the next.

    What sbatch was told (nodes, ranks, GPUs, cores) wins over the profile's ``launch``, and is what the run's own
    profile records; the global batch stays the profile's, by another accumulation.

    Parameters
    ----------
    profile_path : str
    overrides : sequence of str
    environment : mapping
        Of a batch step.

    Raises
    ------
    SiteError
        Not called from a batch script.
    ProfileError
        The profile is wrong, or its global batch cannot be had with the ranks of this job.
    """
    job_id = environment.get("SLURM_JOB_ID")
    if job_id is None:
        raise SiteError("not inside a Slurm job; this is for sbatch slurm/train_hpc.sh, else use hpc-submit")
    if "SLURM_ARRAY_JOB_ID" in environment:
        job_id = f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    cluster_name = environment.get("SLURM_CLUSTER_NAME", "")
    profile = with_absolute_paths(load_profile(profile_path, overrides), Path.cwd())
    allocated = profile.model_copy(update={"launch": as_allocated(profile.launch, environment)})
    profile = with_global_batch(allocated, profile.global_batch, profile_path)
    runs_dir = Path(profile.launch.runs_dir)
    if "SLURM_RESTART_COUNT" in environment:
        for run in all_runs(runs_dir):
            if job_id in job_ids(run) and read_job(run)["submissions"][-1].get("cluster_name") == cluster_name:
                return run, profile.launch
    facts = {"cluster_name": cluster_name, "job_name": environment.get("SLURM_JOB_NAME", "")}
    return _new_run(profile, runs_dir, job_id, facts), profile.launch


def as_allocated(launch: LaunchSection, environment: Mapping[str, str]) -> LaunchSection:
    """Return `launch` with the shape that Slurm has given the job."""
    nodes = int(environment.get("SLURM_JOB_NUM_NODES", launch.nodes))
    ranks = int(environment.get("SLURM_NTASKS", nodes))
    shape = {
        "cluster": "slurm",
        "nodes": nodes,
        "ranks_per_node": max(1, ranks // nodes),
        "gpus_per_node": int(environment.get("SLURM_GPUS_ON_NODE") or 0),
        "cpus_per_rank": int(environment.get("SLURM_CPUS_PER_TASK", 1)),
    }
    return launch.model_copy(update=shape)


def _new_run(profile: Profile, runs_dir: Path, job_id: str, facts: dict[str, str]) -> RunDir:
    from hpctrain.launch import provenance

    run = RunDir.create(runs_dir, profile.name, f"{new_run_id()}-job{job_id}")
    submission = Submission("slurm", (run,), (profile,), plan_job(profile, run.path), script="")
    provenance.write(run.provenance, profile, Path.cwd())
    for path, text in submission.files().items():
        write_atomic(path, text)
    record_job(run, job_id, **facts)
    return run
