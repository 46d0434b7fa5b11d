"""Map a file into memory: any number of threads copy rows from the map without a lock."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import time
from pathlib import Path

import numpy as np
import torch

from hpctrain.errors import DataError

_LOOK_EVERY_S = 1.0
"""Time between checks of the file [s]; a check takes microseconds, but on a parallel file system a server request."""

_GAP_BYTES = 64 * 1024
"""Largest gap between two pieces that is read with them: this is faster than another request, and needed later."""

_ASKED_BYTES = 128 * 1024
"""Largest size of one request; Linux silently ignores what exceeds its read-ahead."""

_read_by_thread = threading.local()


class MappedFile:
    """One file, mapped whole and read only.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    address : int
        Address of the first byte of the file in memory.
    num_bytes : int
        Size of the file.

    Raises
    ------
    DataError
        The file cannot be opened or mapped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._known = _identity(os.fstat(self._descriptor))
            self.num_bytes = os.fstat(self._descriptor).st_size
            # The map exists as long as this object, because threads may copy from it until then.
            self._map = mmap.mmap(self._descriptor, 0, prot=mmap.PROT_READ)
            # We announce rows to the kernel before we read them. Without this setting it would guess, and read up to
            # megabytes around each row.
            self._map.madvise(mmap.MADV_RANDOM)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be mapped to memory ({error})") from error
        self.bytes = np.frombuffer(self._map, np.uint8)
        self.address = self.bytes.ctypes.data
        self._looked_s = time.monotonic()

    def check(self) -> None:
        """Check at most once a second that the file has not changed since it was opened.

        Raises
        ------
        DataError
            The file was changed, replaced or removed. Further reads would give other spectra, or end this process,
            because the map of a truncated file cannot be read.
        """
        now_s = time.monotonic()
        if now_s - self._looked_s < _LOOK_EVERY_S:
            return
        self._looked_s = now_s
        try:
            is_same = self._known == _identity(os.fstat(self._descriptor)) == _identity(os.stat(self.path))
        except OSError as error:
            raise DataError(f"{self.path}: no longer readable while it is being read ({error.strerror})") from error
        if not is_same:
            raise DataError(
                f"{self.path}: was changed or replaced while it is being read; put the old file back and resume the "
                "run, or start a new one"
            )

    def read(self, offset: int, num_bytes: int) -> np.ndarray:
        """Return bytes of the file, by a system call; fewer where the file ends.

        Returns
        -------
        ndarray, uint8
            Memory of the calling thread; its next call overwrites it, because fresh memory costs more than reading.

        Raises
        ------
        DataError
            The file system fails.
        """
        num_bytes = max(0, min(num_bytes, self.num_bytes - offset))
        memory = getattr(_read_by_thread, "memory", None)
        if memory is None or memory.size < num_bytes:
            memory = _read_by_thread.memory = np.empty(num_bytes, np.uint8)
        try:
            done = os.preadv(self._descriptor, [memory[:num_bytes]], offset)
        except OSError as error:
            raise DataError(f"{self.path}: {num_bytes} bytes at {offset} cannot be read ({error.strerror})") from error
        return memory[:done]

    def is_in_memory(self, offsets: np.ndarray) -> bool:
        """Return whether bytes are in the page cache; False if the file system does not report it (NFS)."""
        try:
            for offset in offsets.tolist():
                os.preadv(self._descriptor, [bytearray(1)], offset, os.RWF_NOWAIT)
        except (AttributeError, OSError):
            return False
        return True

    def will_need(self, offsets: np.ndarray, num_bytes: int) -> None:
        """Let the kernel prefetch pieces of equal size in the order of the disk."""
        begins = np.sort(offsets)
        first = np.flatnonzero(np.diff(begins, prepend=-_GAP_BYTES - num_bytes - 1) > num_bytes + _GAP_BYTES)
        ends = begins[np.append(first[1:], len(begins)) - 1] + num_bytes
        for begin, end in zip(begins[first].tolist(), ends.tolist(), strict=True):
            for offset in range(begin, end, _ASKED_BYTES):
                num_bytes = min(_ASKED_BYTES, end - offset)
                os.posix_fadvise(self._descriptor, offset, num_bytes, os.POSIX_FADV_WILLNEED)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def gather(addresses: np.ndarray, out: np.ndarray) -> None:
    """Copy rows from any addresses in memory into one array.

    Parameters
    ----------
    addresses : ndarray, shape (n,), int64
        Address of the first byte of each row; the caller keeps the memory alive.
    out : ndarray, shape (n, row bytes), uint8
        Array to fill, C-contiguous.
    """
    if not len(addresses):
        return
    # The memory from the first row to the last is viewed as one tensor of overlapping rows, one for each byte at which
    # a row could begin. index_select copies whole rows of it, without the interpreter's lock and without touching the
    # bytes between them.
    first, last = int(addresses.min()), int(addresses.max())
    row_bytes = out.shape[1]
    span = (ctypes.c_uint8 * (last - first + row_bytes)).from_address(first)
    rows = torch.from_numpy(np.frombuffer(span, np.uint8)).as_strided((last - first + 1, row_bytes), (1, 1))
    torch.index_select(rows, 0, torch.from_numpy(addresses - first), out=torch.from_numpy(out))
