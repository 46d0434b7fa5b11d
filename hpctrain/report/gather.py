"""Read everything that a report needs from a run directory; list missing and damaged files and continue."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpctrain.credentials.hide import hide_secrets, hide_secrets_in
from hpctrain.drawing.scale import grouped
from hpctrain.files import read_text
from hpctrain.metrics.events import EvaluationEmpty, Started
from hpctrain.metrics.read import History, read_history
from hpctrain.monitor.ledger import RankState, read_ledgers
from hpctrain.records import JOB, Record, is_number, parse_json, well_typed
from hpctrain.report.attempts import Attempt, list_attempts, read_endings
from hpctrain.report.family import ModelFacts, ask_family
from hpctrain.report.validation import find_validation
from hpctrain.report.validation_file import ValidationFile
from hpctrain.rundir import RunDir

_LARGEST_TEXT = 1 << 24
"""Largest number of bytes of a profile, a script or a JSON file to read for a report."""


@dataclass
class RunFacts:
    """All facts about a run, read once.

    Parameters
    ----------
    run : RunDir
    now : float
        Time of reading, seconds since 1970.
    history : History
    attempts : list of Attempt
    job, provenance : dict
    profile_text, script_text : str
        Empty if the file is absent.
    model : ModelFacts
        The family of the run, its kind of data, and its results.
    ranks : list of RankState
        Measurements of the sensors of each rank.
    validation : ValidationFile or None
        How good the finished model is, if the run has been judged.
    unreadable : list of str
        Files that could not be read, and the reasons.
    """

    run: RunDir
    now: float
    history: History
    attempts: list[Attempt]
    job: dict[str, Any]
    provenance: dict[str, Any]
    profile_text: str
    script_text: str
    model: ModelFacts
    ranks: list[RankState] = field(default_factory=list)
    validation: ValidationFile | None = None
    unreadable: list[str] = field(default_factory=list)

    @property
    def total_steps(self) -> int:
        """Last step of the whole run; 0 before an attempt has recorded it."""
        started = self.history.newest(Started)
        return (started.total_steps if started else None) or 0

    @property
    def step(self) -> int:
        """The last step that is recorded and not lost."""
        return max([self.history.step, *(a.last_step for a in self.attempts[-1:])], default=0)

    @property
    def num_samples(self) -> int:
        """Number of samples seen in training, according to the records."""
        return max((int(record.get("samples_seen") or 0) for record in self.history.train), default=0)

    @property
    def submitted_at(self) -> float | None:
        """Time of submission, seconds since 1970; None if it is not recorded."""
        value = self.job.get("submitted_at")
        return float(value) if isinstance(value, int | float) else None

    @property
    def evaluations(self) -> list[Record]:
        """Evaluations with a finite loss, oldest first."""
        return [record for record in self.history.evaluations if record.get("loss") is not None]

    def best_evaluation(self) -> Record | None:
        """Return the evaluation that is the best one by the objective of the family; None if there is none."""
        return self.history.best_evaluation(self.model.family.objective)

    def num_held_out(self, evaluation: Record) -> int:
        """Return the number of samples of an evaluation; 0 if it is not recorded."""
        value = evaluation.get(self.model.kind.words.count_field)
        return int(value) if is_number(value) else 0

    def held_out(self, evaluation: Record) -> str:
        """Return the samples of an evaluation in words, with their number where it is known."""
        number = self.num_held_out(evaluation)
        return f"{grouped(number)} held-out {self.model.many}" if number else f"held-out {self.model.many}"


def gather_facts(run: RunDir, now: float | None = None) -> RunFacts:
    """Read a run directory.

    Parameters
    ----------
    run : RunDir
        A run in any state.
    now : float, optional
        Seconds since 1970; the current time by default.
    """
    now = time.time() if now is None else now
    history = read_history(run)
    unreadable: list[str] = []
    endings = list(read_endings(run.attempts / "ended.tsv"))
    job = well_typed(_record(run.job, unreadable), JOB)
    provenance = hide_secrets_in(_record(run.provenance, unreadable))
    profile_text, script_text = (hide_secrets(_text(path, unreadable)) for path in (run.profile, run.script))
    model = ask_family(profile_text, history, run.results, unreadable)
    _set_aside_empty_evaluations(history, model.kind.words.count_field)
    return RunFacts(
        run=run,
        now=now,
        history=history,
        attempts=list_attempts(history, run.read_attempts(), run.read_heartbeats(), endings, now),
        job=job,
        provenance=provenance,
        profile_text=profile_text,
        script_text=script_text,
        model=model,
        ranks=read_ledgers(run),
        validation=find_validation(run.validation, unreadable),
        unreadable=unreadable,
    )


def _text(path: Path, unreadable: list[str]) -> str:
    """Return the text of a file; if it cannot be read or is not a regular file, note this and return an empty text."""
    try:
        return read_text(path, _LARGEST_TEXT)
    except FileNotFoundError:
        return ""
    except OSError as error:
        unreadable.append(f"{path.name} cannot be read: {error.strerror}")
        return ""


def _record(path: Path, unreadable: list[str]) -> Record:
    """Return the JSON object of a file; if there is none, note this and return an empty one."""
    text = _text(path, unreadable)
    if not text:
        return {}
    try:
        value = parse_json(text)
    except ValueError as error:
        unreadable.append(f"{path.name} is damaged: {error}")
        return {}
    if not isinstance(value, dict):
        unreadable.append(f"{path.name} is damaged: it holds no JSON object")
        return {}
    return value


def _set_aside_empty_evaluations(history: History, count_field: str) -> None:
    """Turn evaluations without a usable sample into events; older versions recorded them with a loss of 0."""
    empty = [record for record in history.evaluations if record.get(count_field) == 0]
    history.evaluations = [record for record in history.evaluations if record.get(count_field) != 0]
    history.events += [EvaluationEmpty.from_record(record) for record in empty]
