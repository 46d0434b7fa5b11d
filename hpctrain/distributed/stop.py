"""The agreed stop: a handler sets a flag, the step's own reduction carries it to all ranks, and all exit together.

A handler saves nothing, and no rank stops alone. The flags of all ranks are summed with the loss, so every rank sees
the sum at the same step boundary, saves, and exits.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

SAME_EVENT_S = 2.0
"""Signals within this time count as one [s]: Slurm sends TERM, CONT, TERM at a time limit, unlike a second Ctrl-C."""

EXIT_TERMINATED = 143
_HANDLED = (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)
_INSISTING = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Whether this rank has to stop, and why.

    Parameters
    ----------
    deadline_s : float or None
        Unix time at which the job ends [s]; the rank saves `lead_s` before that. So a save before the time limit does
        not depend on a signal.
    lead_s : float
        ``launch.signal_lead_s`` of the profile.
    clock : callable
        Returns the Unix time [s]; tests pass another one.
    elapsed_s : callable
        Returns seconds on a clock that never goes back, to distinguish one event from two; tests pass another one.
    """

    def __init__(
        self,
        deadline_s: float | None = None,
        lead_s: float = 0.0,
        clock: Callable[[], float] = time.time,
        elapsed_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cause: str | None = None
        self.saving = False
        self._stop_at_s = None if deadline_s is None else deadline_s - lead_s
        self._clock = clock
        self._elapsed_s = elapsed_s

    @classmethod
    def from_environment(cls, lead_s: float) -> StopRequest:
        """Build it with the deadline that the batch script passes on (``HPCTRAIN_DEADLINE``, Unix time [s])."""
        text = os.environ.get("HPCTRAIN_DEADLINE", "")
        deadline_s = float(text) if text.replace(".", "", 1).isdigit() else None
        return cls(deadline_s, lead_s)

    def install(self) -> None:
        """Handle USR2 (Slurm's warning), TERM (pre-emption, scancel) and INT (Ctrl-C) from now on."""
        for number in _HANDLED:
            signal.signal(number, self._on_signal)
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        threading.Thread(target=self._read_signals, args=(reading,), name="signals", daemon=True).start()
        # A launcher may have blocked these signals.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, set(_HANDLED))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.cause is None:
            self.cause = signal.Signals(number).name.removeprefix("SIG")

    def _read_signals(self, signals: int) -> None:
        """Read the numbers of signals as they arrive: the first one sets the flag, a repeated one ends the process.

        This needs a thread. A handler runs only when the main thread is back in the interpreter. A main thread that
        waits for a hanging rank, in a collective or at the start, never comes back.
        """
        first_s: float | None = None
        while number := os.read(signals, 1):
            if number[0] in _HANDLED:
                self._on_signal(number[0], None)
            if number[0] not in _INSISTING:
                continue  # a TERM at the time limit, after the warning, counts as the first one
            now_s = self._elapsed_s()
            if first_s is None:
                first_s = now_s
            elif now_s - first_s > SAME_EVENT_S and not self.saving:
                os._exit(EXIT_TERMINATED)

    def flags(self) -> tuple[float, float]:
        """Return (stop and requeue, stop for good) as numbers that can be summed over ranks."""
        if self.cause is None and self._stop_at_s is not None and self._clock() >= self._stop_at_s:
            self.cause = "deadline"
        return float(self.cause is not None), float(self.cause == "INT")
