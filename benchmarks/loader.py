"""How fast spectra come out of an HDF5 file, next to what the memory allows and to what most people write.

    python benchmarks/loader.py [FILE.h5] [--num-spectra N] [--rounds R]

Readers take turns within each round, on the same file and the same shuffled rows; what counts are ratios to the in-RAM
gather of the same round, as the machine may be busy. Samples per second of CPU time and of wall time; medians. Without
a file, spectra are simulated (DESI grid, 62 kB each). The file is in the page cache; cold disks are another question.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import torch

from hpctrain.ingest.simulate import simulate
from hpctrain.profile.schema import DataSection, SimulateSection
from hpctrain.spectra.hdf5 import open_spectra
from hpctrain.spectra.loader import read_ahead
from hpctrain.spectra.order import sample_order

Reader = Callable[[list[np.ndarray]], Iterator[object]]


class SampleDataset(torch.utils.data.Dataset):
    """What most people write: open the file in the worker, read one spectrum at a time."""

    def __init__(self, path: Path, rows: np.ndarray) -> None:
        self.path, self.rows, self.file = path, rows, None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if self.file is None:
            self.file = h5py.File(self.path)
        row = self.rows[index]
        return self.file["flux"][row], self.file["ivar"][row]


def readers(path: Path, batch_size: int) -> dict[str, Reader]:
    """Return each way to read, by its name; the first one is the reference."""
    with h5py.File(path) as file:
        arrays = [file[name][...] for name in ("flux", "ivar")]
    ring = [np.empty((batch_size, arrays[0].shape[1]), np.float32) for _ in arrays]
    spectra = open_spectra(DataSection(files=[str(path)]))

    def gather(requests: list[np.ndarray]) -> Iterator[object]:
        for rows in requests:
            for array, out in zip(arrays, ring, strict=True):
                np.take(array, rows, axis=0, out=out, mode="clip")
            yield ring

    def by_sample(requests: list[np.ndarray]) -> Iterator[object]:
        dataset = SampleDataset(path, np.concatenate(requests))
        yield from torch.utils.data.DataLoader(dataset, batch_size=batch_size)

    return {
        "in-RAM gather into a reused buffer": gather,
        "hpctrain, read in the loop": lambda requests: read_ahead(spectra, requests, threads=0, depth=4),
        "hpctrain, 1 thread": lambda requests: read_ahead(spectra, requests, threads=1, depth=4),
        "hpctrain, 2 threads": lambda requests: read_ahead(spectra, requests, threads=2, depth=4),
        "h5py a sample at a time in a DataLoader": by_sample,
    }


def measure(path: Path, batch_size: int, num_batches: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return samples per second of CPU and of wall time of each reader in each round."""
    ways = readers(path, batch_size)
    with h5py.File(path) as file:
        num_spectra = len(file["flux"])
    speeds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(-1, rounds):  # the first round warms up
        positions = np.arange(num_batches * batch_size).reshape(num_batches, batch_size)
        requests = [sample_order(number + 1, num_spectra, part) for part in positions]
        for name, way in ways.items():
            # The slow one gets fewer batches, or all the time would go to it.
            some = requests[: max(2, num_batches // 10)] if "h5py" in name else requests
            cpu, wall = time.process_time(), time.perf_counter()
            for _ in way(some):
                pass
            count = len(some) * batch_size
            if number >= 0:
                speeds[name].append((count / (time.process_time() - cpu), count / (time.perf_counter() - wall)))
    return speeds


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--num-spectra", type=int, default=4000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--num-batches", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = args.file
        if path is None:
            path = Path(folder) / "spectra.h5"
            simulate(path, SimulateSection(num_spectra=args.num_spectra))
        speeds = measure(path, args.batch_size, args.num_batches, args.rounds)
    reference = next(iter(speeds.values()))
    print(f"{'reader':42s} {'/ CPU-s':>9s} {'ratio':>6s} {'/ s':>9s} {'ratio':>6s}")
    for name, rounds in speeds.items():
        cells = []
        for kind in (0, 1):
            ratio = statistics.median(one[kind] / base[kind] for one, base in zip(rounds, reference, strict=True))
            cells.append(f"{statistics.median(one[kind] for one in rounds):9,.0f} {ratio:6.3f}")
        print(f"{name:42s} {' '.join(cells)}")


if __name__ == "__main__":
    main()
