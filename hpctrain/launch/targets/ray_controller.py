"""``python -m hpctrain.launch.targets.ray_controller RUN_DIR JOB_ID ADDRESS``: a run on Ray, attempt after attempt.

It runs on a node of the cluster, as the child of the keeper (:mod:`hpctrain.launch.targets.ray_start`). It asks Ray for
nodes, lets :mod:`hpctrain.launch.pod` run the ranks of each, and starts another attempt by the codes of these. If it
is killed, the actors on its nodes end, the ranks save, and the keeper starts another controller, maybe elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpctrain.access import enter
from hpctrain.credentials.hide import error_line, hide_in_tracebacks
from hpctrain.errors import EXIT_BUG, EXIT_FINISHED, EXIT_TOO_HOT, CheckpointError, HpctrainError, SiteError
from hpctrain.fulldisk import tolerate_full_log
from hpctrain.launch.history import (
    NEVER_STARTED,
    USER_ERRORS,
    EndedAttempt,
    append_history,
    newest_checkpoint,
    read_history,
)
from hpctrain.launch.pod import is_marked_cancelled
from hpctrain.launch.supervisor import COOL_DOWN_S
from hpctrain.launch.targets.ray import REQUEST, record_path, warned_path
from hpctrain.launch.targets.ray_cluster import connect, end_with_node, end_with_parent
from hpctrain.launch.targets.ray_nodes import Nodes, Room, ended, find_room
from hpctrain.launch.targets.ray_shape import smaller_shapes, take_shape
from hpctrain.launch.targets.ray_start import STARTS_AGAIN
from hpctrain.rundir import RunDir, read_json, write_json
from hpctrain.states import PENDING, REQUEUED, RUNNING

OVER = "ended"
"""State in the record of a controller that has said its last word; the run directory knows more."""
_BEAT_S = 10.0
_PAUSE_S = 2.0
_OTHERS_END_WITHIN_S = 30.0
"""Time for the other nodes to notice by themselves that a node has ended, and for its last words [s]."""
_GRACE_S = 3600.0
"""Time from TERM to KILL for ranks that are saving [s]."""
_MOST_WITHOUT_A_START = 3
"""Largest number of attempts in a row of which no node has put anything on record."""


class Controller:
    """One run on Ray.

    Parameters
    ----------
    run : RunDir
    job_id : str
    log : Path, optional
        File for what the first processes of the nodes print; None means that of the keeper.
    """

    def __init__(self, run: RunDir, job_id: str, log: Path | None = None) -> None:
        self.run, self.job_id = run, job_id
        self._log = log or run.logs / f"{job_id}.log"
        self.request = _request(run)
        self._facts: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._without_a_start = 0

    def control(self) -> int:
        """Run attempts until none may follow; return the exit code."""
        if (over := self.ended_before()) is not None:
            return over
        if (code := self._wait_for_others()) != EXIT_FINISHED:
            return code
        state = PENDING
        while True:
            room = self.find_room(lambda why, state=state: self.note(state, why))
            if room is None:
                return self.ends_without_room()
            before = len(self._history())
            codes = self._attempt(room)
            if codes and (code := judge(codes)) is not None:
                return code
            if (last := self.ends_with(codes)) is not None:
                return last
            self._without_a_start = self._without_a_start + 1 if len(self._history()) == before else 0
            if self._without_a_start > _MOST_WITHOUT_A_START:
                raise SiteError(f"{self._without_a_start} attempts in a row have begun on no node; see above")
            state = REQUEUED
            self._pause(COOL_DOWN_S if EXIT_TOO_HOT in codes else _PAUSE_S)

    def ended_before(self) -> int | None:
        """Return the exit code of a run that is over: its keeper was killed after the end. None if it is not."""
        history = self._history()
        return history[-1].exit_code if history and history[-1].followed != "requeued" else None

    def find_room(self, say: Callable[[str], None]) -> Room | None:
        """Wait for room for another attempt; return None if there is none any more."""
        smaller = smaller_shapes(self.run, self.request["nodes"], self.request["min_nodes"])
        return find_room(self.request, smaller, self.is_cancelled, say)

    def ends_without_room(self) -> int:
        """Return the exit code of a run that gets no room any more: somebody has cancelled it."""
        return self._terminated()

    def ends_with(self, codes: list[int | None]) -> int | None:
        """Return the exit code of a run if no attempt follows one whose nodes have ended with `codes`."""
        return self._terminated() if self.is_cancelled() else None

    def note(self, state: str, reason: str = "", where: str = "") -> None:
        """Write what the run does into its record, and say it if it is new."""
        with self._lock:
            if (state, reason, where) != tuple(self._facts.get(key) for key in ("state", "reason", "where")):
                _say(": ".join(filter(None, [state, reason or where])))
            self._facts = {"state": state, "reason": reason, "where": where}
        self.beat()

    def beat(self) -> None:
        """Renew the record, so that others see that this process lives."""
        with self._lock, contextlib.suppress(OSError):
            who = {"job_id": self.job_id, "host": socket.gethostname(), "pid": os.getpid()}
            write_json(record_path(self.run), {**who, **self._facts, "time": time.time()})

    def is_cancelled(self) -> bool:
        """Return whether a user has cancelled the run."""
        return is_marked_cancelled(self.run)

    def _wait_for_others(self) -> int:
        from hpctrain.launch.after import wait_until_finished

        if not (after := self.run.read_job().get("after")):
            return EXIT_FINISHED
        self.note(PENDING, f"waits for {', '.join(after)}")
        other = wait_until_finished([RunDir(path) for path in after], self.is_cancelled)
        if self.is_cancelled():
            return self._terminated()
        if other is not None:
            _say(f"{other.run.path} is {other.state}, not finished; this run does not start")
            self._append(SiteError.exit_code, NEVER_STARTED)
            return SiteError.exit_code
        return EXIT_FINISHED

    def _pause(self, pause_s: float) -> None:
        self.note(REQUEUED, f"another attempt follows in {pause_s:.0f} s")
        until_s = time.monotonic() + pause_s
        while time.monotonic() < until_s and not self.is_cancelled():
            time.sleep(0.5)

    def _attempt(self, room: Room) -> list[int | None]:
        """Run one attempt; return the exit codes of its nodes, or nothing if they did not start."""
        take_shape(self.run, room.num_nodes)
        nodes = Nodes(room, self.request, str(self._log))
        try:
            hosts = nodes.hosts()
            self.note(RUNNING, where=", ".join(hosts))
            return self._join(nodes)
        except (ImportError, TypeError, AttributeError):  # of our own
            raise
        except Exception as error:  # Ray has lost a node, or the actor there does not start
            _say(f"this attempt does not start: {' '.join(str(error).split())[:500]}")
            return []
        finally:
            nodes.give_back()

    def _join(self, nodes: Nodes) -> list[int | None]:
        """Wait for all nodes; once one has ended without finishing, or somebody asks for it, end the others."""
        running = nodes.run(self.job_id, self._next_restart())
        codes: list[int | None] = [None] * len(running)
        warned = _time_of(warned_path(self.run))
        terminate_at = kill_at = float("inf")
        while running and time.monotonic() < kill_at:
            for item, code in ended(running):
                node = running.pop(item)
                codes[node] = code
                _say(f"node {node} is lost" if code is None else f"node {node} has ended with code {code}")
                if code != EXIT_FINISHED:
                    terminate_at = min(terminate_at, time.monotonic() + _OTHERS_END_WITHIN_S)
            if self.is_cancelled() or _time_of(warned_path(self.run)) != warned:
                terminate_at = min(terminate_at, time.monotonic())
            if time.monotonic() >= terminate_at and kill_at == float("inf"):
                nodes.terminate()
                kill_at = time.monotonic() + _GRACE_S
        return codes

    def _history(self) -> list[EndedAttempt]:
        return [item for item in read_history(self.run) if item.job_id == self.job_id]

    def _next_restart(self) -> int:
        """Return the number of earlier attempts of this job, by the logs of all ranks and the history."""
        form = re.compile(rf"job-{re.escape(self.job_id)}\.(\d+)-rank-\d+\.log")
        logs = [int(found[1]) for path in self.run.logs.glob("job-*") if (found := form.fullmatch(path.name))]
        return max([*logs, *(item.restart for item in self._history())], default=-1) + 1

    def _terminated(self) -> int:
        """Put on record that the run was cancelled, unless its first node has done so; return the exit code."""
        history = self._history()
        if not history or history[-1].followed != "terminated":
            self._append(128 + signal.SIGTERM, "terminated")
        return 128 + signal.SIGTERM

    def _append(self, code: int, followed: str) -> None:
        newest = newest_checkpoint(self.run)
        restart = self._next_restart()
        with contextlib.suppress(OSError):
            append_history(self.run, EndedAttempt(time.time(), self.job_id, restart, code, newest, newest, followed))


def judge(codes: list[int | None]) -> int | None:
    """Return the exit code of the run by those of its nodes, or None if another attempt follows.

    Parameters
    ----------
    codes : list of int or None
        Exit code of :mod:`hpctrain.launch.pod` on each node; None for a node that Ray has lost.

    Returns
    -------
    int or None
        The first error that names its cause goes before a bug.
    """
    if codes[0] == EXIT_FINISHED:  # it has written the finished model
        return EXIT_FINISHED
    known = [code for code in codes if code in USER_ERRORS]
    return next((code for code in known if code != EXIT_BUG), known[0] if known else None)


def _request(run: RunDir) -> dict[str, Any]:
    found = read_json(run.path / REQUEST)
    needed = ("bundle_of_each_node", "nodes", "min_nodes", "wait_s", "strategy", "setup", "command")
    if not isinstance(found, dict) or any(key not in found for key in needed):
        raise CheckpointError(f"{run.path / REQUEST}: missing or damaged; hpctrain submit --resume rewrites it")
    return found


def _time_of(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _beat(controller: Controller) -> None:
    while True:
        time.sleep(_BEAT_S)
        controller.beat()


def _say(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} hpctrain: {text}", flush=True)


def main(arguments: list[str]) -> int:
    """Control the run that the arguments name; return the exit code."""
    run, job_id, address = RunDir(arguments[0]), arguments[1], arguments[2]
    end_with_parent()
    return control(run, address, lambda: Controller(run, job_id), STARTS_AGAIN)


def control(run: RunDir, address: str, make: Callable[[], Controller], without_node: int) -> int:
    """Connect to a cluster and control a run there.

    Parameters
    ----------
    run : RunDir
    address : str
        ``HOST:PORT``.
    make : callable
        Returns the controller; called once the cluster has answered.
    without_node : int
        Exit code of this process when its own node of Ray, or the head, dies.

    Returns
    -------
    int
        The exit code.
    """
    tolerate_full_log()
    controller, code = None, EXIT_BUG
    try:
        enter(run.path)
        run.make_folders()
        connect(address, "of this node")
        threading.Thread(target=end_with_node, args=(without_node,), daemon=True).start()
        controller = make()
        threading.Thread(target=_beat, args=(controller,), daemon=True).start()
        code = controller.control()
        take_shape(run, controller.request["nodes"])
    except HpctrainError as error:
        _say(error_line(error))
        code = error.exit_code
    finally:
        if controller is not None:
            controller.note(OVER, f"exit code {code}")
    return code


if __name__ == "__main__":
    hide_in_tracebacks()
    sys.exit(main(sys.argv[1:]))
