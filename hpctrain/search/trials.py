"""The state of each trial, derived from its own files, and sealed once it has ended."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hpctrain.cost.hours import energy_kwh_of, gpu_hours_of
from hpctrain.errors import DivergedError
from hpctrain.launch.history import read_history
from hpctrain.launch.queue import Queue
from hpctrain.launch.status import RunStatus, describe
from hpctrain.rundir import read_json, read_json_lines, write_atomic
from hpctrain.search.folder import StudyDir, TrialDir, write_once
from hpctrain.search.folds import tasks_of
from hpctrain.search.measured import OF_BUNDLE, OF_MODEL
from hpctrain.search.section import StudySection
from hpctrain.states import ACTIVE, CANCELLED, FAILED, FINISHED, LOST, NOT_SUBMITTED, PENDING, RUNNING, STOPPED, UNKNOWN

WAITING = "waiting"
"""No task has asked for this trial yet."""
PRUNED = "pruned"
DIVERGED = "diverged"
SEALED = (FINISHED, PRUNED, DIVERGED, FAILED)
"""States that never change again."""
GIVEN_BACK = (LOST, STOPPED, CANCELLED, UNKNOWN)
"""States of a trial whose job is gone: the sampler does not wait for it, and ``hpctrain search resume`` goes on."""
PRUNED_CAUSE = "pruned"
"""Cause in the event ``stopped`` of a pruned trial."""
_ITS_OWN_FAULT = (1, 2, 4, 6)
"""Exit codes of errors that the values of a trial, or the code, would only repeat. A full disk (5) or a cluster that
refuses (3) is not the fault of a trial."""
_STARTS_WITHIN_S = 120.0
"""A trial that was chosen less than this ago may have no rank yet [s]."""
_REWRITE_SHARE = 0.05
_REWRITE_LEAST = 16


@dataclass(frozen=True)
class Trial:
    """One trial.

    Parameters
    ----------
    number : int
    state : str
        :data:`WAITING`, one of :data:`SEALED`, or a state of a run that has not ended.
    values : dict
        The value, or the name of the choice, of each parameter.
    scores : list of float, or None
        The objectives of a finished trial; of a pruned one the last evaluation.
    evaluations : list of list of float
        The first objective at each evaluation: number of the evaluation and value. Of a trial with folds, at the end of
        each fold.
    step, total_steps : int
        Steps done, and of the whole run.
    asked_at, ended_at : float
        Seconds since 1970; 0 if unknown.
    gpu_hours : float
        Hours of GPUs, or of ranks where there are no GPUs.
    kwh : float or None
        Energy, where sensors measured it.
    reason : str
        Why it failed, waits, or was given back.
    system : dict
        What the sampler needs to remember.
    """

    number: int
    state: str = WAITING
    values: dict[str, Any] = field(default_factory=dict)
    scores: list[float] | None = None
    evaluations: list[list[float]] = field(default_factory=list)
    step: int = 0
    total_steps: int = 0
    asked_at: float = 0.0
    ended_at: float = 0.0
    gpu_hours: float = 0.0
    kwh: float | None = None
    reason: str = ""
    system: dict[str, Any] = field(default_factory=dict)

    @property
    def is_sealed(self) -> bool:
        return self.state in SEALED


class TrialReader:
    """Reads the trials of a study again and again; those that have ended are read once.

    Parameters
    ----------
    study : StudyDir
    ask_queue : bool
        Whether to ask the platform about jobs that look neither alive nor ended.
    """

    def __init__(self, study: StudyDir, ask_queue: bool = False) -> None:
        self._study, self._ask_queue = study, ask_queue
        self._ended: dict[int, Trial] = {}
        self._parts: dict[int, Trial] = {}

    def read_tasks(self) -> list[Trial]:
        """Return what each task of the array trains, as if it were a trial: the trials, or their folds.

        Folds of trials that have ended are left out.
        """
        trials = self.read()
        return [self._parts[task] for task in sorted(self._parts)] if self._study.section().folds else trials

    def read(self) -> list[Trial]:
        """Return all trials by number, those that nobody has asked for included."""
        count = self._study.read_record().trials
        if not self._ended:
            self._ended = _read_sealed(self._study.sealed)
        num_known = len(self._ended)
        section = self._study.section()
        queue = Queue()
        trials = []
        self._parts = {}
        for number in range(count):
            trial = self._ended.get(number)
            if trial is None:
                trial, parts = _read_with_folds(self._study.trial(number), section, queue, self._ask_queue)
                self._parts |= {part.number: part for part in parts if not trial.is_sealed}
            if trial.is_sealed:
                self._ended[number] = trial
            trials.append(trial)
        num_new = len(self._ended) - num_known
        if num_new >= max(_REWRITE_LEAST, _REWRITE_SHARE * len(self._ended)):
            _write_sealed(self._study.sealed, self._ended.values())
        return trials


def read_trials(study: StudyDir, ask_queue: bool = False) -> list[Trial]:
    """Return all trials of a study by number."""
    return TrialReader(study, ask_queue).read()


def read_trial(directory: TrialDir, section: StudySection) -> Trial:
    """Return one trial, without asking the platform about its job."""
    return _read_with_folds(directory, section, Queue(), ask_queue=False)[0]


def _read_with_folds(
    directory: TrialDir, section: StudySection, queue: Queue, ask_queue: bool
) -> tuple[Trial, list[Trial]]:
    """Return a trial, and its folds with the indices of their tasks as numbers; none if it has ended."""
    if not section.folds:
        return _read(directory, section, queue, ask_queue), []
    if isinstance(found := read_json(directory.outcome), dict):
        return _of_record(directory.number, found), []
    runs = [directory.study.run(task, section) for task in tasks_of(section, [directory.number])]
    parts = [_read(run, section, queue, ask_queue) for run in runs]
    asked = read_json(directory.asked)
    if not isinstance(asked, dict):
        return Trial(directory.number), parts
    facts = together(asked, parts) | {"number": directory.number}
    if facts["state"] in SEALED:
        facts = write_once(directory.outcome, facts)
    return _of_record(directory.number, facts), parts


def together(asked: Mapping[str, Any], parts: Sequence[Trial]) -> dict[str, Any]:
    """Return the facts of a cross-validated trial from its folds: their means and sums.

    Its evaluations are the folds that have finished, from 1 on.
    """
    done = {place: part for place, part in enumerate(parts, 1) if part.state == FINISHED and part.scores}
    bad = [(place, part) for place, part in enumerate(parts, 1) if part.state in (DIVERGED, FAILED)]
    states = [part.state for part in parts]
    first = next((state for state in (RUNNING, PENDING, *ACTIVE, *GIVEN_BACK) if state in states), WAITING)
    kwh = [part.kwh for part in parts if part.kwh is not None]
    facts = {
        "values": asked.get("values", {}),
        "system": asked.get("system", {}),
        "asked_at": asked.get("asked_at", 0.0),
        "ended_at": max((part.ended_at for part in parts), default=0.0),
        "evaluations": [[place, part.scores[0]] for place, part in done.items() if part.scores],
        "step": sum(part.step for part in parts),
        "total_steps": max((part.total_steps for part in parts), default=0) * len(parts),
        "gpu_hours": sum(part.gpu_hours for part in parts),
        "kwh": sum(kwh) if kwh else None,
        "state": first,
        "reason": f"{len(done)} of {len(parts)} folds have finished",
    }
    if bad:
        facts |= {"state": bad[0][1].state, "reason": f"fold {bad[0][0]} of {len(parts)}: {bad[0][1].reason}"}
    elif len(done) == len(parts):
        scores = zip(*(part.scores for part in done.values() if part.scores), strict=True)
        facts |= {"state": FINISHED, "scores": [sum(each) / len(parts) for each in scores], "reason": ""}
    return facts


def seal_pruned(directory: TrialDir, trial: Trial) -> Trial:
    """Write that a cross-validated trial ends before its last fold, and return it."""
    values = [value for _, value in trial.evaluations]
    changes = {
        "state": PRUNED,
        "scores": [sum(values) / len(values)] if values else None,
        "reason": f"pruned after {len(values)} folds",
    }
    return _of_record(directory.number, write_once(directory.outcome, asdict(trial) | changes))


def _read(directory: TrialDir, section: StudySection, queue: Queue, ask_queue: bool) -> Trial:
    asked = read_json(directory.asked)
    if not isinstance(asked, dict):
        return Trial(directory.number)
    if isinstance(found := read_json(directory.outcome), dict):
        return _of_record(directory.number, found)
    status = describe(directory, queue=queue, ask_queue=ask_queue)
    return seal(directory, section, status) or _unsealed(directory, asked, status)


def _unsealed(directory: TrialDir, asked: Mapping[str, Any], status: RunStatus) -> Trial:
    is_new = time.time() - asked.get("asked_at", 0.0) < _STARTS_WITHIN_S
    if status.state == FINISHED:  # it writes its bundle
        return Trial(**{**_facts(directory, asked, status), "state": RUNNING, "reason": "writes its bundle"})
    if status.state == FAILED:
        return Trial(**{**_facts(directory, asked, status), "state": STOPPED, "reason": status.detail})
    state = PENDING if status.state == NOT_SUBMITTED or (status.state == UNKNOWN and is_new) else status.state
    return Trial(**{**_facts(directory, asked, status), "state": state, "reason": status.detail})


def seal(directory: TrialDir, section: StudySection, status: RunStatus) -> Trial | None:
    """Write how a trial has ended, if it has, and return the trial; None if it has not ended."""
    asked = read_json(directory.asked, {})
    facts = _facts(directory, asked, status)
    if status.state == FINISHED:
        needs_bundle = any(objective.metric in OF_BUNDLE for objective in section.objectives)
        if needs_bundle and not _is_over(directory):
            return None
        scores = scores_of(directory, section)
        if scores is None:
            facts |= {"state": FAILED, "reason": "the run has finished without a value of the objectives"}
        else:
            facts |= {"state": FINISHED, "scores": scores}
    elif status.state == STOPPED and status.exit_code == 0:
        facts["state"] = PRUNED
        facts["scores"] = [facts["evaluations"][-1][1]] if facts["evaluations"] else None
        facts["reason"] = f"pruned at step {status.step} of {status.total_steps}"
    elif status.state == FAILED and status.exit_code in _ITS_OWN_FAULT:
        facts |= {"state": DIVERGED if status.exit_code == DivergedError.exit_code else FAILED}
        facts["reason"] = status.detail
    else:
        return None
    facts["ended_at"] = _ended_at(directory)
    return _of_record(directory.number, write_once(directory.outcome, facts))


def _facts(directory: TrialDir, asked: Mapping[str, Any], status: RunStatus) -> dict[str, Any]:
    return {
        "number": directory.number,
        "values": asked.get("values", {}),
        "system": asked.get("system", {}),
        "asked_at": asked.get("asked_at", 0.0),
        "evaluations": curve_of(directory),
        "step": status.step,
        "total_steps": status.total_steps,
        "gpu_hours": gpu_hours_of(directory),
        "kwh": energy_kwh_of(directory),
    }


def _of_record(number: int, record: Mapping[str, Any]) -> Trial:
    known = {name: record[name] for name in Trial.__dataclass_fields__ if name in record}
    return Trial(**{**known, "number": number})


def curve_of(directory: TrialDir) -> list[list[float]]:
    """Return the first objective at each evaluation: number of the evaluation, 0 before the first step, and value."""
    recorded = read_json(directory.evaluations, {})
    steps = sorted((int(step), values) for step, values in recorded.items())
    first = 0 if steps and steps[0][0] == 0 else 1
    # Without a metric among the objectives an evaluation has no value.
    return [[first + index, values[0]] for index, (_, values) in enumerate(steps) if values]


def scores_of(directory: TrialDir, section: StudySection) -> list[float] | None:
    """Return the objectives of a finished trial, at the evaluation of its weights; None if it lacks one."""
    recorded = read_json(directory.evaluations, {})
    step = str(read_json(directory.model / "model.json", {}).get("weights_step"))
    at_end = recorded.get(step) or (recorded[max(recorded, key=int)] if recorded else [])
    evaluated = iter(at_end)
    scores = [
        OF_MODEL[str(objective.metric)](directory) if objective.metric in OF_MODEL else next(evaluated, None)
        for objective in section.objectives
    ]
    if any(score is None or not math.isfinite(score) for score in scores):
        return None
    return [float(score) for score in scores if score is not None]


def _is_over(directory: TrialDir) -> bool:
    """Return whether the newest attempt is on record as ended: it may still write a bundle after its last step."""
    history, attempts = read_history(directory), directory.read_attempts()
    return bool(history) and history[-1].time >= int(attempts[-1].get("started_at", 0.0) if attempts else 0.0)


def _ended_at(directory: TrialDir) -> float:
    history = read_history(directory)
    beats = [beat.get("time", 0.0) for beat in directory.read_heartbeats()]
    return max([*beats, history[-1].time if history else 0.0], default=0.0) or time.time()


def _read_sealed(path: Path) -> dict[int, Trial]:
    found = {}
    for record in read_json_lines(path):
        if isinstance(record.get("number"), int) and record.get("state") in SEALED:
            found[record["number"]] = _of_record(record["number"], record)
    return found


def _write_sealed(path: Path, trials: Iterable[Trial]) -> None:
    text = "".join(json.dumps(asdict(trial)) + "\n" for trial in sorted(trials, key=lambda trial: trial.number))
    write_atomic(path, text, durable=False)


def is_running(trial: Trial) -> bool:
    """Return whether the trial has a job that runs or will."""
    return trial.state in ACTIVE
