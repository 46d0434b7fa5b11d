"""``python -m hpctrain.launch.supervisor RUN_DIR``: the ranks of a local run, and another attempt when they ask for it.

What the batch script is under Slurm: starts the ranks with torchrun's variables, takes the others down when one dies,
and decides by the rule of :mod:`hpctrain.launch.history`. TERM or INT (``hpctrain cancel``, Ctrl-C) let the ranks save
and end the run. A lock that lives as long as this process tells ``hpctrain status`` that the run does.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from hpctrain.errors import EXIT_FINISHED, EXIT_REQUEUE
from hpctrain.launch.history import append_history, newest_checkpoint, what_follows
from hpctrain.rundir import RunDir, read_json, write_json

_POLL_S = 0.2
_GRACE_S = 90.0
"""From TERM to KILL for ranks that are saving [s]."""
_PAUSE_AFTER_CRASH_S = 2.0
_PR_SET_PDEATHSIG = 1
VISIBLE_GPUS = "HPCTRAIN_VISIBLE_GPUS"
"""The user's CUDA_VISIBLE_DEVICES, which submitit's local executor writes over."""
ALL_GPUS = "all"


class Supervisor:
    """Ranks on this machine, attempt after attempt.

    Parameters
    ----------
    run : RunDir
        Its ``job.json`` holds what :class:`~hpctrain.launch.plan.JobPlan` says about ranks and attempts.
    """

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self.job: dict[str, Any] = read_json(run.job)
        self.job_id = f"local-{os.getpid()}"
        self.terminated = False
        self._ranks: list[subprocess.Popen[bytes]] = []

    def supervise(self) -> int:
        """Run attempts until the run is finished, fails, is stopped or gets nowhere; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_stop)
        limits = {name: self.job[name] for name in ("requeue", "max_attempts", "max_attempts_without_progress")}
        restart = 0
        while True:
            before = newest_checkpoint(self.run)
            self._record(restart)
            code = self._attempt(restart)
            ended = what_follows(self.run, self.job_id, restart, code, before, terminated=self.terminated, **limits)
            append_history(self.run, ended)
            _say(f"attempt {restart + 1} ended with code {code}, newest checkpoint: {ended.after}; {ended.followed}")
            if ended.followed != "requeued":
                return code
            if code != EXIT_REQUEUE:
                time.sleep(_PAUSE_AFTER_CRASH_S)
            restart += 1

    def _note_stop(self, number: int, _frame: object) -> None:
        self.terminated = True

    def _record(self, restart: int) -> None:
        write_json(
            supervisor_path(self.run),
            {"job_id": self.job_id, "pid": os.getpid(), "host": socket.gethostname(), "restart": restart},
        )

    def _attempt(self, restart: int) -> int:
        world_size = self.job["world_size"]
        command = [*self.job["trainer"], str(self.run.path)]
        _say(f"attempt {restart + 1}: {world_size} ranks of {shlex.join(command)}")
        port = _free_port()
        with contextlib.ExitStack() as logs:
            self._ranks = []
            for rank in range(world_size):
                path = self.run.logs / f"job-{self.job_id}.{restart}-rank-{rank:04d}.log"
                log = logs.enter_context(open(path, "ab"))
                self._ranks.append(_start_rank(command, self._environment(rank, world_size, port, restart), log))
            return self._wait()

    def _environment(self, rank: int, world_size: int, port: int, restart: int) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SUBMITIT_")}
        visible_gpus = inherited.pop(VISIBLE_GPUS, None)
        if visible_gpus == ALL_GPUS:
            inherited.pop("CUDA_VISIBLE_DEVICES", None)
        elif visible_gpus is not None:
            inherited["CUDA_VISIBLE_DEVICES"] = visible_gpus
        return {
            **inherited,
            **self.job["environment"],
            "RANK": str(rank),
            "WORLD_SIZE": str(world_size),
            "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "HPCTRAIN_JOB_ID": self.job_id,
            "HPCTRAIN_RESTART_COUNT": str(restart),
        }

    def _wait(self) -> int:
        """Wait for all ranks; the first one that fails, or a stop, takes the others down. Return that one's code."""
        first_failure: int | None = None
        kill_at: float | None = None
        while None in (codes := [rank.poll() for rank in self._ranks]):
            failures = [code for code in codes if code not in (None, EXIT_FINISHED)]
            if failures and first_failure is None:
                first_failure = failures[0]
            if kill_at is None and (first_failure is not None or self.terminated):
                self._signal(signal.SIGTERM)
                kill_at = time.monotonic() + _GRACE_S
            elif kill_at is not None and time.monotonic() > kill_at:
                _say(f"ranks did not leave within {_GRACE_S:.0f} s and are killed")
                self._signal(signal.SIGKILL)
                kill_at = float("inf")
            time.sleep(_POLL_S)
        told = [code for code in codes if 2 <= code <= 6]  # wherever they stand: a rank that knows what is wrong
        code = told[0] if told else first_failure if first_failure is not None else max(codes, key=abs)
        return 128 - code if code < 0 else code

    def _signal(self, number: int) -> None:
        for rank in self._ranks:
            if rank.poll() is None:
                rank.send_signal(number)


def supervisor_path(run: RunDir) -> Path:
    """Return the path of the record of who supervises a local run."""
    return run.attempts / "supervisor.json"


@contextlib.contextmanager
def hold_lock(run: RunDir) -> Iterator[bool]:
    """Hold the lock of a local run; yields False where another supervisor holds it."""
    with open(_lock_path(run), "w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def is_supervised(run: RunDir) -> bool:
    """Say whether a supervisor of this run lives on this host."""
    if not _lock_path(run).exists():
        return False
    with open(_lock_path(run)) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _lock_path(run: RunDir) -> Path:
    return run.attempts / "supervisor.lock"


def _start_rank(command: list[str], environment: dict[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C reaches the supervisor only, which lets the ranks save
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    )


def _die_with_parent() -> None:
    """A supervisor that is killed must not leave ranks behind that go on writing."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _say(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} hpctrain: {text}", flush=True)


def main(arguments: list[str]) -> int:
    """Supervise the run directory named on the command line."""
    run = RunDir(arguments[0])
    run.make_folders()
    with hold_lock(run) as is_mine:
        if not is_mine:
            _say(f"{run.path}: another supervisor is at work here")
            return 5
        return Supervisor(run).supervise()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
