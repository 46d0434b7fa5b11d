"""Reuse the memory of batches.

A new array per batch costs a page fault for every 4 kB, which halves the speed of a loader. So memory returns to a pool
when the last tensor that uses it is garbage-collected; callers do not return it explicitly.
"""

from __future__ import annotations

import math
import mmap
import threading
import weakref
from collections import deque

import numpy as np


class BufferPool:
    """Lends arrays.

    Parameters
    ----------
    max_idle : int
        Number of free buffers to keep; further ones are freed.
    """

    def __init__(self, max_idle: int = 16) -> None:
        # A deque of bounded length: append and pop are atomic, because any thread may drop a batch and return its
        # buffer.
        self._idle: deque[np.ndarray] = deque(maxlen=max_idle)

    def lend(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return an array of `dtype` with arbitrary content; its memory returns to the pool when it is
        garbage-collected.

        ``torch.from_numpy`` keeps the array alive as long as any tensor shares its memory.
        """
        num_bytes = math.prod(shape) * dtype.itemsize
        try:
            block = self._idle.pop()
        except IndexError:
            block = None
        if block is None or block.size < num_bytes:
            block = _new_block(num_bytes)
        view = block[:num_bytes].view(dtype).reshape(shape)
        weakref.finalize(view, self._idle.append, block).atexit = False
        return view


def _new_block(num_bytes: int) -> np.ndarray:
    """Return bytes that begin at a memory page, for vector instructions; numpy does not guarantee that."""
    return np.frombuffer(mmap.mmap(-1, max(1, num_bytes)), np.uint8)


class BoundedPool:
    """Lends arrays like :class:`BufferPool`, for many arrays that are kept for a long time.

    Attributes
    ----------
    max_bytes : int
        Free memory is kept while lent and free memory together do not exceed this number of bytes.
    """

    def __init__(self) -> None:
        self.max_bytes = 0
        self._num_bytes = 0
        self._idle: list[np.ndarray] = []
        # Dropping an array only appends here: that may happen anywhere, also under the lock below.
        self._returned: deque[np.ndarray] = deque()
        self._lock = threading.Lock()

    def lend(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return an array with arbitrary content; code that uses a view of it must keep the array itself, too."""
        num_bytes = math.prod(shape) * dtype.itemsize
        with self._lock:
            while self._returned:
                self._idle.append(self._returned.popleft())
            fitting = next((at for at in reversed(range(len(self._idle))) if self._idle[at].size == num_bytes), None)
            block = None if fitting is None else self._idle.pop(fitting)
            self._num_bytes += num_bytes if block is None else 0
            while self._idle and self._num_bytes > self.max_bytes:
                self._num_bytes -= self._idle.pop(0).size
        if block is None:
            block = np.empty(num_bytes, np.uint8)
        view = block.view(dtype).reshape(shape)
        weakref.finalize(view, self._returned.append, block).atexit = False
        return view
