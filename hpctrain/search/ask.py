"""``python -m hpctrain.search.ask TRIAL``: make the run directory of a trial, before its ranks start.

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
from pathlib import Path

from hpctrain.errors import EXIT_FINISHED, HpctrainError
from hpctrain.launch import provenance
from hpctrain.launch.plan import NOTHING_TO_DO, JobPlan, module_command, plan_job
from hpctrain.launch.submit import Submission, record_job
from hpctrain.launch.targets import find_target
from hpctrain.profile.load import load_profile
from hpctrain.profile.schema import Profile
from hpctrain.profile.sections.base import parse_time_limit_s
from hpctrain.profile.site import Site, load_site
from hpctrain.records import Record
from hpctrain.rundir import file_digest, read_json, write_atomic
from hpctrain.search.evolution import PARENT
from hpctrain.search.folder import StudyDir, TrialDir, write_once
from hpctrain.search.measured import weights_of
from hpctrain.search.mirror import mirror
from hpctrain.search.sampling import sample
from hpctrain.search.section import StudySection
from hpctrain.search.trials import Trial, read_trials
from hpctrain.terminal import printable

RANK_MODULE = "hpctrain.search.rank"
ASK_MODULE = "hpctrain.search.ask"


def ask(trial: TrialDir, job_id: str | None) -> bool:
    """Make the run directory of a trial complete.

    Parameters
    ----------
    trial : TrialDir
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
    study = trial.study
    if read_json(trial.outcome) is not None:
        print(f"hpctrain: trial {trial.number} has ended already")
        return False
    section = study.section()
    asked = read_json(trial.asked)
    if not isinstance(asked, dict):
        trials = read_trials(study)
        if reason := why_not(study, section, trials):
            print(f"hpctrain: trial {trial.number} does not start: {reason}")
            return False
        try:
            values, system = sample(section, trials, trial.number)
        except IndexError:
            print(f"hpctrain: trial {trial.number} does not start: the grid has fewer combinations")
            return False
        if PARENT in system:
            system["parent_sha256"] = file_digest(weights_of(study.trial(system[PARENT])))
        trial.make_folders()
        chosen = {"number": trial.number, "values": values, "system": system, "asked_at": time.time()}
        asked = write_once(trial.asked, chosen)
    _complete(trial, asked)
    if section.storage is not None:
        mirror(study, section, read_trials(study))
    if job_id is not None and job_id not in {each["job_id"] for each in trial.read_job().get("submissions", [])}:
        record_job(trial, job_id, trial.number)
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


def overrides_of(study: StudyDir, asked: Record) -> list[str]:
    """Return the changes of the base that make the profile of a trial, from its ``trial.json``."""
    parent = asked.get("system", {}).get(PARENT)
    weights = [] if parent is None else [f"train.init_from={json.dumps(str(study.trial(parent).path))}"]
    return [*study.space().overrides(asked["values"]), *weights]


def plan_trial(trial: TrialDir, profile: Profile, cluster: str) -> JobPlan:
    """Return the plan of the job of one trial."""
    site = site_of(profile)
    command = module_command(RANK_MODULE, site)
    return plan_job(profile, trial.path, find_target(cluster), site, command=command)


def site_of(profile: Profile) -> Site | None:
    """Return the site that a profile names."""
    return load_site(profile.launch.site) if profile.launch.site else None


def _complete(trial: TrialDir, asked: Record) -> None:
    """Write what the run directory lacks; ``profile.yaml`` comes last, because ``train`` starts from it."""
    if trial.profile.exists() and trial.job.exists():
        return
    study = trial.study
    cluster = study.read_record().cluster
    overrides = tuple(overrides_of(study, asked))
    profile = load_profile(study.base, overrides)
    trial.make_folders()
    plan = plan_trial(trial, profile, cluster)
    submission = Submission(cluster, (trial,), (profile,), plan, {}, array_values=(overrides,), first_task=trial.number)
    if not trial.provenance.exists():
        provenance.write(trial.provenance, profile, study.path)
    files = submission.files()
    for path in sorted(files, key=lambda path: path == trial.profile):
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
    try:
        return EXIT_FINISHED if ask(TrialDir(Path(arguments[0])), _own_job()) else NOTHING_TO_DO
    except HpctrainError as error:
        print(printable(f"hpctrain: {error}"), file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
