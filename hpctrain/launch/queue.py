"""Ask platforms about jobs, and remember their answers: one memory for all the runs that a command looks at."""

from __future__ import annotations

import math
import time

from hpctrain.launch.plan import Job
from hpctrain.launch.targets import target_of
from hpctrain.launch.targets.target import JobState, Target
from hpctrain.records import Record
from hpctrain.rundir import RunDir


class Queue:
    """Keep one target of each kind, so that a platform that does not answer costs its time only once.

    Parameters
    ----------
    remember_s : float
        How long to repeat the last answer for a job before asking its platform again [s].
    """

    def __init__(self, remember_s: float = 0.0) -> None:
        self._remember_s = remember_s
        self._targets: dict[str, Target] = {}
        self._answers: dict[Job, tuple[float, JobState]] = {}

    def target_of(self, run: RunDir, job: Record | None = None) -> Target | None:
        """Return the target that a run was submitted to, as :func:`hpctrain.launch.targets.target_of` does."""
        job = run.read_job() if job is None else job
        target = target_of(run, job)
        return None if target is None else self._targets.setdefault(job["cluster"], target)

    def ask(self, target: Target, job: Job) -> JobState:
        """Return the state of a job, as of at most `remember_s` seconds ago."""
        asked_at, answer = self._answers.get(job, (-math.inf, JobState()))
        if time.monotonic() - asked_at >= self._remember_s:
            answer = target.state(job)
            self._answers[job] = time.monotonic(), answer
        return answer
