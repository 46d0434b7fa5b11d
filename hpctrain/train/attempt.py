"""One attempt of a run: join the group, resume, train, and exit with the code that the batch script acts on."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from hpctrain.checkpoint.lease import take_lease
from hpctrain.checkpoint.store import (
    list_checkpoints,
)
from hpctrain.distributed.group import (
    barrier,
    be_deterministic,
    broadcast_number,
    choose_device,
    close_group,
    open_group,
    why_no_gpu,
)
from hpctrain.distributed.heartbeat import Heartbeat
from hpctrain.distributed.stop import StopRequest
from hpctrain.distributed.watchdog import Watchdog
from hpctrain.distributed.world import World
from hpctrain.errors import (
    EXIT_FINISHED,
    EXIT_INTERRUPTED,
    EXIT_REQUEUE,
    EXIT_TOO_HOT,
    CheckpointError,
    HpctrainError,
    NodeError,
    Problem,
    ProfileError,
)
from hpctrain.metrics.events import DataFound, Event, Failed, Finished, GpuMissing, Started, Stopped
from hpctrain.metrics.record import MetricsWriter
from hpctrain.profile.families import kind_of
from hpctrain.profile.inspection import NOTE, WARNING
from hpctrain.profile.load import load_profile
from hpctrain.profile.resume import plain
from hpctrain.profile.schema import Profile
from hpctrain.rundir import RunDir, note_bad_nodes
from hpctrain.train.batchsize import settle_batch_size
from hpctrain.train.build import build_run, device_facts, make_data, num_parameters, open_data, subscribe_exporters
from hpctrain.train.caching import cache_in_memory
from hpctrain.train.finish import finish
from hpctrain.train.loop import Outcome, train
from hpctrain.train.preflight import preflight
from hpctrain.train.resume import resume
from hpctrain.train.run import Data, Run
from hpctrain.train.schedule import schedule_of
from hpctrain.train.settle import record_profile_changes, settle_warmup
from hpctrain.train.staging import name_originals, stage_data
from hpctrain.train.startup import Startup
from hpctrain.train.together import Crew, StoppedBeforeTrainingError
from hpctrain.train.watch import energy_fields

_EXIT_CODES = {
    Outcome.STOPPED: EXIT_REQUEUE,
    Outcome.INTERRUPTED: EXIT_INTERRUPTED,
    Outcome.TOO_HOT: EXIT_TOO_HOT,
}


def run_attempt(path: str | Path, stop: StopRequest | None = None) -> int:
    """Train the run of a run directory as one rank; the environment gives the rank and the world size.

    Parameters
    ----------
    path : str or Path
        Run directory with a ``profile.yaml``.
    stop : StopRequest, optional
        Used instead of one with the clock and the deadline of this job.

    Returns
    -------
    int
        0 finished, 75 saved and to be requeued, 78 saved because it was too hot, 130 interrupted by a user.

    Raises
    ------
    HpctrainError
        With the exit codes of ``errors.py``.
    """
    startup = Startup()
    startup.lap("import")
    directory = RunDir(path)
    if not directory.profile.exists():
        raise CheckpointError(f"{directory.path}: no profile.yaml here; make a run directory with: hpctrain submit")
    profile = load_profile(directory.profile)
    stop = stop or StopRequest.from_environment(profile.launch.signal_lead_s)
    stop.install()
    world = World.from_environment()
    _make_folders(directory)
    device = choose_device(world, profile.train.device)
    if profile.train.precision == "fp16" and device.type == "cpu":
        problem = Problem("train.precision", "fp16 needs a GPU, and this process sees none; use bf16 or fp32")
        raise ProfileError(str(directory.profile), [problem])
    if profile.train.deterministic:
        be_deterministic(device)
    startup.lap("profile")
    open_group(world, device, directory, profile.monitor.hang_timeout_s, stop)
    attempt = _begin_attempt(directory, world, profile)
    heartbeat = Heartbeat(directory, world, attempt, profile.monitor.heartbeat_s).start()
    watchdog = Watchdog(
        profile.monitor.hang_timeout_s,
        directory.logs / f"stacks-rank-{world.rank:04d}.txt",
        lambda: f"rank {world.rank} at step {heartbeat.step}, {heartbeat.state}",
    ).start()
    metrics = MetricsWriter(directory, attempt) if world.is_main else None
    startup.lap("group")
    try:
        make_data(profile, world)
        preflight(world, device, directory, profile.data.files)
        startup.lap("preflight")
        data = _bring_data(directory, profile, Crew(world, stop, watchdog), heartbeat, metrics, startup)
        if not profile.update_shape.is_settled:
            heartbeat.state = "finding the batch size"
            profile = settle_batch_size(directory, profile, world, device, data, metrics)
            startup.lap("batch_size")
        total_steps = schedule_of(profile, len(data.train_rows)).total_steps
        profile = settle_warmup(directory, profile, total_steps, world.is_main)
        run = build_run(directory, profile, world, device, attempt, stop, heartbeat, watchdog, metrics, data)
        startup.lap("build")
        return _work(run, startup)
    except StoppedBeforeTrainingError as stopped:
        step = max((step for step, _ in list_checkpoints(directory)), default=0)
        print("hpctrain: stopped before the first step; the next attempt uses the files that were copied", flush=True)
        code = EXIT_INTERRUPTED if stopped.is_interrupted else EXIT_REQUEUE
        return _leave_together(world, stop, heartbeat, watchdog, metrics, step, code)
    except HpctrainError as error:
        if metrics is not None:
            with contextlib.suppress(
                CheckpointError
            ):  # an attempt that was replaced before its first record has nothing to report
                metrics.event(Failed(error=str(error), exit_code=error.exit_code), heartbeat.step)
        if isinstance(error, NodeError) and world.is_main:
            note_bad_nodes(directory, error.nodes, world.job_id)
        heartbeat.end("failed")
        raise
    except BaseException:
        heartbeat.end("failed")
        raise


def _make_folders(directory: RunDir) -> None:
    try:
        directory.make_folders()
    except OSError as error:
        raise CheckpointError(f"{error.filename}: cannot be made: {error.strerror}; full, or read-only?") from error


def _begin_attempt(directory: RunDir, world: World, profile: Profile) -> int:
    """Take the next attempt number on rank 0 and send it to the others; if it is refused, every rank raises."""
    number = 0
    refusal: CheckpointError | None = None
    if world.is_main:
        facts = {
            "job_id": world.job_id,
            "restart_count": world.restart_count,
            "world_size": world.world_size,
            "num_nodes": world.num_nodes,
            "launcher": world.launcher,
            "hosts": os.environ.get("SLURM_STEP_NODELIST") or socket.gethostname(),
            "profile": plain(profile),
        }
        try:
            number = take_lease(directory, facts)
        except CheckpointError as error:
            refusal = error
    number = broadcast_number(world, number)
    if number == 0:
        raise refusal or CheckpointError(f"{directory.path}: in use by another job (see the message of rank 0)")
    return number


def _bring_data(
    directory: RunDir,
    profile: Profile,
    crew: Crew,
    heartbeat: Heartbeat,
    metrics: MetricsWriter | None,
    startup: Startup,
) -> Data:
    """Copy the files to this node's disk or memory, as the profile asks, and open them."""

    def record(event: Event) -> None:
        if metrics is not None:
            text = metrics.event(event, heartbeat.step).describe(kind_of(profile).words)
            print(f"hpctrain: {text}", file=sys.stderr, flush=True)

    if profile.data.stage is not None:
        heartbeat.state = "staging"
    section, origins = stage_data(profile.data, crew, record)
    if profile.data.stage is not None:
        startup.lap("stage")
    data = open_data(profile, directory, crew.world, section)
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
    _announce(run)
    run.heartbeat.step, run.heartbeat.state = run.progress.step, "training"
    if run.world.world_size > 1:
        run.update.warm_up(run.data.samples.read(np.full(run.schedule.micro_batch, -1, dtype=np.int64)))
    startup.lap("warm_up")
    with run.sampler:
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
        _write_report(run.directory)
        run.metrics.close()  # a tracker now sends the last records, the model and the report
        if run.profile.edge.export_at_end is not None:
            _export(run.directory, run.profile.edge.export_at_end)
    return EXIT_FINISHED


