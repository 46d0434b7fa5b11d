"""A study, its trials and their folds as tracked runs: the study is the parent, and its curves show all trials."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hpctrain.credentials.hide import hide_secrets_in
from hpctrain.metrics.exporters.facts import flat
from hpctrain.metrics.exporters.subject import FAILED, FINISHED, RUNNING, SCHEDULED, News, Subject
from hpctrain.profile.load import load_profile
from hpctrain.profile.schema import Profile
from hpctrain.records import Record
from hpctrain.rundir import RunDir
from hpctrain.search.ask import fold_of, why_not
from hpctrain.search.crossval import is_crossval
from hpctrain.search.folder import FoldDir, StudyDir, TrialDir
from hpctrain.search.folds import tasks_of
from hpctrain.search.ranking import ranked
from hpctrain.search.section import StudySection
from hpctrain.search.trials import DIVERGED, PRUNED, WAITING, Trial
from hpctrain.states import FAILED as HAS_FAILED
from hpctrain.states import FINISHED as HAS_FINISHED
from hpctrain.states import RUNNING as RUNS
from hpctrain.tracking.numbers import ranges_of, read_ranges
from hpctrain.tracking.runs import Versions, run_subject

STUDY, CROSSVAL, TRIAL, FOLD = "study", "cross-validation", "trial", "fold"
_STATUS = {HAS_FINISHED: FINISHED, PRUNED: FINISHED, HAS_FAILED: FAILED, DIVERGED: FAILED, RUNS: RUNNING}
_TOGETHER = 100
"""Trials in one request; each has a few numbers."""


def study_subject(study: StudyDir, trials: Sequence[Trial], base: Profile) -> Subject:
    """Return a study; its numbers are the scores of the trials that have ended, one for each trial."""
    section = study.section()
    values = hide_secrets_in(section.model_dump(mode="json", exclude_none=True))
    over = bool(trials) and _is_over(study, section, trials)
    return Subject(
        RunDir(study.path),
        CROSSVAL if is_crossval(section) else STUDY,
        f"{study.name}/{study.id}",
        f"{study.name}-{study.id}",
        base.name,
        description=section.description,
        parameters=dict(flat(values)),
        tags={"study_directory": str(study.path), **_tags_of(section, trials)},
        config={"study": values},
        news=lambda known: _study_news(section, trials, known),
        status=FINISHED if over else RUNNING,
        began_s=study.read_record().submitted_at or None,
        ended_s=max((trial.ended_at for trial in trials), default=0.0) or None,
    )


def trial_subjects(
    study: StudyDir, trials: Sequence[Trial], base: Profile, parent: Subject, versions: Versions
) -> Iterator[Subject]:
    """Yield the trials that have begun, each before its folds."""
    section = study.section()
    for trial in trials:
        directory = study.trial(trial.number)
        if trial.state == WAITING or not directory.profile.is_file():
            continue
        subject = trial_subject(directory, section, parent, versions, trial)
        yield subject
        for task in tasks_of(section, [trial.number]) if section.folds else ():
            run = study.run(task, section)
            if run.profile.is_file():
                yield fold_subject(run, section, subject, versions)


def trial_subject(
    directory: TrialDir, section: StudySection, parent: Subject, versions: Versions, trial: Trial | None = None
) -> Subject:
    """Return a trial of a study; what became of it only if `trial` says so."""
    changes: dict[str, Any] = {"kind": TRIAL, "parent": parent, "title": f"trial-{directory.number}"}
    changes["experiment"] = parent.experiment
    if trial is not None:
        changes["tags"] = _trial_tags(trial)
        changes["news"] = lambda known: _trial_news(section, trial, known)
    if section.folds:  # no run of its own: its folds are the runs
        changes["status"] = RUNNING if trial is None else _STATUS.get(trial.state, SCHEDULED)
        if trial is not None:
            changes |= {"began_s": trial.asked_at or None, "ended_s": trial.ended_at or None}
    return run_subject(directory, load_profile(directory.profile), versions, **changes)


def fold_subject(run: TrialDir, section: StudySection, parent: Subject, versions: Versions) -> Subject:
    """Return one fold of a trial; `parent` is the trial."""
    trial, fold = run.trial(section).number, fold_of(FoldDir(run.path), section)
    changes = {
        "kind": FOLD,
        "key": f"{run.study.id}/{trial}/fold-{fold}",
        "title": f"trial-{trial}-fold-{fold}",
        "parent": parent,
        "experiment": parent.experiment,
        "tags": {"trial": str(trial), "fold": str(fold)},
    }
    return run_subject(run, load_profile(run.profile), versions, **changes)


def _is_over(study: StudyDir, section: StudySection, trials: Sequence[Trial]) -> bool:
    if any(not trial.is_sealed and trial.state != WAITING for trial in trials):
        return False
    return all(trial.is_sealed for trial in trials) or bool(why_not(study, section, trials))


def _tags_of(section: StudySection, trials: Sequence[Trial]) -> dict[str, str]:
    """Return how many trials there are in each state, and which is best."""
    states = Counter(trial.state for trial in trials)
    tags = {f"trials.{state}": str(number) for state, number in sorted(states.items())}
    if best := ranked(section, trials)[:1]:
        tags |= {"best_trial": str(best[0].number), **_named("best", best[0].values)}
        tags |= {f"best.{name}": f"{score:.6g}" for name, score in _scores(section, best[0]).items()}
    return tags


def _trial_tags(trial: Trial) -> dict[str, str]:
    tags = {"trial": str(trial.number), "trial_state": trial.state, **_named("value", trial.values)}
    return {**tags, "reason": trial.reason} if trial.reason else tags


def _named(head: str, values: Mapping[str, Any]) -> dict[str, str]:
    return {f"{head}.{key}": value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def _scores(section: StudySection, trial: Trial) -> dict[str, float]:
    """Return the objectives of a trial by name; those of a pruned trial are called so, for they are not final."""
    head = "pruned_" if trial.state == PRUNED else ""
    pairs = zip(section.objectives, trial.scores or (), strict=False)
    return {f"{head}{objective.metric}": score for objective, score in pairs if score is not None}


def _study_news(section: StudySection, trials: Sequence[Trial], known: Mapping[str, str]) -> Iterator[News]:
    done = read_ranges(known.get("trials", ""))
    fresh = [trial for trial in trials if trial.is_sealed and trial.number not in done]
    for first in range(0, len(fresh), _TOGETHER):
        some = fresh[first : first + _TOGETHER]
        done |= {trial.number for trial in some}
        yield News("trials", ranges_of(done), [_record(section, trial, STUDY, trial.number) for trial in some])


def _trial_news(section: StudySection, trial: Trial, known: Mapping[str, str]) -> Iterator[News]:
    if trial.is_sealed and known.get("outcome") != trial.state:
        yield News("outcome", trial.state, [_record(section, trial, TRIAL, trial.step)])


def _record(section: StudySection, trial: Trial, kind: str, step: int) -> Record:
    numbers = {**_scores(section, trial), "gpu_hours": trial.gpu_hours}
    if trial.kwh is not None:
        numbers["kwh"] = trial.kwh
    return {"kind": kind, "step": step, "time": trial.ended_at or trial.asked_at, **numbers}
