"""Measure the time of a step, compared with that of a minimal hand-written loop with the same network and batches.

    python benchmarks/step_time.py [--rounds 9] [--only tiny-1]

The hand-written loop takes batches in memory, normalises them, and does forward, backward, clipping, AdamW and the
learning rate of the schedule; it logs nothing and never reads a number from the device. Ours does the same with all
features on: sums over ranks, the agreement to stop, metrics and TensorBoard at their defaults, histograms, heartbeat,
watchdog, checkpoints; once with the batches in memory, once from the HDF5 file. The loops alternate in one process, and
ratios are those within a round, so that other load on the machine affects all loops alike.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ranks import build_here, make_run, ratio, run_ranks
from hpctrain.rundir import RunDir

SMALL_NETWORK = {
    "latent_size": 4,
    "encoder_channels": [8],
    "encoder_kernels": [5],
    "encoder_hidden": [],
    "decoder_hidden": [16],
}
CASES = {
    # name: (ranks, pixels, spectra per batch and rank, model, steps per round, steps between checkpoints)
    "tiny, 1 rank": (1, 64, 4, SMALL_NETWORK, 500, 500),
    "tiny, 2 ranks": (2, 64, 4, SMALL_NETWORK, 300, 300),
    "real, 1 rank": (1, 512, 16, {}, 8, 40),
    "real, 2 ranks": (2, 512, 16, {}, 8, 40),
}
LOOPS = ("bare", "bare, fused", "ours, batches in memory", "ours, from HDF5")


def measure(path: str, steps: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return the time of a step [s], (wall, CPU of the training thread), of each loop and round; runs as one rank."""
    import numpy as np
    import torch

    from hpctrain.train.loop import Boundary, read_batches

    torch.set_num_threads(1)
    run = build_here(RunDir(path))
    profile, world = run.profile, run.world
    boundary = Boundary(run)
    rng = np.random.default_rng(world.rank)
    kept = [
        run.data.samples.read(rng.choice(run.data.train_rows, profile.train.batch_size))
        for _ in range(min(32, max(4, steps)))
    ]

    def ours(batches: Iterator) -> None:
        for _ in range(steps):  # the loop of hpctrain.train.loop.train
            result = run.update(run.progress.step, batches)
            run.progress.step = result.step
            boundary.pass_through(result)

    in_memory, from_file = itertools.cycle(kept), read_batches(run)
    loops: dict[str, Callable[[], None]] = {
        "bare": bare_loop(run, kept, steps, fused=False),
        "bare, fused": bare_loop(run, kept, steps, fused=True),
        "ours, batches in memory": lambda: ours(in_memory),
        "ours, from HDF5": lambda: ours(from_file),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in loops}
    for number in range(-1, rounds):
        names = list(loops)
        for name in names[number % len(names) :] + names[: number % len(names)]:  # no loop always follows the same one
            wall_s, cpu_s = time.perf_counter(), time.thread_time()
            loops[name]()
            if number >= 0:
                times[name].append(((time.perf_counter() - wall_s) / steps, (time.thread_time() - cpu_s) / steps))
    return times


def bare_loop(run, kept: list, steps: int, fused: bool) -> Callable[[], None]:
    """Return the hand-written loop as a function without arguments that does `steps` steps on the run's device."""
    import torch
    from torch.nn.parallel import DistributedDataParallel

    from hpctrain.families.spectral_vae.network import SpectralVAE
    from hpctrain.kinds.spectra.transform import normalise
    from hpctrain.train.arithmetic import AUTOCAST

    profile, total, kind = run.profile, run.schedule.total_steps, run.device.type
    model = SpectralVAE(profile.model, run.data.facts).to(run.device)
    dtype = AUTOCAST.get(profile.train.precision)
    scaler = torch.amp.GradScaler(kind, enabled=profile.train.precision == "fp16")
    if run.world.world_size > 1:
        model = DistributedDataParallel(model, gradient_as_bucket_view=True)
    parameters = list(model.parameters())
    train = profile.train
    optimizer = torch.optim.AdamW(parameters, lr=train.learning_rate, weight_decay=train.weight_decay, fused=fused)
    batches, count = itertools.cycle(kept), itertools.count()

    def loop() -> None:
        for _ in range(steps):
            step = next(count)
            warm = min(1.0, (step + 1) / max(1, train.warmup(total)))
            for group in optimizer.param_groups:
                group["lr"] = train.learning_rate * warm * 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / total)))
            with torch.autocast(kind, dtype=dtype, enabled=dtype is not None):
                sums = model(normalise(next(batches), profile.data.normalise), step)
            loss = sums["loss_sum"] / sums["weight_sum"].clamp(min=1.0)
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(parameters, train.clip_norm)
            scaler.step(optimizer)
            scaler.update()

    return loop


def table(rounds: int = 9, only: str = "") -> Iterator[str]:
    """Measure all cases and yield the lines of the table."""
    columns = (
        "fused/bare",
        "memory/bare",
        "HDF5/bare",
        "memory/fused",
        "HDF5/fused",
        "CPU memory/fused",
        "CPU HDF5/fused",
    )
    yield (f"{'update':<15}{'bare ms':>8}" + "".join(f"{column:>18}" for column in columns))
    for name, (world_size, num_pixels, batch_size, model, steps, every) in CASES.items():
        if not name.startswith(only):
            continue
        with tempfile.TemporaryDirectory() as folder:
            run = make_run(
                Path(folder),
                "step-time",
                num_pixels,
                ranks=world_size,
                model=model,
                train={"batch_size": batch_size, "epochs": 100000, "evaluate_every_steps": 10**8, "device": "cpu"},
                checkpoint={"every_steps": every},
            )
            times = run_ranks([__file__, "--rank", str(run.path), str(steps), str(rounds)], world_size)
        wall = {loop: [one[0] for one in times[loop]] for loop in LOOPS}
        cpu = {loop: [one[1] for one in times[loop]] for loop in LOOPS}
        bare, fused, memory, file = LOOPS
        cells = [
            ratio(wall[fused], wall[bare]),
            ratio(wall[memory], wall[bare]),
            ratio(wall[file], wall[bare]),
            ratio(wall[memory], wall[fused]),
            ratio(wall[file], wall[fused]),
            ratio(cpu[memory], cpu[fused]),
            ratio(cpu[file], cpu[fused]),
        ]
        yield (f"{name:<15}{1000 * statistics.median(wall[bare]):>8.2f}" + "".join(f"{c:>18}" for c in cells))


def main() -> None:
    """Print the table, or measure as one rank if this program has started itself as a rank."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each loop (default: 9)")
    parser.add_argument("--only", default="", help="cases whose names begin with this text, such as tiny")
    parser.add_argument("--rank", nargs=3, metavar=("RUN", "STEPS", "ROUNDS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rank is None:
        for line in table(args.rounds, args.only):
            print(line, flush=True)
        return
    print(json.dumps(measure(args.rank[0], int(args.rank[1]), int(args.rank[2]))), flush=True)
    from hpctrain.distributed.group import leave

    leave(0)


if __name__ == "__main__":
    main()
