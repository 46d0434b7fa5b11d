"""Say what may be wrong with a run, and what to change: memory, speed, learning, nodes and queue.

hpctrain advise                          the newest run
hpctrain advise RUN --apply better.yaml  also write the profile with these changes; hpc-submit better.yaml trains it
hpctrain advise RUN --only overfitting   one rule; several are possible

Rules look at the records of the run: training records and events, attempts, sensors, the ends of the logs and the
profile. For a run that had too little memory, the command estimates what would fit, which takes some seconds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hpctrain.access import enter
from hpctrain.launch.runs import DEFAULT_RUNS_DIR, find_run
from hpctrain.terminal import terminal_columns

ESTIMATED = "gpu-out-of-memory"
"""The rule that an estimate of memory makes more exact."""
_WIDEST = 100
"""Longest lines of the advice."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain advise``."""
    parser.add_argument("run_dir", nargs="?", metavar="RUN", help="path, name, run id or job id (default: the newest)")
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (default: ./runs)"
    )
    parser.add_argument("--only", nargs="+", metavar="RULE", default=[], help="only the advice of these rules")
    parser.add_argument("--apply", type=Path, metavar="OUT.yaml", help="write the profile with the changes")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def run(args: argparse.Namespace) -> int:
    """Print the advice, and write the changed profile."""
    directory = find_run(args.run_dir, args.runs_dir)
    enter(directory.path)
    from hpctrain.advice.advise import RULES, advise, name_of
    from hpctrain.advice.estimate import with_options
    from hpctrain.advice.gather import summarise
    from hpctrain.advice.text import lines_of
    from hpctrain.errors import Problem, ProfileError

    names = [name_of(rule) for rule in RULES]
    if unknown := [name for name in args.only if name not in names]:
        known = f"the rules are {', '.join(names)}"
        raise ProfileError(
            "command line", [Problem("--only", f"there is no rule '{name}'; {known}") for name in unknown]
        )
    summary = summarise(directory)
    wanted = set(args.only or names)
    found = [said for said in advise(summary) if said.rule in wanted]
    if any(said.rule == ESTIMATED for said in found):
        summary = with_options(summary, str(directory.profile))
        found = [said for said in advise(summary) if said.rule in wanted]
    written = None
    if args.apply is not None:
        from hpctrain.advice.changed import changed_profile, changes_of
        from hpctrain.report.document import write_document

        changes = changes_of(found)
        if not changes:
            reason = "no advice for this run changes a key of the profile"
            raise ProfileError("command line", [Problem("--apply", reason)])
        written = write_document(args.apply, changed_profile(str(directory.profile), changes), "--apply")
    if args.json:
        facts = {"run": str(directory.path), "advice": [said.to_json() for said in found]}
        print(json.dumps(facts | ({"profile": str(written)} if written else {}), indent=2))
        return 0
    width = min(_WIDEST, terminal_columns() or _WIDEST)
    print("\n".join([*lines_of(found, width), *(["", str(written)] if written else [])]))
    return 0
