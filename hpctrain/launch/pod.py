"""``python -m hpctrain.launch.pod RUN_DIR``: the first process of a container, which runs the ranks of one node.

It replaces Slurm's batch script on platforms that start one container per node and restart the whole job by its exit
code: Kubernetes, SageMaker, Vertex AI, Azure ML. It finds out which node it is, starts the ranks of this node, passes
TERM on, and ends with the code that tells the platform what to do:

- 0: finished.
- 75, 76, 77, 78, or the code of a killed rank: start the job again; it goes on from its newest checkpoint.
- 1 to 7: the error would come again; 3 also if the job has used up its attempts. Of several containers none says 1.

TERM comes from a platform that needs the node; so the ranks save, and the code is 75. A user who cancels a run also
removes the job, and :func:`mark_cancelled` lets the history say so.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

from hpctrain.access import enter
from hpctrain.credentials.hide import error_line, hide_in_tracebacks
from hpctrain.distributed.containers import NodePlace, node_place, without_place
from hpctrain.errors import (
    EXIT_BUG,
    EXIT_FINISHED,
    EXIT_RANKS_LOST,
    EXIT_REQUEUE,
    EXIT_TOO_HOT,
    CheckpointError,
    HpctrainError,
    SiteError,
)
from hpctrain.fulldisk import is_disk_full, tolerate_full_log
from hpctrain.launch.beside import beside
from hpctrain.launch.history import (
    USER_ERRORS,
    EndedAttempt,
    append_history,
    history_path,
    newest_checkpoint,
    read_history,
    what_follows,
)
from hpctrain.launch.pod_mirror import bring_back, send_end
from hpctrain.launch.ranks import LocalRanks
from hpctrain.launch.supervisor import COOL_DOWN_S
from hpctrain.records import Record, is_count, is_text
from hpctrain.rundir import RunDir, read_json, write_json

FILES = ("profile.yaml", "job.json", "provenance.json")
"""What a run directory needs before its ranks start; a platform without a shared file system brings them as files."""
INSIDE = "HPCTRAIN_RESTART_INSIDE"
"""Variable that asks for further attempts in the same container, on a platform that starts none after an exit code."""
RETRY_CODE = "HPCTRAIN_RETRY_CODE"
"""Variable with the exit code that asks this platform for another attempt, where it understands one code only."""
DEADLINE = "HPCTRAIN_DEADLINE"
"""Variable with the time at which the platform ends the ranks, if something knows it better than `time_limit_s`."""
RESTART = "HPCTRAIN_RESTART"
"""Variable with the number of earlier attempts, where the attempts of a job differ in their number of containers."""
_GRACE_S = 3600.0
"""Time from TERM to KILL for ranks that are saving [s]; the platform's own grace time is shorter."""
_LET_OTHERS_SPEAK_S = 10.0
"""A container whose ranks only lost their peers waits this long [s], so that the platform sees the code of the
container that knows the error first."""
_LAST_WORDS = (EXIT_FINISHED, *USER_ERRORS)
_PAUSE_S = 2.0
"""Pause between attempts in the same container [s]."""
_NEEDED = ("trainer", "environment", "world_size", "requeue", "max_attempts", "max_attempts_without_progress")


