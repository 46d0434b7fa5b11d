"""Runs that meet a fault: how one is submitted, watched, caught at a certain moment and looked at afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from slurm_cluster import ENDED, REPOSITORY, SlurmCluster

from hpctrain.launch.history import EndedAttempt, read_history
from hpctrain.launch.submit import prepare, submit
from hpctrain.profile.families import profile_of
from hpctrain.profile.schema import Profile
from hpctrain.rundir import RunDir, read_json

NUM_STEPS = 120
CHECKPOINT_EVERY = 20
PATIENCE_S = 420
"""How long a scenario waits while no run of the lab gives a sign of life: 26 at once may be slow, and are not stuck."""


def profile(folder: Path, name: str, **changes: dict[str, Any]) -> Profile:
    """Return a profile of two ranks on two nodes with all that makes a resume hard: dropout, accumulation, averages."""
    sections: dict[str, dict[str, Any]] = {
        "launch": {
            "nodes": 2, "ranks_per_node": 1, "gpus_per_node": 0, "cpus_per_rank": 1, "time_limit": "00:10:00",
            "signal_lead_s": 10, "runs_dir": str(folder / "runs"), "sbatch": {"exclusive": True},
        },
        "data": {
            "files": [str(folder / "spectra.h5")], "reader_threads": 1, "columns": {"mask": None},
            "split": {"validation": 0.4}, "augment": {"noise": 0.1},
        },
        "model": {
            "latent_size": 2, "encoder_channels": [8, 8], "encoder_kernels": [3, 5], "encoder_hidden": [8],
            "decoder_hidden": [8], "rest_pixels": 300, "dropout": 0.1,
        },
        "train": {
            "batch_size": 4, "epochs": 10000, "max_steps": NUM_STEPS, "accumulation": 2, "log_every_steps": 1,
            "warmup_steps": 2, "device": "cpu", "evaluate_every_steps": 10, "ema_decay": 0.9,
        },
        "checkpoint": {"every_steps": CHECKPOINT_EVERY},
        "track": {"tensorboard": False},
        "monitor": {"heartbeat_s": 0.5},
    }  # fmt: skip
    for section, values in changes.items():
        sections[section] = {**sections[section], **values}
    return profile_of({"name": name, **sections})


def wait_until(condition: Callable[[], object], runs_dir: Path, what: str, pause_s: float) -> None:
    """Wait until ``condition()`` is true, as long as runs in `runs_dir` make progress; ask every `pause_s` seconds.

    Raises
    ------
    AssertionError
        Nothing was written by any of them for `PATIENCE_S` seconds.
    """
    seen, deadline = 0.0, time.monotonic() + PATIENCE_S
    while not condition():
        time.sleep(pause_s)
        if time.monotonic() > deadline:
            paths = [*runs_dir.glob("*/*/metrics.jsonl"), *runs_dir.glob("*/*/attempts")]
            newest = max((path.stat().st_mtime for path in paths), default=0.0)
            assert newest > seen, f"no run gave a sign of life for {PATIENCE_S} s: {what}"
            seen, deadline = newest, time.monotonic() + PATIENCE_S


class Queue:
    """The states of all jobs of a cluster; it is asked once a second, however many threads wait for a job."""

    def __init__(self, cluster: SlurmCluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._states: dict[str, str] = {}
        self._asked_at = float("-inf")

    def state(self, job: str) -> str:
        """Return the state of a job; empty if Slurm does not know the job or does not answer."""
        with self._lock:
            if time.monotonic() > self._asked_at + 1.0:
                said = self._cluster.run(["scontrol", "show", "job", "-o"], check=False).stdout
                self._states = dict(re.findall(r"^JobId=(\S+) .*?\bJobState=(\S+)", said, re.MULTILINE))
                self._asked_at = time.monotonic()
            return self._states.get(job, "")


class FaultedRun:
    """One run in a lab, and the ways to hurt it."""

    def __init__(self, cluster: SlurmCluster, queue: Queue, folder: Path, name: str, **changes: dict[str, Any]) -> None:
        self.cluster = cluster
        self.queue = queue
        self.folder = folder
        submission = prepare([profile(folder, name, **changes)], "slurm", None)
        self.run: RunDir = submission.runs[0]
        self.job: str = submit(submission, folder)[0]
        self.seconds = 0.0

    def wait_until(self, condition: Callable[[], object], what: str = "", pause_s: float = 0.05) -> None:
        wait_until(condition, self.folder / "runs", what or f"{condition} of {self.run}", pause_s)

    # ---- what can be seen from outside

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

    def rank_pid(self, rank: int) -> int:
        """Return the pid of a rank from the moment it exists."""
        # To look at all processes takes CPU time; before the batch script has begun there is none of this run.
        self.wait_until(lambda: any(self.run.logs.glob("*batch.log")), f"the job of {self.run} to begin")
        found: list[int] = []

        def look() -> bool:
            for pid, words in self.processes().items():
                if words[0].endswith("srun") or "hpctrain.train" not in words:
                    continue
                if environment_of(pid).get("SLURM_PROCID") == str(rank):
                    found.append(pid)
            return bool(found)

        self.wait_until(look, f"rank {rank} of {self.run}")
        return found[0]

    def srun_pid(self) -> int:
        """Return the srun of the attempt; it forks a helper, which is not meant."""
        shell = self.batch_shell()
        return next(
            pid for pid, words in self.processes().items() if words[0].endswith("srun") and _parent(pid) == shell
        )

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
                and "slurmstepd" in _name(_parent(pid))
            ):
                return pid
        raise AssertionError(f"job {self.job} has no batch shell")

    def nodes(self) -> list[str]:
        """Return the nodes the job runs on, that of rank 0 first."""
        names = self.cluster.run(["squeue", "-h", "-j", self.job, "-o", "%N"]).stdout.strip()
        return self.cluster.run(["scontrol", "show", "hostnames", names]).stdout.split()

    def last_record(self) -> dict[str, Any]:
        """Return the newest record of metrics.jsonl."""
        try:
            with open(self.run.metrics, "rb") as stream:
                stream.seek(max(0, stream.seek(0, os.SEEK_END) - 4096))
                lines = stream.read().split(b"\n")[:-1]
        except OSError:
            return {}
        return json.loads(lines[-1]) if lines else {}

    def wait_for_step(self, step: int) -> None:
        self.wait_until(lambda: self.last_record().get("step", 0) >= step, f"step {step} of {self.run}")

    def events(self, name: str) -> list[dict[str, Any]]:
        return [record for record in self.run.read_metrics("event") if record["event"] == name]

    def ended(self) -> list[EndedAttempt]:
        return read_history(self.run)

    def followed(self) -> list[str]:
        return [ended.followed for ended in self.ended()]

    def losses(self) -> list[tuple[int, float, float]]:
        return [(record["step"], record["loss"], record["grad_norm"]) for record in self.run.read_metrics("train")]

    def evaluations(self) -> list[tuple[int, float]]:
        return [(record["step"], record["loss"]) for record in self.run.read_metrics("eval")]

    def weights(self) -> bytes:
        return (self.run.model / "model.safetensors").read_bytes()

    def attempts(self) -> list[dict[str, Any]]:
        return [read_json(path) for path in sorted(self.run.attempts.glob("[0-9]*.json"))]

    def log(self, pattern: str) -> str:
        return "".join(path.read_text(errors="replace") for path in sorted(self.run.logs.glob(pattern)))

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
        """Go on as a user does with a run that was left alone."""
        self.type(f"hpc-submit --resume {self.run.path}")
        self.job = read_json(self.run.job)["submissions"][-1]["job_id"]

    def wait_for_history(self, count: int) -> None:
        self.wait_until(lambda: len(self.followed()) >= count, f"end of attempt {count} of {self.run}")

    def wait_for_end(self) -> str:
        """Wait until the job has left the queue for good, and return its last state."""
        state = [""]

        def ended() -> bool:
            state[0] = self.queue.state(self.job)
            return state[0] in ENDED

        self.wait_until(ended, f"the job of {self.run} to end")
        return state[0]

    def wait_until_finished(self) -> None:
        def over() -> bool:
            return self.followed()[-1:] == ["finished"] or self._is_over()

        self.wait_until(over, f"end of {self.run}", pause_s=0.5)
        assert self.followed()[-1:] == ["finished"], (self.followed(), self.log("*batch.log")[-3000:])
        assert self.wait_for_end() == "COMPLETED"

    def _is_over(self) -> bool:
        return self.queue.state(self.job) in ENDED - {"PREEMPTED", "NODE_FAIL"}


def send(pids: list[int], number: signal.Signals) -> None:
    """Signal those processes that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def is_at_work(pid: int) -> bool:
    """Whether a process has neither gone nor ended; a parent that is stopped does not take note of its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def environment_of(pid: int) -> dict[str, str]:
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    return dict(word.split("=", 1) for word in text.split("\0") if "=" in word)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text() + Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""
