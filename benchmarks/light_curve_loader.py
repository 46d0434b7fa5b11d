"""Measure how fast light curves are read in shuffled batches, compared with copies of arrays in memory.

    python -m benchmarks.light_curve_loader [--num-curves N] [--rounds R] [--step-rounds R]

Four readers take turns on the same rows: ours (from a map of the file); a gather of the ragged arrays in memory, curve
by curve, into padded arrays, with times from the first point; a gather of rows that were padded to the longest curve of
the set beforehand; and the same, cut to the longest curve of the batch. Curves per second of CPU time, medians over the
rounds, and the ratio to the ragged gather of the same round. The file is in the page cache.

Then a small network learns from batches in random order and from those of ``data.buckets``, in turns: the share of the
points of a batch that are padding, and the CPU time of a step (reading, forward and backward pass, update).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch

from hpctrain.families.light_curve_transformer.family import FAMILY
from hpctrain.families.light_curve_transformer.section import LightCurveTransformerSection
from hpctrain.kinds.light_curves.kind import KIND
from hpctrain.kinds.light_curves.section import LightCurveSection, SimulateCurvesSection
from hpctrain.samples.order import BucketedOrder, sample_order

BATCH_SIZE = 128
STEP_BATCH = 32
"""Curves of a step of the network."""
NUM_STEPS = 40
BUCKETS = 16
"""Batches that are sorted together."""
NAMES = ("time", "value", "error", "band")
DTYPES = {"time": np.float32, "value": np.float32, "error": np.float32, "band": np.int16}
Reader = Callable[[np.ndarray], object]
Order = Callable[[np.ndarray], np.ndarray]


def ours(path: Path) -> Reader:
    """Return the reader of the trainer."""
    return KIND.open(LightCurveSection(files=[str(path)], bands=["g", "r", "i"])).read


def in_memory(path: Path) -> dict[str, Reader]:
    """Return the readers of arrays in memory."""
    with h5py.File(path) as file:
        offsets = file["offsets"][...]
        arrays = {name: file[name][...] for name in NAMES}
    counts = np.diff(offsets)
    whole = {name: _padded(arrays[name], offsets, int(counts.max()), DTYPES[name]) for name in NAMES}

    def ragged(rows: np.ndarray) -> dict[str, torch.Tensor]:
        width, begins, ends = int(counts[rows].max()), offsets[rows].tolist(), offsets[rows + 1].tolist()
        found = {}
        for name in NAMES:
            out, source = np.zeros((len(rows), width), DTYPES[name]), arrays[name]
            for number, (begin, end) in enumerate(zip(begins, ends, strict=True)):
                piece = source[begin:end]
                out[number, : end - begin] = piece - piece[0] if name == "time" else piece
            found[name] = torch.from_numpy(out)
        return found

    def padded(rows: np.ndarray) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(np.take(whole[name], rows, axis=0)) for name in NAMES}

    def cut(rows: np.ndarray) -> dict[str, torch.Tensor]:
        width = int(counts[rows].max())
        return {name: torch.from_numpy(whole[name][rows, :width]) for name in NAMES}

    return {"ragged gather in memory": ragged, "rows padded beforehand": padded, "the same, cut": cut}


def _padded(values: np.ndarray, offsets: np.ndarray, width: int, dtype: type) -> np.ndarray:
    out = np.zeros((len(offsets) - 1, width), dtype)
    for number, (begin, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        out[number, : end - begin] = values[begin:end]
    return out


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-curves", type=int, default=10_000)
    parser.add_argument("--points-per-band", type=float, default=25.0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--step-rounds", type=int, default=3, help="rounds of the network; 0 leaves it out (3)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "curves.h5"
        KIND.make(path, SimulateCurvesSection(num_curves=args.num_curves, points_per_band=args.points_per_band))
        memory = in_memory(path)
        readers = {"hpctrain": ours(path), **memory}
        speeds: dict[str, list[float]] = {name: [] for name in readers}
        for number in range(-1, args.rounds):  # the first round warms up
            order = sample_order(1, args.num_curves, (number + 1) * args.num_curves + np.arange(args.num_curves))
            batches = order[: len(order) // BATCH_SIZE * BATCH_SIZE].reshape(-1, BATCH_SIZE)
            for name, read in readers.items():
                began_s = time.process_time()
                for rows in batches:
                    read(rows)
                if number >= 0:
                    speeds[name].append(batches.size / (time.process_time() - began_s))
        reference = speeds["ragged gather in memory"]
        print("| reader | curves per second of CPU time | ratio to the ragged gather |")
        print("|---|---|---|")
        for name, found in speeds.items():
            ratio = statistics.median(a / b for a, b in zip(found, reference, strict=True))
            print(f"| {name} | {statistics.median(found):,.0f} | {ratio:.2f} |")
        if args.step_rounds:
            print()
            compare_orders(path, args.num_curves, args.step_rounds)


def compare_orders(path: Path, num_curves: int, rounds: int) -> None:
    """Print the padding and the CPU time of a step for batches in random order and in buckets."""
    samples = KIND.open(LightCurveSection(files=[str(path)], bands=["g", "r", "i"]))
    rows = np.arange(num_curves)
    lengths = samples.lengths(rows)
    label = {"column": "class", "kind": "class"}
    section = LightCurveTransformerSection(family="light_curve_transformer", width=32, labels=[label])
    section = FAMILY.settle(section, samples, rows)
    samples.labels = FAMILY.labels(section, samples)
    orders: dict[str, Order] = {
        "random order": lambda positions: sample_order(1, num_curves, positions),
        f"data.buckets: {BUCKETS}": BucketedOrder(1, lengths, STEP_BATCH, BUCKETS),
    }
    padding: dict[str, list[float]] = {name: [] for name in orders}
    step_ms: dict[str, list[float]] = {name: [] for name in orders}
    network = FAMILY.network(section, KIND.facts(samples, rows))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    prepare = KIND.preparation(LightCurveSection(files=[str(path)], bands=["g", "r", "i"]).card_entries)
    for number in range(-1, rounds):  # the first round warms up
        positions = (number + 1) * NUM_STEPS * STEP_BATCH + np.arange(NUM_STEPS * STEP_BATCH)
        for name, order in orders.items():
            filled = total = 0
            began_s = time.process_time()
            for chosen in order(positions).reshape(NUM_STEPS, STEP_BATCH):
                batch = prepare(samples.read(chosen))
                sums = network(batch)
                (sums["loss_sum"] / sums["weight_sum"]).backward()
                optimizer.step()
                optimizer.zero_grad()
                filled, total = filled + int(batch.exists.sum()), total + batch.exists.numel()
            if number >= 0:
                step_ms[name].append(1000 * (time.process_time() - began_s) / NUM_STEPS)
                padding[name].append(1 - filled / total)
    reference = step_ms["random order"]
    print(f"| batches of {STEP_BATCH} | padding | CPU time of a step [ms] | ratio |")
    print("|---|---|---|---|")
    for name in orders:
        ratio = statistics.median(a / b for a, b in zip(step_ms[name], reference, strict=True))
        middle = statistics.median(step_ms[name])
        print(f"| {name} | {statistics.mean(padding[name]):.0%} | {middle:.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
