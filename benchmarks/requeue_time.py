"""Measure the time from the start of a requeued job's ranks to their first new step, part by part.

    python benchmarks/requeue_time.py [--rounds 5]

The benchmark stops a run of the default network at a checkpoint. Then it repeatedly starts the ranks, as the batch
script does after a requeue, and kills them after their first step. The parts are those of the event ``first_step``,
which every attempt writes. The comparison is a hand-written script in the same round that does only the necessary work
of any trainer: it imports torch and h5py, joins the process group, reads the checkpoint's tensors without verifying
them, and passes them to DistributedDataParallel, which spends another second on imports. It builds no optimiser, reads
no spectra and makes no step.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ranks import make_run, start_ranks
from hpctrain.rundir import RunDir

LAPS = ("import", "profile", "group", "preflight", "build", "load", "warm_up", "first_step")


BARE = """
import os, sys
import h5py, numpy, torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch.nn.parallel import DistributedDataParallel

model = torch.nn.ParameterList(load_file(sys.argv[1]).values())
moments = load_file(sys.argv[2])
if int(os.environ["WORLD_SIZE"]) > 1:
    dist.init_process_group("gloo")
    DistributedDataParallel(model, gradient_as_bucket_view=True)
os._exit(0)
"""


def bare_start_s(checkpoint: Path, world_size: int) -> float:
    """Return the time from the start of the hand-written ranks to the end of the last one [s]."""
    started = time.perf_counter()
    command = ["-c", BARE, str(checkpoint / "model.safetensors"), str(checkpoint / "optimizer.safetensors")]
    processes = start_ranks(command, world_size, quiet=True)
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit("the hand-written script failed")
    return time.perf_counter() - started


def first_step(run: RunDir, world_size: int) -> dict[str, float]:
    """Start the ranks, wait for the first step, kill them, and return the parts of rank 0."""
    known = sum(record.get("event") == "first_step" for record in run.read_metrics("event"))
    processes = start_ranks(["-m", "hpctrain.train", str(run.path)], world_size, quiet=True)
    deadline = time.monotonic() + 120
    try:
        while True:
            events = [record for record in run.read_metrics("event") if record.get("event") == "first_step"]
            if len(events) > known:
                return {**events[-1]["of"], "seconds": events[-1]["seconds"]}
            if processes[0].poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{run.path}: no first step; exit code {processes[0].poll()}")
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def table(rounds: int = 5) -> Iterator[str]:
    """Measure one and two ranks and yield the lines of the table."""
    yield (f"{'resume':<9}" + "".join(f"{lap:>11}" for lap in LAPS) + f"{'total s':>10}{'by hand s':>11}{'ratio':>7}")
    for world_size in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            run = make_run(
                Path(folder),
                "requeue",
                1024,
                ranks=world_size,
                train={"batch_size": 4, "device": "cpu", "max_steps": 1000},
                checkpoint={"every_steps": 2},
            )
            processes = start_ranks(["-m", "hpctrain.train", str(run.path)], world_size, quiet=True)
            while not any(run.checkpoints.glob("step-*")) and processes[0].poll() is None:
                time.sleep(0.2)
            for process in processes:
                process.kill()
                process.wait()
            if not any(run.checkpoints.glob("step-*")):
                raise SystemExit(f"{run.path}: the run made no checkpoint")
            newest = max(run.checkpoints.glob("step-*"))
            found, by_hand, ratios = [], [], []
            for _ in range(rounds):
                by_hand.append(bare_start_s(newest, world_size))
                laps = first_step(run, world_size)
                found.append(laps)
                ratios.append(laps["seconds"] / by_hand[-1])
        middle = {lap: statistics.median(laps[lap] for laps in found) for lap in (*LAPS, "seconds")}
        yield (
            f"{world_size} rank{'s' if world_size > 1 else ' '}  "
            + "".join(f"{middle[lap]:>11.2f}" for lap in LAPS)
            + f"{middle['seconds']:>10.2f}{statistics.median(by_hand):>11.2f}{statistics.median(ratios):>7.2f}"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    for line in table(parser.parse_args().rounds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
