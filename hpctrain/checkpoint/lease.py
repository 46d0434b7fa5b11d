"""Who owns a run directory: every attempt takes the next number, and the highest number is the owner."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from hpctrain.errors import CheckpointError
from hpctrain.rundir import RunDir, read_json

_FRESH_BEATS = 3.0


def take_lease(run: RunDir, facts: dict[str, Any]) -> int:
    """Take the next attempt number for this process and return it.

    Parameters
    ----------
    run : RunDir
    facts : dict
        What to write into the lease: job id, restart count, world size, hosts.

    Raises
    ------
    CheckpointError
        Another job is at work in this run directory.
    """
    _refuse_if_in_use(run, facts.get("job_id"))
    number = max((int(path.stem) for path in run.attempts.glob("[0-9]*.json")), default=0)
    while True:
        number += 1
        path = run.attempts / f"{number:04d}.json"
        try:
            with open(path, "x", encoding="utf-8") as stream:  # exclusive: two starters never get the same number
                json.dump({"attempt": number, "started_at": time.time(), **facts}, stream, indent=1)
                stream.flush()
                os.fsync(stream.fileno())
        except FileExistsError:
            continue
        return number


def _refuse_if_in_use(run: RunDir, job_id: str | None) -> None:
    for path in sorted(run.heartbeats.glob("rank-*.json")):
        beat = read_json(path) or {}
        if beat.get("state") in (None, "finished", "stopped", "failed"):
            continue
        same_job = job_id is not None and beat.get("job_id") == job_id  # requeued: Slurm has ended the earlier start
        age_s = time.time() - float(beat.get("time", 0))
        if not same_job and age_s < _FRESH_BEATS * float(beat.get("interval_s", 10)) and not _is_dead(beat):
            raise CheckpointError(
                f"{run.path}: in use by job {beat.get('job_id')} (rank {beat.get('rank')} on {beat.get('host')}, last "
                f"sign of life {age_s:.0f} s ago); cancel it first with: hpctrain cancel {run.path}"
            )


def _is_dead(beat: dict[str, Any]) -> bool:
    """A process of this host that is gone has not said goodbye, as after kill -9."""
    host = os.environ.get("SLURMD_NODENAME") or os.uname().nodename
    return beat.get("host") == host and not os.path.exists(f"/proc/{beat.get('pid')}")
