"""A run that meets faults: how it is submitted, watched, caught at a certain moment, and hurt."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fault_lab import Queue, profile, wait_until
from node_processes import command_name, environment_of, parent, send
from slurm_cluster import ENDED, REPOSITORY, SlurmCluster

from hpctrain.launch.history import EndedAttempt, read_history
from hpctrain.launch.submit import prepare, submit
from hpctrain.rundir import RunDir, read_json


class FaultedRun:
    """One run in a lab that several faults hit, one after the other.

    What the present fault has done to it is what has happened since `begin_fault`.
    """

    def __init__(self, cluster: SlurmCluster, queue: Queue, folder: Path, name: str, **changes: dict[str, Any]) -> None:
        self.cluster = cluster
        self.queue = queue
        self.folder = folder
        submission = prepare([profile(folder, name, **changes)], "slurm", None)
        self.run: RunDir = submission.runs[0]
        self.job: str = submit(submission, folder)[0]
        self._ended_before, self._hit = 0, sys.maxsize
        self._pids: dict[tuple[tuple[str, int], int], int] = {}
        self._jobs: dict[int, tuple[str, int]] = {}
        self._first_steps: dict[int, int] = {}

    def begin_fault(self) -> None:
        """Count attempts from here on."""
        self._ended_before, self._hit = len(read_history(self.run)), sys.maxsize

    def wait_until(self, condition: Callable[[], object], what: str = "", pause_s: float = 0.05) -> None:
        wait_until(condition, self.folder / "runs", what or f"{condition} of {self.run}", pause_s)

    # ---- the attempt that is under way

    def rank_pid(self, rank: int) -> int:
        """Return the pid of a rank of the attempt under way, from the moment it exists."""
        # To look at all processes takes CPU time; before srun has been called there is no rank of this attempt.
        self.wait_until(self._srun_calls, f"the job of {self.run} to begin")
        place = (max(self._srun_calls()), rank)
        if place not in self._pids:
            self._pids[place] = self._find_rank(rank)
        return self._pids[place]

    def _find_rank(self, rank: int) -> int:
        found: list[int] = []

        def look() -> bool:
            calls = {
                pid
                for pid, words in self.processes().items()
                if "hpctrain.train" in words and not words[0].endswith("srun")
            }
            # A rank that is about to start a program has a child with the same words for a moment.
            ranks = [pid for pid in calls if environment_of(pid).get("SLURM_PROCID") == str(rank)]
            found.extend(pid for pid in ranks if parent(pid) not in calls)
            return bool(found)

        self.wait_until(look, f"rank {rank} of {self.run}")
        return found[0]

    def _srun_calls(self) -> set[tuple[str, int]]:
        """Return the job and its number of restarts for each log of an attempt that has not ended."""
        logs = [re.match(r"job-(.+)\.(\d+)-srun\.log", path.name) for path in self.run.logs.glob("*-srun.log")]
        return {(log[1], int(log[2])) for log in logs if log} - self._ended_jobs()

    def _ended_jobs(self) -> set[tuple[str, int]]:
        return {(ended.job_id, ended.restart) for ended in read_history(self.run)}

    def last_record(self) -> dict[str, Any]:
        """Return the newest record of metrics.jsonl; empty if the attempt under way has written none."""
        try:
            with open(self.run.metrics, "rb") as stream:
                stream.seek(max(0, stream.seek(0, os.SEEK_END) - 4096))
                lines = stream.read().split(b"\n")[:-1]
        except OSError:
            return {}
        record = json.loads(lines[-1]) if lines else {}
        return record if record and self._is_under_way(record["attempt"]) else {}

    def _is_under_way(self, attempt: int) -> bool:
        job, restart = self._job_of(attempt)
        is_newest = attempt == self.run.newest_attempt()
        return is_newest and job == self.job and (job, restart) not in self._ended_jobs()

    def _job_of(self, attempt: int) -> tuple[str, int]:
        if attempt not in self._jobs:
            leases = self.run.read_attempts()
            self._jobs = {lease["attempt"]: (str(lease["job_id"]), int(lease["restart_count"])) for lease in leases}
        return self._jobs[attempt]

    def _first_step(self, attempt: int) -> int | None:
        """Return the step an attempt began at; None if it has not begun to train."""
        if attempt not in self._first_steps:
            self._first_steps = {event["attempt"]: event["start_step"] for event in self.events("started")}
        return self._first_steps.get(attempt)

    def steps_made(self) -> int:
        """Return how many steps the attempt under way has made."""
        record = self.last_record()
        first = self._first_step(record["attempt"]) if record else None
        return 0 if first is None else record["step"] - first

    def wait_for_steps(self, number: int) -> None:
        """Return when the attempt under way has made so many steps; it is the one that the fault hits."""

        def made() -> bool:
            assert self._ended_how() != ["finished"], f"{self.run} is done before the fault"
            return self.steps_made() >= number

        self.wait_until(made, f"{number} steps of {self.run}")
        self._hit = self.run.newest_attempt()

    def srun_pid(self) -> int:
        """Return the srun of the attempt; it forks a helper, which is not meant."""
        found: list[int] = []

        def look() -> bool:
            # The batch shell of the attempt before may still be there for a moment: look again until the two fit.
            shell = self.batch_shell()
            pids = self.processes().items()
            found.extend(pid for pid, words in pids if words[0].endswith("srun") and parent(pid) == shell)
            return bool(found)

        self.wait_until(look, f"srun of {self.run}")
        return found[0]

    def batch_shell(self) -> int:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            pid = int(path.parent.name)
            try:
                is_script = b"slurm_script" in path.read_bytes()
            except OSError:
                continue
            # Its subshells have the same command line; the shell itself is slurmstepd's child.
            if (
                is_script
                and environment_of(pid).get("SLURM_JOB_ID") == self.job
                and "slurmstepd" in command_name(parent(pid))
            ):
                return pid
        raise AssertionError(f"job {self.job} has no batch shell")

    def nodes(self) -> list[str]:
        """Return the nodes the job runs on, that of rank 0 first."""
        names = self.cluster.run(["squeue", "-h", "-j", self.job, "-o", "%N"]).stdout.strip()
        return self.cluster.run(["scontrol", "show", "hostnames", names]).stdout.split()

    # ---- the whole run, seen from outside

    def processes(self) -> dict[int, list[str]]:
        """Return pid and command line of every process that names the run directory."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if str(self.run.path) in words:
                found[int(path.parent.name)] = words
        return found

    def events(self, name: str) -> list[dict[str, Any]]:
        return [record for record in self.run.read_metrics("event") if record["event"] == name]

    def ended(self) -> list[EndedAttempt]:
        """Return the attempts that ended since the present fault began."""
        return read_history(self.run)[self._ended_before :]

    def followed(self) -> list[str]:
        return [ended.followed for ended in self.ended()]

    def losses(self) -> list[tuple[int, float, float]]:
        return [(record["step"], record["loss"], record["grad_norm"]) for record in self.run.read_metrics("train")]

    def evaluations(self) -> list[tuple[int, float]]:
        return [(record["step"], record["loss"]) for record in self.run.read_metrics("eval")]

    def weights(self) -> bytes:
        return (self.run.model / "model.safetensors").read_bytes()

    def log(self, pattern: str) -> str:
        return "".join(path.read_text(errors="replace") for path in sorted(self.run.logs.glob(pattern)))

    def excluded_nodes(self) -> str:
        return self.cluster.job(self.job)["ExcNodeList"]

    # ---- what can be done to it

    def signal(self, number: signal.Signals, *ranks: int) -> None:
        for rank in ranks:
            os.kill(self.rank_pid(rank), number)

    @contextlib.contextmanager
    def slowed(self, pids: list[int], go_s: float, stop_s: float) -> Iterator[None]:
        """Let processes run for `go_s` and stand for `stop_s` in turns; Slurm's CONT does not wake them for good."""
        ended = threading.Event()

        def stop_and_go() -> None:
            while not ended.is_set():
                until = time.monotonic() + stop_s
                while time.monotonic() < until and not ended.is_set():
                    send(pids, signal.SIGSTOP)
                    time.sleep(0.005)
                if go_s:
                    send(pids, signal.SIGCONT)
                    ended.wait(go_s)
            send(pids, signal.SIGCONT)

        thread = threading.Thread(target=stop_and_go, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def wait_for_pending(self, number: signal.Signals, rank: int) -> None:
        """Return when a signal has reached a rank, whether or not the rank has acted on it."""
        status = Path(f"/proc/{self.rank_pid(rank)}/status")

        def arrived() -> bool:
            masks = [int(line.split()[1], 16) for line in status.read_text().splitlines() if "Pnd:" in line]
            state = next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("State:"))
            return state != "T" or any(mask >> (number - 1) & 1 for mask in masks)

        self.wait_until(arrived, f"{number.name} to rank {rank} of {self.run}")

    def stop(self, rank: int) -> None:
        """Let a rank stand still, and return when all its threads do."""
        pid = self.rank_pid(rank)
        os.kill(pid, signal.SIGSTOP)

        def stands() -> bool:
            threads = Path(f"/proc/{pid}/task").glob("*/stat")
            return all(path.read_text().rpartition(")")[2].split()[0] == "T" for path in threads)

        self.wait_until(stands, f"rank {rank} of {self.run} to stand still")

    def scontrol(self, *words: str) -> None:
        self.cluster.run(["scontrol", *words])

    def warn_when(self, happening: Callable[[], bool], number: signal.Signals, *ranks: int) -> None:
        """Signal `ranks` while `happening()`: rank 0 is stopped for the look, so nothing changes under it."""
        pid = self.rank_pid(0)
        while not self._is_over():
            for _ in range(200):
                if happening():
                    os.kill(pid, signal.SIGSTOP)
                    try:
                        if happening():
                            self.signal(number, *ranks)
                            return
                    finally:
                        os.kill(pid, signal.SIGCONT)
                time.sleep(0.002)
        raise AssertionError(f"{self.run}: the moment did not come")

    def type(self, command: str) -> str:
        """Run one of the user's commands and return what it prints."""
        path = f"{REPOSITORY / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return self.cluster.run(command, cwd=self.folder, env={"PATH": path}).stdout

    def status(self) -> dict[str, Any]:
        return json.loads(self.type(f"hpctrain status {self.run.path} --json"))

    def resume(self) -> None:
        """Submit the run again with ``hpc-submit --resume``, as a user does after its job has ended."""
        self.type(f"hpc-submit --resume {self.run.path}")
        self.job = read_json(self.run.job)["submissions"][-1]["job_id"]

    # ---- its ends

    def wait_for_end_of_attempt(self) -> None:
        """Return when the attempt that the fault hit has ended; if nobody could note its end, when the next began."""
        self.wait_until(
            lambda: self.followed() or self.run.newest_attempt() > self._hit, f"the end of an attempt of {self.run}"
        )

    def wait_for_end_of_job(self) -> str:
        """Wait until the job has left the queue for good, and return its last state."""
        state = [""]

        def ended() -> bool:
            state[0] = self.queue.state(self.job)
            return state[0] in ENDED

        self.wait_until(ended, f"the job of {self.run} to end")
        return state[0]

    def wait_until_finished(self) -> None:
        self.wait_until(lambda: self._ended_how() == ["finished"] or self._is_over(), f"end of {self.run}", pause_s=0.5)
        assert self._ended_how() == ["finished"], (self.followed(), self.log("*batch.log")[-3000:])
        assert self.wait_for_end_of_job() == "COMPLETED"

    def _ended_how(self) -> list[str]:
        """Return what followed the newest attempt that has ended; nothing if none has."""
        return [ended.followed for ended in read_history(self.run)[-1:]]

    def _is_over(self) -> bool:
        return self.queue.state(self.job) in ENDED - {"PREEMPTED", "NODE_FAIL"}
