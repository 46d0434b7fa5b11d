"""Start a new run with the profile of an old one: the same data, the same seed, and what --set changes.

hpctrain rerun RUN                            exactly the same once more
hpctrain rerun RUN --set train.seed=7         with another seed
hpctrain rerun RUN --set train.epochs=5 --dry-run    say what differs, check, print the script; write nothing

The command says what differs from the old run: keys of the profile, data files, code and packages. The new run records
the old one as its parent in provenance.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.commands.overrides import add_set_argument, overrides_of
from hpctrain.errors import Problem, ProfileError
from hpctrain.launch.present import as_typed
from hpctrain.launch.runs import DEFAULT_RUNS_DIR, find_run

if TYPE_CHECKING:
    from hpctrain.profile.check import Findings
    from hpctrain.profile.schema import Profile
    from hpctrain.rundir import RunDir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain rerun``."""
    parser.add_argument("run_name", nargs="?", metavar="RUN", help="path, name, run id or job id")
    add_set_argument(parser)
    parser.add_argument("--runs-dir", help="folder of runs (default: ./runs); the new run is beside the old one")
    parser.add_argument("--cluster", metavar="TARGET", help="where to run, instead of launch.cluster")
    parser.add_argument("--no-memory", action="store_true", help="do not estimate the memory or inspect the data")
    parser.add_argument("--dry-run", action="store_true", help="say what differs, check, print the script and files")
    parser.add_argument("--wait", action="store_true", help="wait, show progress, exit with the run's exit code")


def run(arguments: argparse.Namespace) -> int:
    """Say what differs, and submit the new run."""
    from hpctrain.commands.submit import Wanted, describe_dry_run, start_and_tell, submission_from, within_budget
    from hpctrain.launch.targets import find_target

    overrides = overrides_of(arguments, "run_name")
    if arguments.run_name is None:
        raise ProfileError("command line", [Problem("RUN", "which run? (hpctrain rerun RUN --set train.seed=7)")])
    old = find_run(arguments.run_name, Path(arguments.runs_dir or DEFAULT_RUNS_DIR))
    _require_profile(old)
    overrides = [f"launch.runs_dir={json.dumps(str(old.path.parent.parent))}", *overrides]
    overrides += [f"launch.cluster={arguments.cluster}"] if arguments.cluster else []
    wanted = Wanted(old.profile, [overrides])
    findings = _checked(old, overrides, memory=not arguments.no_memory and not arguments.dry_run)
    parent = _say_what_differs(old, findings.raise_problems())
    within_budget(wanted, [findings], may_ask=not arguments.dry_run)
    submission = dataclasses.replace(submission_from(wanted, [findings]), parent=parent)
    if arguments.dry_run:
        print(describe_dry_run(submission))
        return 0
    find_target(submission.cluster).ask(submission.plan, submission.texts)
    start_and_tell(submission)
    if not arguments.wait:
        return 0
    from hpctrain.launch.wait import wait_for

    return wait_for(submission.runs)


def _require_profile(old: RunDir) -> None:
    if not old.profile.is_file():
        message = "has no profile.yaml any more; attempts/*.json hold its values under 'profile'"
        raise ProfileError("command line", [Problem(as_typed(old.path), message)])
    for folder in (old.path.parent, old.path.parent.parent):
        if (folder / "study.yaml").is_file():
            message = f"is a trial of a study; to train its values: hpc-submit {as_typed(old.profile)}"
            raise ProfileError("command line", [Problem(as_typed(old.path), message)])


def _checked(old: RunDir, overrides: list[str], memory: bool) -> Findings:
    """Check the changed profile and print the warnings.

    A resolved profile holds every key, so a key without effect is worth a warning only if the user has just set it.
    """
    from hpctrain.profile.check import add_memory, check_profile

    findings = check_profile(old.profile, overrides, memory=False)
    if memory and findings.profile is not None and findings.profile.platform and not findings.problems:
        add_memory(findings, {})
    keys = [text.partition("=")[0].strip() for text in overrides]
    for warning in dict.fromkeys(map(str, findings.warnings)):
        if "has no effect" not in warning or any(key in warning for key in keys):
            print(f"warning: {warning}", file=sys.stderr)
    findings.raise_problems()
    return findings


def _say_what_differs(old: RunDir, profile: Profile) -> dict[str, Any]:
    """Print to stderr what differs from the old run; return what the provenance of the new one says of it."""
    from hpctrain.launch.provenance import collect
    from hpctrain.launch.submit import with_absolute_paths
    from hpctrain.profile.load import load_profile, plain_values
    from hpctrain.report.differences.origins import compare_code, compare_data, differing, read_provenance
    from hpctrain.report.differences.text import pairs

    before = read_provenance(old)
    now = collect(with_absolute_paths(profile, Path.cwd()), Path.cwd())
    keys = differing(plain_values(load_profile(old.profile)), plain_values(profile))
    data = [one for one in compare_data(before.get("data") or [], now["data"]) if one.state != "the same"]
    code, changes = compare_code(before, now) if before else ([], [])
    lines = [f"rerun of {as_typed(old.path)}", *(pairs(keys) if keys else ["  the profile is the same"])]
    lines += [f"  data: {one.state}: {one.path}" for one in data]
    lines += pairs(code)
    lines += ["  the uncommitted changes of the code differ"] if changes else []
    lines += [] if before else ["  code and data of the old run are not on record"]
    print("\n".join(lines), file=sys.stderr)
    return {
        "run": str(old.path),
        "profile": {one.name: [one.before, one.after] for one in keys},
        "data": {one.path: one.state for one in data},
        "code": {one.name: [one.before, one.after] for one in code},
    }
