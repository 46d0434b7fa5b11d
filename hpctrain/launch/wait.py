"""``hpc-submit --wait``: show the progress of runs, and exit with their exit code."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence

from hpctrain.launch.history import read_history
from hpctrain.launch.present import progress_line
from hpctrain.launch.queue import Queue
from hpctrain.launch.status import RunStatus, describe
from hpctrain.rundir import RunDir
from hpctrain.states import FINISHED
from hpctrain.terminal import printable, raw

_POLL_S = 2.0
_PLAIN_LINE_EVERY_S = 30.0
_QUIET_POLLS = 3
"""Number of polls in a row in which a run must look ended: one strange answer of the queue proves nothing."""
_FAILED_WITHOUT_CODE = 1


def wait_for(runs: Sequence[RunDir], poll_s: float = _POLL_S) -> int:
    """Wait until every run has ended, and print a line whenever something has changed.

    Returns
    -------
    int
        0 if all runs finished, else the exit code of the first run that did not.
    """
    try:
        codes = [_wait_for_one(run, poll_s) for run in runs]
    except KeyboardInterrupt:
        print("\nthe run continues; `hpctrain cancel` stops it", file=sys.stderr)
        raise
    return next((code for code in codes if code != 0), 0)


def _wait_for_one(run: RunDir, poll_s: float) -> int:
    shown = _Shown()
    queue = Queue()
    ended = 0
    while True:
        status = describe(run, queue=queue)
        ended = 0 if status.is_active else ended + 1
        over = ended >= (1 if status.state == FINISHED else _QUIET_POLLS)
        shown.show(status, over)
        if over:
            return exit_code(status)
        time.sleep(poll_s)


class _Shown:
    """Update one line in place on a terminal; elsewhere print a line for each new state, and one every half minute."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._line = ""
        self._state = ("", 0)
        self._at_s = -_PLAIN_LINE_EVERY_S

    def show(self, status: RunStatus, over: bool) -> None:
        line = printable(progress_line(status))
        state = (status.state, status.num_attempts)
        if self._is_terminal:
            shown = "\r\033[K" + line[: shutil.get_terminal_size().columns - 1]
            print(shown, end="", file=raw(sys.stderr), flush=True)
            if over or (state != self._state and self._line):
                print(file=sys.stderr)
        elif state != self._state or (line != self._line and time.monotonic() > self._at_s + _PLAIN_LINE_EVERY_S):
            print(line, file=sys.stderr, flush=True)
            self._at_s = time.monotonic()
        self._line, self._state = line, state


def exit_code(status: RunStatus) -> int:
    """Return the exit code of a run that has ended."""
    if status.state == FINISHED:
        return 0
    history = read_history(status.run)
    code = history[-1].exit_code if history else status.exit_code
    return code or _FAILED_WITHOUT_CODE
