"""How a rank joins an attempt: its device, its process group, the number of the attempt, and what watches it."""

from __future__ import annotations

import os
import socket

from hpctrain.checkpoint.lease import take_lease
from hpctrain.distributed.group import (
    be_deterministic,
    broadcast_number,
    choose_device,
    open_group,
    use_expandable_segments,
)
from hpctrain.distributed.heartbeat import Heartbeat
from hpctrain.distributed.stop import StopRequest
from hpctrain.distributed.watchdog import Watchdog
from hpctrain.distributed.world import World
from hpctrain.errors import CheckpointError, Problem, ProfileError
from hpctrain.metrics.record import MetricsWriter
from hpctrain.profile.resume import plain
from hpctrain.profile.schema import Profile
from hpctrain.rundir import RunDir
from hpctrain.train.arithmetic import set_float32_arithmetic
from hpctrain.train.run import Rank
from hpctrain.train.startup import Startup


def join(directory: RunDir, profile: Profile, stop: StopRequest, startup: Startup) -> Rank:
    """Join the other ranks of this attempt; the environment gives the rank and the world size.

    Parameters
    ----------
    directory : RunDir
    profile : Profile
    stop : StopRequest
        Signals are handled already.
    startup : Startup
        Gets the laps ``profile`` and ``group``.

    Raises
    ------
    CheckpointError
        The run directory cannot be written, or another job uses it.
    ProfileError
        The device cannot do what the profile asks for.
    SiteError, NodeError
        The group cannot be formed.
    """
    world = World.from_environment()
    _make_folders(directory)
    use_expandable_segments()
    ranks_per_gpu = profile.launch.ranks_per_gpu
    device = choose_device(world, profile.train.device, ranks_per_gpu)
    if profile.train.precision == "fp16" and device.type == "cpu":
        problem = Problem("train.precision", "fp16 needs a GPU, and this process sees none; use bf16 or fp32")
        raise ProfileError(str(directory.profile), [problem])
    if profile.train.deterministic:
        be_deterministic(device)
    set_float32_arithmetic(profile.train.precision)
    startup.lap("profile")
    open_group(world, device, directory, profile.monitor.hang_timeout_s, stop, ranks_per_gpu=ranks_per_gpu)
    attempt = _begin_attempt(directory, world, profile)
    heartbeat = Heartbeat(directory, world, attempt, profile.monitor.heartbeat_s).start()
    watchdog = Watchdog(
        profile.monitor.hang_timeout_s,
        directory.logs / f"stacks-rank-{world.rank:04d}.txt",
        lambda: f"rank {world.rank} at step {heartbeat.step}, {heartbeat.state}",
    ).start()
    metrics = MetricsWriter(directory, attempt) if world.is_main else None
    startup.lap("group")
    return Rank(directory, world, device, attempt, stop, heartbeat, watchdog, metrics)


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
