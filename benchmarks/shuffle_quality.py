"""Compare the order of two levels with a uniform shuffle, for a sorted file, which is the worst case.

    python benchmarks/shuffle_quality.py [--num-spectra N] [--chunk-rows R]

hpctrain shuffles compressed files in windows of blocks (docs/data.md). The benchmark applies this order, an exact
shuffle and no shuffle to a file sorted by class and redshift. Neighbours: correlation of the redshifts of one spectrum
and the next. Batch means and class shares: their scatter from batch to batch, in units of that of a uniform shuffle; 1
is as good as an exact shuffle.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hpctrain.samples.order import WindowedOrder, sample_order

BATCH_SIZE = 512


def scatter(values: np.ndarray) -> float:
    """Return the standard deviation of batch means."""
    whole = values[: len(values) // BATCH_SIZE * BATCH_SIZE]
    return float(whole.reshape(-1, BATCH_SIZE).mean(axis=1).std())


def quality(order: np.ndarray) -> tuple[float, float, float]:
    """Return neighbour correlation, scatter of batch means, and scatter of the share of a class of a tenth."""
    redshift = order / len(order)
    is_rare = (redshift > 0.9).astype(float)
    expected_mean = np.sqrt(1 / 12 / BATCH_SIZE)
    expected_share = np.sqrt(0.09 / BATCH_SIZE)
    neighbours = float(np.corrcoef(redshift[:-1], redshift[1:])[0, 1])
    return neighbours, scatter(redshift) / expected_mean, scatter(is_rare) / expected_share


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-spectra", type=int, default=1_000_000)
    parser.add_argument("--chunk-rows", type=int, default=64)
    args = parser.parse_args()
    count, blocks = args.num_spectra, np.arange(0, args.num_spectra, args.chunk_rows)
    positions = np.arange(count)
    orders: dict[str, Callable[[], np.ndarray]] = {"exact": lambda: sample_order(1, count, positions)}
    for window in (1024, 4096, 16384, 65536):
        orders[f"windows of {window}"] = lambda window=window: WindowedOrder(1, count, blocks, window)(positions)
    orders["none, as in the file"] = lambda: positions
    print(f"{count:,} spectra in chunks of {args.chunk_rows}, batches of {BATCH_SIZE}")
    print(f"{'order':22s} {'neighbours':>11s} {'batch means':>12s} {'class shares':>13s}")
    for name, make in orders.items():
        neighbours, means, shares = quality(make())
        print(f"{name:22s} {neighbours:11.4f} {means:12.2f} {shares:13.2f}")


if __name__ == "__main__":
    main()
