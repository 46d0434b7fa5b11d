"""Send one subject to a tracker, and go on after its server was away for a while."""

from __future__ import annotations

import time
from collections.abc import Callable

from hpctrain.metrics.exporters.sender import Sender
from hpctrain.metrics.exporters.tracker import Tracker, TrackingError, only_sender

PATIENCE_S = 60.0
"""Longest time without any success after which a server counts as down [s]."""
_LOCK_PATIENCE_S = 10.0
_LONGEST_PAUSE_S = 8.0


class Sending:
    """Sends one subject after the other to a service, which may be away for a while once it has answered.

    Parameters
    ----------
    say : callable
        Takes a line about a server that has gone away.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._has_answered = False

    def send(self, tracker: Tracker) -> int:
        """Send everything that a tracker has not received; return the number of records.

        Raises
        ------
        TrackingError
            The tracker does not answer or refuses, or another process sends the same.
        """
        run, sender = tracker.subject.run, Sender(tracker)
        with only_sender(run, tracker.name, _LOCK_PATIENCE_S) as is_ours:
            if not is_ours:
                raise TrackingError(f"{run.path}: another process is sending this run; it sends everything")
            self._send_patiently(sender)
            tracker.close()
        return sender.num_sent

    def _send_patiently(self, sender: Sender) -> None:
        pause_s, deadline_s = 1.0, 0.0
        num_opened = num_passed = -1
        while True:
            try:
                sender.send_new()
                self._has_answered = True
                return
            except TrackingError as error:
                self._has_answered = self._has_answered or sender.num_opened > 0
                if not (self._has_answered and error.may_pass):
                    raise
                if num_passed != sender.num_passed:
                    num_passed, deadline_s = sender.num_passed, time.monotonic() + PATIENCE_S
                if time.monotonic() + pause_s > deadline_s:
                    raise
                if num_opened != sender.num_opened:
                    num_opened, pause_s = sender.num_opened, 1.0
                    self._say(f"{error}; trying again for {PATIENCE_S:.0f} s")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
