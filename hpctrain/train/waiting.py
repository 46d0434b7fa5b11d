"""How long the loop waits for its batches: the share of the time in which the computing device has nothing to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any


class TimedBatches(Iterator[Any]):
    """The same batches, and the time that the loop has waited for them.

    Parameters
    ----------
    batches : iterator with ``close``
        Closed with this object.
    clock : callable
        Returns seconds [s].

    Attributes
    ----------
    waited_s : float
        Time spent in waiting since the first batch [s].
    """

    def __init__(self, batches: Any, clock: Callable[[], float] = time.perf_counter) -> None:
        self._batches, self._clock = batches, clock
        self.waited_s = 0.0

    def __next__(self) -> Any:
        began_s = self._clock()
        try:
            return next(self._batches)
        finally:
            self.waited_s += self._clock() - began_s

    def close(self) -> None:
        """Close the generator, which ends its threads."""
        self._batches.close()
