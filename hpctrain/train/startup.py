"""Measure the time from the start of the process to the first step; every requeued attempt spends it again."""

from __future__ import annotations

import os
import time
from pathlib import Path


class Startup:
    """A stopwatch with named laps that starts when the kernel created the process.

    Attributes
    ----------
    seconds : dict of str to float
        Duration of each lap so far [s], in order.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._begun_s = self._lap_s = time.monotonic() - _age_s()

    def lap(self, name: str) -> None:
        """End the current lap under this name."""
        now_s = time.monotonic()
        self.seconds[name] = round(now_s - self._lap_s, 3)
        self._lap_s = now_s

    @property
    def total_s(self) -> float:
        """Time from the creation of the process to the end of the last lap [s]."""
        return round(self._lap_s - self._begun_s, 3)


def _age_s() -> float:
    """Return the age of this process [s], to a hundredth of a second; 0 where the system does not report it (macOS)."""
    try:
        started_ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        return 0.0
