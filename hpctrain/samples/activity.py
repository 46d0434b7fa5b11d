"""A thread that works for minutes reports its progress to a waiting one, which can ask it to stop."""

from __future__ import annotations

import threading


class WorkCancelledError(Exception):
    """The work was asked to end; the finished part is kept."""


class Activity:
    """Numbers that a working thread writes and a waiting one reads.

    Attributes
    ----------
    total_bytes, done_bytes : int
        Size of the whole work and of the finished part.
    signs : int
        Grows with any progress, so that the watchdog can distinguish slow work from stuck work.
    cancelled : Event
        The waiting thread sets it to end the work.
    """

    def __init__(self) -> None:
        self.total_bytes = 0
        self.done_bytes = 0
        self.signs = 0
        self.cancelled = threading.Event()
        self._lock = threading.Lock()

    def moved(self, done_bytes: int = 0) -> None:
        """Report progress, and the amount of finished work.

        Raises
        ------
        WorkCancelledError
            The work should end here.
        """
        with self._lock:
            self.done_bytes += done_bytes
            self.signs += 1
        self.check()

    def check(self) -> None:
        """Raise if the work should end here.

        Raises
        ------
        WorkCancelledError
        """
        if self.cancelled.is_set():
            raise WorkCancelledError
