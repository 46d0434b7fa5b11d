"""Ask Slurm about a job: squeue, then scontrol, then sacct.

Each of these commands may be missing, be switched off, or have forgotten the job. An empty answer therefore means
"unknown", never "gone". We read only formats that are the same in all versions of Slurm (``-o``, ``key=value``,
``--parsable2``), no JSON.
"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import time
from dataclasses import dataclass

_TIMEOUT_S = 20.0  # a client gives up on a dead controller after 9 s
_NO_VALUE = ("", "None", "N/A", "Unknown", "(null)", "NONE", "Invalid")


@dataclass(frozen=True)
class QueueAnswer:
    """The state of one job according to Slurm.

    Parameters
    ----------
    source : str
        ``squeue``, ``scontrol`` or ``sacct``.
    state : str
        Slurm's name of the state, such as ``RUNNING`` or ``PENDING``.
    reason : str
        Why the job is queued; empty if it is not queued.
    start : str
        When the job started, or is expected to start; empty if unknown.
    end : str
        When the job reaches its time limit.
    nodes : str
        Node list.
    exit_code : str
        ``code:signal`` of a job that has ended, if known.
    name : str
        Name of the job.
    """

    source: str
    state: str
    reason: str = ""
    start: str = ""
    end: str = ""
    nodes: str = ""
    exit_code: str = ""
    name: str = ""


_UNREACHABLE = "Unable to contact slurm controller"
_DO_NOT_ASK_S = 30.0


class Queue:
    """Ask squeue, scontrol and sacct, and remember a controller that does not answer: each try costs nine seconds.

    Parameters
    ----------
    remember_s : float
        How long to repeat the last answer for a job before asking Slurm again [s].
    """

    def __init__(self, remember_s: float = 0.0) -> None:
        self._ask_again_at = 0.0
        self._remember_s = remember_s
        self._answers: dict[tuple[str, str], tuple[float, tuple[QueueAnswer | None, list[str]]]] = {}

    def ask(self, job_id: str, name: str) -> tuple[QueueAnswer | None, list[str]]:
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
        answer : QueueAnswer or None
            None if no command knows the job.
        silent : list of str
            For each command that could not answer, the reason.
        """
        asked_at, answer = self._answers.get((job_id, name), (-math.inf, (None, [])))
        if time.monotonic() - asked_at >= self._remember_s:
            answer = self._ask(job_id, name)
            self._answers[job_id, name] = time.monotonic(), answer
        return answer

    def _ask(self, job_id: str, name: str) -> tuple[QueueAnswer | None, list[str]]:
        silent: list[str] = []
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
                return answer, silent
            if _UNREACHABLE.lower() in why.lower():
                self._ask_again_at = time.monotonic() + _DO_NOT_ASK_S
            silent.append(f"{source}: {why}")
        return None, silent


def _squeue(job_id: str) -> tuple[QueueAnswer | None, str]:
    output, why = _run(["squeue", "-h", "-a", "-t", "all", "-j", job_id, "-o", "%T|%r|%S|%e|%N|%j"])
    line = output.split("\n", 1)[0] if output else ""
    if line.count("|") < 5:
        return None, why or "does not list the job"
    state, reason, start, end, nodes, name = (_known(text) for text in line.split("|", 5))
    return QueueAnswer("squeue", state, reason, start, end, nodes, name=name), ""


def _scontrol(job_id: str) -> tuple[QueueAnswer | None, str]:
    output, why = _run(["scontrol", "show", "job", "-o", job_id])
    line = output.split("\n", 1)[0] if output else ""
    facts = dict(re.findall(r"(\w+)=(\S*)", line))
    if "JobState" not in facts:
        return None, why or "does not know the job"
    keys = ("Reason", "StartTime", "EndTime", "NodeList", "ExitCode", "JobName")
    return QueueAnswer("scontrol", facts["JobState"], *(_known(facts.get(key, "")) for key in keys)), ""


def _sacct(job_id: str) -> tuple[QueueAnswer | None, str]:
    fields = "State,Start,End,NodeList,ExitCode,JobName"
    output, why = _run(["sacct", "-n", "-X", "--parsable2", "-j", job_id, "-o", fields])
    lines = [line for line in output.splitlines() if line.count("|") >= 5] if output else []
    if not lines:
        return None, why or "has no record of the job"
    state, start, end, nodes, exit_code, name = (_known(text) for text in lines[-1].split("|", 5))
    return QueueAnswer("sacct", state.split(" ")[0], "", start, end, nodes, exit_code, name), ""  # "CANCELLED by 0"


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
