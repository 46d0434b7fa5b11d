"""``hpctrain search refit``: train once more with the values of the best trial, validation objects included."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hpctrain.access import enter
from hpctrain.commands.submit import (
    Wanted,
    describe_dry_run,
    start_and_tell,
    submission_from,
    warn_or_refuse,
    within_budget,
)
from hpctrain.errors import Problem, ProfileError, SiteError
from hpctrain.launch.targets import find_target
from hpctrain.profile.load import load_profile
from hpctrain.search.folder import StudyDir, find_study
from hpctrain.search.ranking import ranked
from hpctrain.search.trials import read_trials


def refit(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Submit the run, or print what would be submitted; return the exit code.

    Raises
    ------
    HpctrainError
        No trial has finished, there is no such trial, or the profile cannot be submitted.
    """
    if arguments.study is None:
        raise ProfileError("command line", [Problem("", "which study? hpctrain search refit STUDY")])
    study = find_study(arguments.study, arguments.runs_dir)
    enter(study.path)
    number = _best(study) if arguments.trial is None else arguments.trial
    profile = study.trial(number).profile
    if not profile.exists():
        raise SiteError(f"{study.path}: there is no trial {number} with a profile; see hpctrain search status")
    cluster = [f"launch.cluster={arguments.cluster}"] if arguments.cluster else []
    wanted = Wanted(profile, [[*changes_of(profile, study), *cluster, *overrides]])
    judged = warn_or_refuse(wanted, memory=not (arguments.no_memory or arguments.dry_run))
    within_budget(wanted, judged, may_ask=not arguments.dry_run)
    submission = submission_from(wanted, judged)
    if arguments.dry_run:
        print(describe_dry_run(submission))
        return 0
    find_target(submission.cluster).ask(submission.plan, submission.texts)
    print(f"the values of trial {number}; the objects of the validation split are trained on")
    start_and_tell(submission)
    if not arguments.wait:
        return 0
    from hpctrain.launch.wait import wait_for

    return wait_for(submission.runs)


def changes_of(profile: Path, study: StudyDir) -> list[str]:
    """Return the changes of a trial's profile: another name, and no object held out for validation.

    Without validation there is no early stopping, so the run does all its steps. Objects of the test split stay out.
    """
    found = load_profile(profile)
    changes = [f"name={study.name}-refit", "data.split.validation=0"]
    return changes if found.train.early_stopping is None else [*changes, "train.early_stopping=null"]


def _best(study: StudyDir) -> int:
    order = ranked(study.section(), read_trials(study, ask_queue=True))
    if not order:
        raise SiteError(f"{study.path}: no trial has finished yet; --trial N takes the values of another one")
    return order[0].number
