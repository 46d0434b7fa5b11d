"""``python -m hpctrain.search.pool STUDY``: the trials of a study on this machine, some at once.

It takes the place of a queue. Each trial has a supervisor of its own in a session of its own, so trials survive the end
of this process, and another one (``hpctrain search resume``) goes on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hpctrain.access import enter
from hpctrain.credentials.hide import error_line, hide_in_tracebacks
from hpctrain.errors import HpctrainError, SiteError
from hpctrain.files import open_append
from hpctrain.fulldisk import tolerate_full_log
from hpctrain.launch.environment import environment_of_ranks
from hpctrain.launch.submit import record_job
from hpctrain.launch.supervisor import is_supervised
from hpctrain.search.ask import ask
from hpctrain.search.folder import StudyDir, TrialDir
from hpctrain.search.mirror import mirror
from hpctrain.search.trials import GIVEN_BACK, WAITING, Trial, TrialReader, is_running
from hpctrain.states import PENDING

_LOOK_EVERY_S = 0.5
POOL_MODULE = "hpctrain.search.pool"


class Pool:
    """Starts trials as others end.

    Parameters
    ----------
    study : StudyDir
    """

    def __init__(self, study: StudyDir) -> None:
        self.study = study
        self.terminated = False
        self._reader = TrialReader(study)
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._tried: set[int] = set()

    def run(self) -> int:
        """Run until no trial is left, or until TERM; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_stop)
        while not self.terminated:
            self._children = {number: child for number, child in self._children.items() if child.poll() is None}
            trials = self._reader.read_tasks()
            active = {trial.number for trial in trials if self._is_active(trial)} | set(self._children)
            free = self.study.section().parallel - len(active)
            ready = [trial.number for trial in trials if trial.number not in active and self._may_start(trial)]
            if not ready and not active:
                mirror(self.study, self.study.section(), self._reader.read())
                return 0
            for number in ready[: max(0, free)]:
                self._start(self.study.run(number, self.study.section()))
            time.sleep(_LOOK_EVERY_S)
        return 0

    def _is_active(self, trial: Trial) -> bool:
        return is_running(trial) and is_supervised(self.study.run(trial.number, self.study.section()))

    def _may_start(self, trial: Trial) -> bool:
        """Return whether a trial was never started by this pool, and has not ended."""
        waits = trial.state in (WAITING, PENDING, *GIVEN_BACK)
        return waits and trial.number not in self._tried

    def _start(self, trial: TrialDir) -> None:
        self._tried.add(trial.number)
        try:
            if not ask(trial, None):
                return
        except HpctrainError as error:
            print(f"hpctrain: trial {trial.number}: {error_line(error)}", file=sys.stderr, flush=True)
            return
        log = open_append(trial.logs / "supervisor.log")
        try:
            child = subprocess.Popen(
                [sys.executable, "-u", "-m", "hpctrain.launch.supervisor", str(trial.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)
        record_job(trial, f"local-{child.pid}", trial.number)
        self._children[trial.number] = child

    def _note_stop(self, number: int, _frame: object) -> None:
        self.terminated = True


def start_pool(study: StudyDir, module: str = POOL_MODULE) -> str:
    """Start the process that starts the trials, in a session of its own; return its id, ``local-<pid>``.

    Parameters
    ----------
    study : StudyDir
    module : str
        What to run: it calls :func:`in_background`.

    Raises
    ------
    SiteError
        Another one runs for this study on this machine, or this one cannot start.
    """
    if (holder := pool_process(study)) is not None:
        raise SiteError(f"process {holder} runs the trials of {study.path} already")
    path = study.path / "pool.log"
    before = path.stat().st_size if path.exists() else 0
    log = open_append(path)
    try:
        done = subprocess.run(
            [sys.executable, "-u", "-m", module, str(study.path)],
            env=environment_of_ranks(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            check=False,
        )
    finally:
        os.close(log)
    if done.returncode == 0:
        with contextlib.suppress(OSError):
            return f"local-{lock_path(study).read_text()}"
    said = path.read_bytes()[before:].decode(errors="replace").strip().splitlines()
    reason = said[-1].removeprefix("hpctrain: ") if said else f"exit code {done.returncode}"
    raise SiteError(f"the trials did not start: {reason}")


def lock_path(study: StudyDir) -> Path:
    """Return the file that the process which starts the trials locks, with its number."""
    return study.path / "pool.lock"


def pool_process(study: StudyDir) -> int | None:
    """Return the number of the process that runs the trials of a study on this machine; None if there is none."""
    path = lock_path(study)
    try:
        with open(path, "r+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = stream.read().strip()
                return int(text) if text.isdecimal() else 0
    except OSError:
        return None
    return None


def in_background(study: StudyDir, work: Callable[[Callable[[], None]], int]) -> int:
    """Do the work in a process of its own that holds the lock of the study; return once it has begun, or failed.

    Parameters
    ----------
    study : StudyDir
    work : callable
        Returns the exit code. It gets a function to call once nothing is in the way any more.
    """
    with open(lock_path(study), "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"hpctrain: another process runs the trials of {study.path}", file=sys.stderr)
            return SiteError.exit_code
        reader, writer = os.pipe()
        if (child := os.fork()) != 0:
            os.close(writer)
            lock.truncate(0)
            lock.write(str(child))
            lock.flush()
            with open(reader, "rb") as begun:
                return 0 if begun.read(1) else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.close(reader)
        try:  # the lock is that of the open file, which the child keeps
            return work(lambda: os.close(writer) if os.write(writer, b"1") else None)
        except HpctrainError as error:
            print(f"hpctrain: {error_line(error)}", file=sys.stderr, flush=True)
            return error.exit_code


def main(arguments: Sequence[str]) -> int:
    """Run the trials of the study named on the command line in a process of its own; return once it has the lock."""
    tolerate_full_log()
    study = StudyDir(arguments[0])
    enter(study.path)

    def work(begun: Callable[[], None]) -> int:
        begun()
        return Pool(study).run()

    return in_background(study, work)


if __name__ == "__main__":
    hide_in_tracebacks()
    sys.exit(main(sys.argv[1:]))
