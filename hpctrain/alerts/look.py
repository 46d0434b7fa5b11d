"""Read what the rules look at: sensors of all ranks, disks, and the attempts before."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence

from hpctrain.alerts.facts import Disk, RankNow
from hpctrain.files import read_lines
from hpctrain.monitor.ledger import RankState
from hpctrain.records import Record
from hpctrain.rundir import RunDir

MEAN_S = 120.0
"""Time constant of the running means of a rank's readings [s]."""
_STALE_INTERVALS = 6.0
"""Number of missed samples after which the readings of a rank count as old."""
_SAVED_OR_STOPPED = ("0", "75", "78", "130")


class Smoothed:
    """Running means of the readings of all ranks.

    Parameters
    ----------
    mean_s : float
        Time constant [s].
    """

    def __init__(self, mean_s: float = MEAN_S) -> None:
        self._mean_s = mean_s
        self._means: dict[tuple[int, str], tuple[float, float]] = {}

    def update(self, states: Sequence[RankState], now_s: float) -> list[RankNow]:
        """Take new readings; return the ranks of the newest attempt whose readings are recent."""
        newest = max((state.attempt for state in states), default=0)
        found = []
        for state in states:
            longest_s = _STALE_INTERVALS * max(state.interval_s, 1.0)
            if state.attempt != newest or now_s - state.time > longest_s:
                continue
            percent = self._mean(state, "gpu_utilisation_percent")
            heat = self._mean(state, "gpu_throttled_by_heat")
            pace = str(state.values.get("pace", "ok"))
            found.append(RankNow(state.rank, state.host, percent, heat or 0.0, pace))
        return found

    def _mean(self, state: RankState, name: str) -> float | None:
        value = state.values.get(name)
        if value is None:
            return None
        then_s, mean = self._means.get((state.rank, name), (-math.inf, float(value)))
        if state.time > then_s:
            mean += (value - mean) * -math.expm1(-(state.time - then_s) / self._mean_s)
            self._means[state.rank, name] = (state.time, mean)
        return mean


def disks_of(run: RunDir, others: Mapping[str, str]) -> list[Disk]:
    """Return the room of the run directory and of other folders; those that cannot be asked are absent.

    Parameters
    ----------
    run : RunDir
    others : mapping of str to str
        Path by what it is, such as ``the copies of the data``.
    """
    found = [_disk("the run directory", str(run.path), is_run=True)]
    found += [_disk(what, path, is_run=False) for what, path in others.items()]
    return [disk for disk in found if disk is not None]


def _disk(what: str, path: str, is_run: bool) -> Disk | None:
    try:
        told = os.statvfs(path)
    except OSError:
        return None
    free_files = told.f_favail if told.f_files > 0 else None
    return Disk(what, path, told.f_bavail * told.f_frsize, told.f_blocks * told.f_frsize, free_files, is_run)


def barren_attempts(run: RunDir) -> tuple[int, str]:
    """Return how many of the latest attempts ended without a new checkpoint, by an error or a kill, and on which node.

    Returns
    -------
    number : int
    node : str
        The only node on which all of them ran; empty if they ran on more than one, or if it is not known.
    """
    rows = _rows(run)
    number = 0
    for row in reversed(rows):
        if row[4] != row[5] or row[3] in _SAVED_OR_STOPPED or row[6] == "terminated":
            break
        number += 1
    ended = {(row[1], row[2]) for row in rows[len(rows) - number :]}
    leases = [lease for lease in run.read_attempts() if _place_of(lease) in ended] if number else []
    hosts = {name for lease in leases for name in _names(lease.get("hosts"))}
    return number, hosts.pop() if len(hosts) == 1 else ""


def end_of(run: RunDir, job_id: str, restart: int) -> tuple[str, int] | None:
    """Return what followed an attempt and its exit code; None if it has not ended."""
    found = [row for row in _rows(run) if (row[1], row[2]) == (job_id, str(restart)) and row[3].isdecimal()]
    return (found[-1][6], int(found[-1][3])) if found else None


def _rows(run: RunDir) -> list[list[str]]:
    try:
        lines = list(read_lines(run.attempts / "ended.tsv"))
    except OSError:
        return []
    rows = [line.decode("utf-8", "replace").rstrip("\n").split("\t") for line in lines]
    return [row for row in rows if len(row) == 7]


def _place_of(lease: Record) -> tuple[str, str]:
    return str(lease.get("job_id")), str(lease.get("restart_count"))


def _names(hosts: object) -> Iterable[str]:
    return [name.strip() for name in str(hosts or "").split(",") if name.strip()]
