"""Measure how fast loaders read shuffled spectra from a file, compared with copying memory.

    python benchmarks/loader.py [--num-spectra N] [--rounds R] [--only TEXT]

Each format has the same spectra (DESI grid, 62 kB each). Readers take turns within each round, on the same shuffled
rows if the format allows it. The machine may be busy, so compare the ratios to the in-memory copy of the same round:
medians of spectra per second of CPU time and of wall time. The benchmark skips loaders that are not installed; the
extra ``benchmark`` installs them. Except for the last table, the files are in the page cache.
"""

from __future__ import annotations

import argparse
import functools
import gc
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import loader_peers
from benchmarks.loader_files import FORMATS, make_files
from benchmarks.loader_peers import Factory, Reader
from benchmarks.loader_probe import print_probes, probe
from hpctrain.kinds.spectra.hdf5 import SpectraSet, open_spectra
from hpctrain.kinds.spectra.section import SpectraSection
from hpctrain.samples.loader import read_ahead
from hpctrain.samples.order import WindowedOrder, sample_order

BATCH_SIZE = 128
WINDOW = 2048


def open_file(path: Path) -> SpectraSet:
    """Open a file as the trainer does."""
    spectra = open_spectra(SpectraSection(files=[str(path)]))
    if spectra.decoded_bytes:
        spectra.keep_window(WINDOW)
    return spectra


def requests(spectra: SpectraSet, epoch: int, first: int = 0) -> Iterator[np.ndarray]:
    """Yield the rows of each whole batch of an epoch, from the batch `first` on, in the order of the trainer.

    For compressed files, epochs alternate between the two halves of the file. The loader keeps two windows decoded, and
    in such a small file these would be half of the next epoch.
    """
    rows = np.arange(len(spectra))
    order = functools.partial(sample_order, 1, len(rows))
    if spectra.decoded_bytes:
        rows = np.array_split(rows, 2)[epoch % 2]
        order = WindowedOrder(1, len(rows), spectra.blocks(rows), WINDOW)
    for start in range(first * BATCH_SIZE, len(rows) - BATCH_SIZE + 1, BATCH_SIZE):
        yield rows[order(epoch * len(rows) + start + np.arange(BATCH_SIZE))]


def ours(path: Path, threads: int) -> Reader:
    """Return our loader with a number of threads; 0 reads in the consumer's thread."""
    spectra = open_file(path)
    return Reader(lambda epoch, first, _: read_ahead(spectra, requests(spectra, epoch, first), threads, depth=4))


def in_memory(path: Path) -> Reader:
    """Return the reference, which copies rows of arrays in memory into a ring of reused buffers."""
    import h5py

    with h5py.File(path) as file:
        arrays = [file[name][...] for name in ("flux", "ivar")]
    ring = [[np.empty((BATCH_SIZE, arrays[0].shape[1]), np.float32) for _ in arrays] for _ in range(6)]
    spectra = open_file(path)

    def gather(epoch: int, first: int, _state: object) -> Iterator[object]:
        for number, rows in enumerate(requests(spectra, epoch, first)):
            for array, out in zip(arrays, ring[number % len(ring)], strict=True):
                np.take(array, rows, axis=0, out=out, mode="clip")
            yield ring[number % len(ring)]

    return Reader(gather)


