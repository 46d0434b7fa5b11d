"""Search for the best values of some keys of a profile: many trials, as one job array that nobody has to watch.

hpctrain search profiles/search.yaml             check every corner of the space, submit, return at once
hpctrain search profiles/search.yaml --dry-run   check, then print the script and five sampled trials
hpctrain search status STUDY                     how the trials stand
hpctrain search best STUDY --out best.yaml       the best trials; the profile of the best one
hpctrain search report STUDY                     write one HTML page about the study
hpctrain search stop STUDY                       start no further trial (--now: end running ones, too)
hpctrain search resume STUDY                     go on with trials whose job is gone
hpctrain search extend STUDY 20                  add trials

STUDY is the folder of a study, its name or its id.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hpctrain.commands.argument_types import positive
from hpctrain.commands.overrides import add_set_argument, overrides_of
from hpctrain.errors import Problem, ProfileError

ACTIONS = ("status", "best", "report", "stop", "resume", "extend")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain search``."""
    parser.add_argument("what", nargs="?", metavar="STUDY.yaml|ACTION", help=f"study file, or {', '.join(ACTIONS)}")
    parser.add_argument("study", nargs="?", metavar="STUDY", help="folder, name or id of a study, for an action")
    parser.add_argument("number", nargs="?", type=positive, metavar="N", help="extend: how many more trials")
    add_set_argument(parser)
    parser.add_argument("--cluster", metavar="TARGET", help="where to run, instead of launch.cluster of the base")
    parser.add_argument("--dry-run", action="store_true", help="check, then print the script and five sampled trials")
    parser.add_argument("--no-memory", action="store_true", help="do not estimate the memory of the largest trials")
    parser.add_argument("--wait", action="store_true", help="wait until all trials have ended")
    parser.add_argument("--out", type=Path, metavar="FILE", help="best: write the profile; report: write the page here")
    parser.add_argument("--now", action="store_true", help="stop: also cancel the trials that run; they save first")
    parser.add_argument("--json", action="store_true", help="status, best: print JSON")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="where to look for studies")


def run(arguments: argparse.Namespace) -> int:
    """Submit a study, or do something with one that was submitted."""
    overrides = overrides_of(arguments, "what")
    if arguments.what in ACTIONS:
        from hpctrain.search.actions import act

        return act(arguments.what, arguments)
    if arguments.what is None or arguments.study is not None:
        message = f"give a study file (hpctrain search study.yaml), or one of {', '.join(ACTIONS)} and a study"
        raise ProfileError("command line", [Problem("", message)])
    return _submit(arguments, overrides)


def _submit(arguments: argparse.Namespace, overrides: list[str]) -> int:
    from hpctrain.launch.present import as_typed
    from hpctrain.search.sampling import need_optuna
    from hpctrain.search.study_file import check_study, read_study
    from hpctrain.search.submit import new_study, start

    need_optuna()
    study = read_study(arguments.what, overrides)
    findings = check_study(study, memory=not arguments.no_memory)
    for warning in findings.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    new = new_study(study, arguments.cluster)
    if arguments.dry_run:
        from hpctrain.search.describe import describe_dry_run

        print(describe_dry_run(new))
        return 0
    job_id = start(new)
    path = as_typed(new.directory.path)
    print(f"study   {path}")
    print(f"job id  {job_id}: {new.section.trials} trials, {new.section.parallel} at once")
    for action in ("status", "best", "report", "stop"):
        print(f"  hpctrain search {action:<6} {path}")
    if arguments.wait:
        from hpctrain.search.actions import wait_until_over

        return wait_until_over(new.directory)
    return 0
