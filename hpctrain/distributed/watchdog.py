"""End a rank that hangs: the watchdog writes its stacks to a log and exits, and the batch script restarts the job.

A collective that waits for a dead rank, or a file system that does not answer, would hold the GPUs until the time
limit. The watching thread needs neither the main thread nor a GPU.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from hpctrain.errors import EXIT_RANKS_LOST
from hpctrain.files import open_append

START_UP_S = 600.0
"""Extra seconds before the first sign of progress: imports from a cold file system, torch.compile."""


class Watchdog:
    """End this process when nothing has happened for too long.

    Parameters
    ----------
    limit_s : float or None
        Longest time between two signs of progress [s]; None disables the watchdog.
    stacks : Path
        File to which the stacks of all threads are appended.
    describe : callable
        Returns the present activity of the rank, for the log.
    clock : callable
        Returns seconds and never goes back.
    """

    def __init__(
        self,
        limit_s: float | None,
        stacks: Path,
        describe: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit_s, self._stacks, self._describe, self._clock = limit_s, stacks, describe, clock
        self._last_s = clock() + START_UP_S
        self._ended = threading.Event()

    def start(self) -> Watchdog:
        if self._limit_s is not None:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def progress(self) -> None:
        """Report progress: a step, a batch of an evaluation, a written checkpoint."""
        self._last_s = self._clock()

    @property
    def silent_s(self) -> float:
        """Time since the last sign of progress [s]; negative while a rank may still be starting."""
        return self._clock() - self._last_s

    def end(self) -> None:
        """Stop watching."""
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(min(1.0, self._limit_s / 10)):
            if self.silent_s > self._limit_s:
                self._give_up(self.silent_s)

    def _give_up(self, silent_s: float) -> None:
        text = f"hpctrain: nothing happened for {silent_s:.0f} s ({self._describe()}); stacks are in {self._stacks}"
        with os.fdopen(open_append(self._stacks), "a", encoding="utf-8") as stream:
            stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
            stream.flush()
            faulthandler.dump_traceback(stream, all_threads=True)
        print(text, file=sys.stderr, flush=True)
        os._exit(EXIT_RANKS_LOST)
