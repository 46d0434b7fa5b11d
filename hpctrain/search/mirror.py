"""A copy of a study in Optuna's own tables of a database, so that ``optuna-dashboard`` shows it while it runs.

The files of the trials stay the truth; the copy can be brought up to date at any time. A database that is down, slow or
refuses costs a few seconds and one line in the log.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from hpctrain.credentials.hide import error_line
from hpctrain.credentials.urls import without_login
from hpctrain.errors import HpctrainError, SiteError
from hpctrain.report.text import cut
from hpctrain.search.folder import StudyDir, TrialDir
from hpctrain.search.sampling import distributions_of, need_optuna
from hpctrain.search.section import StudySection
from hpctrain.search.space import Space
from hpctrain.search.trials import PRUNED, WAITING, Trial, read_trial
from hpctrain.states import FINISHED
from hpctrain.terminal import printable

NUMBER = "hpctrain_trial"
"""User attribute that says which trial an entry is a copy of."""
_WITHIN_S = 5.0
"""Longest time that a study waits for its database [s]."""
_ANSWER_S = 3
"""Time after which the database is asked to give up [s]."""
_REST_S = 60.0
"""Time without a further question after a failure [s]."""

_asleep_until: dict[str, float] = {}


def mirror(study: StudyDir, section: StudySection, trials: Sequence[Trial]) -> None:
    """Bring the copy of some trials up to date, if the study has one; never raise, and never take long."""
    url = section.storage
    if url is None or time.monotonic() < _asleep_until.get(url, 0.0):
        return
    failures: list[BaseException] = []

    def work() -> None:
        try:
            copy_trials(study, section, trials, url)
        except Exception as error:
            failures.append(error)

    worker = threading.Thread(target=work, daemon=True, name="mirror")
    worker.start()
    worker.join(_WITHIN_S)
    if worker.is_alive():
        reason = f"no answer within {_WITHIN_S:.0f} s"
    elif failures:
        reason = failure_text(failures[0], url)
    else:
        return
    _asleep_until[url] = time.monotonic() + _REST_S
    line = f"hpctrain: the database of storage was not brought up to date: {reason}; the study goes on"
    print(printable(line), file=sys.stderr, flush=True)


def mirror_own(directory: TrialDir) -> None:
    """Bring the copy of the trial that this process trains up to date, on rank 0; never raise."""
    if os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) != "0":
        return
    try:
        section = directory.study.section()
        if section.storage is not None:
            mirror(directory.study, section, [read_trial(directory.trial(section), section)])
    except (HpctrainError, OSError) as error:
        print(f"hpctrain: the copy of the trial was not brought up to date: {error_line(error)}", file=sys.stderr)


def copy_trials(study: StudyDir, section: StudySection, trials: Iterable[Trial], url: str) -> int:
    """Write trials into a database, each of them once, and return how many entries are new or have changed.

    Parameters
    ----------
    study : StudyDir
    section : StudySection
    trials : iterable of Trial
        Those that nobody has asked for are left out.
    url : str
        SQLAlchemy's URL of the database.

    Raises
    ------
    SiteError
        Optuna is not installed.
    Exception
        What SQLAlchemy, Optuna or the driver of the database raise; :func:`failure_text` says it in a line.
    """
    copy = _Copy(study, section, url)
    try:
        return sum(copy.write(trial) for trial in trials if trial.state != WAITING)
    finally:
        copy.close()


def failure_text(error: BaseException, url: str) -> str:
    """Return why the database failed, in one line without the password of the URL."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = f"{type(error).__name__}: {cut(str(error))}"
    for secret in _secrets(url):
        text = text.replace(secret, "…")
    return text


