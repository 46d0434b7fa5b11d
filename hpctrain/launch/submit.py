"""Turn a profile into a run directory and a job, in two halves.

:func:`prepare` works out the whole submission and writes nothing; ``--dry-run`` needs no more. :func:`submit` writes
the run directory and submits the job.
"""

from __future__ import annotations

import glob
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.access import GROUP, following
from hpctrain.errors import Problem, ProfileError
from hpctrain.launch.beside import command_beside
from hpctrain.launch.plan import ARRAY_TASK, Job, JobPlan, plan_job
from hpctrain.launch.targets import find_target
from hpctrain.launch.undo import Undo, signals_wait, undone_on_failure
from hpctrain.metrics.events import CheckpointSaved
from hpctrain.metrics.read import read_history
from hpctrain.profile.families import family_of
from hpctrain.profile.files import is_pattern
from hpctrain.profile.load import dump_profile
from hpctrain.profile.remote import is_remote
from hpctrain.profile.schema import Profile
from hpctrain.rundir import RunDir, new_run_id, newest_called, write_atomic, write_json
from hpctrain.trail.note import note

if TYPE_CHECKING:
    from hpctrain.profile.sections.launch import LaunchSection
    from hpctrain.profile.site import Site


@dataclass(frozen=True)
class Submission:
    """Everything that will be written and submitted.

    Parameters
    ----------
    cluster : str
        Name of the target.
    runs : tuple of RunDir
        The run, or one run per task of an array.
    profiles : tuple of Profile
        One profile per run, with absolute paths.
    plan : JobPlan
    texts : dict
        The text of each file that describes the job to the target, by name; each run directory gets all of them.
    is_resumed : bool
        Whether the run directory exists already and the run is resumed.
    array_values : tuple of tuple of str
        Values of each task of an array, as ``key=value``; empty for a single run.
    first_task : int
        Index of the first run in the array.
    parent : mapping or None
        What ``provenance.json`` says of the run of which this one is a rerun.
    """

    cluster: str
    runs: tuple[RunDir, ...]
    profiles: tuple[Profile, ...]
    plan: JobPlan
    texts: Mapping[str, str]
    is_resumed: bool = False
    array_values: tuple[tuple[str, ...], ...] = ()
    first_task: int = 0
    parent: Mapping[str, Any] | None = None

    def files(self) -> dict[Path, str]:
        """Return the text of every file that :func:`submit` writes before it submits the job, except provenance."""
        files: dict[Path, str] = {}
        for index, (run, profile) in enumerate(zip(self.runs, self.profiles, strict=True)):
            files[run.profile] = dump_profile(profile)
            files[run.job] = _json(self._job_record(index))
            files |= {run.path / name: text for name, text in self.texts.items()}
        return files

    def _job_record(self, index: int) -> dict[str, Any]:
        run = self.runs[index]
        earlier = run.read_job() if self.is_resumed else {}
        of_array = {key: earlier[key] for key in ("array_index", "array_values") if key in earlier}
        if self.array_values:
            of_array = {"array_index": self.first_task + index, "array_values": list(self.array_values[index])}
        submissions = earlier.get("submissions", [])
        return {**job_record(run, self.plan, self.cluster), **of_array, "submissions": submissions}


def job_record(run: RunDir, plan: JobPlan, cluster: str) -> dict[str, Any]:
    """Return what ``job.json`` says of a job before it is submitted."""
    return {
        "run_id": run.run_id,
        "name": plan.name,
        "cluster": cluster,
        "submitted_at": time.time(),
        "command": [*plan.command, str(run.path)],
        "trainer": list(plan.command),
        **({"beside": list(plan.beside)} if plan.beside else {}),
        "environment": plan.environment,
        "world_size": plan.resources.world_size,
        "requeue": plan.requeue,
        "max_attempts": plan.max_attempts,
        "max_attempts_without_progress": plan.max_attempts_without_progress,
        "time_limit_s": plan.time_limit_s,
        "lead_s": plan.lead_s,
        "num_nodes": plan.resources.nodes,
        **_of_the_platform(plan, cluster),
        **({"after": [str(job.run_dir or job.id) for job in plan.after]} if plan.after else {}),
        "submissions": [],
    }


