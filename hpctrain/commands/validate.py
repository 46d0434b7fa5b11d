"""Judge the held-out predictions of a finished run: every metric with its interval.

hpctrain validate RUN              print a table, and write results/validation.json
hpctrain validate RUN --json       print the JSON instead of the table
hpctrain validate RUN --conformal 0.1   store sets and intervals with the model, which miss 10 % of the truths
hpctrain validate RUN --card README.md --latex table.tex

The intervals come from drawing the held-out objects anew, all rows of an object together. Exit code 7 means that a gate
of the profile (validate.gates) is not kept.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.access import enter
from hpctrain.commands.argument_types import share
from hpctrain.errors import GateError, Problem, ProfileError
from hpctrain.launch.runs import DEFAULT_RUNS_DIR, find_run
from hpctrain.rundir import write_atomic

if TYPE_CHECKING:
    from hpctrain.profile.schema import Profile
    from hpctrain.validation.judged import Judged


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain validate``."""
    parser.add_argument("run_dir", nargs="?", metavar="RUN", help="path, name, run id or job id (default: the newest)")
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (default: ./runs)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: results/validation.json)")
    parser.add_argument("--conformal", type=share, metavar="SHARE", help="instead of validate.uncertainty.conformal")
    parser.add_argument("--card", type=Path, metavar="FILE", help="also write a model card in Markdown")
    parser.add_argument("--latex", type=Path, metavar="FILE", help="also write a table for a paper in LaTeX")
    parser.add_argument("--profile", metavar="FILE", help="take validate of this profile, not of the run's own")
    parser.add_argument("--json", action="store_true", help="print the JSON, for programs")


def run(args: argparse.Namespace) -> int:
    """Judge the run, write the file and print it."""
    if args.out is not None and not args.out.absolute().parent.is_dir():
        message = f"{args.out.absolute().parent} is no directory; make it first"
        raise ProfileError("hpctrain validate", [Problem("--out", message)])
    directory = find_run(args.run_dir, args.runs_dir)
    enter(directory.path)
    from hpctrain.profile.load import load_profile
    from hpctrain.validation.gates import failed_gates
    from hpctrain.validation.judged import read_judged
    from hpctrain.validation.table import lines_of
    from hpctrain.validation.validate import validate, write_validation

    judged = read_judged(directory, load_profile(args.profile).validate if args.profile else None)
    section = judged.section
    if args.conformal is not None:
        uncertainty = section.uncertainty.model_copy(update={"conformal": args.conformal})
        section = section.model_copy(update={"uncertainty": uncertainty})
    found = validate(judged, section)
    path = write_validation(judged, found, args.out)
    if args.card is not None or args.latex is not None:
        _write_for_people(args, judged, load_profile(directory.profile), found)
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join([*lines_of(found), "", str(path)]))
    failed = failed_gates(found["gates"])
    if failed:
        listed = "\n".join(f"  {text}" for text in failed)
        raise GateError(f"{directory.path}: {len(failed)} of {len(found['gates'])} gates failed\n{listed}")
    return 0


def _write_for_people(args: argparse.Namespace, judged: Judged, profile: Profile, found: dict[str, Any]) -> None:
    """Write the model card and the table for a paper that were asked for."""
    from hpctrain.report.validation_file import read_validation
    from hpctrain.validation.latex import latex_tables
    from hpctrain.validation.model_card.card import model_card

    read = read_validation(found)
    if args.card is not None:
        _write(args.card, model_card(judged, profile, read), "--card")
    if args.latex is not None:
        _write(args.latex, latex_tables(read), "--latex")


def _write(path: Path, text: str, option: str) -> None:
    try:
        write_atomic(path.absolute(), text)
    except OSError as error:
        reason = f"cannot be written: {error.strerror}; name a file in a folder of yours"
        raise ProfileError("command line", [Problem(f"{option} {path}", reason)]) from error
