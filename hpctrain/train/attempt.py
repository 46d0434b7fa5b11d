"""One attempt of a run: join the group, resume, train, and exit with the code that the batch script acts on."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hpctrain.access import enter
from hpctrain.checkpoint.whole import list_checkpoints
from hpctrain.distributed.group import barrier, close_group
from hpctrain.distributed.stop import StopRequest
from hpctrain.errors import (
    EXIT_FINISHED,
    EXIT_INTERRUPTED,
    EXIT_REQUEUE,
    EXIT_TOO_HOT,
    CheckpointError,
    HpctrainError,
    NodeError,
)
from hpctrain.metrics.events import Event, Failed, Finished, Stopped
from hpctrain.profile.families import kind_of
from hpctrain.profile.load import load_profile
from hpctrain.profile.schema import Profile
from hpctrain.rundir import RunDir, note_bad_nodes
from hpctrain.train.alerting import alerting
from hpctrain.train.announce import announce
from hpctrain.train.batchsize import settle_batch_size
from hpctrain.train.build import build_run, make_data, open_data, subscribe_exporters
from hpctrain.train.caching import cache_in_memory
from hpctrain.train.finish import finish
from hpctrain.train.join import join
from hpctrain.train.loop import Outcome, train
from hpctrain.train.mirroring import finish_mirror
from hpctrain.train.outofmemory import advice_if_out_of_memory
from hpctrain.train.preflight import preflight
from hpctrain.train.resume import resume
from hpctrain.train.run import Data, Rank, Referee, Run
from hpctrain.train.schedule import schedule_of
from hpctrain.train.settle import settle_warmup
from hpctrain.train.staging import name_originals, stage_data
from hpctrain.train.startup import Startup
from hpctrain.train.together import Crew, StoppedBeforeTrainingError
from hpctrain.train.watch import energy_fields

_EXIT_CODES = {
    Outcome.STOPPED: EXIT_REQUEUE,
    Outcome.INTERRUPTED: EXIT_INTERRUPTED,
    Outcome.TOO_HOT: EXIT_TOO_HOT,
    Outcome.HOPELESS: EXIT_FINISHED,
}


def run_attempt(
    path: str | Path, stop: StopRequest | None = None, new_referee: Callable[[], Referee] | None = None
) -> int:
    """Train the run of a run directory as one rank; the environment gives the rank and the world size.

    Parameters
    ----------
    path : str or Path
        Run directory with a ``profile.yaml``.
    stop : StopRequest, optional
        Used instead of one with the clock and the deadline of this job.
    new_referee : callable, optional
        Of a run that is a trial: makes what rank 0 asks after each evaluation whether to go on.

    Returns
    -------
    int
        0 finished or ended by the referee, 75 saved and to be requeued, 78 saved because it was too hot, 130
        interrupted by a user.

    Raises
    ------
    HpctrainError
        With the exit codes of ``errors.py``.
    """
    enter(path)
    startup = Startup()
    startup.lap("import")
    directory = RunDir(path)
    if not directory.profile.exists():
        raise CheckpointError(f"{directory.path}: no profile.yaml here; make a run directory with: hpctrain submit")
    profile = load_profile(directory.profile)
    stop = stop or StopRequest.from_environment(profile.launch.signal_lead_s)
    stop.install()
    rank = join(directory, profile, stop, startup)
    try:
        with advice_if_out_of_memory(directory, rank.device):
            run = _build(rank, profile, startup)
            if new_referee is not None:
                run.is_trial, run.referee = True, new_referee() if rank.world.is_main else None
            return _work(run, startup)
    except StoppedBeforeTrainingError as stopped:
        step = max((step for step, _ in list_checkpoints(directory)), default=0)
        print("hpctrain: stopped before the first step; the next attempt uses the files that were copied", flush=True)
        return _leave_together(rank, step, EXIT_INTERRUPTED if stopped.is_interrupted else EXIT_REQUEUE)
    except HpctrainError as error:
        _note_failure(rank, error)
        raise
    except BaseException:
        rank.heartbeat.end("failed")
        raise


def _build(rank: Rank, profile: Profile, startup: Startup) -> Run:
    """Bring the data, settle what the profile leaves to the machine and the data, and build the run."""
    directory, world = rank.directory, rank.world
    make_data(profile, world)
    preflight(world, rank.device, directory, profile.data.files, profile.launch.ranks_per_gpu)
    startup.lap("preflight")
    data = _bring_data(rank, profile, startup)
    if not profile.update_shape.is_settled:
        rank.heartbeat.state = "finding the batch size"
        profile = settle_batch_size(rank, profile, data)
        startup.lap("batch_size")
    total_steps = schedule_of(profile, len(data.train_rows)).total_steps
    profile = settle_warmup(directory, profile, total_steps, world.is_main)
    run = build_run(rank, profile, data)
    startup.lap("build")
    return run


def _note_failure(rank: Rank, error: HpctrainError) -> None:
    """Record why the attempt fails; other nodes take the place of bad ones when it starts again."""
    if rank.metrics is not None:
        # An attempt that was replaced before its first record has nothing to report.
        with contextlib.suppress(CheckpointError):
            rank.metrics.event(Failed(error=str(error), exit_code=error.exit_code), rank.heartbeat.step)
    if isinstance(error, NodeError) and rank.world.is_main:
        note_bad_nodes(rank.directory, error.nodes, rank.world.job_id)
    rank.heartbeat.end("failed")


def _bring_data(rank: Rank, profile: Profile, startup: Startup) -> Data:
    """Copy the files to this node's disk or memory, as the profile asks, and open them."""
    heartbeat, metrics = rank.heartbeat, rank.metrics
    crew = Crew(rank.world, rank.stop, rank.watchdog)

    def record(event: Event) -> None:
        if metrics is not None:
            text = metrics.event(event, heartbeat.step).describe(kind_of(profile).words)
            print(f"hpctrain: {text}", file=sys.stderr, flush=True)

    if profile.data.stage is not None:
        heartbeat.state = "staging"
    section, origins = stage_data(profile.data, crew, record)
    if profile.data.stage is not None:
        startup.lap("stage")
    data = open_data(profile, rank.directory, rank.world, section)
    name_originals(data.samples, origins)
    if profile.data.cache == "ram":
        heartbeat.state = "decoding"
        data = cache_in_memory(data, kind_of(profile), crew, record)
        startup.lap("cache")
    heartbeat.state = "starting"
    return data