def _longest_save_s(resume: RunDir | None) -> float | None:
    """Return the longest time that a checkpoint of this run has taken [s]; None without one."""
    events = [] if resume is None else read_history(resume).all_of(CheckpointSaved)
    return max((event.seconds for event in events if event.seconds is not None), default=None)


def _of_the_platform(plan: JobPlan, cluster: str) -> dict[str, Any]:
    """Return where the platform keeps the run, and what a forecast of waits in its queue needs."""
    found: dict[str, Any] = {}
    if (home := find_target(cluster).home(plan)) is not None:
        found["home"] = home
    if "partition" in plan.options:
        found["partition"] = str(plan.options["partition"])
    if "time-min" in plan.options:
        from hpctrain.profile.sections.base import parse_time_limit_s

        found["shortest_slice_s"] = parse_time_limit_s(str(plan.options["time-min"]))
    return found


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
        if not os.path.exists(source) and (found := newest_called(train.init_from, Path(launch.runs_dir))):
            source = str(found.path)  # a name, a run id or a job id
        train = train.model_copy(update={"init_from": source})
    checkpoint = profile.checkpoint
    if checkpoint.mirror is not None and not is_remote(checkpoint.mirror):
        checkpoint = checkpoint.model_copy(update={"mirror": absolute(checkpoint.mirror)})
    paths = {key: absolute(path) for key in profile.model.paths if (path := getattr(profile.model, key)) is not None}
    model = profile.model.model_copy(update=paths)
    return profile.model_copy(
        update={"data": data, "launch": launch, "model": model, "train": train, "checkpoint": checkpoint}
    )


def with_access(profile: Profile, site: Site | None) -> Profile:
    """Return the profile that says who may use the files of the run, from the site where it says nothing itself."""
    return profile.model_copy(update={"launch": with_site_access(profile.launch, site)})


def with_site_alerts(profile: Profile, site: Site | None) -> Profile:
    """Return the profile with the site's values of ``alerts`` where ``monitor.alerts`` says nothing itself."""
    if site is None:
        return profile
    own, of_site = profile.monitor.alerts, site.alerts
    added = {name: getattr(of_site, name) for name in of_site.model_fields_set - own.model_fields_set}
    monitor = profile.monitor.model_copy(update={"alerts": own.model_copy(update=added)})
    return profile.model_copy(update={"monitor": monitor})


def with_site_access(launch: LaunchSection, site: Site | None) -> LaunchSection:
    """Return `launch` with the access and the group of the site where it says nothing itself."""
    access = launch.access or (site.access if site else None)
    group = launch.group or (site.group if site and access == GROUP else None)
    return launch.model_copy(update={"access": access, "group": group})


def with_global_batch(profile: Profile, global_batch: int, source: str) -> Profile:
    """Return the profile with the accumulation that gives `global_batch` on its number of ranks.

    A run can be resumed with another number of ranks only if every step still sees the same spectra. A round of a model
    without gradients sees all of them on any number of ranks.

    Raises
    ------
    ProfileError
        No accumulation gives this global batch.
    """
    if family_of(profile).how == "rounds":
        return profile
    shape = profile.update_shape.with_global_batch(global_batch)
    if not shape.is_even:
        message = (
            f"{shape.ranks} ranks x batch_size {profile.train.batch_size} do not divide the global batch of "
            f"{global_batch}, which must stay; use a number of ranks that does, or another train.batch_size"
        )
        raise ProfileError(source, [Problem("launch", message)])
    return profile.with_update_shape(shape)


