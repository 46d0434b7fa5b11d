"""Measure in a few seconds, on a small part of the files, how fast this machine reads spectra from this disk."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpctrain.kinds.spectra.hdf5 import SpectraSet
from hpctrain.samples.chunks import ChunkTable
from hpctrain.samples.filters import Pipeline
from hpctrain.samples.library import open_library_file
from hpctrain.samples.loader import read_ahead
from hpctrain.samples.order import WindowedOrder, sample_order
from hpctrain.storage.layout import ColumnLayout
from hpctrain.storage.opening import files_of

LIMIT_S = 1.5
"""Of each measurement."""

_SEQUENTIAL_BYTES = 512 * 2**20
_READ_BYTES = 8 * 2**20
_SAMPLE_ROWS = 4096
_WINDOW_ROWS = 512
_SEED = 20
_FOLIO_BYTES = 2 * 2**20
"""Largest piece of a file in the page cache, which drops only whole pieces."""


@dataclass(frozen=True)
class Speed:
    """One measurement.

    Parameters
    ----------
    bytes_per_s : float
        Bytes of decoded values if rows are read; bytes of the file if the disk is measured.
    spectra_per_s : float, optional
    cached : float
        Fraction of the bytes that were already in memory, 0 to 1; NaN if the system does not report it.
    """

    bytes_per_s: float
    spectra_per_s: float | None = None
    cached: float = 1.0


def measure_memory_copy() -> Speed:
    """Measure the copying of large arrays on one core; each byte counts once."""
    source = np.ones(64 * 2**20 // 8)
    target = np.empty_like(source)
    best_s, began_s = np.inf, time.perf_counter()
    while time.perf_counter() - began_s < LIMIT_S / 5:
        start_s = time.perf_counter()
        np.copyto(target, source)
        best_s = min(best_s, time.perf_counter() - start_s)
    return Speed(source.nbytes / best_s)


def measure_disk(path: Path) -> Speed:
    """Read a part from the middle of a file in order, after asking the system to drop it from memory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        begin = max(0, (size - _SEQUENTIAL_BYTES) // 2) // mmap.PAGESIZE * mmap.PAGESIZE
        end = min(size, begin + _SEQUENTIAL_BYTES)
        _forget(descriptor, [(begin, end - begin)])
        cached = _cached_share(descriptor, [(begin, end - begin)])
        buffer = memoryview(bytearray(_READ_BYTES))
        done, start_s, took_s = 0, time.perf_counter(), 0.0
        while begin + done < end and took_s < LIMIT_S:
            done += os.preadv(descriptor, [buffer[: min(_READ_BYTES, end - begin - done)]], begin + done)
            took_s = time.perf_counter() - start_s
        return Speed(done / max(took_s, 1e-9), cached=cached)
    finally:
        os.close(descriptor)


def measure_rows(spectra: SpectraSet, layouts: dict[Path, list[ColumnLayout]], threads: int) -> tuple[Speed, Speed]:
    """Read rows in the order of a training run, first from disk, then repeatedly.

    Parameters
    ----------
    spectra : SpectraSet
        A set from which nothing has been read, because mapped pages cannot be dropped from memory.
    layouts : dict
        Layout of the pixel columns of each file, by path.
    threads : int
        Number of threads that prefetch.

    Returns
    -------
    cold, warm : Speed
        Speeds of the first and of the repeated reading. The second excludes the time until the first batch. It is that
        of the same rows, unless rows have to be decoded each time.
    """
    order, num_rows, window = _order(spectra)
    places: dict[Path, list[tuple[int, int]]] = {
        path: _places(path, columns, rows)
        for path, columns, rows in _split(spectra, layouts, order(np.arange(num_rows)))
    }
    cached = [_forget_and_look(path, pieces) for path, pieces in places.items() if pieces]
    if any(column.way == "libhdf5" for columns in layouts.values() for column in columns):
        threads = 0
    cold = _time(spectra, _requests(order, num_rows, 32), threads)
    again = max(1, cold.num_rows)
    if spectra.decoded_bytes:
        # Begin where the first reading ended, because the reader keeps the rows that it decoded last.
        warm = _time(spectra, _requests(order, None, 128, cold.num_rows), threads, skipped=window)
    else:
        seen = itertools.cycle(_requests(order, again, 128))
        warm = _time(spectra, seen, threads, skipped=min(again, 256))
    share = float(np.mean(cached)) if cached else float("nan")
    return Speed(cold.bytes_per_s, cold.spectra_per_s, share), Speed(warm.bytes_per_s, warm.spectra_per_s)


def measure_decoding(path: Path, layout: ColumnLayout) -> Speed | None:
    """Decode chunks of one column on one core; return None if it is not compressed or only libhdf5 can decode it."""
    if layout.way != "decoded" or not layout.filters:
        return None
    with open_library_file(path) as library:
        dataset = library[layout.name]
        pipeline, table = Pipeline.of(dataset), ChunkTable.of(dataset)
        out = np.empty(int(np.prod(dataset.chunks)) * dataset.dtype.itemsize, np.uint8)
        places = np.flatnonzero(table.offset.reshape(-1) >= 0)
    done, took_s = 0, 0.0
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for place in places[np.linspace(0, len(places) - 1, min(len(places), 256)).astype(np.int64)].tolist():
            offset, size = int(table.offset.flat[place]), int(table.num_bytes.flat[place])
            stored = np.frombuffer(os.pread(descriptor, size, offset), np.uint8)
            start_s = time.perf_counter()
            pipeline.decode_into(stored, out, int(table.skipped.flat[place]))
            took_s += time.perf_counter() - start_s
            done += out.size
            if took_s > LIMIT_S / 3:
                break
    finally:
        os.close(descriptor)
    return Speed(done / max(took_s, 1e-9)) if done else None


def _order(spectra: SpectraSet) -> tuple[Callable[[np.ndarray], np.ndarray], int, int]:
    """Return the rows of a run as a function of the position, the number to read from the disk, and the window size."""
    num_spectra = len(spectra)
    if not spectra.decoded_bytes:
        return lambda positions: sample_order(_SEED, num_spectra, positions), min(num_spectra, _SAMPLE_ROWS), 0
    # Windows are smaller than in training, so that the short measurement covers several of them.
    window = min(_WINDOW_ROWS, max(64, num_spectra // 4))
    spectra.keep_window(window)
    blocks = spectra.blocks(np.arange(num_spectra))
    return WindowedOrder(_SEED, num_spectra, blocks, window), min(num_spectra, 4 * window), window


def _requests(
    order: Callable[[np.ndarray], np.ndarray], num_rows: int | None, batch_size: int, first: int = 0
) -> Iterator[np.ndarray]:
    """Yield the rows of batches; without a number, yield them without end."""
    for begin in itertools.count(first, batch_size):
        end = begin + batch_size if num_rows is None else min(begin + batch_size, num_rows)
        if end <= begin:
            return
        yield order(np.arange(begin, end))


def _split(
    spectra: SpectraSet, layouts: dict[Path, list[ColumnLayout]], rows: np.ndarray
) -> Iterable[tuple[Path, list[ColumnLayout], np.ndarray]]:
    start = 0
    for file in files_of(spectra):
        here = rows[(rows >= start) & (rows < start + len(file))] - start
        start += len(file)
        if file.path in layouts:
            yield file.path, layouts[file.path], here


def _places(path: Path, columns: list[ColumnLayout], rows: np.ndarray) -> list[tuple[int, int]]:
    """Return the pieces of the file that contain rows, as first byte and length, in whole pages."""
    found: set[tuple[int, int]] = set()
    with open_library_file(path) as library:
        for column in columns:
            if column.offset is not None:
                row_bytes = column.shape[1] * column.item_bytes
                begins = column.offset + rows * row_bytes
                found.update((int(begin), row_bytes) for begin in begins)
            elif column.chunks is not None and column.way in ("chunks", "decoded"):
                table = ChunkTable.of(library[column.name])
                bands = np.unique(rows // column.chunks[0])
                offset, size = table.offset[bands].reshape(-1), table.num_bytes[bands].reshape(-1)
                found.update((int(at), int(length)) for at, length in zip(offset, size, strict=True) if at >= 0)
    pieces: list[tuple[int, int]] = []
    for at, length in sorted(found):
        begin, end = at // _FOLIO_BYTES * _FOLIO_BYTES, -(-(at + length) // _FOLIO_BYTES) * _FOLIO_BYTES
        if pieces and begin <= pieces[-1][0] + pieces[-1][1]:
            begin, end = pieces[-1][0], max(end, pieces[-1][0] + pieces[-1][1])
            pieces.pop()
        pieces.append((begin, end - begin))
    return pieces


@dataclass(frozen=True)
class _Run:
    bytes_per_s: float
    spectra_per_s: float
    num_rows: int


def _time(spectra: SpectraSet, requests: Iterable[np.ndarray], threads: int, skipped: int = 0) -> _Run:
    """Read rows until the time is up.

    The first `skipped` rows do not count, because they arrive while the pipeline fills. If no more than `skipped` rows
    follow, all rows count, because a figure that is too low is better than one from prefetched rows only.
    """
    batches = read_ahead(spectra, requests, threads, depth=4)
    rows, num_bytes, times_s = [0], [0], [time.perf_counter()]
    try:
        for batch in batches:
            rows.append(rows[-1] + len(batch))
            num_bytes.append(num_bytes[-1] + batch.flux.nbytes + batch.ivar.nbytes)
            times_s.append(time.perf_counter())
            if times_s[-1] - times_s[0] > LIMIT_S:
                break
    finally:
        batches.close()
    start = int(np.searchsorted(rows, skipped)) if rows[-1] > skipped else 0
    if rows[-1] - rows[start] <= skipped:
        start = 0
    took_s = max(times_s[-1] - times_s[start], 1e-9)
    return _Run((num_bytes[-1] - num_bytes[start]) / took_s, (rows[-1] - rows[start]) / took_s, rows[-1])


def _forget_and_look(path: Path, pieces: list[tuple[int, int]]) -> float:
    """Ask the system to drop pieces of a file from memory; return the fraction that remains in memory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _forget(descriptor, pieces)
        return _cached_share(descriptor, pieces)
    finally:
        os.close(descriptor)


def _forget(descriptor: int, places: list[tuple[int, int]]) -> None:
    """Ask the system to drop pieces of a file from memory; it keeps mapped and unwritten pages."""
    for begin, length in places:
        os.posix_fadvise(descriptor, begin, length, os.POSIX_FADV_DONTNEED)


def _cached_share(descriptor: int, places: list[tuple[int, int]]) -> float:
    """Return the share of pages in memory; NaN if the system does not report it."""
    size = os.fstat(descriptor).st_size
    libc = ctypes.CDLL(None, use_errno=True)
    resident = total = 0
    with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as mapped:
        address = np.frombuffer(mapped, np.uint8).ctypes.data
        for begin, length in places:
            length = max(0, min(length, size - begin))
            if not length:
                continue
            pages = (ctypes.c_ubyte * -(-length // mmap.PAGESIZE))()
            if libc.mincore(ctypes.c_void_p(address + begin), ctypes.c_size_t(length), pages) != 0:
                return float("nan")
            resident += int((np.frombuffer(pages, np.uint8) & 1).sum())
            total += len(pages)
    return resident / total if total else float("nan")
