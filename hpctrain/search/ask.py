"""``python -m hpctrain.search.ask RUN``: make the run directory of a trial, or of one of its folds, before it trains.

It may be called any number of times, by two attempts at once, and be killed at any point: what was chosen stays chosen,
and what is missing is written. Exit codes: 0 train, 79 nothing is left to do, and those of ``errors.py``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from datetime import datetime

from hpctrain.access import enter
from hpctrain.credentials.hide import error_line, hide_in_tracebacks
from hpctrain.errors import EXIT_FINISHED, HpctrainError
from hpctrain.launch import provenance
from hpctrain.launch.plan import NOTHING_TO_DO, JobPlan, module_command, plan_job
from hpctrain.launch.submit import Submission, record_job
from hpctrain.launch.targets import find_target
from hpctrain.profile.load import dump_profile, load_profile
from hpctrain.profile.schema import Profile
from hpctrain.profile.sections.base import parse_time_limit_s
from hpctrain.profile.site import Site, load_site
from hpctrain.records import Record
from hpctrain.rundir import file_digest, read_json, write_atomic
from hpctrain.search.evolution import PARENT
from hpctrain.search.folder import FoldDir, StudyDir, TrialDir, run_at, write_once
from hpctrain.search.folds import place_of
from hpctrain.search.measured import weights_of
from hpctrain.search.mirror import mirror
from hpctrain.search.pruning import is_hopeless
from hpctrain.search.sampling import sample
from hpctrain.search.section import StudySection
from hpctrain.search.space import Space
from hpctrain.search.trials import Trial, read_trials, seal_pruned

RANK_MODULE = "hpctrain.search.rank"
ASK_MODULE = "hpctrain.search.ask"


def ask(run: TrialDir, job_id: str | None) -> bool:
    """Make the run directory of a trial, or of one of its folds, complete.

    Parameters
    ----------
    run : TrialDir
    job_id : str or None
        The job that is about to train it; None if the caller records it.

    Returns
    -------
    bool
        False if there is nothing to do: the trial has ended, the budget is spent, the study was stopped, or the grid
        has no further point.

    Raises
    ------
    HpctrainError
        The study is damaged, or Optuna is missing.
    """
    study = run.study
    section = study.section()
    trial = run.trial(section)
    if any(read_json(each.outcome) is not None for each in (run, trial)):
        print(f"hpctrain: trial {trial.number} has ended already")
        return False
    trials = read_trials(study)
    asked = read_json(trial.asked)
    if not isinstance(asked, dict):
        asked = _choose(trial, section, trials)
    if asked is None or (section.folds and not _may_hold_out(run, trial, section, trials)):
        return False
    _complete(run, asked, section)
    if section.storage is not None:
        mirror(study, section, read_trials(study))
    if job_id is not None and job_id not in {each["job_id"] for each in run.read_job().get("submissions", [])}:
        record_job(run, job_id, run.number)
    return True


def _choose(trial: TrialDir, section: StudySection, trials: Sequence[Trial]) -> Record | None:
    """Choose the values of a trial and write them; return ``trial.json``, or None if it does not start."""
    study = trial.study
    if reason := why_not(study, section, trials):
        print(f"hpctrain: trial {trial.number} does not start: {reason}")
        return None
    try:
        values, system = sample(section, trials, trial.number)
    except IndexError:
        print(f"hpctrain: trial {trial.number} does not start: the grid has fewer combinations")
        return None
    if PARENT in system:
        system["parent_sha256"] = file_digest(weights_of(study.trial(system[PARENT])))
    trial.make_folders()
    chosen = {"number": trial.number, "values": values, "system": system, "asked_at": time.time()}
    return write_once(trial.asked, chosen)


def _may_hold_out(run: TrialDir, trial: TrialDir, section: StudySection, trials: Sequence[Trial]) -> bool:
    """Return whether a fold of a trial shall be trained; write its ``trial.json`` if so."""
    number, place = place_of(section, run.number)
    fold = section.held_out_folds[place]
    if not run.asked.exists():
        reason = "the study was stopped" if trial.study.stop.exists() else ""
        if is_hopeless(section, trials, number):
            seal_pruned(trial, trials[number])
            reason = "the study ended the trial after other folds"
        elif read_json(trial.outcome) is not None:  # another fold has failed
            reason = "the trial has ended"
        if reason:
            print(f"hpctrain: fold {fold} of trial {number} does not start: {reason}")
            return False
        run.make_folders()
        write_once(run.asked, {"number": run.number, "trial": number, "fold": fold, "asked_at": time.time()})
    return True


def why_not(study: StudyDir, section: StudySection, trials: Sequence[Trial]) -> str:
    """Return why no further trial of a study may start; empty if one may."""
    if study.stop.exists():
        return "the study was stopped"
    budget, record = section.budget, study.read_record()
    if budget.gpu_hours is not None:
        spent = sum(trial.gpu_hours for trial in trials)
        if spent >= budget.gpu_hours:
            return f"the budget of {budget.gpu_hours:g} GPU hours is spent ({spent:.3g})"
    if budget.wall_time is not None and time.time() >= record.submitted_at + parse_time_limit_s(budget.wall_time):
        return f"the wall time of {budget.wall_time} is over"
    if budget.until is not None and time.time() >= datetime.fromisoformat(budget.until).timestamp():
        return f"it is later than {budget.until}"
    return ""


def overrides_of(run: TrialDir, section: StudySection, asked: Record) -> list[str]:
    """Return the changes of the base that make the profile of a run, from the ``trial.json`` of its trial."""
    parent = asked.get("system", {}).get(PARENT)
    weights = [] if parent is None else [f"train.init_from={json.dumps(str(run.study.trial(parent).path))}"]
    fold = [f"data.split.fold={fold_of(run, section)}"] if isinstance(run, FoldDir) else []
    return [*Space.of(section.space).overrides(asked["values"]), *weights, *fold]


def fold_of(run: FoldDir, section: StudySection) -> int:
    """Return the fold that a run holds out."""
    return section.held_out_folds[place_of(section, run.number)[1]]


def plan_trial(run: TrialDir, profile: Profile, cluster: str) -> JobPlan:
    """Return the plan of the job of one trial, or of one of its folds."""
    site = site_of(profile)
    command = module_command(RANK_MODULE, site)
    return plan_job(profile, run.path, find_target(cluster), site, command=command)


def site_of(profile: Profile) -> Site | None:
    """Return the site that a profile names."""
    return load_site(profile.launch.site) if profile.launch.site else None


def _complete(run: TrialDir, asked: Record, section: StudySection) -> None:
    """Write what the run directory lacks; ``profile.yaml`` comes last, because ``train`` starts from it."""
    if run.profile.exists() and run.job.exists():
        return
    study = run.study
    trial = run.trial(section)
    if trial is not run and not trial.profile.exists():
        write_atomic(trial.profile, dump_profile(load_profile(study.base, overrides_of(trial, section, asked))))
    cluster = study.read_record().cluster
    overrides = tuple(overrides_of(run, section, asked))
    profile = load_profile(study.base, overrides)
    run.make_folders()
    plan = plan_trial(run, profile, cluster)
    submission = Submission(cluster, (run,), (profile,), plan, {}, array_values=(overrides,), first_task=run.number)
    if not run.provenance.exists():
        provenance.write(run.provenance, profile, study.path)
    files = submission.files()
    for path in sorted(files, key=lambda path: path == run.profile):
        write_atomic(path, files[path])


def _own_job() -> str | None:
    """Return the id of the task of an array in which this process runs."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def main(arguments: list[str]) -> int:
    """Ask for the trial named on the command line and return the exit code."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__.strip(), file=sys.stderr)
        return 0 if arguments in (["-h"], ["--help"]) else 2
    enter(arguments[0])
    try:
        return EXIT_FINISHED if ask(run_at(arguments[0]), _own_job()) else NOTHING_TO_DO
    except HpctrainError as error:
        print(f"hpctrain: {error_line(error)}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    hide_in_tracebacks()
    sys.exit(main(sys.argv[1:]))
