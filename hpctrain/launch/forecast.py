"""When a run will be finished, if it has to wait in the queue again: its own waits so far, else those of its partition.

A run needs several attempts if its time limit, or a slice of the queue (``launch.slices``), is shorter than it is.
Between two attempts it waits. The forecast adds the waits that are likely to the time that the steps need.
"""

from __future__ import annotations

import math
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from hpctrain.launch.history import EndedAttempt, read_history
from hpctrain.launch.lastwords import read_last_words
from hpctrain.records import Record
from hpctrain.rundir import RunDir

_LONG_ENOUGH = 3
"""Least number of waits of a run's own before other jobs are no longer asked."""
_SACCT_TIMEOUT_S = 20.0
_MOST_JOBS = 2000


@dataclass(frozen=True)
class Forecast:
    """When a run will be finished.

    Parameters
    ----------
    left_s : float
        Time from now [s], waits included.
    attempts : int
        Number of further attempts after the present one.
    wait_s : float
        Assumed wait before each of them [s].
    source : str
        Whose waits these were.
    """

    left_s: float
    attempts: int
    wait_s: float
    source: str

    def __str__(self) -> str:
        from hpctrain.words import format_short_duration

        if not self.attempts:
            return f"in {format_short_duration(self.left_s)}, in this attempt"
        more = "1 more attempt" if self.attempts == 1 else f"{self.attempts} more attempts"
        return (
            f"in about {format_short_duration(self.left_s)}: {more}, each after {format_short_duration(self.wait_s)} "
            f"in the queue ({self.source})"
        )


def forecast(
    work_left_s: float,
    attempt_left_s: float | None,
    slice_s: float,
    waits_s: Sequence[float],
    lost_s: float = 0.0,
    source: str = "",
) -> Forecast:
    """Return when the work will be done.

    Parameters
    ----------
    work_left_s : float
        Time that the remaining steps need [s].
    attempt_left_s : float or None
        What is left of the present attempt [s]; None if none is running.
    slice_s : float
        Length of further attempts [s].
    waits_s : sequence of float
        Waits of the past [s]; the median is assumed, and none if there are none.
    lost_s : float
        Part of each attempt in which no step is done: start and warning [s].
    source : str
        Whose waits these were.
    """
    wait_s = statistics.median(waits_s) if waits_s else 0.0
    useful_s = max(1.0, slice_s - lost_s)
    here_s = max(0.0, attempt_left_s) if attempt_left_s is not None else 0.0
    if work_left_s <= here_s:
        return Forecast(work_left_s, 0, wait_s, source)
    rest_s = work_left_s - here_s
    attempts = math.ceil(rest_s / useful_s)
    return Forecast(here_s + attempts * (wait_s + lost_s) + rest_s, attempts, wait_s, source)


def forecast_of(run: RunDir, is_running: bool, now: float | None = None) -> Forecast | None:
    """Return when a run will be finished, by the rate of its newest attempt.

    Parameters
    ----------
    run : RunDir
    is_running : bool
        Whether an attempt is running now.
    now : float, optional
        Seconds since 1970; None means the time of the clock.

    Returns
    -------
    Forecast or None
        None if no rate is known, or nothing limits an attempt.
    """
    now = time.time() if now is None else now
    words, job = read_last_words(run), run.read_job()
    steps_left = words.total_steps - words.step
    limit_s = job.get("shortest_slice_s") or job.get("time_limit_s")
    if not words.steps_per_s or not limit_s or steps_left <= 0:
        return None
    lead_s = job.get("lead_s", 0)
    attempt_left_s = words.started_at + limit_s - lead_s - now if is_running and words.started_at else None
    work_left_s = steps_left / words.steps_per_s
    own = own_waits_s(read_history(run), run.read_attempts())
    others: list[float] = []
    if len(own) < _LONG_ENOUGH and work_left_s > (attempt_left_s or 0.0):
        others = partition_waits_s(job.get("partition"), job.get("num_nodes", 1), limit_s)
    waits, source = likely_waits(own, others)
    return forecast(work_left_s, attempt_left_s, limit_s, waits, lead_s, source)


def own_waits_s(history: Sequence[EndedAttempt], attempts: Sequence[Record]) -> list[float]:
    """Return how long the run itself has waited between its attempts [s].

    Parameters
    ----------
    history : sequence of EndedAttempt
        Ends of attempts.
    attempts : sequence of dict
        Their starts, from the leases.
    """
    starts = sorted(item["started_at"] for item in attempts if "started_at" in item)
    waits = []
    for ended in history:
        if ended.followed == "requeued":
            later = [start for start in starts if start >= ended.time]
            if later:
                waits.append(later[0] - ended.time)
    return waits


def partition_waits_s(partition: str | None, num_nodes: int, limit_s: float, since: str = "now-7days") -> list[float]:
    """Return the waits of comparable jobs of this cluster in the last days [s], as ``sacct`` tells them.

    Comparable are jobs of the same partition, of half to twice as many nodes, with half to twice the time limit. Empty
    if the cluster keeps no accounts, or shows no jobs of others.
    """
    command = ["sacct", "-X", "-n", "-P", "-a", "-S", since, "-o", "Eligible,Start,TimelimitRaw,NNodes"]
    command += ["-r", partition] if partition else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SACCT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return waits_of(done.stdout, num_nodes, limit_s) if done.returncode == 0 else []


def waits_of(text: str, num_nodes: int, limit_s: float) -> list[float]:
    """Return the waits of comparable jobs in the answer of sacct [s]."""
    waits = []
    for line in text.splitlines()[-_MOST_JOBS:]:
        fields = line.split("|")
        if len(fields) != 4 or not fields[2].isdigit() or not fields[3].isdigit():
            continue
        eligible, start = _seconds(fields[0]), _seconds(fields[1])
        its_limit_s, its_nodes = int(fields[2]) * 60, int(fields[3])
        is_alike = limit_s / 2 <= its_limit_s <= limit_s * 2 and num_nodes / 2 <= its_nodes <= num_nodes * 2
        if eligible is not None and start is not None and start >= eligible and is_alike:
            waits.append(start - eligible)
    return waits


def _seconds(text: str) -> float | None:
    from datetime import datetime

    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def likely_waits(own: Sequence[float], others: Sequence[float]) -> tuple[list[float], str]:
    """Return the waits to assume, and whose they are: a run's own if there are some, else those of other jobs."""
    if len(own) >= _LONG_ENOUGH or (own and not others):
        return list(own), "as so far"
    if others:
        return list(others), "as jobs of this size lately"
    return [], "waits in the queue are not known"
