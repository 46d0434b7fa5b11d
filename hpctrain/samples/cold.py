"""Decide whether rows come from memory or from a disk: by the page faults that reading a batch costs."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable, Iterator

SLOW_PAGES = 8
"""Page faults per batch above which we assume that the data are on a disk, and prefetch."""

FETCH_BATCHES = 16
"""Number of batches that are prefetched together from a slow disk, while the ones before them are read."""

_COLD_BATCHES = 64
"""Number of batches for which prefetching continues after the last slow one."""


class ColdDisk:
    """What is known about the disk of a set of files."""

    def __init__(self) -> None:
        self._is_known = False
        self._batches_left = 0

    @property
    def is_cold(self) -> bool:
        """Whether reading has to wait for a disk at the moment."""
        return self._batches_left > 0

    def look(self, is_in_memory: Callable[[], bool]) -> None:
        """Ask the kernel before the first batch whether its pages are in memory; do nothing later."""
        if not self._is_known:
            self._is_known = True
            if not is_in_memory():
                self._note(SLOW_PAGES + 1)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Count the pages that this thread waits for while it reads a batch."""
        before = _pages_waited_for()
        yield
        self._note(_pages_waited_for() - before)

    def _note(self, num_pages: int) -> None:
        self._batches_left = _COLD_BATCHES if num_pages > SLOW_PAGES else max(0, self._batches_left - 1)


def _pages_waited_for() -> int:
    """Return how many pages of mapped files this thread has waited for so far."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_majflt
