"""Look for leaks between training, validation and test, before a long training.

hpctrain audit PROFILE                        print what was found, worst first
hpctrain audit PROFILE --json                 the same for programs
hpctrain audit PROFILE --radius-arcsec 2      objects within 2 arcsec are one object

A leak is an object, a sample or a label that the model meets although it should be held out: the same identifier or
position on the sky on two sides of the split, equal or nearly equal samples, identifiers that are none, columns that
give a label away, weights or scalings that have seen the held-out objects, a test side that was looked at too often.

Exit code 0: no leak. 7: at least one leak; with --strict also if there are suspicions, which you have to judge.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from hpctrain.commands.overrides import add_set_argument, overrides_of
from hpctrain.commands.using_model import progress_bar
from hpctrain.errors import GateError, Problem, ProfileError

if TYPE_CHECKING:
    from hpctrain.validation.audit.audit import Report

SOURCE = "hpctrain audit"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain audit``."""
    parser.add_argument("profile", nargs="?", metavar="PROFILE", help="YAML file, also that of a run directory")
    add_set_argument(parser)
    parser.add_argument(
        "--radius-arcsec", type=float, metavar="R", help="largest distance of two rows of one object (1.0)"
    )
    parser.add_argument("--no-near", action="store_true", help="do not look for nearly equal samples, which takes long")
    parser.add_argument("--strict", action="store_true", help="suspicions count as leaks")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Audit the profile and print the findings."""
    overrides = overrides_of(args)
    if args.profile is None:
        raise ProfileError("command line", [Problem("PROFILE", "which profile? (hpctrain audit profiles/trees.yaml)")])
    if args.radius_arcsec is not None:
        overrides.append(f"validate.audit.radius_arcsec={args.radius_arcsec}")
    if args.no_near:
        overrides.append("validate.audit.near_duplicates=false")
    from hpctrain.profile.load import load_profile
    from hpctrain.validation.audit.audit import audit

    profile = load_profile(args.profile, overrides)
    with progress_bar("reading", None) as tick:
        report = audit(profile, tick)
    if args.json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        print("\n".join(_lines(report, args.profile)))
    return GateError.exit_code if _has_failed(report, args.strict) else 0


def _has_failed(report: Report, strict: bool) -> bool:
    from hpctrain.validation.audit.findings import LEAK, SUSPICION

    return bool(report.of(LEAK)) or (strict and bool(report.of(SUSPICION)))


def _lines(report: Report, source: str) -> list[str]:
    from hpctrain.validation.audit.findings import LEAK, SUSPICION

    sides = ", ".join(f"{count:,} {name}" for name, count in report.num_rows.items())
    lines = [line for finding in report.findings for line in finding.lines()]
    leaks, suspicions = len(report.of(LEAK)), len(report.of(SUSPICION))
    count = f"{leaks} leak{'s' * (leaks != 1)}, {suspicions} suspicion{'s' * (suspicions != 1)}"
    return [*lines, f"{source}: {'no leaks' if not leaks and not suspicions else count} ({sides} rows)"]
