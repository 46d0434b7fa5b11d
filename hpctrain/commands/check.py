"""Report all errors in a profile before the job is queued.

The report lists all problems at once, each with its file, its line and a remedy; the exit code is then 2. A warning
names a setting that works but is probably a mistake. The check also estimates the memory of a step, without a GPU. The
estimate takes about three seconds, and its result is cached.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from hpctrain.commands.overrides import add_set_argument, overrides_of
from hpctrain.errors import Problem, ProfileError
from hpctrain.terminal import has_colours, printable, raw

if TYPE_CHECKING:
    from hpctrain.profile.check import Findings
    from hpctrain.profile.schema import Profile

_GREEN, _YELLOW, _PLAIN = "\x1b[32m", "\x1b[33m", "\x1b[0m"
_EXIT_WRONG = ProfileError.exit_code


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain check``."""
    parser.add_argument("profile", nargs="?", metavar="PROFILE", help="YAML file")
    add_set_argument(parser)
    parser.add_argument("--no-memory", action="store_true", help="do not estimate the memory or inspect the spectra")
    parser.add_argument("--no-data", action="store_true", help="the data are elsewhere: do not look for their files")
    parser.add_argument("--strict", action="store_true", help="count warnings as problems")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Check the profile and print the findings."""
    overrides = overrides_of(args)
    if args.profile is None:
        raise ProfileError("command line", [Problem("PROFILE", "which profile? (hpctrain check profiles/hpc.yaml)")])
    from hpctrain.profile.check import Findings, check_profile

    try:
        findings = check_profile(args.profile, overrides, memory=not args.no_memory, data=not args.no_data)
    except ProfileError as error:
        if not args.json:
            raise
        findings = Findings(error.source, problems=error.problems)
    wrong = findings.profile is None or bool(findings.problems) or (args.strict and bool(findings.warnings))
    if args.json:
        print(json.dumps(_as_json(findings, not wrong), indent=2))
    else:
        print_findings(findings, args.strict)
    return _EXIT_WRONG if wrong else 0


def print_findings(findings: Findings, strict: bool = False) -> None:
    """Print problems and warnings to stderr; if there is no problem, print a summary of the run to stdout."""
    if findings.problems:
        print(printable(str(ProfileError(findings.source, findings.problems))), file=sys.stderr)
    if findings.warnings:
        count = "1 warning" if len(findings.warnings) == 1 else f"{len(findings.warnings)} warnings"
        print(_coloured(f"{findings.source}: {count}", _YELLOW, sys.stderr), file=raw(sys.stderr))
        for warning in findings.warnings:
            print(f"  {warning}", file=sys.stderr)
    if findings.profile is not None and not findings.problems and not (strict and findings.warnings):
        print(_coloured(f"{findings.source}: good", _GREEN, sys.stdout), file=raw(sys.stdout))
        for line in summary(findings):
            print(f"  {line}")


def summary(findings: Findings, ask_queue: bool = False, steps_done: int = 0) -> list[str]:
    """Return a summary of the run in a few lines: place, batches, length, memory, and as :func:`cost_lines` says it.

    Parameters
    ----------
    findings : Findings
        Without problems.
    ask_queue : bool
    steps_done : int
    """
    from hpctrain.profile.judge import plural

    profile = findings.profile
    assert profile is not None
    launch = profile.launch
    where = profile.platform or (f"site {launch.site}" if launch.site else f"cluster {launch.cluster}")
    device = f"{launch.gpus_per_node * launch.nodes} GPUs" if launch.gpus_per_node else "CPU"
    if launch.gpus_per_node * launch.nodes == 1:
        device = "1 GPU"
    lines = [
        f"{profile.name}: {plural(launch.world_size, 'rank')} on {plural(launch.nodes, 'node')} ({device}, {where}), "
        f"at most {launch.time_limit} per attempt",
    ]
    if _is_network(profile):
        ranks = plural(launch.world_size, "rank")
        lines.append(f"global batch {profile.global_batch:,} = {_shares(profile)} x {ranks}, {profile.train.precision}")
    return [*lines, *_length(findings), *_memory(findings), *cost_lines(findings, ask_queue, steps_done)]


def cost_lines(findings: Findings, ask_queue: bool = False, steps_done: int = 0) -> list[str]:
    """Return what the run will cost, and which machine is the cheapest; empty if nothing is known.

    Parameters
    ----------
    findings : Findings
        Without problems.
    ask_queue : bool
        Ask the accounts of the cluster how long jobs wait.
    steps_done : int
        Steps that a run that goes on has done already.
    """
    from hpctrain.cost import choices, estimate

    found = estimate.estimate_from_here(findings, ask_queue, steps_done)
    listed = choices.choices(findings, found)
    prices = findings.site.prices if findings.site else None
    lines = [] if found is None else estimate.lines_of(found)
    return [*lines, *choices.lines_of(listed, found, prices.currency if prices else "")]


def _is_network(profile: Profile) -> bool:
    from hpctrain.profile.families import family_of

    return family_of(profile).how == "gradient"


def _shares(profile: Profile) -> str:
    if not profile.update_shape.is_settled:
        return "largest batch that fits x accumulation"
    return f"{profile.train.batch_size} x accumulation {profile.accumulation}"


def _length(findings: Findings) -> list[str]:
    from hpctrain.profile.families import kind_of
    from hpctrain.profile.inspection import NOTE
    from hpctrain.profile.length import num_steps

    profile, found = findings.profile, findings.measurement
    if profile is None or found is None or not found.num_train:
        return []
    steps = num_steps(profile, found.num_train)
    length = f"{steps:,} steps in {profile.train.epochs} epochs" if _is_network(profile) else f"{steps:,} rounds"
    future = "" if found.facts_from == "the data" else " (to be simulated)"
    many = kind_of(profile).words.many
    samples = f"{found.num_train:,} of {found.num_samples:,} {many} to train on{future}"
    if profile.data.oversample is not None:
        samples = f"{found.num_train:,} in an epoch, rare ones repeated, of {found.num_samples:,} {many}{future}"
    notes = [] if found.inspection is None else [f"note: {text}" for text in found.inspection.texts(NOTE)]
    return [f"{samples}: {length}", *notes]


def _memory(findings: Findings) -> list[str]:
    from hpctrain.profile.check import memory_need
    from hpctrain.profile.families import kind_of

    found, need = findings.measurement, memory_need(findings)
    if found is None or findings.profile is None or not found.num_parameters:
        return []  # the memory of this model, or of data that do not exist yet, cannot be estimated
    size = f"{found.num_parameters / 1e6:.1f} million weights"
    assumed = "" if found.facts_from == "the data" else f"; assumed: {found.facts_from}"
    if need is None:
        micro_batch = findings.profile.update_shape.micro_batch
        if micro_batch is None:
            one = kind_of(findings.profile).words.one
            return [f"memory {found.per_sample_gib:.2g} GiB per {one} of a batch ({size}{assumed})"]
        peak = max(found.floor_gib, found.fixed_gib + found.per_sample_gib * micro_batch)
        missing = "launch.memory_gib_per_node" if findings.profile.platform else "platform"
        return [f"memory about {peak:.2g} GiB per rank ({size}{assumed}); set {missing} to have it checked"]
    needed = need.needed_gib(need.batch_size)
    title = need.platform.title
    return [f"memory {needed:.1f} of {need.available_gib:.1f} GiB ({need.share:.0%}) of {title} ({size}{assumed})"]


def _as_json(findings: Findings, good: bool) -> dict[str, Any]:
    from hpctrain.profile.check import memory_need

    need = memory_need(findings)
    profile = findings.profile
    memory = None
    if need is not None and profile is not None:
        memory = {
            "needed_gib": round(need.needed_gib(need.batch_size), 3),
            "available_gib": need.available_gib,
            "platform": need.platform.name,
            "fits": need.fits,
        }
    return {
        "profile": findings.source,
        "good": good,
        "problems": [_problem_as_json(problem, findings.source) for problem in findings.problems],
        "warnings": [_problem_as_json(warning, findings.source) for warning in findings.warnings],
        "world_size": None if profile is None else profile.launch.world_size,
        "global_batch": None if profile is None else profile.global_batch,
        "memory": memory,
        "estimate": _estimate_as_json(findings) if good else None,
        "measurement": None if findings.measurement is None else findings.measurement.to_json(),
    }


def _estimate_as_json(findings: Findings) -> dict[str, Any] | None:
    from hpctrain.cost.choices import choices
    from hpctrain.cost.estimate import estimate_from_here

    found = estimate_from_here(findings)
    if found is None:
        return None
    return {**found.to_json(), "choices": [vars(each) for each in choices(findings, found)]}


def _problem_as_json(problem: Problem, source: str) -> dict[str, Any]:
    return {
        "file": getattr(problem, "source", None) or source,
        "line": problem.line,
        "key": problem.where,
        "message": problem.message,
    }


def _coloured(text: str, colour: str, stream: Any) -> str:
    return f"{colour}{printable(text)}{_PLAIN}" if has_colours(stream) else text
