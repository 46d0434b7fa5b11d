"""Cancel a run: it saves its state and is not requeued. `hpc-submit --resume RUN` resumes it.

hpctrain cancel RUN      cancel this run
hpctrain cancel          cancel the active run, after showing its name and asking
hpctrain cancel --yes    cancel the active run without asking, for scripts
hpctrain cancel --wait   return when it has saved and ended, so that the next command may resume it
"""

from __future__ import annotations

import argparse
import sys

from hpctrain.commands.status import add_run_argument
from hpctrain.errors import Problem, ProfileError
from hpctrain.launch.present import as_typed, progress_line
from hpctrain.launch.queue import Queue
from hpctrain.launch.runs import find_run, newest_runs
from hpctrain.launch.status import RunStatus, describe
from hpctrain.launch.stop import cancel
from hpctrain.launch.wait import wait_for
from hpctrain.rundir import RunDir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain cancel``."""
    add_run_argument(parser, "path, name, run id or job id (default: the active run)")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--wait", action="store_true", help="return when the run has saved and ended")


def run(arguments: argparse.Namespace) -> int:
    """Cancel one run."""
    chosen = find_run(arguments.run_name, arguments.runs_dir)
    text = arguments.run_name
    if text is not None and text != chosen.name:  # a path, a run id or a job id means one run
        _cancel(chosen, arguments.wait)
        return 0
    queue = Queue()
    runs = list(newest_runs(arguments.runs_dir, lambda path: text in (None, path.parent.name)))
    active = [status for status in (describe(run, queue=queue) for run in runs) if status.is_active]
    if len(active) > 1:
        raise ProfileError("command line", [Problem("RUN", _which(active))])
    if not active:
        _cancel(chosen, arguments.wait)
        return 0
    if text is None and not arguments.yes and sys.stdin.isatty() and not _confirmed(active[0]):
        print("nothing was cancelled")
        return 0
    _cancel(active[0].run, arguments.wait)
    return 0


def _cancel(run_dir: RunDir, waits: bool) -> None:
    print(cancel(run_dir), flush=True)
    if waits:
        wait_for([run_dir])  # its exit code is that of the run, which was cancelled as it should


def _which(active: list[RunStatus]) -> str:
    lines = "\n".join(f"    hpctrain cancel {as_typed(status.run.path)}   # {_words(status)}" for status in active)
    return f"{len(active)} runs are active; name the one to cancel:\n{lines}"


def _confirmed(status: RunStatus) -> bool:
    print(
        f"cancel {as_typed(status.run.path)} ({_words(status)})? It saves its state first. [y/N] ", end="", flush=True
    )
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _words(status: RunStatus) -> str:
    job = f"job {status.job_id}, " if status.job_id else ""
    return job + progress_line(status).partition(": ")[2]
