"""What the time from the start of a process to its first update went into; each requeued job pays it again."""

from __future__ import annotations

import os
import time
from pathlib import Path


class Startup:
    """A stopwatch with a name for each lap, started when the process was created.

    Attributes
    ----------
    seconds : dict of str to float
        Time of each lap so far [s], in order.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._begun_s = self._lap_s = time.monotonic() - _age_s()

    def lap(self, name: str) -> None:
        """Say that what began at the last lap is done."""
        now_s = time.monotonic()
        self.seconds[name] = round(now_s - self._lap_s, 3)
        self._lap_s = now_s

    @property
    def total_s(self) -> float:
        """From the creation of the process to the last lap [s]."""
        return round(self._lap_s - self._begun_s, 3)


def _age_s() -> float:
    """Return how long ago the kernel made this process [s], to a hundredth; 0 where it does not say (macOS)."""
    try:
        started_ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        return 0.0
