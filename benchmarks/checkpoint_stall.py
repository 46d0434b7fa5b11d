"""Measure how long training pauses for a checkpoint, and how much writing in the background slows it down.

    python benchmarks/checkpoint_stall.py [--megabytes 200 1000]

The state is float32 tensors of 4 MB. "Ours" is the writer of hpctrain: it copies to its own host buffers, and a thread
computes SHA-256, writes and calls fsync. The benchmark compares it with the copy alone into the same kind of buffers,
with ``torch.save`` to the same disk, and with ``torch.save`` and fsync, which a file needs to survive a power cut. The
loop beside it computes matrix products on one thread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hpctrain.checkpoint.lease import take_lease
from hpctrain.checkpoint.writer import CheckpointWriter
from hpctrain.metrics.events import CheckpointSaved
from hpctrain.profile.sections.train import CheckpointSection
from hpctrain.rundir import RunDir


def measure(megabytes: int, rounds: int, folder: Path, device: str = "cpu") -> dict[str, list[float]]:
    """Return the times of each way to save, and of a fixed computation alone and beside the writer [s].

    On a GPU, the copies go to page-locked memory and the computation runs on the GPU.
    """
    is_gpu, count = device != "cpu", max(1, round(megabytes * 1e6 / 2**22))
    live = {f"weights.{index}": torch.randn(1024, 1024, device=device) for index in range(count)}
    buffers = {name: torch.empty(1024, 1024, pin_memory=is_gpu) for name in live}
    run = RunDir(folder / "run")
    run.make_folders()
    attempt = take_lease(run, {"world_size": 1})
    reports: list[CheckpointSaved] = []
    writer = CheckpointWriter(run, CheckpointSection(keep_last=1), attempt, lambda event, step: reports.append(event))
    one, other = torch.randn(64, 256, device=device), torch.randn(256, 256, device=device)

    def products_s(until: Callable[[], bool]) -> float:
        """Return the median time of 20 matrix products and one iteration of Python [s]."""
        spent: list[float] = []
        while not until():
            started = time.perf_counter()
            for _ in range(20):
                torch.mm(one, other)
            if is_gpu:
                torch.cuda.synchronize()
            spent.append(time.perf_counter() - started)
        return statistics.median(spent) if spent else float("nan")

    found: dict[str, list[float]] = {
        name: [] for name in ("copy", "ours", "torch", "torch+fsync", "write", "work", "work beside")
    }
    for number in range(-1, rounds):
        times: dict[str, float] = {}
        started = time.perf_counter()
        for name, value in live.items():
            buffers[name].copy_(value, non_blocking=True)
        if is_gpu:
            torch.cuda.synchronize()
        times["copy"] = time.perf_counter() - started
        for way in ("torch", "torch+fsync"):
            path = folder / "torch.pt"
            path.unlink(missing_ok=True)
            started = time.perf_counter()
            with open(path, "wb") as stream:
                torch.save(live, stream)
                stream.flush()
                if way == "torch+fsync":
                    os.fsync(stream.fileno())
            times[way] = time.perf_counter() - started
        path.unlink()
        os.sync()
        enough_s = time.perf_counter() + 1.0
        times["work"] = products_s(lambda limit_s=enough_s: time.perf_counter() > limit_s)
        started = time.perf_counter()
        writer.save(number + 2, {"model": live}, {"progress": {}}, None, wait=False)
        times["ours"] = time.perf_counter() - started
        writing = [thread for thread in threading.enumerate() if thread.name == "checkpoint-writer"]
        times["work beside"] = products_s(lambda threads=writing: not any(thread.is_alive() for thread in threads))
        writer.finish()
        times["write"] = reports[-1].seconds
        if number >= 0:  # the first round makes the buffers
            for name, value in times.items():
                found[name].append(value)
    return found


def table(sizes: tuple[int, ...] = (200, 1000), rounds: int = 5) -> Iterator[str]:
    """Measure all sizes and yield the lines of the table."""
    torch.set_num_threads(1)
    yield (
        f"{'state':<9}{'copy ms':>9}{'ours ms':>9}{'ours/copy':>11}{'torch.save ms':>15}{'+ fsync ms':>12}"
        f"{'whole write s':>15}{'loop beside the writer':>24}"
    )
    for megabytes in sizes:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(megabytes, rounds, Path(folder))
        middle = {name: statistics.median(values) for name, values in found.items()}
        against_copy = statistics.median(a / b for a, b in zip(found["ours"], found["copy"], strict=True))
        slower = statistics.median(a / b for a, b in zip(found["work beside"], found["work"], strict=True))
        yield (
            f"{megabytes:>4} MB  {1000 * middle['copy']:>9.0f}{1000 * middle['ours']:>9.0f}{against_copy:>11.2f}"
            f"{1000 * middle['torch']:>15.0f}{1000 * middle['torch+fsync']:>12.0f}{middle['write']:>15.2f}"
            f"{slower:>22.2f} x"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[200, 1000])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    for line in table(tuple(args.megabytes), args.rounds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
