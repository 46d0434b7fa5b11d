"""One attempt of a run: join, resume, train, and leave with the exit code the batch script acts on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from hpctrain.checkpoint.lease import take_lease
from hpctrain.checkpoint.store import checkpoint_path, clear_leftovers, newest_whole, read_checkpoint
from hpctrain.distributed.group import (
    barrier,
    be_deterministic,
    broadcast_number,
    choose_device,
    close_group,
    open_group,
)
from hpctrain.distributed.heartbeat import Heartbeat
from hpctrain.distributed.stop import StopRequest
from hpctrain.distributed.watchdog import Watchdog
from hpctrain.distributed.world import World
from hpctrain.errors import (
    EXIT_FINISHED,
    EXIT_REQUEUE,
    CheckpointError,
    HpctrainError,
    NodeError,
    Problem,
    ProfileError,
)
from hpctrain.metrics.record import MetricsWriter, supersede_after
from hpctrain.profile.load import load_profile
from hpctrain.rundir import RunDir, note_bad_nodes
from hpctrain.train.build import Run, build_run, device_facts, make_data, subscribe_exporters
from hpctrain.train.finish import finish
from hpctrain.train.loop import Outcome, train
from hpctrain.train.preflight import preflight
from hpctrain.train.state import restore

EXIT_INTERRUPTED = 130


def run_attempt(path: str | Path) -> int:
    """Train the run of a run directory as one rank of the world the environment describes.

    Parameters
    ----------
    path : str or Path
        Run directory with a ``profile.yaml``.

    Returns
    -------
    int
        0 finished, 75 saved and to be requeued, 130 interrupted by hand.

    Raises
    ------
    HpctrainError
        As drawn in ``errors.py``.
    """
    directory = RunDir(path)
    if not directory.profile.exists():
        raise CheckpointError(f"{directory.path}: no profile.yaml here; make a run directory with: hpctrain submit")
    profile = load_profile(directory.profile)
    stop = StopRequest.from_environment(profile.launch.signal_lead_s)
    stop.install()
    world = World.from_environment()
    directory.make_folders()
    device = choose_device(world, profile.train.device)
    if profile.train.precision == "fp16" and device.type == "cpu":
        problem = Problem("train.precision", "fp16 needs a GPU, and this process sees none; use bf16 or fp32")
        raise ProfileError(str(directory.profile), [problem])
    if profile.train.deterministic:
        be_deterministic(device)
    open_group(world, device, directory)
    attempt = _begin_attempt(directory, world)
    heartbeat = Heartbeat(directory, world, attempt, profile.monitor.heartbeat_s).start()
    watchdog = Watchdog(
        profile.monitor.hang_timeout_s,
        directory.logs / f"stacks-rank-{world.rank:04d}.txt",
        lambda: f"rank {world.rank} at step {heartbeat.step}, {heartbeat.state}",
    ).start()
    metrics = MetricsWriter(directory, attempt) if world.is_main else None
    try:
        make_data(profile.data, world)
        preflight(world, device, directory, profile.data.files)
        return _work(build_run(directory, profile, world, device, attempt, stop, heartbeat, watchdog, metrics))
    except HpctrainError as error:
        if metrics is not None:
            metrics.event("failed", heartbeat.step, error=str(error), exit_code=error.exit_code)
        if isinstance(error, NodeError) and world.is_main:
            note_bad_nodes(directory, error.nodes, world.job_id)
        heartbeat.end("failed")
        raise
    except BaseException:
        heartbeat.end("failed")
        raise


def _begin_attempt(directory: RunDir, world: World) -> int:
    """Take the next attempt number on rank 0 and tell the others; a refusal is everybody's."""
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
        }
        try:
            number = take_lease(directory, facts)
        except CheckpointError as error:
            refusal = error
    number = broadcast_number(world, number)
    if number == 0:
        raise refusal or CheckpointError(f"{directory.path}: in use by another job (rank 0 says more)")
    return number


