"""Work that one rank per node does before the first step while the others wait: copying files, decoding spectra.

It takes minutes, so it runs in a thread, and the main threads of all ranks meet in a small reduction about once a
second. It gives every rank the progress of the work, whether a rank failed or died, and whether the job should stop.
Waiting costs no CPU and no file-system calls.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from hpctrain.distributed.group import gather_json
from hpctrain.distributed.process import identity
from hpctrain.distributed.reduce import sum_over_ranks
from hpctrain.distributed.stop import StopRequest
from hpctrain.distributed.watchdog import Watchdog
from hpctrain.distributed.world import World, node_name
from hpctrain.errors import EXIT_BUG, HpctrainError
from hpctrain.samples.activity import Activity, WorkCancelledError

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 1.0
_SAY_EVERY_S = 10.0

_PATIENCE = 20
"""Number of meetings to wait for unfinished work after a stop or a failure; a read that hangs never ends."""

Work = Callable[[Activity], dict[str, Any]]
"""Function that a rank runs for its node; it returns the values that the other ranks need, as JSON values."""


class StoppedBeforeTrainingError(Exception):
    """The job was asked to stop while files were copied or decoded; this is no fault.

    Parameters
    ----------
    is_interrupted : bool
        Whether a person stopped it, so that it is not requeued.
    """

    def __init__(self, is_interrupted: bool) -> None:
        super().__init__("stopped before training")
        self.is_interrupted = is_interrupted


@dataclass
class Crew:
    """All ranks, with the stop request and the watchdog that they check while they work or wait.

    Parameters
    ----------
    world : World
    stop : StopRequest
    watchdog : Watchdog
        Is informed whenever the work of any rank has progressed.
    """

    world: World
    stop: StopRequest
    watchdog: Watchdog

    def work(self, what: str, work: Work) -> dict[str, Any]:
        """Run `work` on one rank of each node while the others wait.

        Parameters
        ----------
        what : str
            Name of the work for the log, such as ``staging``.
        work : callable
            Is called on local rank 0 only, in a thread.

        Returns
        -------
        dict
            Values that `work` returned on this node.

        Raises
        ------
        HpctrainError
            Any rank failed; every rank raises its error.
        StoppedBeforeTrainingError
            The job was asked to stop; the work was cancelled and has ended.
        """
        job = _Job(work if self.world.local_rank == 0 else None)
        line = _Line(what, self.world)
        moved, pause_s, is_asked, is_interrupted, patience = 0.0, _FIRST_PAUSE_S, False, False, _PATIENCE
        while True:
            job.finished.wait(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            activity = job.activity
            mine = [*self.stop.flags(), job.has_failed, job.is_busy, activity.signs, activity.done_bytes]
            sums = torch.tensor([*map(float, mine), float(activity.total_bytes)], dtype=torch.float64)
            asked, interrupted, failed, busy, signs, done, total = sum_over_ranks(self.world, sums).tolist()
            is_asked, is_interrupted = is_asked or asked > 0, is_interrupted or interrupted > 0
            if signs != moved:
                moved = signs
                self.watchdog.progress()
            if is_asked or failed:
                activity.cancelled.set()
                patience -= 1
            line.say(done, total)
            if not busy or not patience:
                break
        self.watchdog.progress()
        outcomes = gather_json(self.world, job.outcome())
        self._raise_failure(job, outcomes)
        if is_asked:
            raise StoppedBeforeTrainingError(is_interrupted)
        return self._of_this_node(outcomes)

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, on every rank."""
        return gather_json(self.world, value)

    def agree(self, act: Callable[[], Any]) -> Any:
        """Call `act` on every rank; if it fails on one of them, every rank raises its error."""
        job = _Job(None)
        found = job.run(act)
        self._raise_failure(job, gather_json(self.world, job.outcome()))
        return found

    def _raise_failure(self, job: _Job, outcomes: list[dict[str, Any]]) -> None:
        failed = [outcome for outcome in outcomes if outcome["error"] is not None]
        if not failed:
            return
        if job.error is not None:
            raise job.error
        first = failed[0]
        error = HpctrainError(f"{first['error']} (node {first['node']})")
        error.exit_code = first["exit_code"]
        raise error

    def _of_this_node(self, outcomes: list[dict[str, Any]]) -> dict[str, Any]:
        key = _node_key()
        return next(found["result"] for found in outcomes if found["key"] == key and found["result"] is not None)


class _Job:
    """The work in its thread; on a rank that only waits it is finished from the beginning."""

    def __init__(self, work: Work | None) -> None:
        self.activity = Activity()
        self.finished = threading.Event()
        self.error: BaseException | None = None
        self._result: dict[str, Any] | None = None
        if work is None:
            self.finished.set()
        else:
            threading.Thread(target=self._work, args=(work,), name="before-training", daemon=True).start()

    def _work(self, work: Work) -> None:
        self._result = self.run(lambda: work(self.activity))
        self.finished.set()

    def run(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except WorkCancelledError:
            pass
        except BaseException as error:
            self.error = error
        return None

    @property
    def is_busy(self) -> bool:
        return not self.finished.is_set()

    @property
    def has_failed(self) -> bool:
        return self.error is not None

    def outcome(self) -> dict[str, Any]:
        return {
            "key": _node_key(),
            "node": node_name(),
            "result": self._result,
            "error": None if self.error is None else str(self.error) or repr(self.error),
            "exit_code": getattr(self.error, "exit_code", EXIT_BUG),
        }


def _node_key() -> str:
    """Return an identity of this node; containers may share a host name, and simulated nodes share one kernel."""
    return f"{node_name()} {identity()['boot_id']}"


class _Line:
    """Progress lines that rank 0 prints every few seconds, for all nodes together."""

    def __init__(self, what: str, world: World) -> None:
        self._what, self._is_main, self._nodes = what, world.is_main, world.num_nodes
        self._begun_s = self._said_s = time.monotonic()

    def say(self, done_bytes: float, total_bytes: float) -> None:
        now_s = time.monotonic()
        if not self._is_main or now_s - self._said_s < _SAY_EVERY_S:
            return
        self._said_s = now_s
        rate = done_bytes / (now_s - self._begun_s) / 2**30
        print(
            f"hpctrain: {self._what}: {done_bytes / 2**30:.2f} of {total_bytes / 2**30:.2f} GiB"
            f"{f' on {self._nodes} nodes' if self._nodes > 1 else ''}, {rate:.2f} GiB/s",
            file=sys.stderr,
            flush=True,
        )
