"""Go through a pipeline: on this machine one stage after the other, or as one job per stage in a queue."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from hpctrain.access import access_of, following, make
from hpctrain.errors import CheckpointError, HpctrainError, SiteError
from hpctrain.launch.environment import environment_of_ranks
from hpctrain.launch.plan import Job, JobPlan, module_command, plan_job
from hpctrain.launch.status import describe
from hpctrain.launch.submit import job_record, record_job, with_site_access
from hpctrain.launch.supervisor import is_supervised
from hpctrain.launch.targets import choose_target, find_target
from hpctrain.pipeline import folder
from hpctrain.pipeline.folder import PipelineDir, StageDir, StageState
from hpctrain.pipeline.keys import NEVER_DONE
from hpctrain.pipeline.kinds import waits_for
from hpctrain.pipeline.section import TRAIN, PipelineSection, StageSection
from hpctrain.pipeline.stage import STAGE_MODULE, do_stage, lock_of
from hpctrain.pipeline.training import plan_training, prepare, profile_of_stage, seal_training
from hpctrain.profile.sections.launch import LaunchSection
from hpctrain.profile.site import Site, load_site
from hpctrain.rundir import new_run_id, write_atomic, write_json
from hpctrain.states import ACTIVE, FINISHED
from hpctrain.trail.note import note
from hpctrain.words import format_duration

Say = Callable[[str], None]
_LOOK_EVERY_S = 0.2


@dataclass(frozen=True)
class StageJob:
    """Name and launch section of the job of a stage."""

    name: str
    launch: LaunchSection


def open_pipeline(section: PipelineSection, cluster: str | None = None) -> PipelineDir:
    """Return the newest time through a pipeline if it is to go on, else a new one.

    It goes on where the pipeline file is the same and a stage has not been done; results that are there are never made
    again in either case.

    Raises
    ------
    SiteError
        It runs already, or its folder has another access than the file says.
    """
    parent = Path(section.folder) / section.name
    times = [PipelineDir(path.parent) for path in parent.glob(f"*/{folder.FILE}")]
    target = choose_target(cluster or section.launch.cluster)
    if times:
        newest = folder.newest_of(times)
        if newest.section() == section and newest.read_record().get("cluster") == target and not is_over(newest):
            return newest
    make_folder(section)
    pipeline = PipelineDir(parent / new_run_id())
    with following(parent):
        pipeline.path.mkdir(parents=True)
        pipeline.write_section(section)
        pipeline.write_record(cluster=target, cwd=os.getcwd(), started_at=time.time(), jobs={})
    return pipeline


def make_folder(section: PipelineSection) -> None:
    """Make the folder of a pipeline with the access that its file says, unless it is there.

    Raises
    ------
    SiteError
        It has another access than the file says.
    """
    parent = Path(section.folder) / section.name
    launch = with_site_access(section.launch, load_site(section.launch.site) if section.launch.site else None)
    if not parent.exists():
        make(parent, launch.access, launch.group)
    elif launch.access not in (None, found := access_of(parent)):
        raise SiteError(
            f"{parent}: its files are {found or 'as your umask makes them'}, and launch.access is {launch.access} now; "
            f"to change them all: hpctrain access {parent} {launch.access}"
        )


def is_over(pipeline: PipelineDir) -> bool:
    """Return whether all stages are done, or a gate has ended the pipeline."""
    states = [pipeline.stage(stage.name).read_state().state for stage in pipeline.section().stages if not stage.skip]
    return folder.GATE_FAILED in states or all(state in folder.WELL for state in states)


@contextlib.contextmanager
def only_one(pipeline: PipelineDir) -> Iterator[None]:
    """Refuse to go through a pipeline while another process does; the block has the umask of the pipeline.

    Raises
    ------
    CheckpointError
        Another one does.
    """
    path = pipeline.path.parent / "lock"
    with following(pipeline.path), open(path, "a+") as lock:
        if not _is_taken(lock):
            lock.seek(0)
            raise CheckpointError(f"{pipeline.path.parent}: process {lock.read().strip()} goes through it now")
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _is_taken(lock: IO[str]) -> bool:
    """Take a lock; another process that only asks whether it is held has it for a moment."""
    for pause_s in (0.05, 0.1, 0.0):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(pause_s)
        else:
            return True
    return False


def process_of(pipeline: PipelineDir) -> int | None:
    """Return the process of this host that goes through a pipeline; None if there is none."""
    path = pipeline.path.parent / "lock"
    if not _is_held(path):
        return None
    text = path.read_text().strip()
    return int(text) if text.isdecimal() else None


def runs_here(stage: StageDir) -> bool:
    """Return whether a process of this machine does the stage now; what is killed leaves the state as it was."""
    if stage.section().does == TRAIN:
        return is_supervised(stage) or _is_held(stage.pipeline.path.parent / "lock")
    return _is_held(lock_of(stage, stage.read_state().key))


def _is_held(path: Path) -> bool:
    try:
        with open(path) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def run_here(pipeline: PipelineDir, say: Say) -> int:
    """Do all stages on this machine, one after the other; return the exit code of the first that fails, or 0."""
    section = pipeline.section()
    note("pipeline", pipeline.path, cluster=pipeline.read_record()["cluster"])
    for stage in section.stages:
        directory = pipeline.stage(stage.name)
        if stage.skip:
            directory.write_state(StageState(folder.SKIPPED))
        elif code := do_here(directory, say):
            return code
    return 0


def do_here(stage: StageDir, say: Say) -> int:
    """Do a stage on this machine unless it is done; return its exit code."""
    own, state = stage.section(), stage.read_state()
    was_done = state.state in (folder.DONE, folder.DONE_BEFORE) and stage.read_result(state.key) is not None
    if was_done and not own.always and not _is_stale(stage):
        say(f"{own.name}: {state.state}")
        return 0
    began = time.time()
    code = _train_here(stage) if own.does == TRAIN else _do_here(stage)
    state = stage.read_state()
    if state.state in (folder.DONE_BEFORE, folder.NOT_NEEDED):
        say(f"{own.name}: {state.state}")
        return code
    why = f" ({'; '.join(state.why[:3])})" if state.why and state.why != [NEVER_DONE] else ""
    say(f"{own.name}: {state.state} in {format_duration(time.time() - began)}{why}")
    return code


def _is_stale(stage: StageDir) -> bool:
    """Return whether the inputs of a stage have changed since it was done this time."""
    from hpctrain.pipeline.stage import look

    state = stage.read_state()
    _, key, _ = look(stage)
    if key == state.key:
        stage.write_state(state)
    return key != state.key


def _do_here(stage: StageDir) -> int:
    try:
        return do_stage(stage)
    except BaseException as error:
        code = error.exit_code if isinstance(error, HpctrainError) else 1
        stage.write_state(replace(stage.read_state(), state=folder.FAILED, ended_at=time.time(), exit_code=code))
        raise


def _train_here(stage: StageDir) -> int:
    if not prepare(stage):
        return 0
    code = _supervise(stage)
    if seal_training(stage):
        return 0
    stage.write_state(replace(stage.read_state(), state=folder.FAILED, ended_at=time.time(), exit_code=code))
    return code or SiteError.exit_code


def _supervise(stage: StageDir) -> int:
    """Train until the run ends; a supervisor that has outlived an earlier pipeline is waited for."""
    while is_supervised(stage):
        time.sleep(_LOOK_EVERY_S)
    if describe(stage, ask_queue=False).state == FINISHED:
        return 0
    with open(stage.logs / "supervisor.log", "ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-u", "-m", "hpctrain.launch.supervisor", str(stage.path)],
            env=environment_of_ranks(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    record_job(stage, f"local-{child.pid}")
    try:
        return child.wait()
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        raise


def submit(pipeline: PipelineDir) -> dict[str, str]:
    """Submit one job for each stage, each after those that it needs; return the job ids by the names of the stages.

    Raises
    ------
    SiteError
        The cluster refuses one; those before it are cancelled. Or the pipeline is in the queue already.
    """
    section, record = pipeline.section(), pipeline.read_record()
    target = find_target(record["cluster"])
    if running := [name for name, state in job_states(pipeline).items() if state in ACTIVE]:
        raise SiteError(
            f"{pipeline.path}: stages {', '.join(running)} are in the queue; look: hpctrain pipeline status"
        )
    jobs: dict[str, str] = {}
    try:
        for stage in section.stages:
            if stage.skip:
                pipeline.stage(stage.name).write_state(StageState(folder.SKIPPED))
            else:
                jobs[stage.name] = submit_stage(pipeline, stage, jobs)
    except BaseException:
        for job_id in jobs.values():
            with contextlib.suppress(HpctrainError):
                target.cancel(Job(job_id, record["cluster"]))
        raise
    pipeline.write_record(jobs=jobs)
    note("pipeline", pipeline.path, cluster=record["cluster"], jobs=jobs)
    return jobs


def job_states(pipeline: PipelineDir) -> dict[str, str]:
    """Return what the platform says of the job of each stage; empty where there are none."""
    record = pipeline.read_record()
    jobs = record.get("jobs") or {}
    if not jobs or not find_target(record["cluster"]).has_queue:
        return {}
    target = find_target(record["cluster"])
    return {name: target.state(Job(job_id, record["cluster"])).state for name, job_id in jobs.items()}


def submit_stage(pipeline: PipelineDir, stage: StageSection, jobs: dict[str, str]) -> str:
    """Submit the job of a stage, after those of `jobs` that it needs; return its id."""
    cluster = pipeline.read_record()["cluster"]
    target, directory = find_target(cluster), pipeline.stage(stage.name)
    plan = plan_stage(pipeline, stage, jobs)
    directory.make_folders()
    if directory.read_state().state == folder.FAILED:
        directory.write_state(StageState())
    files = target.files(plan)
    for name, text in files.items():
        write_atomic(directory.path / name, text)
    if stage.does != TRAIN:
        write_json(directory.job, job_record(directory, plan, cluster))
    (job_id,) = target.submit(plan, {name: directory.path / name for name in files})
    return job_id


def plan_stage(pipeline: PipelineDir, stage: StageSection, jobs: dict[str, str]) -> JobPlan:
    """Return the plan of the job of a stage; `jobs` are those of the stages before it."""
    section = pipeline.section()
    cluster = pipeline.read_record()["cluster"]
    directory = pipeline.stage(stage.name)
    after = tuple(
        Job(jobs[need], cluster, pipeline.stage(need).path) for need in waits_for(section, stage) if need in jobs
    )
    if stage.does == TRAIN:
        # Where results of other stages go, only the names of the stages are known yet.
        return plan_training(directory, profile_of_stage(directory, {}), cluster, after=after)
    launch = launch_of(section, stage)
    site: Site | None = load_site(launch.site) if launch.site else None
    return plan_job(
        StageJob(f"{section.name}-{stage.name}", launch),
        directory.path,
        find_target(cluster),
        site,
        command=module_command(STAGE_MODULE, site),
        after=after,
    )


def launch_of(section: PipelineSection, stage: StageSection) -> LaunchSection:
    """Return where a stage that does not train runs: the pipeline's section with the stage's own requests."""
    own = stage.launch
    changes = {
        "time_limit": own.time_limit,
        "cpus_per_rank": own.cpus,
        "ranks_per_node": 1,
        "nodes": 1,
        "gpus_per_node": own.gpus,
        "memory_gib_per_node": own.memory_gib or section.launch.memory_gib_per_node,
        "partition": own.partition or section.launch.partition,
    }
    return section.launch.model_copy(update=changes)


def remove_unfinished(pipeline: PipelineDir) -> int:
    """Remove what stages that failed have left in the store; return the number of folders."""
    left = [path for path in pipeline.store.glob("*/*.work") if path.is_dir()]
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    return len(left)
