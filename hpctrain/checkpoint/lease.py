"""Decide which attempt owns a run directory: every attempt takes the next number, and the highest number owns it.

Two rules keep two jobs apart. At the start, a second job is refused while the owner shows any sign of life. Later, an
attempt that was replaced, such as one on a node that was cut off, finds a higher number than its own. It may then
neither publish a checkpoint nor write another record.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from hpctrain.distributed.process import identity, is_gone
from hpctrain.errors import CheckpointError
from hpctrain.files import fsync_directory, open_regular
from hpctrain.records import LEASE, Record, well_typed
from hpctrain.rundir import RunDir, read_json

_ENDED = ("finished", "stopped", "failed")
_WATCHED_BEATS = 3.0
_LONGEST_WATCH_S = 60.0
_WRITTEN_WITHIN_S = 2.0
_SKEW_S = 300.0
"""Largest difference between the clocks of two nodes [s]; a sign of life older than this needs no watching."""


def take_lease(run: RunDir, facts: dict[str, Any]) -> int:
    """Take the next attempt number for this process and return it.

    Parameters
    ----------
    run : RunDir
    facts : dict
        Contents of the lease: job id, restart count, world size, hosts.

    Raises
    ------
    CheckpointError
        Another job uses this run directory, or it cannot be written.
    """
    newest = run.newest_attempt()
    _refuse_if_in_use(run, newest, facts)
    try:
        number = _create(run, newest, facts)
    except OSError as error:
        raise CheckpointError(f"{run.attempts}: cannot be written: {error.strerror}; full, or read-only?") from error
    beats = run.read_heartbeats() if number > 1 else []  # once for all: thousands of ranks may have one each
    for other in range(1, number):  # another attempt started at the same moment and was faster
        try:
            _refuse_if_in_use(run, other, facts, beats)
        except CheckpointError:
            _lease_path(run, number).unlink()
            raise
    return number


def _lease_path(run: RunDir, number: int) -> Path:
    return run.attempts / f"{number:04d}.json"


def _create(run: RunDir, newest: int, facts: dict[str, Any]) -> int:
    lease = {"started_at": time.time(), "process": identity(), **facts}
    number = newest
    while True:
        number += 1
        try:
            # Never the same number twice, and never through a link that somebody has planted.
            descriptor = open_regular(_lease_path(run, number), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                json.dump({"attempt": number, **lease}, stream, indent=1)
                stream.flush()
                os.fsync(stream.fileno())
        except FileExistsError:
            continue
        fsync_directory(
            run.attempts
        )  # without this, a power cut could undo the lease, and a second attempt would get the same number
        fsync_directory(run.path)
        return number


def _refuse_if_in_use(run: RunDir, number: int, facts: dict[str, Any], beats: list[Record] | None = None) -> None:
    """Raise if attempt `number` is still running; watch it for a while where one look cannot decide.

    With `beats`, the heartbeats of all ranks, these are not read again before they have to be watched.
    """
    lease = _read_lease(run, number)
    if lease is None or _was_requeued(lease, facts):
        return
    signs = _signs_of_life(number, lease, run.read_heartbeats() if beats is None else beats)
    undecided = []
    for sign in signs:
        gone = is_gone(sign.get("process"))
        if gone is False and sign["process"] != identity():
            _refuse(run, sign, "its process is running")
        if gone is None and time.time() - sign.get("time", 0) < _SKEW_S + _WATCHED_BEATS * _interval_s(sign):
            undecided.append(sign)
    if undecided:
        _watch(run, number, lease, signs, undecided)


def _read_lease(run: RunDir, number: int) -> Record | None:
    """Read a lease; an empty one is just being written, or its node lost power while writing it."""
    path = _lease_path(run, number)
    deadline = time.monotonic() + _WRITTEN_WITHIN_S
    while (lease := read_json(path)) is None and path.is_file():
        if time.monotonic() > deadline:
            return {}
        time.sleep(0.02)
    return None if lease is None else well_typed(lease, LEASE)


def _was_requeued(lease: Record, facts: dict[str, Any]) -> bool:
    """Return whether Slurm restarted this job: it does so only after the earlier start ended or became unreachable."""
    same_job = lease.get("job_id") is not None and lease.get("job_id") == facts.get("job_id")
    return same_job and (lease.get("restart_count") or 0) < (facts.get("restart_count") or 0)


def _signs_of_life(number: int, lease: Record, every: list[Record]) -> list[Record]:
    """Return the last beats of the ranks that have not reported their end; before the first beat, the lease."""
    beats = [beat for beat in every if beat.get("attempt") == number]
    if not beats and lease:
        return [{**lease, "rank": 0, "host": lease.get("hosts"), "time": lease.get("started_at", 0)}]
    return [beat for beat in beats if beat.get("state") not in _ENDED]


def _watch(run: RunDir, number: int, lease: Record, before: list[Record], undecided: list[Record]) -> None:
    """Wait for another beat of processes that cannot be seen from here; clocks may differ, so they are not compared."""
    watch_s = min(_LONGEST_WATCH_S, max(_WATCHED_BEATS * _interval_s(sign) for sign in undecided))
    deadline = time.monotonic() + watch_s
    while time.monotonic() < deadline:
        time.sleep(min(0.5, watch_s / 20))
        for sign in _signs_of_life(number, lease, run.read_heartbeats()):
            if sign not in before:
                _refuse(run, sign, "its heartbeat continues")
    for sign in undecided:
        age_s = time.time() - sign.get("time", 0)
        if _WATCHED_BEATS * _interval_s(sign) > watch_s and age_s < _WATCHED_BEATS * _interval_s(sign):
            _refuse(run, sign, f"last sign of life {age_s:.0f} s ago")


def _interval_s(sign: Record) -> float:
    return sign.get("interval_s", 10.0)


def _refuse(run: RunDir, sign: Record, why: str) -> None:
    raise CheckpointError(
        f"{run.path}: in use by job {sign.get('job_id')} (rank {sign.get('rank')} on {sign.get('host')}, {why}); "
        f"wait for it, or end it first with: hpctrain cancel {run.path}"
    )
