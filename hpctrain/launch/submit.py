"""Turn a profile into a run directory and a job, in two halves.

:func:`prepare` works out the whole submission and writes nothing; ``--dry-run`` needs no more. :func:`submit` writes
the run directory and submits the job.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.errors import Problem, ProfileError
from hpctrain.launch.plan import ARRAY_TASK, JobPlan, plan_job
from hpctrain.launch.undo import Undo, signals_wait, undone_on_failure
from hpctrain.profile.files import is_pattern
from hpctrain.profile.load import dump_profile
from hpctrain.profile.remote import is_remote
from hpctrain.profile.schema import Profile
from hpctrain.rundir import RunDir, new_run_id, runs_called, write_atomic, write_json

if TYPE_CHECKING:
    from hpctrain.profile.site import Site


@dataclass(frozen=True)
class Submission:
    """Everything that will be written and submitted.

    Parameters
    ----------
    cluster : str
        ``slurm`` or ``local``.
    runs : tuple of RunDir
        The run, or one run per task of an array.
    profiles : tuple of Profile
        One profile per run, with absolute paths.
    plan : JobPlan
    script : str
        The batch script; empty for a local run.
    is_resumed : bool
        Whether the run directory exists already and the run is resumed.
    array_values : tuple of tuple of str
        Values of each task of an array, as ``key=value``; empty for a single run.
    """

    cluster: str
    runs: tuple[RunDir, ...]
    profiles: tuple[Profile, ...]
    plan: JobPlan
    script: str
    is_resumed: bool = False
    array_values: tuple[tuple[str, ...], ...] = ()

    def files(self) -> dict[Path, str]:
        """Return the text of every file that :func:`submit` writes before it submits the job, except provenance."""
        texts: dict[Path, str] = {}
        for index, (run, profile) in enumerate(zip(self.runs, self.profiles, strict=True)):
            texts[run.profile] = dump_profile(profile)
            texts[run.job] = _json(self._job_record(index))
            if self.script:
                texts[run.script] = self.script
        return texts

    def _job_record(self, index: int) -> dict[str, Any]:
        run, plan = self.runs[index], self.plan
        earlier = run.read_job() if self.is_resumed else {}
        of_array = {key: earlier[key] for key in ("array_index", "array_values") if key in earlier}
        if self.array_values:
            of_array = {"array_index": index, "array_values": list(self.array_values[index])}
        return {
            "run_id": run.run_id,
            "name": plan.name,
            "cluster": self.cluster,
            "submitted_at": time.time(),
            "command": [*plan.trainer, str(run.path)],
            "trainer": list(plan.trainer),
            "environment": plan.environment,
            "world_size": plan.world_size,
            "requeue": plan.requeue,
            "max_attempts": plan.max_attempts,
            "max_attempts_without_progress": plan.max_attempts_without_progress,
            **of_array,
            "submissions": earlier.get("submissions", []),
        }


def with_absolute_paths(profile: Profile, base: Path) -> Profile:
    """Return the profile with absolute instead of relative paths, so that it means the same files in any folder.

    Relative paths are relative to `base`.
    """

    def absolute(text: str, folder: str = str(base)) -> str:
        return os.path.normpath(os.path.join(folder, os.path.expanduser(text)))

    def absolute_pattern(text: str) -> str:
        if is_remote(text):
            return text
        return absolute(text, glob.escape(str(base))) if is_pattern(absolute(text)) else absolute(text)

    data = profile.data.model_copy(update={"files": [absolute_pattern(path) for path in profile.data.files]})
    launch = profile.launch.model_copy(update={"runs_dir": absolute(profile.launch.runs_dir)})
    train = profile.train
    if train.init_from is not None:
        source = absolute(train.init_from)
        if not os.path.exists(source) and (found := runs_called(train.init_from, Path(launch.runs_dir))):
            source = str(found[0].path)  # a name, a run id or a job id
        train = train.model_copy(update={"init_from": source})
    return profile.model_copy(update={"data": data, "launch": launch, "train": train})


def with_global_batch(profile: Profile, global_batch: int, source: str) -> Profile:
    """Return the profile with the accumulation that gives `global_batch` on its number of ranks.

    A run can be resumed with another number of ranks only if every step still sees the same spectra.

    Raises
    ------
    ProfileError
        No accumulation gives this global batch.
    """
    train, ranks = profile.train, profile.launch.world_size
    batch_size = 1 if train.batch_size == "auto" else train.batch_size
    if global_batch % (batch_size * ranks):
        message = (
            f"{ranks} ranks x batch_size {train.batch_size} do not divide the global batch of {global_batch}, which "
            "must stay; use a number of ranks that does, or another train.batch_size"
        )
        raise ProfileError(source, [Problem("launch", message)])
    if train.batch_size == "auto":
        return profile.model_copy(update={"train": train.model_copy(update={"global_batch": global_batch})})
    held = profile.model_copy(update={"train": train.model_copy(update={"global_batch": global_batch})})
    return held.with_batch_size(batch_size)


def choose_cluster(wanted: str) -> str:
    """Return ``slurm`` or ``local``; ``auto`` becomes ``slurm`` if this machine has sbatch, else ``local``."""
    has_sbatch = shutil.which("sbatch") is not None
    return ("slurm" if has_sbatch else "local") if wanted == "auto" else wanted


def prepare(
    profiles: Sequence[Profile],
    cluster: str,
    site: Site | None,
    *,
    resume: RunDir | None = None,
    trainer: tuple[str, ...] | None = None,
    array_values: Sequence[Sequence[str]] = (),
) -> Submission:
    """Work out a submission without writing anything.

    Parameters
    ----------
    profiles : sequence of Profile
        Checked, with absolute paths; several make an array.
    cluster : str
        ``slurm`` or ``local``.
    site : Site, optional
    resume : RunDir, optional
        Resume this run instead of starting a new one.
    trainer : tuple of str, optional
        Command of every rank; None means the trainer.
    array_values : sequence of sequence of str, optional
        Values of each profile of an array, as ``key=value``.

    Raises
    ------
    ProfileError
        The tasks of an array differ in a value that belongs to the whole array, or the array cannot run here.
    """
    first = profiles[0]
    parent = Path(first.launch.runs_dir) / first.name
    run_id = new_run_id()
    if resume is not None:
        runs = (resume,)
        plan = plan_job(first, resume.path, site, trainer=trainer)
    elif len(profiles) == 1:
        runs = (RunDir(parent / run_id),)
        plan = plan_job(first, runs[0].path, site, trainer=trainer)
    else:
        _refuse_unequal_tasks(profiles, cluster)
        runs = tuple(RunDir(parent / f"{run_id}-{index}") for index in range(len(profiles)))
        plan = plan_job(first, parent / f"{run_id}-{ARRAY_TASK}", site, len(profiles), trainer)
    if cluster == "local" and plan.num_nodes > 1:
        problem = Problem("launch.nodes", f"{plan.num_nodes} nodes, and a local run has one; --set launch.nodes=1")
        raise ProfileError(first.name, [problem])
    values = tuple(map(tuple, array_values)) if len(profiles) > 1 else ()
    return Submission(cluster, runs, tuple(profiles), plan, _script(cluster, plan), resume is not None, values)


def submit(submission: Submission, project: Path) -> list[str]:
    """Write the run directories, submit the job and return the job id of every run.

    Parameters
    ----------
    submission : Submission
    project : Path
        Folder from which the user called the command, for the provenance.

    Raises
    ------
    SiteError
        The cluster refuses the job; new run directories were removed, and a resumed one is as it was before.
    """
    with undone_on_failure() as undo:
        _write(submission, project, undo)
        with signals_wait() as arrived:
            job_ids = _hand_over(submission)
            undo.keep()
            for index, (run, job_id) in enumerate(zip(submission.runs, job_ids, strict=True)):
                record_job(run, job_id, index if submission.plan.array_size else None)
            if arrived:
                run = submission.runs[0].path
                print(f"job {job_ids[0]} was submitted already; to stop it: hpctrain cancel {run}", file=sys.stderr)
    return job_ids


def write_runs(submission: Submission, project: Path) -> None:
    """Write the run directories and submit nothing: the caller runs them.

    Raises
    ------
    SiteError
        The run directories cannot be written; everything is as it was before.
    """
    with undone_on_failure() as undo:
        _write(submission, project, undo)


def _write(submission: Submission, project: Path, undo: Undo) -> None:
    from hpctrain.launch import provenance

    for run, profile in zip(submission.runs, submission.profiles, strict=True):
        if not submission.is_resumed:
            if not run.path.exists():
                undo.will_make(run.path)
            RunDir.create(run.path.parent.parent, run.name, run.run_id)
        run.make_folders()
        path = _provenance_path(run)
        undo.will_write(path)
        provenance.write(path, profile, project)
    for path, text in submission.files().items():
        undo.will_write(path)
        write_atomic(path, text)


def record_job(run: RunDir, job_id: str, array_index: int | None = None, **facts: str) -> None:
    """Add a job, with further facts about it, to the submissions in ``job.json``."""
    job = run.read_job()
    entry = {"job_id": job_id, "array_index": array_index, "submitted_at": time.time(), **facts}
    write_json(run.job, {**job, "submissions": [*job.get("submissions", []), entry]})


def _script(cluster: str, plan: JobPlan) -> str:
    if cluster == "local":
        return ""
    from hpctrain.launch import slurm

    return slurm.render(plan)


def _hand_over(submission: Submission) -> list[str]:
    first = submission.runs[0]
    if submission.cluster == "slurm":
        from hpctrain.launch import slurm

        job_id = slurm.submit(submission.plan, first.script)
        size = submission.plan.array_size
        return [f"{job_id}_{index}" for index in range(size)] if size else [job_id]
    from hpctrain.launch import local

    return [local.start_local(run) for run in submission.runs]


def _refuse_unequal_tasks(profiles: Sequence[Profile], cluster: str) -> None:
    first = profiles[0]
    problems = []
    if any(profile.launch != first.launch or profile.name != first.name for profile in profiles):
        problems.append(Problem("--array", "launch.* and name belong to the array as a whole and cannot differ"))
    if cluster == "local":
        problems.append(Problem("--array", "needs Slurm; on this machine submit the runs one after the other"))
    if problems:
        raise ProfileError("command line", problems)


def _provenance_path(run: RunDir) -> Path:
    """Return the path of a new provenance file; a resumed run keeps its first one and gets another beside it."""
    if not run.provenance.exists():
        return run.provenance
    number = len(glob.glob(f"{glob.escape(str(run.path))}/provenance*.json")) + 1
    return run.provenance.with_name(f"provenance-{number}.json")


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"