def _work(run: Run) -> int:
    started_s = time.perf_counter()
    _resume(run)
    subscribe_exporters(run)
    _announce(run)
    run.heartbeat.state = "training"
    if run.world.world_size > 1:
        run.update.warm_up(run.spectra.source.read(np.full(run.schedule.micro_batch, -1, dtype=np.int64)))
    outcome = train(run)
    if outcome is not Outcome.FINISHED:
        return _leave_stopped(run, outcome)
    close_group(run.world)  # rank 0 goes on alone: the others must not wait in a collective meanwhile
    if run.metrics is not None:
        run.heartbeat.state = "finishing"
        fields = finish(run)
        seconds = round(time.perf_counter() - started_s, 3)
        run.metrics.event("finished", run.progress.step, seconds=seconds, **fields)
        run.metrics.close()
    run.watchdog.end()
    run.heartbeat.end("finished")
    if run.world.is_main:
        _write_report(run.directory)
    return EXIT_FINISHED


def _resume(run: Run) -> None:
    """Load the newest whole checkpoint, chosen by rank 0 for all; every rejected one is said."""
    step, rejected, leftovers = None, [], []
    if run.world.is_main:
        leftovers = clear_leftovers(run.directory)
        step, rejected = newest_whole(run.directory)
    chosen = broadcast_number(run.world, -1 if step is None else step)
    superseded = 0
    if run.world.is_main:
        superseded = supersede_after(run.directory, max(chosen, 0))
    if chosen >= 0:
        restore(run, *read_checkpoint(checkpoint_path(run.directory, chosen)))
    if run.metrics is None:
        return
    for item in rejected:
        run.metrics.event("checkpoint_rejected", max(chosen, 0), path=str(item.path), reason=item.reason)
        print(f"hpctrain: passed over {item.path}: {item.reason}", file=sys.stderr)
    for path in leftovers:
        print(f"hpctrain: removed {path}, half written by an earlier attempt", file=sys.stderr)
    if chosen >= 0:
        lost = _steps_lost(run, chosen) if superseded or rejected else 0
        run.metrics.event("resumed", chosen, checkpoint=f"checkpoints/step-{chosen:08d}", steps_lost=lost)


def _steps_lost(run: Run, step: int) -> int:
    """Return how many updates beyond the checkpoint earlier attempts are known to have done."""
    from hpctrain.rundir import read_json_lines

    furthest = max(
        (record.get("step", 0) for record in read_json_lines(run.directory.superseded_metrics)), default=step
    )
    return max(0, furthest - step)


def _announce(run: Run) -> None:
    if run.metrics is None:
        return
    world, step = run.world, run.progress.step
    run.metrics.event(
        "started",
        step,
        job_id=world.job_id,
        restart_count=world.restart_count,
        world_size=world.world_size,
        num_nodes=world.num_nodes,
        hosts=os.environ.get("SLURM_STEP_NODELIST") or socket.gethostname(),
        start_step=step,
        total_steps=run.schedule.total_steps,
        torch=torch.__version__,
        num_parameters=sum(p.numel() for p in run.model.parameters()),
        accumulation=run.schedule.accumulation(world.world_size),
        **device_facts(run.device),
    )
    run.metrics.event(
        "data",
        step,
        num_spectra=len(run.spectra.source),
        num_train=len(run.spectra.train_rows),
        num_validation=len(run.spectra.validation_rows),
        num_pixels=run.spectra.source.num_pixels,
    )


def _leave_stopped(run: Run, outcome: Outcome) -> int:
    run.watchdog.end()
    code = EXIT_INTERRUPTED if outcome is Outcome.INTERRUPTED else EXIT_REQUEUE
    if run.metrics is not None:
        cause = run.stop.cause or "another rank"
        run.metrics.event("stopped", run.progress.step, cause=cause, exit_code=code)
        print(f"hpctrain: stopped by {cause}, saved step {run.progress.step} of {run.schedule.total_steps}", flush=True)
        run.metrics.close()
    barrier(run.world)
    run.heartbeat.end("stopped")
    close_group(run.world)
    return code


def _write_report(directory: RunDir) -> None:
    """Write the report in a process of its own; a run that is finished does not fail for want of it."""
    command = [sys.executable, "-m", "hpctrain", "report", str(directory.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(f"hpctrain: {(done.stdout or done.stderr).strip()}", flush=True)
