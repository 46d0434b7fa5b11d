"""What ``hpctrain search ACTION STUDY`` does with a study that was submitted."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from hpctrain.access import enter
from hpctrain.credentials.urls import without_login
from hpctrain.errors import Problem, ProfileError, SiteError
from hpctrain.launch.plan import Job
from hpctrain.launch.present import as_typed
from hpctrain.launch.stop import cancel
from hpctrain.launch.targets import find_target
from hpctrain.launch.targets.target import ENDING
from hpctrain.rundir import write_atomic
from hpctrain.search.describe import shown
from hpctrain.search.folder import STOP_NOW, StudyDir, find_study, write_study
from hpctrain.search.folds import tasks_of
from hpctrain.search.mirror import export, mirror, name_of
from hpctrain.search.pool import pool_process
from hpctrain.search.ranking import pareto_front, ranked
from hpctrain.search.submit import submit_tasks
from hpctrain.search.trials import GIVEN_BACK, WAITING, Trial, TrialReader, is_running, read_trials
from hpctrain.states import ACTIVE, FAILED
from hpctrain.trail.note import note

_LOOK_EVERY_S = 1.0
_NUM_BEST = 10


def act(action: str, arguments: argparse.Namespace) -> int:
    """Do what the command line asks for; return the exit code.

    Raises
    ------
    SiteError
        There is no such study.
    """
    if arguments.study is None:
        raise ProfileError("command line", [Problem("", f"which study? hpctrain search {action} STUDY")])
    study = find_study(arguments.study, arguments.runs_dir)
    enter(study.path)
    actions: dict[str, Callable[[StudyDir, argparse.Namespace], int]] = {
        "status": _status,
        "best": _best,
        "report": _report,
        "export": _export,
        "stop": _stop,
        "resume": _resume,
        "extend": _extend,
    }
    return actions[action](study, arguments)


def wait_until_over(study: StudyDir) -> int:
    """Wait until no trial runs or waits for a task; return 0 if one has finished."""
    reader = TrialReader(study, ask_queue=True)
    last = ""
    while True:
        trials = reader.read()
        line = counted(trials)
        if line != last:
            print(line, file=sys.stderr, flush=True)
            last = line
        if _is_over(study, trials):
            break
        time.sleep(_LOOK_EVERY_S)
    return 0 if ranked(study.section(), trials) else SiteError.exit_code


def _is_over(study: StudyDir, trials: Sequence[Trial]) -> bool:
    """Return whether no trial runs, and none waits for a task that will start."""
    return not any(is_running(trial) for trial in trials) and not _will_start(study, trials)


def _will_start(study: StudyDir, trials: Sequence[Trial]) -> bool:
    """Return whether a task will start for the trials that nobody has asked for yet."""
    record = study.read_record()
    target = find_target(record.cluster)
    if not target.has_queue:
        return pool_process(study) is not None
    waiting = tasks_of(study.section(), [trial.number for trial in trials if trial.state == WAITING])
    arrays = [array["job_id"] for array in record.arrays if waiting and waiting[-1] in array["tasks"]]
    if not arrays:
        return False
    state = target.state(Job(f"{arrays[-1]}_{waiting[-1]}", record.cluster)).state
    return state in (*ACTIVE, ENDING)


def counted(trials: Sequence[Trial]) -> str:
    """Return how many trials are in each state."""
    counts = Counter(trial.state for trial in trials)
    return f"{len(trials)} trials: " + ", ".join(f"{count} {state}" for state, count in counts.most_common())


def _status(study: StudyDir, arguments: argparse.Namespace) -> int:
    if arguments.watch:
        from hpctrain.search.live import watch

        watch(study, max(0.2, arguments.interval), _is_over)
        return 0
    section, trials = study.section(), read_trials(study, ask_queue=True)
    mirror(study, section, trials)
    if arguments.json:
        print(json.dumps({"study": str(study.path), "trials": [asdict(trial) for trial in trials]}))
        return 0
    print(f"{section.name}/{study.id}: {counted(trials)}")
    hours = sum(trial.gpu_hours for trial in trials)
    kwh = [trial.kwh for trial in trials if trial.kwh is not None]
    print(f"  spent   {hours:.3g} GPU hours" + (f", {sum(kwh):.3g} kWh" if kwh else ""))
    if reason := _why_no_more(study, trials):
        print(f"  no further trial starts: {reason}")
    running = [trial for trial in trials if is_running(trial)]
    gone = [trial for trial in trials if trial.state in (*GIVEN_BACK, FAILED)]
    for trial in (*running, *gone)[:20]:
        steps = f"{trial.step}/{trial.total_steps}" if trial.total_steps else ""
        print(f"  {trial.number:>5}  {trial.state:<9} {steps:<14} {trial.reason}".rstrip())
    if any(trial.state in GIVEN_BACK for trial in trials):
        print(f"  to go on with trials whose job is gone: hpctrain search resume {as_typed(study.path)}")
    _print_best(study, trials, 3)
    return 0


def _why_no_more(study: StudyDir, trials: Sequence[Trial]) -> str:
    from hpctrain.search.ask import why_not

    return why_not(study, study.section(), trials) if any(trial.state == WAITING for trial in trials) else ""


def _best(study: StudyDir, arguments: argparse.Namespace) -> int:
    section, trials = study.section(), read_trials(study, ask_queue=True)
    order = ranked(section, trials)
    if arguments.json:
        print(json.dumps([asdict(trial) for trial in order]))
        return 0
    if not order:
        raise SiteError(f"{study.path}: no trial has finished yet ({counted(trials)})")
    _print_best(study, trials, _NUM_BEST)
    if arguments.out is not None:
        text = study.trial(order[0].number).profile.read_text(encoding="utf-8")
        write_atomic(arguments.out, text)
        print(f"profile of trial {order[0].number}: {arguments.out}; hpc-submit {arguments.out}")
    return 0


def _print_best(study: StudyDir, trials: Sequence[Trial], count: int) -> None:
    section = study.section()
    order = ranked(section, trials)
    if not order:
        return
    several = len(section.objectives) > 1
    first = {"minimize": "lowest", "maximize": "highest"}
    names = ", ".join(
        f"{objective.metric} ({first[objective.direction or 'minimize']} first)" for objective in section.objectives
    )
    front = pareto_front(section, order) if several else order
    what = "trials that no other beats in all of" if several else "best trials by"
    print(f"  {what} {names}:")
    for trial in front[:count]:
        scores = "  ".join(f"{score:<10.5g}" for score in trial.scores or ())
        values = "  ".join(f"{key}={shown(value)}" for key, value in trial.values.items())
        print(f"  {trial.number:>5}  {scores}  {values}")
    print(f"  best run: {as_typed(study.trial(order[0].number).path)}")


def _report(study: StudyDir, arguments: argparse.Namespace) -> int:
    from hpctrain.search.page import write_page

    path = write_page(study, read_trials(study, ask_queue=True), arguments.out or study.report)
    print(as_typed(path))
    return 0


def _export(study: StudyDir, arguments: argparse.Namespace) -> int:
    url = arguments.to or study.section().storage
    if url is None:
        message = (
            "names a database; the study file has no storage: hpctrain search export STUDY --to sqlite:///study.db"
        )
        raise ProfileError("command line", [Problem("--to", message)])
    changed = export(study, read_trials(study, ask_queue=True), url)
    print(f"{changed} trials are new or have changed in {without_login(url)}, study {name_of(study)}")
    return 0


def _stop(study: StudyDir, arguments: argparse.Namespace) -> int:
    write_atomic(study.stop, STOP_NOW if arguments.now else "")
    note("stop", study.path, now=bool(arguments.now))
    print(f"{study.path}: no further trial starts; hpctrain search resume {as_typed(study.path)} goes on")
    if arguments.now and study.section().engine.name == "ray":
        print("trials that run see it on their nodes; they save first")
    elif arguments.now:
        section = study.section()
        for task in TrialReader(study, ask_queue=True).read_tasks():
            if is_running(task):
                print(cancel(study.run(task.number, section)))
    return 0


def _resume(study: StudyDir, arguments: argparse.Namespace) -> int:
    reader = TrialReader(study, ask_queue=True)
    tasks, trials = reader.read_tasks(), reader.read()
    ready = [task.number for task in tasks if task.state in GIVEN_BACK]
    if not _will_start(study, trials) or study.stop.exists():
        ready += [task.number for task in tasks if task.state == WAITING]
    study.stop.unlink(missing_ok=True)
    if not ready:
        print(f"{study.path}: {counted(trials)}; there is nothing to resume")
        return 0
    section = study.section()
    job_id = submit_tasks(study, section, sorted(ready), "resume")
    print(f"job id  {job_id}: {len(ready)} {'folds' if section.folds else 'trials'}")
    return wait_until_over(study) if arguments.wait else 0


def _extend(study: StudyDir, arguments: argparse.Namespace) -> int:
    if arguments.number is None:
        raise ProfileError("command line", [Problem("", "how many more trials? hpctrain search extend STUDY 20")])
    record, section = study.read_record(), study.section()
    new = range(record.trials, record.trials + arguments.number)
    write_study(study, section.model_copy(update={"trials": record.trials + arguments.number}))
    study.write_record(replace(record, trials=record.trials + arguments.number))
    study.stop.unlink(missing_ok=True)
    try:
        job_id = submit_tasks(study, section, tasks_of(section, new), "extend")
    except BaseException:
        write_study(study, section)
        study.write_record(record)
        raise
    print(f"job id  {job_id}: trials {new[0]} to {new[-1]}")
    return 0
