"""Heartbeat of each rank, in a file that `status` reads when no Slurm command knows the job."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time

from hpctrain.distributed.process import identity
from hpctrain.distributed.world import World
from hpctrain.errors import CheckpointError
from hpctrain.files import clear_old_leftovers
from hpctrain.rundir import RunDir, write_atomic


class Heartbeat:
    """Write ``heartbeat/rank-NNNN.json`` every few seconds in a separate thread.

    This thread also ends a rank whose attempt was replaced. Such a rank, on a node that was cut off and came back,
    would compute for ever and overwrite the heartbeat of the owner.

    Parameters
    ----------
    run : RunDir
    world : World
    attempt : int
        Number of this attempt.
    interval_s : float
        Seconds between two beats.
    """

    def __init__(self, run: RunDir, world: World, attempt: int, interval_s: float) -> None:
        self.step = 0
        self.total_steps = 0
        self.state = "starting"
        self._run, self._attempt = run, attempt
        self._path = run.heartbeat(world.rank)
        self._fixed = {
            "rank": world.rank,
            "world_size": world.world_size,
            "attempt": attempt,
            "job_id": world.job_id,
            "pid": os.getpid(),
            "host": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
            "process": identity(),
            "interval_s": interval_s,
        }
        self._interval_s = interval_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_ended, name="heartbeat", daemon=True)

    def start(self) -> Heartbeat:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._fixed["rank"] == 0:
            clear_old_leftovers(self._path.parent)
        self.beat()
        self._thread.start()
        return self

    def beat(self) -> None:
        """Write one beat; a full disk must not end a healthy run."""
        record = {
            **self._fixed,
            "step": self.step,
            "total_steps": self.total_steps,
            "state": self.state,
            "time": time.time(),
        }
        with contextlib.suppress(OSError):
            write_atomic(self._path, json.dumps(record) + "\n", durable=False, replace_folders=True)

    def end(self, state: str) -> None:
        """Write a last beat with the reason of this rank's end."""
        self.state = state
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self.beat()

    def _beat_until_ended(self) -> None:
        while not self._ended.wait(self._interval_s):
            self._leave_if_replaced()
            self.beat()

    def _leave_if_replaced(self) -> None:
        newest = 0
        # Every rank asks this again and again, and leases are numbered without gaps: one question instead of a listing.
        if os.path.lexists(self._run.attempts / f"{self._attempt + 1:04d}.json"):
            with contextlib.suppress(OSError):  # a file system that does not answer does not show who the owner is
                newest = self._run.newest_attempt()
        if newest > self._attempt:
            print(
                f"hpctrain: {self._run.path}: attempt {self._attempt} was replaced by attempt {newest}; rank "
                f"{self._fixed['rank']} exits at step {self.step}",
                file=sys.stderr,
                flush=True,
            )
            os._exit(CheckpointError.exit_code)
