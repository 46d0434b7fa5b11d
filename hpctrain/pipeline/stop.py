"""Cancel a pipeline: its jobs in the queue, or the process that goes through it here."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

from hpctrain.errors import HpctrainError, SiteError
from hpctrain.launch.plan import Job
from hpctrain.launch.stop import cancel as cancel_run
from hpctrain.launch.supervisor import is_supervised
from hpctrain.launch.targets import find_target
from hpctrain.pipeline.folder import PipelineDir
from hpctrain.pipeline.run import job_states, process_of
from hpctrain.pipeline.section import TRAIN
from hpctrain.states import ACTIVE
from hpctrain.trail.note import note


def cancel(pipeline: PipelineDir) -> Iterator[str]:
    """End what runs and what waits, and yield what was done; a training saves first, and the same command goes on.

    Raises
    ------
    SiteError
        A job could not be cancelled; the message names all.
    """
    done = list(_cancel_jobs(pipeline)) if _has_queue(pipeline) else list(_end_process(pipeline))
    if done:
        note("cancel", pipeline.path)
    yield from done or [f"{pipeline.path}: nothing of it runs or waits; there is nothing to cancel"]


@contextlib.contextmanager
def ended_by_term() -> Iterator[None]:
    """Let TERM do what Ctrl-C does within the block: end the stage and its commands; a training saves first."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _has_queue(pipeline: PipelineDir) -> bool:
    return find_target(pipeline.read_record()["cluster"]).has_queue


def _cancel_jobs(pipeline: PipelineDir) -> Iterator[str]:
    record = pipeline.read_record()
    target, problems = find_target(record["cluster"]), []
    active = [name for name, state in job_states(pipeline).items() if state in ACTIVE]
    for name in reversed(active):  # the last ones first, so that none begins meanwhile
        try:
            job = Job(record["jobs"][name], record["cluster"], pipeline.stage(name).path)
            yield f"{name}: {target.cancel(job)}"
        except HpctrainError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise SiteError("\n".join(problems))


def _end_process(pipeline: PipelineDir) -> Iterator[str]:
    """Send TERM to the process that goes through the pipeline, and end a training that has outlived such a process."""
    if process := process_of(pipeline):
        try:
            os.kill(process, signal.SIGTERM)
            yield f"process {process} ends; a training saves first"
        except OSError as error:
            raise SiteError(f"process {process}: {error.strerror}; is it on another host?") from error
        return
    for stage in pipeline.section().stages:
        if stage.does == TRAIN and is_supervised(pipeline.stage(stage.name)):
            yield cancel_run(pipeline.stage(stage.name))
