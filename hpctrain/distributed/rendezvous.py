"""The ranks of a job find each other; lost ranks and requests to stop are noticed within a second.

::

    <run>/attempts/rendezvous-<job>.<step>.<restart>/
        <node>/rank-0001.json   process and host of a rank that has started; each rank reads those of its own node
        address.json            address at which rank 0 listens, unless the launcher has chosen it

Torch waits for the other ranks in C++, where no signal handler of Python runs. So a thread watches meanwhile, and ends
this process when further waiting is useless. Training has not begun by then, so nothing is lost.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from hpctrain.distributed.process import boot_ticks, identity, is_gone
from hpctrain.distributed.stop import StopRequest
from hpctrain.distributed.world import World, node_name
from hpctrain.errors import EXIT_INTERRUPTED, EXIT_RANKS_LOST, EXIT_REQUEUE, CheckpointError, SiteError
from hpctrain.rundir import RunDir, read_json, write_json

TIMEOUT_S = 300.0
"""Default time that ranks wait for each other [s]; a node with a cold file system imports torch for minutes."""

_LOOK_EVERY_S = 0.25
_ASK_EVERY_S = 0.05
_MOST_LOOKS_PER_S = 1000.0
"""How often all ranks together look at the file system while they wait; each rank of a large job looks less often."""
_NAMED = 8
"""Largest number of missing ranks that a message names."""


class Rendezvous:
    """Watch, as a context manager, while the ranks of a job find each other.

    Until the block ends, a thread ends this process

    - with code 75 (130 after Ctrl-C) if it is asked to stop;
    - with code 76 if another rank of this host has started and ended, or if ranks have not started after `timeout_s`;
    - with code 3 if all ranks have started, but cannot connect within `timeout_s`.

    Parameters
    ----------
    world : World
    run : RunDir
        The ranks register in its folder ``attempts``.
    stop : StopRequest
        Stop request of this process.
    timeout_s : float
        How long ranks wait for each other [s].
    """

    def __init__(self, world: World, run: RunDir, stop: StopRequest, timeout_s: float) -> None:
        self._world, self._stop, self._timeout_s = world, stop, timeout_s
        self._folder = run.attempts / f"rendezvous-{_token(world, os.environ)}"
        self._here = self._folder / node_name()
        self._mine = self._here / f"rank-{world.rank:04d}.json"
        self._found: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._began_ticks = identity()["started_ticks"]

    def __enter__(self) -> Rendezvous:
        record = {"rank": self._world.rank, "host": node_name(), "process": identity(), "written_ticks": boot_ticks()}
        # A node that cannot write is for the pre-flight to name; until then its rank is only not watched by the others.
        with contextlib.suppress(OSError):
            self._here.mkdir(parents=True, exist_ok=True)
            write_json(self._mine, record, durable=False)
        self._deadline_s = time.monotonic() + self._timeout_s
        threading.Thread(target=self._watch, name="rendezvous", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._ended.set()
        with contextlib.suppress(OSError):
            if kind is None and self._world.is_main:
                shutil.rmtree(self._folder, ignore_errors=True)  # the others remove their records meanwhile
            else:
                self._mine.unlink()

    def publish_address(self, address: str, port: int) -> None:
        """Publish the address at which rank 0 listens.

        Raises
        ------
        CheckpointError
            The run directory cannot be written.
        """
        path = self._folder / "address.json"
        try:
            write_json(path, {"address": address, "port": port, "process": identity()})
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be written: {error.strerror}; full, or read-only?") from error

    def wait_for_address(self) -> tuple[str, int]:
        """Wait until rank 0 has published its address, and return it."""
        while not isinstance(found := read_json(self._folder / "address.json"), dict):
            time.sleep(self._at_least(_ASK_EVERY_S))
        return found["address"], found["port"]

    def _at_least(self, seconds: float) -> float:
        """Return a pause between two looks at the disk that keeps those of all ranks bearable."""
        return max(seconds, self._world.world_size / _MOST_LOOKS_PER_S)

    def lost_rank(self) -> str | None:
        """Return a description of a rank that has started and ended; None if none is known."""
        # A rank that has joined removes its record, but this process remembers it.
        for path in self._here.glob("rank-*.json"):
            if path.name not in self._found:
                record = read_json(path)
                if isinstance(record, dict) and not self._is_stale(record):
                    self._found[path.name] = record
        for record in self._found.values():
            if is_gone(record.get("process")):
                return f"rank {record.get('rank')} on {record.get('host')} (process {record['process']['pid']})"
        return None

    def _is_stale(self, record: dict[str, Any]) -> bool:
        """Return whether a rank of an earlier start left this record, and its process has ended since."""
        written, began = record.get("written_ticks"), self._began_ticks
        is_older = isinstance(written, int) and began is not None and written < began
        return is_older and is_gone(record.get("process")) is True

    def _watch(self) -> None:
        look_at = 0.0
        while not self._ended.wait(_LOOK_EVERY_S):
            looks = time.monotonic() >= look_at
            look_at = time.monotonic() + self._at_least(_LOOK_EVERY_S) if looks else look_at
            verdict = self._verdict(looks)
            if verdict is not None:
                with self._lock:
                    if not self._ended.is_set():
                        _leave(*verdict)

    def _verdict(self, looks: bool) -> tuple[int, str] | None:
        """Return the exit code and the reason, once waiting is useless; `looks` says whether to look at the disk."""
        if self._stop.cause is not None:
            code = EXIT_INTERRUPTED if self._stop.cause == "INT" else EXIT_REQUEUE
            return code, f"stopped by {self._stop.cause} before all ranks had started; training had not begun"
        if looks and (lost := self.lost_rank()) is not None:
            return EXIT_RANKS_LOST, f"{lost} ended before all ranks had started"
        if time.monotonic() > self._deadline_s:
            if missing := self._missing():
                return EXIT_RANKS_LOST, f"{missing} did not start within {self._timeout_s:.0f} s"
            return SiteError.exit_code, unreachable(self._world, f"no process group within {self._timeout_s:.0f} s")
        return None

    def _missing(self) -> str:
        have_come = {path.name for path in self._folder.glob("*/rank-*.json")} | set(self._found)
        missing = [rank for rank in range(self._world.world_size) if f"rank-{rank:04d}.json" not in have_come]
        names = ", ".join(map(str, missing[:_NAMED])) + (" ..." if len(missing) > _NAMED else "")
        return f"{len(missing)} of {self._world.world_size} ranks ({names})" if missing else ""


def unreachable(world: World, reason: str) -> str:
    """Return the message for ranks that have all started but cannot connect."""
    return (
        f"rank {world.rank} of {world.world_size}: {reason}\n"
        "  check that every node can reach rank 0's node, and NCCL_SOCKET_IFNAME / GLOO_SOCKET_IFNAME of the site"
    )


def _token(world: World, environment: Mapping[str, str]) -> str:
    """Return a name for this start of the job; ranks of different starts must not find each other."""
    step = environment.get("SLURM_STEP_ID") or environment.get("MASTER_PORT", "0")
    restart = environment.get("TORCHELASTIC_RESTART_COUNT", world.restart_count)
    return f"{world.job_id or 'none'}.{step}.{restart}"


def _leave(code: int, reason: str) -> None:
    print(f"hpctrain: {reason}", file=sys.stderr, flush=True)
    os._exit(code)
