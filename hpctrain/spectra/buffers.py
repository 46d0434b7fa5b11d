"""Memory of batches, used again when a batch is gone.

A fresh array per batch costs a page fault for every 4 kB of it, which halves the speed of a loader; so memory returns
to a pool when the last tensor that looks at it is dropped, and never before: nobody has to give anything back by hand.
"""

from __future__ import annotations

import math
import mmap
import weakref
from collections import deque

import numpy as np


class BufferPool:
    """Lends arrays.

    Parameters
    ----------
    max_idle : int
        Buffers kept for the next one who asks; more are freed.
    """

    def __init__(self, max_idle: int = 16) -> None:
        # A deque of bounded length: append and pop are atomic, as buffers come back in whatever thread drops a batch.
        self._idle: deque[np.ndarray] = deque(maxlen=max_idle)

    def lend(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return an array of `dtype` with arbitrary content; its memory comes back by itself.

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
    """Return bytes that begin at a page, as numpy's own need not for a vector instruction's sake."""
    return np.frombuffer(mmap.mmap(-1, max(1, num_bytes)), np.uint8)
