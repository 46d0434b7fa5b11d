"""Make the folder of a study and submit its array; submit again what is missing or what is new."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hpctrain.access import following, make
from hpctrain.errors import Problem, ProfileError
from hpctrain.launch.plan import ARRAY_TASK, JobPlan, module_command, plan_job
from hpctrain.launch.submit import with_absolute_paths, with_access, with_site_alerts
from hpctrain.launch.targets import choose_target, find_target
from hpctrain.launch.undo import undone_on_failure
from hpctrain.profile.load import dump_profile, load_profile
from hpctrain.profile.schema import Profile
from hpctrain.rundir import new_run_id, write_atomic
from hpctrain.search.ask import ASK_MODULE, RANK_MODULE, site_of
from hpctrain.search.folder import FOLDS, StudyDir, StudyRecord, write_once, write_study
from hpctrain.search.folds import tasks_of
from hpctrain.search.section import ObjectiveSection, StudySection
from hpctrain.search.space import Values
from hpctrain.search.study_file import ON_RAY
from hpctrain.trail.note import note


@dataclass(frozen=True)
class NewStudy:
    """Everything that will be written and submitted.

    Parameters
    ----------
    directory : StudyDir
    section : StudySection
        With the objectives of the family where the file names none.
    base : Profile
        With absolute paths.
    cluster : str
        Name of the target.
    """

    directory: StudyDir
    section: StudySection
    base: Profile
    cluster: str

    @property
    def plan(self) -> JobPlan:
        return plan_tasks(self.directory, self.base, self.cluster, self.section, range(self.section.trials))

    def files(self) -> dict[str, str]:
        """Return the text of each file that describes the array to the target."""
        return _files(self.plan, self.cluster)


def new_study(section: StudySection, cluster: str | None = None) -> NewStudy:
    """Work out a study without writing anything.

    Parameters
    ----------
    section : StudySection
        Checked; `base` is an absolute path.
    cluster : str, optional
        Where to run, instead of ``launch.cluster`` of the base.

    Raises
    ------
    ProfileError
        The target cannot run the trials.
    """
    if section.engine.name == "ray" and cluster not in (None, ON_RAY):
        problem = Problem("--cluster", f"'{cluster}' does not go with engine: ray, which starts the trials; remove one")
        raise ProfileError(section.name, [problem])
    changes = [*section.set, f"name={json.dumps(section.name)}", *([f"launch.cluster={cluster}"] if cluster else [])]
    base = with_absolute_paths(load_profile(section.base, changes), Path.cwd())
    base = with_site_alerts(with_access(base, site_of(base)), site_of(base))
    directory = StudyDir(Path(base.launch.runs_dir) / section.name / new_run_id())
    target = choose_target(base.launch.cluster)
    new = NewStudy(directory, section.model_copy(update={"objectives": _objectives(section, base)}), base, target)
    if find_target(target).has_queue and (problems := find_target(target).check(new.plan, site_of(base))):
        raise ProfileError(section.name, problems)
    return new


def _objectives(section: StudySection, base: Profile) -> list[ObjectiveSection]:
    from hpctrain.profile.families import family_of

    own = family_of(base).objective
    directions = {own.metric: "minimize" if own.lower_is_better else "maximize"}
    return [
        ObjectiveSection(
            metric=(metric := objective.metric or own.metric),
            direction=objective.direction or directions.get(metric, "minimize"),
        )
        for objective in section.objectives
    ]


def plan_tasks(
    directory: StudyDir, base: Profile, cluster: str, section: StudySection, trials: Sequence[int]
) -> JobPlan:
    """Return the plan of an array of trials, or of their folds."""
    return _plan(directory, base, cluster, section, tasks_of(section, trials))


def _plan(directory: StudyDir, base: Profile, cluster: str, section: StudySection, tasks: Sequence[int]) -> JobPlan:
    site = site_of(base)
    return plan_job(
        base,
        (directory.path / FOLDS if section.folds else directory.path) / ARRAY_TASK,
        find_target(cluster),
        site,
        tasks=tuple(tasks),
        at_once=section.parallel,
        command=module_command(RANK_MODULE, site),
        prepare=module_command(ASK_MODULE, site),
    )


def _files(plan: JobPlan, cluster: str) -> dict[str, str]:
    target = find_target(cluster)
    return target.files(plan) if target.has_queue else {}


def start(new: NewStudy, chosen: Sequence[Values] = ()) -> str:
    """Write the folder of a study and submit its array; return the job id.

    Parameters
    ----------
    new : NewStudy
    chosen : sequence of dict
        Values of the first trials, where no sampler shall choose them.

    Raises
    ------
    SiteError
        The cluster refuses; nothing stays behind.
    """
    directory = new.directory
    launch = new.base.launch
    with contextlib.ExitStack() as stack:
        undo = stack.enter_context(undone_on_failure())
        undo.will_make(directory.path)
        make(directory.path, launch.access, launch.group)
        stack.enter_context(following(directory.path))
        write_study(directory, new.section)
        write_atomic(directory.base, dump_profile(new.base))
        record = StudyRecord(new.cluster, time.time(), new.section.trials)
        directory.write_record(record)
        for number, values in enumerate(chosen):
            directory.trial(number).make_folders()
            asked = {"number": number, "values": values, "system": {}, "asked_at": time.time()}
            write_once(directory.trial(number).asked, asked)
        try:
            job_id = submit_tasks(directory, new.section, tasks_of(new.section, range(new.section.trials)))
        except BaseException:
            if not any(directory.path.glob("*/profile.yaml")):  # else a task has begun after all
                shutil.rmtree(directory.path)
            raise
        undo.keep()
    return job_id


def submit_tasks(directory: StudyDir, section: StudySection, tasks: Sequence[int], action: str = "submit") -> str:
    """Submit an array of some tasks of a study that exists; return its job id.

    Parameters
    ----------
    directory : StudyDir
    section : StudySection
    tasks : sequence of int
    action : str
        What the audit trail calls it: ``submit``, ``resume`` or ``extend``.

    Raises
    ------
    SiteError
        The cluster refuses.
    """
    with following(directory.path):
        return _submit_tasks(directory, section, tasks, action)


def _submit_tasks(directory: StudyDir, section: StudySection, tasks: Sequence[int], action: str) -> str:
    record = directory.read_record()
    base = directory.base_profile()
    target = find_target(record.cluster)
    for task in tasks:
        (directory.run(task, section).path / "logs").mkdir(parents=True, exist_ok=True)
    if not target.has_queue:
        from hpctrain.search import pool, ray_driver

        job_id = (ray_driver.start_driver if section.engine.name == "ray" else pool.start_pool)(directory)
    else:
        plan = _plan(directory, base, record.cluster, section, tasks)
        files = target.files(plan)
        target.ask(plan, files)
        for name, text in files.items():
            write_atomic(directory.path / name, text)
        ids = target.submit(plan, {name: directory.path / name for name in files})
        job_id = ids[0].partition("_")[0]
    array = {"job_id": job_id, "tasks": list(tasks), "submitted_at": time.time()}
    record = directory.read_record()
    directory.write_record(replace(record, arrays=[*record.arrays, array]))
    note(action, directory.path, job_id=job_id, cluster=record.cluster, tasks=len(tasks), trials=record.trials)
    return job_id
