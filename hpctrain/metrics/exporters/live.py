"""What ``hpctrain track --live`` does: follow a run that trains, until the trainer closes the standard input."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading

from hpctrain.metrics.exporters.process import FINISHED, HASTE_S, PATIENCE_S
from hpctrain.metrics.exporters.sender import Sender
from hpctrain.metrics.exporters.tracker import Tracker, TrackingError, only_sender

INTERVAL_S = 2.0
"""Time between two looks at the run directory [s]."""
LONGEST_PAUSE_S = 60.0
"""Longest pause after a failure [s]; each pause is twice as long as the one before."""
MARGIN_S = 1.0
"""This process ends so much earlier than the trainer would kill it [s]."""


def follow(tracker: Tracker) -> int:
    """Send the run of a tracker to it until standard input ends; return the exit code.

    A server that does not answer costs one line in the log of the run. After the end of standard input the function
    tries once more, for a bounded time.

    Parameters
    ----------
    tracker : Tracker
        Its own timeout should be short: a request that waits delays the end.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # Slurm signals every process of a job; the trainer decides when to end
    os.nice(10)
    follower = _Follower(tracker)
    thread = threading.Thread(target=follower.work, name="follow", daemon=True)
    thread.start()
    has_finished = sys.stdin.buffer.read() == FINISHED
    follower.ends.set()
    thread.join((PATIENCE_S if has_finished else HASTE_S) - MARGIN_S)
    follower.sum_up(has_finished)
    sys.stderr.flush()
    os._exit(0)  # threads and exit hooks of the service's client may wait for a server that never answers


class _Follower:
    """The thread that sends, and its messages."""

    def __init__(self, tracker: Tracker) -> None:
        self._run, self._tracker = tracker.subject.run, tracker
        self._sender = Sender(tracker)
        self._has_failed = False
        self._is_complete = False
        self.ends = threading.Event()

    def work(self) -> None:
        """Send what is new again and again; return after the pass that began after the end of the run."""
        with only_sender(self._run, self._tracker.name, math.inf, self.ends) as is_ours:
            if is_ours and self._follow():
                try:
                    self._tracker.close()
                    self._is_complete = True
                except TrackingError as error:
                    _say(str(error))

    def _follow(self) -> bool:
        pause_s = INTERVAL_S
        while True:
            is_last = self.ends.is_set()
            is_sent = self._send()
            if is_last or (self.ends.is_set() and not is_sent):
                return is_sent
            pause_s = INTERVAL_S if is_sent else min(2 * pause_s, LONGEST_PAUSE_S)
            self.ends.wait(pause_s)

    def _send(self) -> bool:
        try:
            self._sender.send_new()
        except Exception as error:  # an error of a client's own is one of the service
            if not self._has_failed:
                _say(f"{error}; the run continues, and hpctrain tries again")
            self._has_failed = True
            return False
        if self._has_failed:
            _say(f"{self._tracker.name} answers again")
        self._has_failed = False
        return True

    def sum_up(self, has_finished: bool) -> None:
        """Say what has not been sent, and how to send it; if the run goes on, only after a failure.

        Parameters
        ----------
        has_finished : bool
            Whether no other attempt will send the rest.
        """
        if self._is_complete or not (has_finished or self._has_failed):
            return
        what = f"{self._sender.num_waiting()} records" if self._sender.num_waiting() else "figures, model or report"
        _say(f"{what} have not been sent; send them with: hpctrain track {self._run.path} --to {self._tracker.name}")


def _say(text: str) -> None:
    print(f"hpctrain: {text}", file=sys.stderr, flush=True)
