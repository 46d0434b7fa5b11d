"""Memory of batches, used again when a batch is gone.

A fresh array per batch costs a page fault for every 4 kB of it, which halves the speed of a loader; so memory returns
to a pool when the last tensor that looks at it is dropped, and never before: nobody has to give anything back by hand.
"""

from __future__ import annotations

import math
import weakref
from collections import deque

import numpy as np


class BufferPool:
    """Lends float32 arrays.

    Parameters
    ----------
    max_idle : int
        Buffers kept for the next one who asks; more are freed.
    """

    def __init__(self, max_idle: int = 16) -> None:
        # A deque of bounded length: append and pop are atomic, as buffers come back in whatever thread drops a batch.
        self._idle: deque[np.ndarray] = deque(maxlen=max_idle)

    def lend(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return an array of float32 with arbitrary content; its memory comes back by itself.

        ``torch.from_numpy`` keeps the array alive as long as any tensor shares its memory.
        """
        size = math.prod(shape)
        try:
            block = self._idle.pop()
        except IndexError:
            block = None
        if block is None or block.size < size:
            block = np.empty(size, dtype=np.float32)
        view = block[:size].reshape(shape)
        weakref.finalize(view, self._idle.append, block).atexit = False
        return view
