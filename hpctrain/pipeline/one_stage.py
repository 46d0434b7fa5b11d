"""Do one stage of a pipeline for an orchestrator, which calls a command for each stage and knows their order.

All calls of one time through the pipeline give the same id, so they share its folder. A stage may be called again at
any time: what is done is not done again, and what was killed goes on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hpctrain.access import enter
from hpctrain.errors import EXIT_INTERRUPTED, EXIT_REQUEUE, DataError, Problem, ProfileError, SiteError
from hpctrain.launch.history import read_history
from hpctrain.launch.plan import Job
from hpctrain.launch.targets import choose_target, find_target
from hpctrain.launch.targets.target import ENDING
from hpctrain.pipeline import folder
from hpctrain.pipeline.changes import note_inputs
from hpctrain.pipeline.folder import PipelineDir, StageDir, StageState
from hpctrain.pipeline.kinds import waits_for
from hpctrain.pipeline.run import do_here, make_folder, submit_stage
from hpctrain.pipeline.section import TRAIN, PipelineSection
from hpctrain.pipeline.stop import ended_by_term
from hpctrain.pipeline.training import seal_training
from hpctrain.states import ACTIVE, CANCELLED
from hpctrain.trail.note import note

Say = Callable[[str], None]
NOT_YET = EXIT_REQUEUE
"""Exit code if the job of the stage waits or runs: call again later."""
_LONGEST_ID = 128
_DONE = (folder.DONE, folder.DONE_BEFORE)


def begin(section: PipelineSection, given: str, cluster: str | None = None) -> PipelineDir:
    """Return the time through a pipeline that has an id; make it if it is not there.

    Parameters
    ----------
    section : PipelineSection
        If the pipeline file has changed since the first stage was called, the newest one holds from now on.
    given : str
        Id, such as that of a run of Airflow. What cannot stand in a path becomes ``-``.
    cluster : str, optional
        Target, instead of that of the file.

    Raises
    ------
    ProfileError
        The id cannot be the name of a folder.
    SiteError
        The folder of the pipeline has another access than the file says.
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "-", given)
    if not re.match(r"[A-Za-z0-9]", name) or len(name) > _LONGEST_ID or name == "store":
        message = f"'{given}' cannot name a folder; begin with a letter or digit, use at most {_LONGEST_ID} characters"
        raise ProfileError("command line", [Problem("--id", message)])
    pipeline = PipelineDir(Path(section.folder) / section.name / name)
    make_folder(section)
    enter(pipeline.path.parent)
    pipeline.path.mkdir(exist_ok=True)
    with _locked(pipeline):
        if not pipeline.file.exists():
            target = choose_target(cluster or section.launch.cluster)
            pipeline.write_record(cluster=target, cwd=os.getcwd(), started_at=time.time(), jobs={})
            note("pipeline", pipeline.path, cluster=target)
        elif pipeline.section() == section:
            return pipeline
        pipeline.write_section(section)
        note_inputs(pipeline)
        for stage in section.stages:
            if stage.skip:
                pipeline.stage(stage.name).write_state(StageState(folder.SKIPPED))
    return pipeline


def do_one(pipeline: PipelineDir, name: str, say: Say) -> int:
    """Do a stage on this machine, or go on with its job in the queue; return its exit code, or :data:`NOT_YET`.

    Raises
    ------
    HpctrainError
        There is no such stage, one that it waits for is not done, or it fails.
    """
    section = pipeline.section()
    known = [stage.name for stage in section.stages if not stage.skip]
    if name not in known:
        message = f"the pipeline has no stage '{name}' that is not skipped; there are {', '.join(known)}"
        raise ProfileError("command line", [Problem("--stage", message)])
    if find_target(pipeline.read_record()["cluster"]).has_queue:
        with _locked(pipeline):
            return _go_on_with_job(pipeline, name, say)
    _refuse_too_early(pipeline, name)
    with ended_by_term():
        return _final(do_here(pipeline.stage(name), say))


def _refuse_too_early(pipeline: PipelineDir, name: str) -> None:
    """Raise an error if a stage that this one waits for is not done; so no model is registered before its gate."""
    section = pipeline.section()
    for need in waits_for(section, section.stage(name)):
        if (state := _look(pipeline, need).state) not in _DONE:
            raise DataError(f"stage {name} waits for {need}, which is {state}; {pipeline.path}")


def _look(pipeline: PipelineDir, name: str) -> StageState:
    """Return how far a stage is; a training whose run has finished is done."""
    stage = pipeline.stage(name)
    if pipeline.section().stage(name).does == TRAIN and stage.read_state().state not in _DONE:
        seal_training(stage)
    return stage.read_state()


def _go_on_with_job(pipeline: PipelineDir, name: str, say: Say) -> int:
    """Submit the job of a stage if it has none, or say what has become of it."""
    stage, record = pipeline.stage(name), pipeline.read_record()
    cluster, jobs = record["cluster"], dict(record.get("jobs") or {})
    if name not in jobs:
        _refuse_too_early(pipeline, name)
        stage.write_state(StageState())
        jobs[name] = submit_stage(pipeline, pipeline.section().stage(name), {})
        pipeline.write_record(jobs=jobs)
        say(f"{name}: job {jobs[name]} is submitted")
        return NOT_YET
    answer = find_target(cluster).state(Job(jobs[name], cluster, stage.path))
    if answer.state in (*ACTIVE, ENDING) or answer.silent:
        say(f"{name}: job {jobs[name]} is {answer.state} {answer.reason or answer.where}".rstrip())
        return NOT_YET
    state, job_id = _look(pipeline, name), jobs.pop(name)
    pipeline.write_record(jobs=jobs)  # so another call submits it again
    if state.state in _DONE:
        say(f"{name}: {state.state}")
        return 0
    ended = "was cancelled" if answer.state == CANCELLED else "has ended"
    code = EXIT_INTERRUPTED if answer.state == CANCELLED else _exit_code_of(stage, state, job_id)
    say(f"{name}: job {job_id} {ended}, exit code {code}; its log is in {stage.logs}")
    return _final(code)


def _exit_code_of(stage: StageDir, state: StageState, job_id: str) -> int:
    """Return the exit code of a job that has failed; that of a cluster's error if none is known."""
    if state.state in (folder.FAILED, folder.GATE_FAILED) and state.exit_code:
        return state.exit_code
    ended = [attempt.exit_code for attempt in read_history(stage) if attempt.job_id == job_id]
    return (ended[-1] if ended else 0) or SiteError.exit_code


def _final(code: int) -> int:
    """Return an exit code that does not say "not yet": a training that was saved, and that nothing starts again."""
    return SiteError.exit_code if code == NOT_YET else code


@contextlib.contextmanager
def _locked(pipeline: PipelineDir) -> Iterator[None]:
    """Let no other process change the records of a time through meanwhile."""
    with open(pipeline.path / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
