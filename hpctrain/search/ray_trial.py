"""``python -m hpctrain.search.ray_trial TRIAL``: ask for a trial and supervise it, as the child of a process of Ray.

It ends with its parent: when Ray ends that, or a node of Ray dies, the ranks save, and Ray starts the trial elsewhere.
Exit codes: those of the supervisor, and 0 if nothing is left to do.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

from hpctrain.access import enter
from hpctrain.credentials.hide import error_line, hide_in_tracebacks
from hpctrain.errors import EXIT_FINISHED, HpctrainError, SiteError
from hpctrain.launch import supervisor
from hpctrain.launch.environment import enter_clean_environment
from hpctrain.launch.submit import record_job
from hpctrain.launch.targets.ray_cluster import end_with_parent
from hpctrain.search.ask import ask
from hpctrain.search.folder import STOP_NOW, TrialDir

_LOOK_EVERY_S = 1.0
_WAIT_FOR_OTHER_S = 600.0
"""How long the ranks of an attempt on a node that Ray has given up may save [s]."""


def train(trial: TrialDir) -> int:
    """Ask for a trial and train it, unless it has ended; return the exit code.

    Raises
    ------
    HpctrainError
        The study is damaged, or another process trains this trial and does not end.
    """
    _wait_for_other(trial)
    if not ask(trial, None):
        return EXIT_FINISHED
    record_job(trial, f"local-{os.getpid()}", trial.number)
    threading.Thread(target=_stop_with_study, args=(trial,), daemon=True).start()
    return supervisor.main([str(trial.path)])


def _wait_for_other(trial: TrialDir) -> None:
    """Wait until no other process supervises the trial: Ray may give up a node on which ranks still save."""
    deadline = time.monotonic() + _WAIT_FOR_OTHER_S
    while (holder := supervisor.lock_holder(trial)) is not None:
        if time.monotonic() > deadline:
            raise SiteError(f"{trial.path}: process {holder} still trains this trial")
        time.sleep(_LOOK_EVERY_S)


def _stop_with_study(trial: TrialDir) -> None:
    """Stop this process, as ``hpctrain cancel`` would, when ``hpctrain search stop --now`` asks for it on any host."""
    while True:
        with contextlib.suppress(OSError):
            if trial.study.stop.read_text() == STOP_NOW:
                os.kill(os.getpid(), signal.SIGTERM)
                return
        time.sleep(_LOOK_EVERY_S)


def main(arguments: Sequence[str]) -> int:
    """Train the trial named on the command line and return the exit code."""
    end_with_parent()
    enter_clean_environment()
    enter(arguments[0])
    try:
        return train(TrialDir(arguments[0]))
    except HpctrainError as error:
        print(f"hpctrain: {error_line(error)}", file=sys.stderr, flush=True)
        return error.exit_code


if __name__ == "__main__":
    hide_in_tracebacks()
    sys.exit(main(sys.argv[1:]))