def decoder_alone(path: Path, threads: int) -> Reader:
    """Return a reader that only decodes each chunk of the file once, on a number of threads, into reused memory.

    It copies nothing to a batch.
    """
    spectra = open_file(path)
    readers = [getattr(spectra._files[0], name)._decoded for name in ("flux", "ivar")]
    per_batch = max(1, BATCH_SIZE // readers[0].band_rows)

    def decode(_epoch: int) -> Iterator[object]:
        with ThreadPoolExecutor(threads) as pool:
            bands = [(reader, band) for band in range(len(readers[0]._table.offset)) for reader in readers]
            for _ in pool.map(lambda item: item[0]._read_band(item[1]).size, bands):
                pass
        yield from range(len(spectra) // BATCH_SIZE // per_batch)

    return Reader(decode, resumes=False)


def readers(files: dict[str, Path], cores: int) -> dict[str, Factory]:
    """Return the readers by name; the first one is the reference."""
    found: dict[str, Factory] = {"in-memory copy into a ring of buffers": lambda: in_memory(files["contiguous"])}
    for name, path in files.items():
        if name not in FORMATS:
            continue
        if open_file(path).decoded_bytes:
            found[f"{name}: decoder alone, {cores} threads"] = functools.partial(decoder_alone, path, cores)
        for threads in (0, 1, 2):
            found[f"{name}: hpctrain, {threads} threads"] = functools.partial(ours, path, threads)
    return found | loader_peers.readers(files, BATCH_SIZE)


def measure(ways: dict[str, Reader], count: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return spectra per second of CPU time and of wall time for each reader in each round."""
    speeds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(-1, rounds):  # the first round warms up
        for name, way in ways.items():
            cpu_s, wall = _cpu_s(), time.perf_counter()
            seen = 0
            for _ in way(number + 1):
                seen += BATCH_SIZE
                # Slow readers get only two seconds, but each reads more than the prefetched batches.
                if time.perf_counter() - wall > 2.0 and seen >= 4 * BATCH_SIZE:
                    break
            if "alone" in name:
                seen = count // BATCH_SIZE * BATCH_SIZE
            cpu_s, wall_s = _cpu_s() - cpu_s, time.perf_counter() - wall
            if number >= 0:
                speeds[name].append((seen / cpu_s, seen / wall_s))
    return speeds


def _cpu_s() -> float:
    """Return CPU time [s] of this process and of its children that have ended."""
    of_children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + of_children.ru_utime + of_children.ru_stime


def print_speeds(speeds: dict[str, list[tuple[float, float]]]) -> None:
    """Print medians of the rounds and of their ratios to the first reader."""
    reference = next(iter(speeds.values()))
    print(f"{'reader':52s} {'/ CPU-s':>9s} {'ratio':>6s} {'/ s':>9s} {'ratio':>6s}")
    for name, rounds in speeds.items():
        cells = []
        for kind in (0, 1):
            ratio = statistics.median(one[kind] / base[kind] for one, base in zip(rounds, reference, strict=True))
            cells.append(f"{statistics.median(one[kind] for one in rounds):9,.0f} {ratio:6.3f}")
        print(f"{name:52s} {' '.join(cells)}")


def print_depths(path: Path) -> None:
    """Print how long a consumer waits for batches, for several numbers of prefetched batches.

    The consumer imitates a GPU: it uses no core and on average takes as long as reading does, with variations.
    """
    spectra = open_file(path)
    rows = list(requests(spectra, 0))
    started = time.perf_counter()
    for _ in read_ahead(spectra, rows, 2, depth=4):
        pass
    pace_s = (time.perf_counter() - started) / len(rows)
    work_s = 1.25 * pace_s * np.random.default_rng(1).lognormal(0.0, 0.5, len(rows))
    print(f"\n{'prefetched':>10s} {'waited for batches':>19s}")
    for depth in (1, 2, 4, 8, 16):
        waited = []
        for _ in range(3):
            batches = read_ahead(spectra, rows, 2, depth)
            waiting_s = 0.0
            for busy_s in work_s:
                asked = time.perf_counter()
                next(batches)
                waiting_s += time.perf_counter() - asked
                time.sleep(busy_s)
            batches.close()
            waited.append(waiting_s / (waiting_s + work_s.sum()))
        print(f"{depth:10d} {100 * statistics.median(waited):17.1f} %")


def print_cold(path: Path, rounds: int) -> None:
    """Print the speed of reading shuffled rows from disk, compared with a sequential read of the same file."""
    ratios, speeds = [], []
    size = path.stat().st_size
    for number in range(rounds):
        if not _drop(path):
            print("\ncold cache: this file system keeps its pages (tmpfs?); not measured")
            return
        started = time.perf_counter()
        with open(path, "rb", buffering=0) as stream:
            while stream.read(1 << 22):
                pass
        sequential = size / (time.perf_counter() - started)
        _drop(path)
        ratios.append(_shuffled_bytes_per_s(path, number) / sequential)
        gc.collect()  # mapped pages cannot be dropped
        speeds.append(sequential)
    print(
        f"\ncold cache, {path.name}: {statistics.median(speeds) / 1e9:.2f} GB/s sequential, "
        f"shuffled {statistics.median(ratios):.2f} of that"
    )


def _shuffled_bytes_per_s(path: Path, epoch: int) -> float:
    spectra = open_file(path)
    started, seen = time.perf_counter(), 0
    for _ in read_ahead(spectra, requests(spectra, epoch), 2, depth=4):
        seen += BATCH_SIZE
    return path.stat().st_size * seen / len(spectra) / (time.perf_counter() - started)


def _drop(path: Path) -> bool:
    """Drop a file from the page cache; return whether the system did so."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        started = time.perf_counter()
        os.pread(descriptor, 1 << 24, 1 << 24)
        return time.perf_counter() - started > 4e-3 or path.stat().st_size < 1 << 25
    finally:
        os.close(descriptor)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-spectra", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="only readers whose name contains this text, and the reference")
    parser.add_argument("--folder", type=Path, help="folder of the files, which are kept for the next time")
    parser.add_argument("--probe", help=argparse.SUPPRESS)
    parser.add_argument("--cold", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.cold:
        print_cold(args.cold, args.rounds)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        files = make_files(folder, args.num_spectra)
        factories = readers(files, len(os.sched_getaffinity(0)))
        if args.probe:
            probe(factories[args.probe], args.probe, args.num_spectra // BATCH_SIZE // 4)
            return
        reference = next(iter(factories))
        wanted = [name for name in factories if name == reference or args.only in name]
        print_speeds(measure({name: factories[name]() for name in wanted}, args.num_spectra, args.rounds))
        sys.stdout.flush()
        others = [name for name in wanted if "alone" not in name and "1 threads" not in name]
        print_probes(others, folder, args.num_spectra)
        if not args.only:
            print_depths(files["contiguous"])
            # Use a separate process, because files that this process maps stay in the page cache.
            command = [sys.executable, __file__, "--rounds", str(args.rounds), "--cold", str(files["contiguous"])]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
