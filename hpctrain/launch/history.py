"""The history of attempts, ``attempts/ended.tsv``, and the rule that decides whether another attempt follows.

``attempt.sh`` contains the same rule for Slurm. It is a shell script because it runs outside any container, where our
Python may be missing. ``tests/unit/launch/test_requeue_rule.py`` checks both against one table.
"""

from __future__ import annotations

import os
import re
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from hpctrain.errors import EXIT_FINISHED
from hpctrain.files import open_append, read_lines
from hpctrain.rundir import RunDir

STRIKES_LAST_S = 86400.0
"""How long the launcher remembers a node that failed: after a day somebody has looked at it, or it was chance."""
MOST_AVOIDED = 4
"""Largest number of nodes that a job avoids at a time; with more, it might never start."""
NEVER_STARTED = "never-started"
"""What followed a job that had to wait for another one, which did not finish."""
USER_ERRORS = range(1, 8)
"""Exit codes of errors that another attempt would only repeat."""
_MOST_ROWS = 10_000
"""Largest number of lines to read from a table; a job has far fewer attempts."""
_WHOLE_NUMBER = re.compile(r"\d{1,11}")
_CHECKPOINT = re.compile(r"step-\d{8,}")


@dataclass(frozen=True)
class EndedAttempt:
    """One line of ``attempts/ended.tsv``.

    Parameters
    ----------
    time : float
        When it ended, seconds since 1970.
    job_id : str
    restart : int
        Number of requeues of this job before this attempt.
    exit_code : int
    before, after : str
        Newest checkpoint when the attempt began and when it ended; ``none`` if there was none.
    followed : str
        ``finished``, ``requeued``, ``failed``, ``terminated`` (by scancel or an admin, or requeued by
        Slurm), ``requeue-is-off``, ``too-many-attempts``, ``no-progress`` or ``never-started``.
    """

    time: float
    job_id: str
    restart: int
    exit_code: int
    before: str
    after: str
    followed: str


def history_path(run: RunDir) -> Path:
    """Return the path of the table of ended attempts."""
    return run.attempts / "ended.tsv"


def read_history(run: RunDir) -> list[EndedAttempt]:
    """Return the ended attempts in the order of their starts, without torn or damaged lines.

    When a node loses the network and comes back, its attempt may end after the attempt that replaced it. A second line
    of an attempt replaces the first one: what runs the ranks has said what follows, and then the job itself.
    """
    found = [item for row in _rows(history_path(run)) if (item := _ended_attempt(row)) is not None]
    ended = list({(item.job_id, item.restart): item for item in found}.values())
    jobs = {job_id: number for number, job_id in enumerate(dict.fromkeys(item.job_id for item in ended))}
    return sorted(ended, key=lambda item: (jobs[item.job_id], item.restart))


def _rows(path: Path) -> list[list[str]]:
    """Return the last lines of a table, as fields; an empty list if the table is absent or unreadable."""
    try:
        lines = deque(read_lines(path), maxlen=_MOST_ROWS)
    except OSError:
        return []
    return [line.decode("utf-8", "replace").rstrip("\n").split("\t") for line in lines]


def _ended_attempt(row: list[str]) -> EndedAttempt | None:
    if len(row) != 7 or not all(_WHOLE_NUMBER.fullmatch(row[column]) for column in (0, 2, 3)):
        return None
    return EndedAttempt(float(row[0]), row[1], int(row[2]), int(row[3]), row[4], row[5], row[6])


def avoided_nodes(run: RunDir, now: float) -> list[str]:
    """Return the nodes that the next attempt avoids, the latest first; ``attempt.sh`` has the same rule.

    A killed rank counts as one strike against its node. A pre-flight that finds the node unfit counts as two. The next
    attempt avoids a node with two strikes within a day.
    """
    strikes: dict[str, int] = {}
    for fields in _rows(run.bad_nodes)[-100:]:
        if len(fields) == 4 and _WHOLE_NUMBER.fullmatch(fields[0]) and float(fields[0]) > now - STRIKES_LAST_S:
            strikes[fields[1]] = strikes.pop(fields[1], 0) + (2 if fields[3] == "preflight" else 1)
    return [node for node, count in reversed(strikes.items()) if count >= 2][:MOST_AVOIDED]


def append_history(run: RunDir, ended: EndedAttempt) -> None:
    """Append one line to the table."""
    fields = (int(ended.time), ended.job_id, ended.restart, ended.exit_code, ended.before, ended.after, ended.followed)
    descriptor = open_append(history_path(run))
    try:
        os.write(descriptor, ("\t".join(map(str, fields)) + "\n").encode("utf-8", "replace"))
    finally:
        os.close(descriptor)


def newest_checkpoint(run: RunDir) -> str:
    """Return the name of the newest checkpoint that has its manifest, or ``none``."""
    names = [path.parent.name for path in run.checkpoints.glob("step-*/MANIFEST.json")]
    return max(filter(_CHECKPOINT.fullmatch, names), default="none")


def what_follows(
    run: RunDir,
    job_id: str,
    restart: int,
    exit_code: int,
    before: str,
    *,
    terminated: bool,
    requeue: bool,
    max_attempts: int,
    max_attempts_without_progress: int,
) -> EndedAttempt:
    """Decide what follows an attempt that has just ended.

    Parameters
    ----------
    run : RunDir
    job_id : str
    restart : int
        Number of requeues of this job before this attempt.
    exit_code : int
        The code that the ranks agreed on, or that of the rank that failed first.
    before : str
        :func:`newest_checkpoint` when the attempt began.
    terminated : bool
        Whether somebody stopped the job itself, so that no attempt may follow.
    requeue, max_attempts, max_attempts_without_progress
        As in the profile's ``launch``.

    Returns
    -------
    EndedAttempt
        The line to append to the history; ``followed == "requeued"`` asks for another attempt.
    """
    after = newest_checkpoint(run)
    if terminated:
        followed = "terminated"
    elif exit_code == EXIT_FINISHED:
        followed = "finished"
    elif exit_code in USER_ERRORS:
        followed = "failed"
    elif not requeue:
        followed = "requeue-is-off"
    elif restart + 1 >= max_attempts:
        followed = "too-many-attempts"
    elif _without_progress(run, job_id, before, after) >= max_attempts_without_progress:
        followed = "no-progress"
    else:
        followed = "requeued"
    return EndedAttempt(time.time(), job_id, restart, exit_code, before, after, followed)


def _without_progress(run: RunDir, job_id: str, before: str, after: str) -> int:
    """Count the latest attempts in a row, this one included, that ended at the checkpoint they began with."""
    if before != after:
        return 0
    count = 0
    for ended in read_history(run):
        if ended.job_id == job_id and ended.followed != "terminated":
            count = count + 1 if ended.before == ended.after else 0
    return count + 1