class Pod:
    """The ranks of one node, for one attempt.

    Parameters
    ----------
    run : RunDir
        Its ``job.json`` says what the ranks are.
    place : NodePlace
        Which node this is.
    job_id : str
        The platform's name of the job.
    let_others_speak_s : float
        How long a container waits that only knows that others have ended [s].
    """

    def __init__(
        self, run: RunDir, place: NodePlace, job_id: str, let_others_speak_s: float = _LET_OTHERS_SPEAK_S
    ) -> None:
        self.run, self.place, self.job_id = run, place, job_id
        self._let_others_speak_s = let_others_speak_s
        self.job = _job(run)
        self.ranks_here = _ranks_here(run, self.job, place)
        self.limits = {name: self.job[name] for name in ("requeue", "max_attempts", "max_attempts_without_progress")}
        self.terminated = False

    def run_attempt(self) -> int:
        """Run one attempt and return the exit code for the platform."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_stop)
        if self.place.is_main and (code := self._account_for_the_last_one()) != EXIT_FINISHED:
            return code
        restart = self._restart_count()
        before = newest_checkpoint(self.run)
        if self.place.is_main:
            write_json(_started_path(self.run), {"job_id": self.job_id, "restart": restart, "before": before})
        if not self.place.is_main:
            code = self._ranks(restart)
            if code == EXIT_FINISHED:
                return code
            self._let_the_first_speak(code)
            return code if self._main_goes_on(restart) else SiteError.exit_code
        with beside(self.run, self.job, self.job_id, restart, self._environment(restart)):
            return self._decide(restart, self._ranks(restart), before)

    def _note_stop(self, number: int, _frame: object) -> None:
        self.terminated = True

    def _say(self, restart: int, text: str) -> None:
        """Say it where the platform keeps it, and in a log of the run directory, which ``hpctrain logs`` finds."""
        _say(text)
        with contextlib.suppress(OSError), open(pod_log(self.run, self.job_id, restart, self.place.node), "a") as log:
            print(time.strftime("%Y-%m-%d %H:%M:%S"), "hpctrain:", text, file=log)

    def _ranks(self, restart: int) -> int:
        command = [*self.job["trainer"], str(self.run.path)]
        first = self.place.node * self.ranks_here
        self._say(
            restart,
            f"job {self.job_id}, restart {restart}, container {self.place.node} of {self.place.num_nodes} "
            f"({self.place.platform}): {self.ranks_here} ranks of {shlex.join(command)}",
        )
        with LocalRanks(
            command,
            self.ranks_here,
            lambda rank: _rank_log(self.run, self.job_id, restart, first + rank),
            self._environment(restart),
            lambda rank: self.place.variables(rank, self.ranks_here),
        ) as ranks:
            codes = ranks.join(_GRACE_S, lambda: self.terminated, _say)
        known = [code for code in codes if code in USER_ERRORS and code != EXIT_BUG]
        code = known[0] if known else ranks.first_failure or EXIT_FINISHED
        if code == EXIT_BUG and self.place.num_nodes > 1:
            # A rank that loses a peer in another container may exit with 1 too, and nobody here knows of that peer. A
            # bug comes again, and ends the run when attempts make no progress.
            return EXIT_RANKS_LOST
        return 128 - code if code < 0 else code

    def _environment(self, restart: int) -> dict[str, str]:
        environment = {
            **without_place(os.environ),
            **self.job["environment"],
            "HPCTRAIN_JOB_ID": self.job_id,
            "HPCTRAIN_RESTART_COUNT": str(restart),
        }
        limit_s = self.job.get("time_limit_s")
        if is_count(limit_s) and not {INSIDE, DEADLINE} & set(os.environ):
            environment[DEADLINE] = str(int(time.time()) + limit_s)
        return environment

    def _restart_count(self) -> int:
        """Return the number of earlier attempts of this job: by the logs of this node's first rank, which each has.

        The first container, which writes the history, asks it too. Who starts the containers may know it better.
        """
        if os.environ.get(RESTART, "").isdigit():
            return int(os.environ[RESTART])
        first = _rank_log(self.run, self.job_id, 0, self.place.node * self.ranks_here).name
        form = re.compile(re.escape(first).replace(r"\.0\-", r"\.(\d+)\-", 1))
        logs = [int(found[1]) for path in self.run.logs.glob("job-*") if (found := form.fullmatch(path.name))]
        history = read_history(self.run) if self.place.is_main else []
        ended = [item.restart for item in history if item.job_id == self.job_id]
        return max([*logs, *ended], default=-1) + 1

    def _account_for_the_last_one(self) -> int:
        """Write the end of an attempt whose container was killed; return 0 if another attempt may start."""
        last = read_json(_started_path(self.run))
        if not isinstance(last, dict) or last.get("job_id") != self.job_id or not is_count(last.get("restart")):
            return EXIT_FINISHED
        restart, before = last["restart"], last.get("before")
        if any(item.job_id == self.job_id and item.restart == restart for item in read_history(self.run)):
            return EXIT_FINISHED
        before = before if is_text(before) else "none"
        return self._end(restart, 128 + signal.SIGKILL, before, EXIT_FINISHED)

    def _decide(self, restart: int, code: int, before: str) -> int:
        if code == EXIT_FINISHED:
            return self._end(restart, code, before, code)
        if self.terminated and code > 128:
            code = EXIT_REQUEUE  # a rank that TERM ended before it could handle it has lost nothing
        return self._end(restart, code, before, code)

    def _end(self, restart: int, code: int, before: str, otherwise: int) -> int:
        """Append an attempt to the history; return the code for the platform, `otherwise` if the job may go on."""
        terminated = is_marked_cancelled(self.run)
        ended = what_follows(self.run, self.job_id, restart, code, before, terminated=terminated, **self.limits)
        with contextlib.suppress(OSError):
            append_history(self.run, ended)
        self._say(restart, _sentence(ended))
        send_end(self.run, [history_path(self.run), pod_log(self.run, self.job_id, restart, self.place.node)], _say)
        if ended.followed in ("requeued", "finished"):
            return otherwise
        return code if code in USER_ERRORS else SiteError.exit_code

    def _let_the_first_speak(self, code: int) -> None:
        if code == EXIT_RANKS_LOST:
            until_s = time.monotonic() + self._let_others_speak_s
            while time.monotonic() < until_s and not self.terminated:
                time.sleep(0.1)

    def _main_goes_on(self, restart: int) -> bool:
        """Return whether the first container starts another attempt, where it does so by itself."""
        until_s = time.monotonic() + _LET_OTHERS_SPEAK_S
        while INSIDE in os.environ and time.monotonic() < until_s and not self.terminated:
            ended = [item for item in read_history(self.run) if item.job_id == self.job_id and item.restart >= restart]
            if ended:
                return ended[-1].followed == "requeued"
            time.sleep(0.2)
        return True


def mark_cancelled(run: RunDir) -> None:
    """Note that a user cancels the run, so that its history does not say that another attempt follows."""
    write_json(cancelled_path(run), {"time": time.time()})


def is_marked_cancelled(run: RunDir) -> bool:
    """Return whether a user has cancelled the run since it was submitted last."""
    mark = read_json(cancelled_path(run))
    job = run.read_job()  # that of a submission comes with its own time before the job has an id to be noted
    submitted = max(item.get("submitted_at", 0.0) for item in (job, *job.get("submissions", [])))
    return isinstance(mark, dict) and mark.get("time", 0.0) >= submitted


def fill(run: RunDir, files: Path) -> None:
    """Copy the files of a run into its directory, unless they are there; a newer submission replaces those of an older.

    Parameters
    ----------
    run : RunDir
        Empty, or as the platform or its volume has kept it.
    files : Path
        Folder with :data:`FILES`, such as a mounted ConfigMap or an input channel.

    Raises
    ------
    SiteError
        The profile is missing there.
    """
    run.make_folders()
    is_resumed = _submitted_at(files / run.job.name) > _submitted_at(run.job)
    for name in FILES:
        there, here = files / name, run.path / name
        if here.exists() and not (is_resumed and name in FILES[:2]):
            continue
        if not there.is_file():
            if name == "provenance.json":
                continue
            raise SiteError(f"{there}: missing; the job has to bring {' and '.join(FILES[:2])} into its containers")
        # All containers may do so at once where they share the folder; each writes the same bytes.
        temporary = here.with_name(f".{name}.{os.uname().nodename}.{os.getpid()}")
        shutil.copyfile(there, temporary)
        os.replace(temporary, here)


def _submitted_at(path: Path) -> float:
    job = read_json(path)
    time_s = job.get("submitted_at") if isinstance(job, dict) else None
    return time_s if isinstance(time_s, (int, float)) else 0.0


def _for_the_platform(code: int) -> int:
    asks_for_another = code != EXIT_FINISHED and code not in USER_ERRORS
    return int(os.environ[RETRY_CODE]) if asks_for_another and RETRY_CODE in os.environ else code


def _sentence(ended: EndedAttempt) -> str:
    return (
        f"attempt {ended.restart + 1} ended with code {ended.exit_code}, newest checkpoint: {ended.after}; "
        f"{ended.followed}"
    )


def _started_path(run: RunDir) -> Path:
    return run.attempts / "pod.json"


def cancelled_path(run: RunDir) -> Path:
    """Return the path of the mark that a user cancels the run."""
    return run.attempts / "cancelled.json"


def pod_log(run: RunDir, job_id: str, restart: int, node: int) -> Path:
    """Return the path of the log of a container itself."""
    return run.logs / f"job-{job_id}.{restart}-pod-{node:04d}.log"


def _rank_log(run: RunDir, job_id: str, restart: int, rank: int) -> Path:
    return run.logs / f"job-{job_id}.{restart}-rank-{rank:04d}.log"


def _job(run: RunDir) -> Record:
    job = run.read_job()
    if missing := [name for name in _NEEDED if name not in job]:
        raise CheckpointError(f"{run.job}: missing or damaged: {', '.join(missing)}; submit the run again")
    return job


def _ranks_here(run: RunDir, job: Record, place: NodePlace) -> int:
    ranks, rest = divmod(job["world_size"], place.num_nodes)
    if rest or not ranks:
        raise SiteError(
            f"{run.job}: {job['world_size']} ranks do not divide by {place.num_nodes} containers ({place.platform}); "
            "the job has another number of containers than launch.nodes"
        )
    return ranks


def _end_at_once(number: int, _frame: object) -> None:
    """End before the ranks have started: nothing is lost, and another machine brings the run back again."""
    _say(f"{signal.Signals(number).name} came before the ranks had started; another attempt may follow")
    sys.exit(_for_the_platform(EXIT_REQUEUE))


def _say(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} hpctrain: {text}", flush=True)


def main(arguments: list[str]) -> int:
    """Run the ranks of this container, for one attempt of the run whose directory is the argument."""
    parser = argparse.ArgumentParser(prog="python -m hpctrain.launch.pod", description=__doc__.split("\n")[0])
    parser.add_argument("run_dir", type=Path, help="run directory, on a file system that all containers share")
    parser.add_argument("--files", type=Path, help="folder with profile.yaml and job.json for a new run directory")
    given = parser.parse_args(arguments)
    tolerate_full_log()
    run = RunDir(given.run_dir)
    for number in (signal.SIGTERM, signal.SIGINT):  # the first process of a container ignores what it does not handle
        signal.signal(number, _end_at_once)
    try:
        if given.files is not None:
            fill(run, given.files)
        enter(run.path)
        run.make_folders()
        place = node_place()
        if place.is_main:  # the others have the folder in common, and their first process may have the same number
            bring_back(run, _say)
        job_id = os.environ.get("HPCTRAIN_JOB_ID") or f"pod-{run.run_id}"
        pod = Pod(run, place, job_id)
        while (code := pod.run_attempt()) not in _LAST_WORDS and INSIDE in os.environ and not pod.terminated:
            time.sleep(COOL_DOWN_S if code == EXIT_TOO_HOT else _PAUSE_S)
        return _for_the_platform(code)
    except HpctrainError as error:
        _say(error_line(error))
        return error.exit_code
    except OSError as error:
        if not is_disk_full(error):
            raise
        _say(f"{error_line(error)}; the disk of the run directory is full")
        return CheckpointError.exit_code


if __name__ == "__main__":
    hide_in_tracebacks()
    sys.exit(main(sys.argv[1:]))