def prepare(
    profiles: Sequence[Profile],
    cluster: str,
    site: Site | None,
    *,
    resume: RunDir | None = None,
    trainer: tuple[str, ...] | None = None,
    array_values: Sequence[Sequence[str]] = (),
    after: tuple[Job, ...] = (),
) -> Submission:
    """Work out a submission without writing anything.

    Parameters
    ----------
    profiles : sequence of Profile
        Checked, with absolute paths; several make an array.
    cluster : str
        Name of the target, not ``auto``.
    site : Site, optional
    resume : RunDir, optional
        Resume this run instead of starting a new one.
    trainer : tuple of str, optional
        Command of every rank; None means the trainer.
    array_values : sequence of sequence of str, optional
        Values of each profile of an array, as ``key=value``.
    after : tuple of Job
        Jobs that must have finished well before this one starts.

    Raises
    ------
    ProfileError
        The tasks of an array differ in a value that belongs to the whole array, or the target cannot run the job.
    PluginError
        There is no such target.
    """
    target = find_target(cluster)
    profiles = [with_site_alerts(with_access(profile, site), site) for profile in profiles]
    first = profiles[0]
    parent = Path(first.launch.runs_dir) / first.name
    run_id = new_run_id()
    tasks: tuple[int, ...] = ()
    if resume is not None:
        runs, path = (resume,), resume.path
    elif len(profiles) == 1:
        runs, path = (RunDir(parent / run_id),), parent / run_id
    else:
        _refuse_unequal_tasks(profiles)
        runs = tuple(RunDir(parent / f"{run_id}-{index}") for index in range(len(profiles)))
        path, tasks = parent / f"{run_id}-{ARRAY_TASK}", tuple(range(len(profiles)))
    plan = plan_job(
        first,
        path,
        target,
        site,
        tasks=tasks,
        command=trainer,
        beside=command_beside(first, site, target.runs_images),
        after=after,
        save_s=_longest_save_s(resume),
    )
    if problems := target.check(plan, site):
        is_typed = all(problem.where.startswith("--") for problem in problems)
        raise ProfileError("command line" if is_typed else first.name, problems)
    values = tuple(map(tuple, array_values)) if tasks else ()
    return Submission(cluster, runs, tuple(profiles), plan, target.files(plan), resume is not None, values)


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
        # Slurm and the supervisor remember the umask, and make the logs with it.
        with signals_wait() as arrived, following(submission.runs[0].path):
            job_ids = _hand_over(submission)
            undo.keep()
            for index, (run, job_id) in enumerate(zip(submission.runs, job_ids, strict=True)):
                record_job(run, job_id, index if submission.plan.tasks else None)
            if arrived:
                run = submission.runs[0].path
                print(f"job {job_ids[0]} was submitted already; to stop it: hpctrain cancel {run}", file=sys.stderr)
    action = "resume" if submission.is_resumed else "submit"
    for run, job_id in zip(submission.runs, job_ids, strict=True):
        note(action, run.path, job_id=job_id, cluster=submission.cluster)
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
            launch = profile.launch
            RunDir.create(run.path.parent.parent, run.name, run.run_id, launch.access, launch.group)
        with following(run.path):
            run.make_folders()
            path = _provenance_path(run)
            undo.will_write(path)
            provenance.write(path, profile, project, submission.parent)
    with following(submission.runs[0].path):
        for path, text in submission.files().items():
            undo.will_write(path)
            write_atomic(path, text)


def record_job(run: RunDir, job_id: str, array_index: int | None = None, **facts: str) -> None:
    """Add a job, with further facts about it, to the submissions in ``job.json``."""
    job = run.read_job()
    entry = {"job_id": job_id, "array_index": array_index, "submitted_at": time.time(), **facts}
    write_json(run.job, {**job, "submissions": [*job.get("submissions", []), entry]})


def _hand_over(submission: Submission) -> list[str]:
    files = {name: submission.runs[0].path / name for name in submission.texts}
    return find_target(submission.cluster).submit(submission.plan, files)


def _refuse_unequal_tasks(profiles: Sequence[Profile]) -> None:
    first = profiles[0]
    if any(profile.launch != first.launch or profile.name != first.name for profile in profiles):
        message = "launch.* and name belong to the array as a whole and cannot differ"
        raise ProfileError("command line", [Problem("--array", message)])


def _provenance_path(run: RunDir) -> Path:
    """Return the path of a new provenance file; a resumed run keeps its first one and gets another beside it."""
    if not run.provenance.exists():
        return run.provenance
    number = len(glob.glob(f"{glob.escape(str(run.path))}/provenance*.json")) + 1
    return run.provenance.with_name(f"provenance-{number}.json")


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"
