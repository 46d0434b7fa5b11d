"""``python -m hpctrain.launch.supervisor RUN_DIR``: run the ranks of a local run, attempt after attempt.

The supervisor replaces Slurm and its batch script for a local run. It waits for the runs of ``--after``, starts the
ranks, stops all of them when one dies, and decides by the rule of :mod:`hpctrain.launch.history` whether another
attempt follows. After TERM or INT (``hpctrain cancel``, Ctrl-C) the ranks save and the run ends. The supervisor holds a
lock as long as it lives; ``hpctrain status`` checks this lock to see whether the run is alive.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from hpctrain.access import enter
from hpctrain.credentials.hide import error_line, hide_in_tracebacks
from hpctrain.distributed.process import identity
from hpctrain.errors import (
    EXIT_FINISHED,
    EXIT_REQUEUE,
    EXIT_TOO_HOT,
    CheckpointError,
    HpctrainError,
    SiteError,
)
from hpctrain.files import is_in_the_way, open_regular, put_aside
from hpctrain.fulldisk import is_disk_full, tolerate_full_log
from hpctrain.launch.beside import beside
from hpctrain.launch.history import NEVER_STARTED, EndedAttempt, append_history, newest_checkpoint, what_follows
from hpctrain.launch.ranks import LocalRanks
from hpctrain.records import SUPERVISOR, Record, well_typed
from hpctrain.rundir import RunDir, read_json, write_json

_GRACE_S = 90.0
"""Time from TERM to KILL for ranks that are saving [s]. Ranks that wait for each other exit a second after TERM."""
_PAUSE_AFTER_CRASH_S = 2.0
_FLOCK = "hhqqi4x"
"""``struct flock`` on Linux with 64 bits: type, whence, start, length, process."""
_NEEDED = (
    "trainer",
    "environment",
    "world_size",
    "requeue",
    "max_attempts",
    "max_attempts_without_progress",
)
"""Entries of ``job.json`` that a supervisor needs."""
COOL_DOWN_S = 120.0
"""Pause before the next attempt after the machine was too hot [s]; `attempt.sh` waits as long."""
VISIBLE_GPUS = "HPCTRAIN_VISIBLE_GPUS"
"""Variable with the user's CUDA_VISIBLE_DEVICES, because submitit's local executor overwrites the original."""
ALL_GPUS = "all"


class Supervisor:
    """Run the ranks on this machine, attempt after attempt.

    Parameters
    ----------
    run : RunDir
        Its ``job.json`` contains the settings of :class:`~hpctrain.launch.plan.JobPlan` for ranks and attempts.
    cool_down_s : float
        Pause before the next attempt after the machine was too hot [s].
    """

    def __init__(self, run: RunDir, cool_down_s: float = COOL_DOWN_S) -> None:
        self.run = run
        self._cool_down_s = cool_down_s
        self.job = _job(run)
        self.job_id = f"local-{os.getpid()}"
        self.terminated = False

    def supervise(self) -> int:
        """Run attempts until the run is finished, fails, is stopped or makes no progress; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_stop)
        if self.job.get("after") and (code := self._wait_for_others()) != EXIT_FINISHED:
            return code
        limits = {name: self.job[name] for name in ("requeue", "max_attempts", "max_attempts_without_progress")}
        restart = 0
        while True:
            before = newest_checkpoint(self.run)
            if restart == 0:
                self._record(restart)
            else:
                with _tolerating_full_disk():
                    self._record(restart)
            with beside(self.run, self.job, self.job_id, restart, self._environment(restart)):
                code = self._attempt(restart)
                ended = what_follows(self.run, self.job_id, restart, code, before, terminated=self.terminated, **limits)
                with _tolerating_full_disk():
                    append_history(self.run, ended)
            _say(f"attempt {restart + 1} ended with code {code}, newest checkpoint: {ended.after}; {ended.followed}")
            if ended.followed != "requeued":
                return code
            if code == EXIT_TOO_HOT and not self._cooled_down():
                return code
            if code not in (EXIT_REQUEUE, EXIT_TOO_HOT):
                time.sleep(_PAUSE_AFTER_CRASH_S)
            restart += 1

    def _wait_for_others(self) -> int:
        """Wait for the runs of ``--after``; return 0 if all have finished, else the exit code of this run."""
        from hpctrain.launch.after import wait_until_finished

        self._record(0, waits_for=self.job["after"])
        _say(f"waiting for {', '.join(self.job['after'])}")
        other = wait_until_finished([RunDir(path) for path in self.job["after"]], lambda: self.terminated)
        if other is None and not self.terminated:
            return EXIT_FINISHED
        code, followed = 128 + signal.SIGTERM, "terminated"
        if other is not None:
            code, followed = SiteError.exit_code, NEVER_STARTED
            _say(f"{other.run.path} is {other.state}, not finished; this run does not start")
        newest = newest_checkpoint(self.run)
        with _tolerating_full_disk():
            append_history(self.run, EndedAttempt(time.time(), self.job_id, 0, code, newest, newest, followed))
        return code

    def _cooled_down(self) -> bool:
        """Wait for the machine to cool down; return False if the run was cancelled meanwhile."""
        _say(f"the machine was too hot; the next attempt starts in {self._cool_down_s:.0f} s")
        until_s = time.monotonic() + self._cool_down_s
        while not self.terminated and time.monotonic() < until_s:
            time.sleep(0.2)
        return not self.terminated

    def _note_stop(self, number: int, _frame: object) -> None:
        self.terminated = True

    def _record(self, restart: int, **facts: object) -> None:
        write_json(
            supervisor_path(self.run),
            {
                "job_id": self.job_id,
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "restart": restart,
                "process": identity(),
                **facts,
            },
            replace_folders=True,
        )

    def _attempt(self, restart: int) -> int:
        world_size = self.job["world_size"]
        command = [*self.job["trainer"], str(self.run.path)]
        _say(f"attempt {restart + 1}: {world_size} ranks of {shlex.join(command)}")
        with LocalRanks(
            command,
            world_size,
            lambda rank: self.run.logs / f"job-{self.job_id}.{restart}-rank-{rank:04d}.log",
            self._environment(restart),
        ) as ranks:
            codes = ranks.join(_GRACE_S, lambda: self.terminated, _say)
        known = [code for code in codes if 2 <= code <= 6]  # of any rank: a rank with such a code knows the error
        code = known[0] if known else ranks.first_failure or EXIT_FINISHED
        return 128 - code if code < 0 else code

    def _environment(self, restart: int) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SUBMITIT_")}
        visible_gpus = inherited.pop(VISIBLE_GPUS, None)
        if visible_gpus == ALL_GPUS:
            inherited.pop("CUDA_VISIBLE_DEVICES", None)
        elif visible_gpus is not None:
            inherited["CUDA_VISIBLE_DEVICES"] = visible_gpus
        return {
            **inherited,
            **self.job["environment"],
            "HPCTRAIN_JOB_ID": self.job_id,
            "HPCTRAIN_RESTART_COUNT": str(restart),
        }


