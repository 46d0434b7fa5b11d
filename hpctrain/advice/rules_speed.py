"""Rules about time that a run loses; each compares a measured share with the share from which a change is worth it."""

from __future__ import annotations

from hpctrain.advice.advice import FAILURE, SPEED, Advice, Change
from hpctrain.advice.summary import RunSummary, percent, share
from hpctrain.metrics.events import Finished, FirstStep, GpuMissing, PaceChanged, StageFellBack
from hpctrain.words import format_duration

LONG_ENOUGH_S = 60.0
"""Shares of a shorter run are those of its start, and not worth a change [s]."""


def waiting_for_data(run: RunSummary) -> Advice | None:
    """The loop waits for batches."""
    if run.data_wait_s is None or run.trained_s < LONG_ENOUGH_S:
        return None
    waited = share(run.data_wait_s, run.trained_s)
    if waited < 0.2:
        return None
    cores, threads = int(run.number("launch.cpus_per_rank", 8)), run.number("data.reader_threads")
    changes = []
    if threads is not None and threads < cores - 1:
        changes.append(Change("data.reader_threads", cores - 1))
    if run.get("data.cache", "none") == "none":
        changes.append(Change("data.cache", "ram"))
    todo = "read from the disk of the node (data.stage), or write a faster layout (hpctrain data repack)"
    return Advice(
        SPEED,
        f"the loop waited for data in {percent(waited)} of {format_duration(run.trained_s)} of steps",
        "reading is slower than computing, so the device has nothing to do meanwhile",
        f"up to {1 / max(1 - waited, 0.05):.1f} times as fast",
        tuple(changes),
        todo,
    )


def no_gpu(run: RunSummary) -> Advice | None:
    """The profile asks for GPUs, and the run trains on a CPU."""
    missing = run.newest(GpuMissing)
    if missing is None:
        return None
    return Advice(
        FAILURE,
        f"launch.gpus_per_node is {missing.gpus_per_node}, and the run trains on the CPU ({missing.reason})",
        "a CPU is many times slower than the GPU that the job holds",
        "the speed of a GPU, or an error at once instead of a slow run",
        (Change("train.device", "cuda"),),
        "install a torch built for CUDA and its driver, or set launch.gpus_per_node: 0",
    )


def idle_gpu(run: RunSummary) -> Advice | None:
    """The GPUs have little to do, and not because of the data."""
    used = run.mean_over_ranks("mean_gpu_utilisation_percent")
    waited = share(run.data_wait_s or 0.0, run.trained_s)
    if not used or run.seconds < LONG_ENOUGH_S or waited >= 0.2:
        return None
    mean = sum(used.values()) / len(used)
    if mean >= 40:
        return None
    size, accumulation = run.get("train.batch_size", 128), int(run.number("train.accumulation", 1))
    changes = (Change("train.batch_size", size * accumulation), Change("train.accumulation", 1))
    larger = isinstance(size, int) and accumulation > 1
    todo = "" if larger else "a larger train.batch_size fills the GPU (train.batch_size: auto finds what fits)"
    return Advice(
        SPEED,
        f"the GPUs were used {mean:.0f} % of the time, and the loop waited for data in {percent(waited)} of it",
        "small batches leave most of a GPU idle between kernels",
        f"up to {min(100 / max(mean, 10), 5):.1f} times as fast",
        changes if larger else (),
        todo,
    )


def waiting_for_checkpoints(run: RunSummary) -> Advice | None:
    """Training stands still while checkpoints are written."""
    part = share(run.blocked_s, run.seconds)
    if run.seconds < LONG_ENOUGH_S or part < 0.05:
        return None
    changes = []
    if run.get("checkpoint.asynchronous", True) is False:
        changes.append(Change("checkpoint.asynchronous", True))
    every = int(run.number("checkpoint.every_steps", 1000))
    factor = max(2, round(part / 0.02))
    changes.append(Change("checkpoint.every_steps", every * factor))
    return Advice(
        SPEED,
        f"training waited {format_duration(run.blocked_s)} for checkpoints, {percent(part)} of the time",
        "each save stops the loop until the state is copied or written",
        f"up to {percent(part)} less time; a stop without warning loses more steps",
        tuple(changes),
    )


def waiting_for_evaluations(run: RunSummary) -> Advice | None:
    """Evaluations take much of the time."""
    part = share(run.evaluation_s, run.trained_s + run.evaluation_s)
    steps, _ = run.evaluated("loss")
    if run.seconds < LONG_ENOUGH_S or part < 0.3 or len(steps) < 3:
        return None
    every = max(1, round((steps[-1] - steps[0]) / (len(steps) - 1)))
    return Advice(
        SPEED,
        f"evaluations took {format_duration(run.evaluation_s)}, {percent(part)} of the time after the first step "
        f"({len(steps)} of them, every {every} steps)",
        "no step is done during an evaluation",
        f"about {percent(part * (1 - 1 / max(2, round(part / 0.1))))} less time",
        (Change("train.evaluate_every_steps", every * max(2, round(part / 0.1))),),
    )