def _announce(run: Run) -> None:
    if run.metrics is None:
        return
    world, step = run.world, run.progress.step
    record_profile_changes(run.directory, run.attempt, run.metrics, step)
    started = Started(
        job_id=world.job_id,
        restart_count=world.restart_count,
        world_size=world.world_size,
        num_nodes=world.num_nodes,
        hosts=os.environ.get("SLURM_STEP_NODELIST") or socket.gethostname(),
        start_step=step,
        total_steps=run.schedule.total_steps,
        torch=torch.__version__,
        num_parameters=num_parameters(run.model),
        accumulation=run.schedule.accumulation(world.world_size),
        **device_facts(run.device),
    )
    run.metrics.event(started, step)
    samples, found = run.data.samples, run.data.inspection
    about_data = DataFound(
        counts={
            run.kind.words.count_field: len(samples),
            **run.kind.shape(samples),
            **run.kind.counts(samples),
            **found.counts(),
        },
        num_train=len(run.data.train_rows),
        num_validation=len(run.data.validation_rows),
        warnings=found.texts(WARNING),
        notes=[*found.texts(NOTE), *samples.notes],
    )
    run.metrics.event(about_data, step)
    if run.profile.launch.gpus_per_node > 0 and run.device.type == "cpu" and run.profile.train.device != "cpu":
        asked = run.profile.launch.gpus_per_node
        run.metrics.event(GpuMissing(gpus_per_node=asked, reason=why_no_gpu()), step)


def _leave_stopped(run: Run, outcome: Outcome) -> int:
    step, code = run.progress.step, _EXIT_CODES[outcome]
    _leave_together(run.world, run.stop, run.heartbeat, run.watchdog, run.metrics, step, code)
    if run.metrics is not None:
        cause = run.stop.cause or "another rank"
        print(f"hpctrain: stopped by {cause}, saved step {step} of {run.schedule.total_steps}", flush=True)
    return code


def _leave_together(
    world: World,
    stop: StopRequest,
    heartbeat: Heartbeat,
    watchdog: Watchdog,
    metrics: MetricsWriter | None,
    step: int,
    code: int,
) -> int:
    """End an attempt whose run will resume later; return the exit code."""
    watchdog.end()
    if metrics is not None:
        metrics.event(Stopped(cause=stop.cause or "another rank", exit_code=code), step)
        metrics.close()
    barrier(world)
    heartbeat.end("stopped")
    close_group(world)
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
