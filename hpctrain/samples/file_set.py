"""Samples in several files, as one set: which file holds a row, and which chunks are decoded before they are read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from hpctrain.samples.buffers import BufferPool
from hpctrain.samples.chunks import BandCache
from hpctrain.samples.cold import FETCH_BATCHES, ColdDisk
from hpctrain.samples.mapped import gather
from hpctrain.samples.protocols import PADDING_ROW


class SampleFile(Protocol):
    """What a set asks of each of its files."""

    path: Path

    def __len__(self) -> int: ...

    @property
    def decoded_bytes(self) -> int:
        """Memory for each sample that is kept decoded [byte]; 0 if nothing has to be decoded."""
        ...

    @property
    def band_rows(self) -> int:
        """Rows that are decoded as a whole; 0 if nothing has to be decoded."""
        ...

    def share(self, cache: BandCache) -> None:
        """Keep decoded rows in a cache that other files use too."""

    def prepare(self, rows: np.ndarray, decoders: Executor | None, is_cold: bool) -> None:
        """Begin to decode the chunks of rows, or to prefetch them."""

    def is_in_memory(self, rows: np.ndarray) -> bool:
        """Say whether the operating system has these rows in its page cache."""
        ...

    def close(self) -> None:
        """Close what is open."""


File = TypeVar("File", bound=SampleFile)


class FileSet(Generic[File]):
    """The rows of several files, one after the other. Safe to read from many threads and across a fork.

    Parameters
    ----------
    files : sequence of SampleFile
        At least one; none is empty.
    """

    def __init__(self, files: Sequence[File]) -> None:
        self._files = list(files)
        self._starts = np.cumsum([0, *(len(file) for file in files)])
        self._buffers = BufferPool()
        self._pool: ThreadPoolExecutor | None = None
        self._pool_pid = 0
        self._disk = ColdDisk()
        self._own_window = 0
        self._decoded = BandCache()
        for file in files:
            file.share(self._decoded)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def decoded_bytes(self) -> int:
        """Memory for each sample that is kept decoded [byte]; 0 if nothing has to be decoded."""
        return max(file.decoded_bytes for file in self._files)

    @property
    def is_prepared_ahead(self) -> bool:
        """Whether :meth:`prepare` has anything to do at the moment."""
        return self.decoded_bytes > 0 or self._disk.is_cold

    def batches_ahead(self, batch_size: int) -> int:
        """Return how many batches ahead of reading a batch should be prepared."""
        # Not more than a window: samples for later must not evict those that are being read.
        return self._own_window // batch_size if self.decoded_bytes else 2 * FETCH_BATCHES

    @property
    def batches_together(self) -> int:
        """Number of batches to prepare together: among more rows, more are neighbours on a disk."""
        return 1 if self.decoded_bytes else FETCH_BATCHES

    def blocks(self, rows: np.ndarray) -> np.ndarray:
        """Return the indices in `rows` at which the blocks begin that are decoded as a whole.

        Parameters
        ----------
        rows : ndarray, shape (n,), int64
            Sorted rows of the set.

        Returns
        -------
        ndarray, int64
            Indices into `rows`; the first one is 0.
        """
        file = np.searchsorted(self._starts, rows, side="right") - 1
        band = (rows - self._starts[file]) // np.array([max(file.band_rows, 1) for file in self._files])[file]
        return np.concatenate([[0], np.flatnonzero(np.diff(file) | np.diff(band)) + 1])

    def keep_window(self, num_rows: int, num_readers: int = 1) -> None:
        """Keep two windows of decoded samples: the one that is being read and the next.

        Parameters
        ----------
        num_rows : int
            Number of samples of a window.
        num_readers : int
            Number of ranks that share the samples of each window.
        """
        self._own_window = num_rows // num_readers
        # Chunks at the borders of a window, and files with larger chunks than the others, need a little more.
        self._decoded.max_bytes = max(self._decoded.max_bytes, round(2.1 * num_rows * self.decoded_bytes))

    def prepare(self, rows: np.ndarray) -> None:
        """Begin to decode the chunks of rows, or to prefetch them from a slow disk, before they are read."""
        for file, _, rows_of_file in self._by_file(rows):
            file.prepare(rows_of_file, self._decoders(), self._disk.is_cold)

    def locate(self, row: int) -> tuple[Path, int]:
        """Return the file that holds a row of the set, and the row in that file."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._files[number].path, row - int(self._starts[number])

    def close(self) -> None:
        """Close the open files; a later read opens them again."""
        for file in self._files:
            file.close()

    def _checked(self, rows: np.ndarray) -> np.ndarray:
        """Return rows as contiguous int64, each of them in the set or padding."""
        rows = np.ascontiguousarray(rows, dtype=np.int64)
        if rows.size and not (rows.min() >= PADDING_ROW and rows.max() < len(self)):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of a set of {len(self)}")
        return rows

    def _by_file(self, rows: np.ndarray) -> Iterator[tuple[File, np.ndarray, np.ndarray]]:
        """Yield each file with the places of its rows in the batch, and the rows in the file."""
        if len(self._files) == 1 and (not rows.size or rows.min() >= 0):
            yield self._files[0], np.arange(len(rows)), rows
            return
        number = np.searchsorted(self._starts, rows, side="right") - 1
        for index in np.unique(number[rows != PADDING_ROW]):
            places = np.flatnonzero(number == index)
            yield self._files[index], places, rows[places] - self._starts[index]

    def _ask_for(self, parts: list[tuple[File, np.ndarray, np.ndarray]]) -> None:
        """Request all rows of a batch from a slow disk before waiting for the first of them."""
        self._disk.look(lambda: all(file.is_in_memory(rows[:8]) for file, _, rows in parts))
        if self._disk.is_cold:
            for file, _, rows in parts:
                file.prepare(rows, None, is_cold=True)

    def _lend(self, shape: tuple[int, int], dtype: np.dtype, pin: bool) -> Tensor:
        """Return memory for the rows of a batch, which holds arbitrary values."""
        if pin:
            # Torch itself keeps a pool of page-locked memory, and knows which copies to the device still read it.
            kind = torch.from_numpy(np.empty(0, dtype)).dtype
            return torch.empty(shape, dtype=kind, pin_memory=True)
        return torch.from_numpy(self._buffers.lend(shape, np.dtype(dtype)))

    def _decoders(self) -> ThreadPoolExecutor:
        """Return the threads that decode chunks; a forked process starts its own."""
        if self._pool is None or self._pool_pid != os.getpid():
            self._pool_pid = os.getpid()
            self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="decode-chunks")
        return self._pool


def gather_from_many(
    target: np.ndarray, parts: Sequence[tuple[np.ndarray, np.ndarray | None, Callable[[], np.ndarray]]]
) -> None:
    """Fill the rows of a batch that come from several files.

    Parameters
    ----------
    target : ndarray, shape (n, P)
        Rows of padding keep their values.
    parts : sequence of (ndarray, ndarray or None, callable)
        Of each file: the places of its rows in `target`; their addresses in memory, or None where they are stored in
        another form; and a function that reads them.
    """
    addresses = np.zeros(len(target), np.int64)
    for places, found, read in parts:
        if found is None:
            target[places] = read()
        else:
            addresses[places] = found
    in_memory = np.flatnonzero(addresses)
    if in_memory.size == len(target):
        gather(addresses, target.view(np.uint8))
    elif in_memory.size:
        values = np.empty((in_memory.size, target.shape[1]), target.dtype)
        gather(addresses[in_memory], values.view(np.uint8))
        target[in_memory] = values
