"""The agreed stop: a handler sets a flag, the step's reduction carries it to all ranks, and all ranks stop together.

Nothing is saved in a handler and no rank acts alone: the flag of any rank is summed with the loss over all ranks, so
every rank sees it at the same step boundary, saves, and exits.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

SAME_EVENT_S = 2.0
"""Slurm sends TERM, CONT, TERM at a time limit: signals this close together are one event, not an impatient user."""

EXIT_TERMINATED = 143
_INSISTING = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Whether this rank asks to stop, and why.

    Parameters
    ----------
    deadline_s : float or None
        Epoch seconds at which the job is ended, and `lead_s` before which it must save. A save before the time limit
        does not depend on a signal arriving.
    lead_s : float
        ``launch.signal_lead_s`` of the profile.
    clock : callable
        Returns epoch seconds; another one in tests.
    """

    def __init__(
        self, deadline_s: float | None = None, lead_s: float = 0.0, clock: Callable[[], float] = time.time
    ) -> None:
        self.cause: str | None = None
        self.saving = False
        self._stop_at_s = None if deadline_s is None else deadline_s - lead_s
        self._clock = clock

    @classmethod
    def from_environment(cls, lead_s: float) -> StopRequest:
        """Read the deadline that the batch script found (``HPCTRAIN_DEADLINE``, epoch seconds)."""
        text = os.environ.get("HPCTRAIN_DEADLINE", "")
        deadline_s = float(text) if text.replace(".", "", 1).isdigit() else None
        return cls(deadline_s, lead_s)

    def install(self) -> None:
        """Handle USR2 (Slurm's warning), TERM (pre-emption, scancel) and INT (Ctrl-C) from now on."""
        for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        threading.Thread(target=self._leave_at_the_second, args=(reading,), name="signals", daemon=True).start()
        # A launcher may have blocked them until this handler is installed.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2, signal.SIGTERM, signal.SIGINT})

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.cause is None:
            self.cause = signal.Signals(number).name.removeprefix("SIG")

    def _leave_at_the_second(self, signals: int) -> None:
        """Read the numbers of signals as they arrive, and exit at once on a second request.

        This runs in a thread, because a Python handler runs only when the main thread is in the interpreter, and a main
        thread that waits in a collective for a hanging rank never is.
        """
        first_s: float | None = None
        while number := os.read(signals, 1):
            if number[0] not in _INSISTING:
                continue  # the time limit's TERM, after its warning, is the first one
            now_s = time.monotonic()
            if first_s is None:
                first_s = now_s
            elif now_s - first_s > SAME_EVENT_S and not self.saving:
                os._exit(EXIT_TERMINATED)

    def flags(self) -> tuple[float, float]:
        """Return (stop and requeue, stop for good) as numbers that can be summed over ranks."""
        if self.cause is None and self._stop_at_s is not None and self._clock() >= self._stop_at_s:
            self.cause = "deadline"
        return float(self.cause is not None), float(self.cause == "INT")