def _job(run: RunDir) -> Record:
    """Return ``job.json`` with all entries that a supervisor needs.

    Raises
    ------
    CheckpointError
        An entry is missing or damaged.
    """
    job = run.read_job()
    missing = [name for name in _NEEDED if name not in job]
    if missing:
        raise CheckpointError(
            f"{run.job}: missing or damaged: {', '.join(missing)}; hpctrain submit --resume {run.path} rewrites it"
        )
    return job


def supervisor_path(run: RunDir) -> Path:
    """Return the path of the record of the process that supervises a local run."""
    return run.attempts / "supervisor.json"


def read_supervisor(run: RunDir) -> Record:
    """Return the record of the process that supervises, or last supervised, a local run; empty if there is none."""
    return well_typed(read_json(supervisor_path(run)), SUPERVISOR)


@contextlib.contextmanager
def hold_lock(run: RunDir) -> Iterator[bool]:
    """Hold the lock of a local run; yield False if another supervisor holds it.

    It is a POSIX lock, so the kernel knows its holder. The process must not open the lock file again: closing it
    again would release the lock.
    """
    path = _lock_path(run)
    if is_in_the_way(path):
        put_aside(path)
    with os.fdopen(open_regular(path, os.O_RDWR | os.O_CREAT), "r+b") as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            yield False
            return
        yield True


def lock_holder(run: RunDir) -> int | None:
    """Return the number of the process that holds the lock of a local run, according to the kernel.

    Returns
    -------
    int or None
        None if no process holds it; 0 if the process is on another host or in another container.
    """
    try:
        descriptor = open_regular(_lock_path(run))
    except OSError:
        return None
    try:
        question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
    except OSError:
        return None  # a file system without locks
    finally:
        os.close(descriptor)
    return None if kind == fcntl.F_UNLCK else max(0, pid)


def is_supervised(run: RunDir) -> bool:
    """Return whether a supervisor of this run lives on this host."""
    return lock_holder(run) is not None


def _lock_path(run: RunDir) -> Path:
    return run.attempts / "supervisor.lock"


@contextlib.contextmanager
def _tolerating_full_disk() -> Iterator[None]:
    """Continue without a record that does not fit on a full disk."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        _say(f"the disk is full, a record was not written: {error}")


def _say(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} hpctrain: {text}", flush=True)


def main(arguments: list[str]) -> int:
    """Supervise the run whose directory is the command line argument."""
    tolerate_full_log()
    run = RunDir(arguments[0])
    try:
        enter(run.path)
        run.make_folders()
        with hold_lock(run) as is_mine:
            if not is_mine:
                raise CheckpointError(f"{run.path}: another supervisor is running here")
            return Supervisor(run).supervise()
    except HpctrainError as error:
        _say(error_line(error))
        return error.exit_code
    except OSError as error:
        if not is_disk_full(error):
            raise
        _say(f"{error_line(error)}; free some room, then start the run again: it resumes from the newest checkpoint")
        return CheckpointError.exit_code


if __name__ == "__main__":
    hide_in_tracebacks()
    sys.exit(main(sys.argv[1:]))