def _secrets(url: str) -> list[str]:
    """Return what must not be printed, the longest first: user and password as they are written, and the password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    written = url.partition("://")[2].rpartition("@")[0]
    found = {written, written.partition(":")[2]}
    try:
        password = make_url(url).password
    except (ArgumentError, ValueError):
        password = None
    if password:
        found |= {str(password), quote(str(password))}
    return sorted(found - {""}, key=len, reverse=True)


class _Copy:
    """The entries of one study in a database."""

    def __init__(self, study: StudyDir, section: StudySection, url: str) -> None:
        optuna = need_optuna()
        self._optuna, self._study = optuna, study
        self._distributions = distributions_of(Space.of(section.space))
        self._storage = optuna.storages.RDBStorage(url, engine_kwargs=_options(url))
        directions = [objective.direction or "minimize" for objective in section.objectives]
        try:
            made = optuna.create_study(
                storage=self._storage, study_name=name_of(study), directions=directions, load_if_exists=True
            )
            self._id = made._study_id
            names = [objective.metric or "objective" for objective in section.objectives]
            if made.metric_names != names:
                made.set_metric_names(names)
            self._there = self._entries()
            self._steps = self._known_steps()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._storage.remove_session()
        self._storage.engine.dispose()

    def write(self, trial: Trial) -> bool:
        """Write what the entry of a trial lacks; return whether it lacked anything."""
        if trial.number not in self._there and self._create(trial):
            return True
        entry, is_over = self._there[trial.number]
        return not is_over and self._update(entry, trial)

    def _create(self, trial: Trial) -> bool:
        """Make an entry, unless another process has made it in the meantime.

        The statement that changes nothing locks the row of the study (SQLite: the database) until the transaction ends,
        and Optuna's own insertion is part of the same transaction, because it uses the session of this thread.
        """
        from sqlalchemy import text

        session = self._storage.scoped_session()
        lock = text("UPDATE studies SET study_name = study_name WHERE study_id = :study")
        try:
            session.execute(lock, {"study": self._id})
            there = self._entries(trial.number)
            if trial.number not in there:
                self._storage.create_new_trial(self._id, self._template(trial))
                return True
        finally:
            self._storage.remove_session()
        self._there |= there
        return False

    def _entries(self, number: int | None = None) -> dict[int, tuple[int, bool]]:
        """Return the id of each entry by the number of its trial, and whether it is over."""
        from sqlalchemy import text

        query = (
            "SELECT a.value_json, t.trial_id, t.state FROM trials t JOIN trial_user_attributes a "
            "ON a.trial_id = t.trial_id WHERE t.study_id = :study AND a.key = :key"
        )
        given: dict[str, Any] = {"study": self._id, "key": NUMBER}
        if number is not None:
            query, given = f"{query} AND a.value_json = :number", given | {"number": json.dumps(number)}
        rows = self._storage.scoped_session().execute(text(query), given)
        return {json.loads(value): (entry, state not in ("RUNNING", "WAITING")) for value, entry, state in rows}

    def _known_steps(self) -> dict[int, set[int]]:
        """Return the evaluations that entries which are not over have already."""
        from sqlalchemy import text

        query = text(
            "SELECT i.trial_id, i.step FROM trial_intermediate_values i JOIN trials t ON t.trial_id = i.trial_id "
            "WHERE t.study_id = :study AND t.state = 'RUNNING'"
        )
        steps: dict[int, set[int]] = {}
        for entry, step in self._storage.scoped_session().execute(query, {"study": self._id}):
            steps.setdefault(entry, set()).add(step)
        self._storage.remove_session()
        return steps

    def _template(self, trial: Trial) -> Any:
        states = self._optuna.trial.TrialState
        values = {key: value for key, value in trial.values.items() if key in self._distributions}
        state = self._state(trial)
        frozen = self._optuna.trial.create_trial(
            state=states.FAIL if state == states.RUNNING else state,
            values=trial.scores if state == states.COMPLETE else None,
            params=values,
            distributions={key: self._distributions[key] for key in values},
            intermediate_values=_curve(trial),
            user_attrs=self._facts(trial),
        )
        frozen.state = state
        frozen.datetime_start = datetime.fromtimestamp(trial.asked_at or time.time())
        frozen.datetime_complete = (
            datetime.fromtimestamp(trial.ended_at) if trial.is_sealed and trial.ended_at else None
        )
        return frozen

    def _state(self, trial: Trial) -> Any:
        """Return Optuna's state; a trial that lost its job may go on, so it counts as running."""
        states = self._optuna.trial.TrialState
        if not trial.is_sealed:
            return states.RUNNING
        return {FINISHED: states.COMPLETE, PRUNED: states.PRUNED}.get(trial.state, states.FAIL)

    def _facts(self, trial: Trial) -> dict[str, Any]:
        facts = {NUMBER: trial.number, "run": str(self._study.trial(trial.number).path), "state": trial.state}
        if trial.is_sealed:
            facts |= {"gpu_hours": trial.gpu_hours, "kwh": trial.kwh, "reason": trial.reason}
        return facts

    def _update(self, entry: int, trial: Trial) -> bool:
        known = self._steps.get(entry, set())
        new = {step: value for step, value in _curve(trial).items() if step not in known}
        for step, value in new.items():
            self._storage.set_trial_intermediate_value(entry, step, value)
        if not trial.is_sealed:
            return bool(new)
        for key, value in self._facts(trial).items():
            self._storage.set_trial_user_attr(entry, key, value)
        state = self._state(trial)
        values = trial.scores if state == self._optuna.trial.TrialState.COMPLETE else None
        try:
            self._storage.set_trial_state_values(entry, state, values)
        except self._optuna.exceptions.UpdateFinishedTrialError:
            return False  # another process was faster
        return True


def _curve(trial: Trial) -> dict[int, float]:
    return {int(step): math.nan if value is None else float(value) for step, value in trial.evaluations}


def name_of(study: StudyDir) -> str:
    """Return the name of the study in the database."""
    return f"{study.name}/{study.id}"


def _options(url: str) -> dict[str, Any]:
    """Return options that let a database give up soon."""
    from sqlalchemy.pool import NullPool

    kind = url.partition(":")[0].partition("+")[0]
    arguments: dict[str, Any] = {}
    if kind == "sqlite":
        arguments = {"timeout": _ANSWER_S}
    elif kind == "postgresql":
        limit = _ANSWER_S * 1000
        arguments = {
            "connect_timeout": _ANSWER_S,
            "options": f"-c statement_timeout={limit} -c lock_timeout={limit}",
        }
    return {"poolclass": NullPool, "connect_args": arguments}


def export(study: StudyDir, trials: Sequence[Trial], url: str) -> int:
    """Bring the copy of all trials up to date, for ``hpctrain search export``; return how many entries changed.

    Raises
    ------
    SiteError
        The database does not take them.
    """
    try:
        return copy_trials(study, study.section(), trials, url)
    except SiteError:
        raise
    except Exception as error:
        raise SiteError(f"{without_login(url)}: {failure_text(error, url)}") from None