def _work(run: Run, startup: Startup) -> int:
    started_s = time.perf_counter()
    resume(run)
    startup.lap("load")
    subscribe_exporters(run)
    announce(run)
    run.heartbeat.step, run.heartbeat.state = run.progress.step, "training"
    if run.world.world_size > 1:
        run.update.warm_up(run.data.samples.read(np.full(run.schedule.micro_batch, -1, dtype=np.int64)))
    startup.lap("warm_up")
    with run.sampler, alerting(run):
        outcome = train(run, startup)
    if outcome is not Outcome.FINISHED:
        return _leave_stopped(run, outcome)
    close_group(run.world)  # rank 0 continues alone: the others must not wait in a collective meanwhile
    if run.metrics is not None:
        run.heartbeat.state = "finishing"
        fields = finish(run)
        seconds = round(time.perf_counter() - started_s, 3)
        fields |= energy_fields(run.directory, run.schedule.samples_seen(run.progress.step))
        run.metrics.event(Finished(seconds=seconds, **fields), run.progress.step)
    run.watchdog.end()
    run.heartbeat.end("finished")
    if run.metrics is not None:
        if not run.is_trial:  # of thousands; hpctrain report writes that of one which is looked at
            if run.profile.validate.at_end:
                _afterwards("validate", str(run.directory.path))
            _write_report(run.directory)
        run.metrics.close()  # a tracker now sends the last records, the model and the report
        if run.profile.edge.export_at_end is not None:
            _export(run.directory, run.profile.edge.export_at_end)
    finish_mirror(run)
    return EXIT_FINISHED


def _leave_stopped(run: Run, outcome: Outcome) -> int:
    step, code = run.progress.step, _EXIT_CODES[outcome]
    _leave_together(run, step, code, lambda: finish_mirror(run))
    if run.metrics is not None:
        cause = run.stop.cause or "another rank"
        print(f"hpctrain: stopped by {cause}, saved step {step} of {run.schedule.total_steps}", flush=True)
    return code


def _leave_together(rank: Rank | Run, step: int, code: int, before: Callable[[], None] = lambda: None) -> int:
    """End an attempt whose run will resume later, once `before` has returned on all ranks; return the exit code."""
    rank.watchdog.end()
    if rank.metrics is not None:
        rank.metrics.event(Stopped(cause=rank.stop.cause or "another rank", exit_code=code), step)
        rank.metrics.close()
    before()  # no rank may leave earlier: a launcher ends the others once one has exited with another code than 0
    barrier(rank.world)
    rank.heartbeat.end("stopped")
    close_group(rank.world)
    return code


def _write_report(directory: RunDir) -> None:
    _afterwards("report", str(directory.path))


def _export(directory: RunDir, precision: str) -> None:
    quantise = "none" if precision == "fp32" else precision
    _afterwards("export", str(directory.path), "--quantise", quantise, "--replace")


def _afterwards(*command: str) -> None:
    """Run an hpctrain command in a separate process; if it fails, the finished run still counts as finished."""
    done = subprocess.run([sys.executable, "-m", "hpctrain", *command], capture_output=True, text=True, check=False)
    said = done.stdout if done.returncode == 0 else f"{done.stdout}\n{done.stderr}"
    print(f"hpctrain: {said.strip()}", flush=True)
