"""Ask Slurm about a job: squeue, then scontrol, then sacct.

Each of these commands may be missing, be switched off, or have forgotten the job. An empty answer therefore means
"unknown", never "gone". We read only formats that are the same in all versions of Slurm (``-o``, ``key=value``,
``--parsable2``), no JSON.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from hpctrain.launch.targets.target import ENDING, JobState
from hpctrain.states import CANCELLED, FAILED, FINISHED, PENDING, REQUEUED, RUNNING

_TIMEOUT_S = 20.0  # a client gives up on a dead controller after 9 s
_NO_VALUE = ("", "None", "N/A", "Unknown", "(null)", "NONE", "Invalid")
_NEVER_SATISFIED = "DependencyNeverSatisfied"
_STATES = {
    "PENDING": PENDING,
    "CONFIGURING": RUNNING,
    "RUNNING": RUNNING,
    "SUSPENDED": RUNNING,
    "SIGNALING": RUNNING,
    "STOPPED": RUNNING,
    "STAGE_OUT": RUNNING,
    "RESIZING": RUNNING,
    "REQUEUED": REQUEUED,
    "REQUEUE_HOLD": REQUEUED,
    "SPECIAL_EXIT": REQUEUED,
    "COMPLETING": ENDING,
    "COMPLETED": FINISHED,
    "CANCELLED": CANCELLED,
}
"""Our states for those of Slurm; all others are failures."""
_UNREACHABLE = "Unable to contact slurm controller"
_DO_NOT_ASK_S = 30.0


@dataclass(frozen=True)
class _Answer:
    """The state of one job in the words of Slurm; empty where a command does not say it."""

    source: str
    state: str
    reason: str = ""
    start: str = ""
    end: str = ""
    nodes: str = ""
    exit_code: str = ""
    name: str = ""

    def as_state(self, silent: Sequence[str]) -> JobState:
        state = _STATES.get(self.state, FAILED)
        words = self.state + (f" ({self.exit_code})" if self.exit_code else "")
        if state == CANCELLED:
            words = "a job that it had to wait for did not finish" if self.reason == _NEVER_SATISFIED else ""
        return JobState(state, self.source, words, self.reason, self.start, self.end, self.nodes, tuple(silent))


class SlurmQueue:
    """Ask squeue, scontrol and sacct, and remember a controller that does not answer: each try costs nine seconds."""

    def __init__(self) -> None:
        self._ask_again_at = 0.0

    def ask(self, job_id: str, name: str) -> JobState:
        """Ask the three commands in turn.

        Parameters
        ----------
        job_id : str
            ``123`` or ``123_4``.
        name : str
            Name of the job when it was submitted. An answer about a job with another name is ignored, because Slurm
            has reused the id.

        Returns
        -------
        JobState
            ``unknown`` if no command knows the job.
        """
        silent: list[str] = []
        if not job_id:
            return JobState()
        for source, question in (("squeue", _squeue), ("scontrol", _scontrol), ("sacct", _sacct)):
            if shutil.which(source) is None:
                silent.append(f"{source}: not on this host")
                continue
            if source != "sacct" and time.monotonic() < self._ask_again_at:
                silent.append(f"{source}: the Slurm controller does not answer")
                continue
            answer, why = question(job_id)
            if answer is not None and answer.name and name and answer.name != name:
                answer, why = None, f"job {job_id} is now '{answer.name}', another job"
            if answer is not None:
                return answer.as_state(silent)
            if _UNREACHABLE.lower() in why.lower():
                self._ask_again_at = time.monotonic() + _DO_NOT_ASK_S
            silent.append(f"{source}: {why}")
        return JobState(silent=tuple(silent))


def _squeue(job_id: str) -> tuple[_Answer | None, str]:
    output, why = _run(["squeue", "-h", "-a", "-t", "all", "-j", job_id, "-o", "%T|%r|%S|%e|%N|%j"])
    line = output.split("\n", 1)[0] if output else ""
    if line.count("|") < 5:
        return None, why or "does not list the job"
    state, reason, start, end, nodes, name = (_known(text) for text in line.split("|", 5))
    return _Answer("squeue", state, reason, start, end, nodes, name=name), ""


def _scontrol(job_id: str) -> tuple[_Answer | None, str]:
    output, why = _run(["scontrol", "show", "job", "-o", job_id])
    line = output.split("\n", 1)[0] if output else ""
    facts = dict(re.findall(r"(\w+)=(\S*)", line))
    if "JobState" not in facts:
        return None, why or "does not know the job"
    keys = ("Reason", "StartTime", "EndTime", "NodeList", "ExitCode", "JobName")
    return _Answer("scontrol", facts["JobState"], *(_known(facts.get(key, "")) for key in keys)), ""


def _sacct(job_id: str) -> tuple[_Answer | None, str]:
    fields = "State,Start,End,NodeList,ExitCode,JobName"
    output, why = _run(["sacct", "-n", "-X", "--parsable2", "-j", job_id, "-o", fields])
    lines = [line for line in output.splitlines() if line.count("|") >= 5] if output else []
    if not lines:
        return None, why or "has no record of the job"
    state, start, end, nodes, exit_code, name = (_known(text) for text in lines[-1].split("|", 5))
    return _Answer("sacct", state.split(" ")[0], "", start, end, nodes, exit_code, name), ""  # "CANCELLED by 0"


def _run(command: list[str]) -> tuple[str, str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return "", f"no answer within {_TIMEOUT_S:.0f} s"
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()
        return "", words[0] if words else f"exit code {done.returncode}"
    return done.stdout.strip(), ""


def _known(text: str) -> str:
    return "" if text.strip() in _NO_VALUE else text.strip()
