"""``hpc-submit --after``: the jobs that must have finished well before another one starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hpctrain.errors import Problem, ProfileError
from hpctrain.launch.plan import Job
from hpctrain.launch.present import as_typed
from hpctrain.launch.queue import Queue
from hpctrain.launch.runs import is_run, newest_job
from hpctrain.launch.status import RunStatus, describe
from hpctrain.rundir import RunDir, newest_called
from hpctrain.states import FINISHED, OVER

_POLL_S = 1.0
_QUIET_POLLS = 3
"""Number of polls in a row in which a run must look ended: one strange answer of a queue proves nothing."""
_LOST_POLLS = 60
"""The same for a state after which an attempt may still start by itself, such as lost."""


def jobs_before(texts: Sequence[str], runs_dir: Path, cluster: str) -> tuple[Job, ...]:
    """Return the jobs that a user names with ``--after`` and that have not finished yet.

    Parameters
    ----------
    texts : sequence of str
        A run each (path, name, run id or job id), or the id of another job of the same platform.
    runs_dir : Path
        Where to look for all but paths.
    cluster : str
        Name of the target of the job that has to wait.

    Raises
    ------
    ProfileError
        A run has ended otherwise: the job would never start.
    """
    jobs, problems = [], []
    queue = Queue()
    for text in dict.fromkeys(texts):
        run = _run_called(text, runs_dir)
        if run is None:
            jobs.append(Job(text, cluster))
            continue
        status = describe(run, queue=queue)
        if status.is_active:
            jobs.append(newest_job(run))
        elif status.state != FINISHED:
            detail = f" ({status.detail})" if status.detail else ""
            message = (
                f"{as_typed(run.path)} is {status.state}{detail}, so this job would never start; first run: "
                f"hpc-submit --resume {as_typed(run.path)}"
            )
            problems.append(Problem("--after", message))
    if problems:
        raise ProfileError("command line", problems)
    return tuple(jobs)


def _run_called(text: str, runs_dir: Path) -> RunDir | None:
    if is_run(Path(text)):
        return RunDir(text)
    return newest_called(text, runs_dir)


def wait_until_finished(
    runs: Sequence[RunDir], is_stopped: Callable[[], bool], poll_s: float = _POLL_S
) -> RunStatus | None:
    """Wait until all runs have finished.

    Parameters
    ----------
    runs : sequence of RunDir
    is_stopped : callable
        Returns whether to give up; called at every poll.
    poll_s : float
        Time between two polls [s].

    Returns
    -------
    RunStatus or None
        The first run that ended otherwise; None if all have finished, or after `is_stopped` has returned True.
    """
    queue = Queue()
    for run in runs:
        ended = 0
        while not is_stopped():
            status = describe(run, queue=queue)
            if status.state == FINISHED:
                break
            ended = 0 if status.is_active else ended + 1
            if ended >= (_QUIET_POLLS if status.state in OVER else _LOST_POLLS):
                return status
            time.sleep(poll_s)
    return None