def slow_start(run: RunSummary) -> Advice | None:
    """The time before the first step is a large part of all attempts."""
    part = share(run.start_s, run.seconds + run.start_s)
    starts = run.all_of(FirstStep)
    if run.start_s < LONG_ENOUGH_S or part < 0.2:
        return None
    starting = "the start" if len(starts) == 1 else f"{len(starts)} starts"
    of = starts[-1].of or {}
    largest = max((name for name in of if isinstance(of[name], int | float)), key=lambda name: of[name], default="")
    changes = (Change("train.compile", False),) if run.get("train.compile", False) else ()
    other = "a longer launch.time_limit starts less often; `hpctrain docs staging` keeps copies on the node"
    todo = "" if changes else other
    said = f", most of it in {largest.replace('_', ' ')}" if largest else ""
    return Advice(
        SPEED,
        f"{starting} took {format_duration(run.start_s)} until the first step, {percent(part)} of the time{said}",
        "each attempt pays for its start again",
        f"up to {percent(part)} less time",
        changes,
        todo,
    )


def throttled_by_heat(run: RunSummary) -> Advice | None:
    """The driver slows GPUs down because they are hot."""
    shares = run.mean_over_ranks("mean_gpu_throttled_by_heat")
    hot = {rank: value for rank, value in shares.items() if value >= 0.1}
    if not hot or run.seconds < LONG_ENOUGH_S or len(hot) < max(1, len(shares) / 2):
        return None
    worst = max(hot.values())
    hottest = max(run.mean_over_ranks("max_gpu_temperature_c").values(), default=0.0)
    return Advice(
        SPEED,
        f"GPUs were slowed down by heat in {percent(worst)} of the samples, at up to {hottest:.0f} °C",
        "the driver lowers the clock of a hot GPU",
        "full clock of the GPUs",
        (),
        "tell the administrators of the cooling; a lower power limit (nvidia-smi -pl) costs less than throttling",
    )


def pauses_to_cool(run: RunSummary) -> Advice | None:
    """The run rests because of its own limits of heat or power."""
    measured = max((sum(a.measured_s for a in rank.attempts) for rank in run.ranks), default=0.0)
    rested = max((sum(a.rested_s for a in rank.attempts) for rank in run.ranks), default=0.0)
    part = share(rested, measured)
    if measured < LONG_ENOUGH_S or part < 0.05:
        return None
    changed = run.newest(PaceChanged)
    why = f" (last: {changed.reason})" if changed and changed.reason else ""
    return Advice(
        SPEED,
        f"the run rested {format_duration(rested)}, {percent(part)} of the time{why}",
        "a limit of temperature or power was reached",
        f"up to {percent(part)} less time",
        (),
        "cool the machine better, choose a lower power mode, or raise monitor.thermal_limit_c or "
        "monitor.power_limit_w where the hardware allows it",
    )


def slow_peer(run: RunSummary) -> Advice | None:
    """One node is slower than the others, which wait for it at every step."""
    heat = run.mean_over_ranks("mean_gpu_throttled_by_heat")
    if len(heat) < 2 or run.seconds < LONG_ENOUGH_S:
        return None
    slow = sorted(rank for rank, value in heat.items() if value >= 0.3)
    if not slow or len(slow) >= len(heat) / 2:
        return None
    hosts = {rank.rank: rank.host for rank in run.ranks}
    nodes = sorted({hosts[rank] for rank in slow if hosts[rank]})
    rest = [value for rank, value in heat.items() if rank not in slow]
    if not nodes or set(nodes) == set(hosts.values()):
        changes, todo = (), "ask the administrators to look at these GPUs"
    else:
        changes, todo = (Change("launch.exclude", [*run.get("launch.exclude", []), *nodes]),), ""
    return Advice(
        SPEED,
        f"rank {', '.join(map(str, slow))} on {', '.join(nodes)} was slowed down by heat in "
        f"{percent(max(heat.values()))} of the samples, the others in {percent(max(rest))}",
        "all ranks wait for the slowest one at every step",
        "the speed of the other nodes",
        changes,
        todo,
    )


def staging_failed(run: RunSummary) -> Advice | None:
    """A node could not copy the data to its disk."""
    fell = run.all_of(StageFellBack)
    if not fell:
        return None
    nodes = sorted({event.node or "?" for event in fell})
    return Advice(
        SPEED,
        f"{', '.join(nodes)} read the original files, because staging failed ({fell[-1].reason})",
        "the originals on the shared file system are slower, and all nodes share them",
        "the speed of the disk of the node",
        (),
        "name a folder with more room in data.stage, or stage fewer files",
    )


def steps_done_again(run: RunSummary) -> Advice | None:
    """Much of the work was lost between checkpoints."""
    part = share(run.steps_lost, run.step + run.steps_lost)
    if part < 0.1 or run.steps_lost < 20:
        return None
    every = int(run.number("checkpoint.every_steps", 1000))
    fewer = max(1, every // max(2, round(part / 0.05)))
    state = "" if run.newest(Finished) else " so far"
    return Advice(
        SPEED,
        f"{run.steps_lost} steps were done again after interruptions, {percent(part)} of all{state}",
        "an attempt that is killed loses the steps since its last checkpoint",
        f"about {percent(part * (1 - fewer / every))} less time",
        (Change("checkpoint.every_steps", fewer),),
    )
