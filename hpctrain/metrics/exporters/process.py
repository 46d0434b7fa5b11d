"""Send a run to a tracker while it trains, from a process of its own."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from hpctrain.metrics.events import Finished
from hpctrain.metrics.exporters.exporter import Exporter
from hpctrain.rundir import RunDir

PATIENCE_S = 60.0
"""Longest time that a finished run waits for its last records, its model and its report to be sent [s]."""
HASTE_S = 2.0
"""Longest time that any other end of an attempt waits; the next attempt sends what is left [s]."""
FINISHED = b"finished\n"
"""What the process reads before the end of its standard input if the run has finished."""

log = logging.getLogger(__name__)


class TrackerProcess(Exporter):
    """Keep ``hpctrain track --live`` running beside the run.

    The process reads ``metrics.jsonl`` and the figures of the run directory, so no record is dropped, however slow the
    server is. The client of the tracking service, with its threads, its signals and its minute of retries, is outside
    the trainer: it can delay it neither while it trains nor at its end, when the process is killed if need be. The
    process ends by itself soon after its standard input, also if the trainer is killed.

    Parameters
    ----------
    run : RunDir
    tracker : str
        ``mlflow`` or ``wandb``.
    """

    def __init__(self, run: RunDir, tracker: str) -> None:
        self._tracker = tracker
        self._finished = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hpctrain", "track", str(run.path), "--to", tracker, "--live"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the trainer
        )

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Look whether the process is still there; it reads the record from the file.

        Raises
        ------
        RuntimeError
            The process has ended.
        """
        self._finished = self._finished or record.get("event") == Finished.name
        if (code := self._process.poll()) is not None:
            raise RuntimeError(f"hpctrain track --to {self._tracker} ended with exit code {code}")

    def close(self) -> None:
        """End the process: at once, or in a minute at most if the run has finished."""
        with contextlib.suppress(BrokenPipeError):
            if self._finished:
                self._process.stdin.write(FINISHED)
            self._process.stdin.close()
        try:
            self._process.wait(PATIENCE_S if self._finished else HASTE_S)
        except subprocess.TimeoutExpired:
            log.warning("%s has not taken everything in time; hpctrain track sends the rest", self._tracker)
            os.killpg(self._process.pid, signal.SIGKILL)  # it cannot have ended: nobody has waited for it
            self._process.wait()
