"""Check a profile, make its run directory and submit it; returns at once with the run directory and the job id.

hpc-submit profiles/hpc.yaml                           check, render, submit
hpc-submit profiles/hpc.yaml --dry-run                 print script and files; touch nothing
hpc-submit profiles/hpc.yaml --set train.seed=7        change a value
hpc-submit profiles/hpc.yaml --array train.seed=1,2,3  one run per value, as one Slurm array
hpc-submit --resume RUN --set launch.gpus_per_node=2   go on with a run, elsewhere or with other ranks
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.errors import Problem, ProfileError, SiteError
from hpctrain.launch.present import as_typed
from hpctrain.launch.submit import Submission, choose_cluster, prepare, submit, with_absolute_paths, with_global_batch
from hpctrain.profile.load import load_profile
from hpctrain.rundir import RunDir

if TYPE_CHECKING:
    from hpctrain.profile.check import Findings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain submit``."""
    add_profile_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the script and the files; touch nothing")
    parser.add_argument("--check", action="store_true", help="only say what is wrong; ask the cluster too")
    parser.add_argument("--no-memory", action="store_true", help="do not estimate memory nor look at the data's size")
    parser.add_argument("--wait", action="store_true", help="stay, show progress, leave with the run's exit code")
    parser.add_argument("--inside-job", action="store_true", help=argparse.SUPPRESS)  # slurm/train_hpc.sh


def add_profile_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says which job is meant; ``render`` has the same."""
    parser.add_argument("profile", nargs="?", help="YAML profile")
    parser.add_argument(
        "--set", dest="overrides", action="append", nargs="+", default=[], metavar="KEY=VALUE", help="change a value"
    )
    parser.add_argument("--cluster", choices=("auto", "slurm", "local"), help="instead of launch.cluster")
    parser.add_argument(
        "--array",
        action="append",
        default=[],
        metavar="KEY=V1,V2,...",
        help="one run per value; given again, one run per combination",
    )
    parser.add_argument("--resume", metavar="RUN", help="go on with this run instead of beginning one")
    parser.add_argument("--runs-dir", help="instead of launch.runs_dir")


def run(arguments: argparse.Namespace) -> int:
    """Submit."""
    if arguments.inside_job:
        return _inside_job(arguments)
    wanted = _wanted(arguments)
    if arguments.dry_run:
        print(describe_dry_run(submission_from(wanted)))
        return 0
    findings = warn_or_refuse(wanted, memory=not arguments.no_memory, even_without_device=arguments.check)
    submission = submission_from(wanted)
    said = _ask_the_cluster(submission)
    if arguments.check:
        from hpctrain.commands.check import summary

        print(f"{findings.source}: good", *(f"  {line}" for line in [*summary(findings), *said]), sep="\n")
        return 0
    job_ids = submit(submission, Path.cwd())
    for run_dir, job_id in zip(submission.runs, job_ids, strict=True):
        print(f"run directory  {as_typed(run_dir.path)}")
        print(f"job id         {job_id}")
    print(_what_next(submission))
    if not arguments.wait:
        return 0
    from hpctrain.launch.wait import wait_for

    return wait_for(submission.runs)


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for: which profile, changed how, for each task."""

    source: Path | str
    tasks: list[list[str]]
    resume: RunDir | None


def _wanted(arguments: argparse.Namespace) -> Wanted:
    overrides = _overrides(arguments)
    overrides += [f"launch.cluster={arguments.cluster}"] if arguments.cluster else []
    overrides += [f"launch.runs_dir={json.dumps(arguments.runs_dir)}"] if arguments.runs_dir else []
    resume = _run_to_resume(arguments)
    source = resume.profile if resume else arguments.profile
    return Wanted(source, [[*overrides, *task] for task in _array_tasks(arguments.array)], resume)


def _overrides(arguments: argparse.Namespace) -> list[str]:
    """All ``--set`` values; a profile that was typed behind them is put where it belongs."""
    overrides = [text for group in arguments.overrides for text in group]
    if arguments.profile is None and overrides and "=" not in overrides[-1]:
        arguments.profile = overrides.pop()
    return overrides


def submission_from(wanted: Wanted) -> Submission:
    """Work out the submission, touching nothing.

    Raises
    ------
    ProfileError
        The profile or the command line is wrong.
    SiteError
        The site file is.
    """
    profiles = [with_absolute_paths(load_profile(wanted.source, task), Path.cwd()) for task in wanted.tasks]
    if wanted.resume is not None:
        global_batch = load_profile(wanted.resume.profile).global_batch
        profiles = [with_global_batch(profile, global_batch, str(wanted.source)) for profile in profiles]
    launch = profiles[0].launch
    site = None
    if launch.site is not None:
        from hpctrain.profile.site import load_site

        site = load_site(launch.site)
    return prepare(profiles, choose_cluster(launch.cluster), site, resume=wanted.resume)


def render(arguments: argparse.Namespace) -> str:
    """Return what ``hpctrain render`` prints."""
    return describe_dry_run(submission_from(_wanted(arguments)))


def describe_dry_run(submission: Submission) -> str:
    """Return the script, the command of every rank and the files that would be written."""
    first = submission.runs[0]
    lines = [submission.script.rstrip(), ""] if submission.script else []
    command = shlex.join([*submission.plan.trainer, submission.plan.run_dir])
    ranks = f"{submission.plan.num_nodes} nodes x {submission.plan.ranks_per_node} ranks"
    lines += [f"# nothing was written or submitted; on {submission.cluster}, {ranks} would run: {command}"]
    lines += ["# these files would be written:"]
    lines += [f"#   {path}  ({len(text.encode())} bytes)" for path, text in submission.files().items()]
    lines += [f"#   {run_dir.provenance}" for run_dir in submission.runs]
    if submission.is_resumed:
        lines += [f"# {first.run_id} exists and would go on"]
    return "\n".join(lines)


def _array_tasks(texts: list[str]) -> list[list[str]]:
    """``["train.seed=1,2", "train.learning_rate=1e-3,1e-4"]`` to the overrides of each of four tasks."""
    axes = []
    for text in texts:
        key, equals, values = text.partition("=")
        choices = _split_outside_brackets(values)
        if not equals or not key or not all(choices):
            message = f"'{text}' is not KEY=VALUE,VALUE,...; such as train.seed=1,2,3"
            raise ProfileError("command line", [Problem("--array", message)])
        if key == "name" or key.startswith("launch."):
            message = f"'{key}' belongs to the array as a whole; change it with --set"
            raise ProfileError("command line", [Problem("--array", message)])
        axes.append([f"{key}={choice}" for choice in choices])
    return [list(task) for task in itertools.product(*axes)]


def _split_outside_brackets(text: str) -> list[str]:
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _run_to_resume(arguments: argparse.Namespace) -> RunDir | None:
    if bool(arguments.profile) == bool(arguments.resume):
        message = "give a profile, or --resume with a run, not both" if arguments.profile else "which profile?"
        raise ProfileError("command line", [Problem("", f"{message} (hpc-submit profiles/quickstart.yaml)")])
    if not arguments.resume:
        return None
    from hpctrain.launch.runs import DEFAULT_RUNS_DIR, find_run
    from hpctrain.launch.status import describe

    if arguments.array:
        raise ProfileError("command line", [Problem("--array", "begins new runs; it cannot resume one")])
    run_dir = find_run(arguments.resume, Path(arguments.runs_dir or DEFAULT_RUNS_DIR))
    status = describe(run_dir)
    if status.is_active:
        message = f"{run_dir.path} is {status.state} (says {status.source}); `hpctrain cancel` it first"
        raise ProfileError("command line", [Problem("--resume", message)])
    return run_dir


def warn_or_refuse(wanted: Wanted, memory: bool, even_without_device: bool = False) -> Findings:
    """Refuse what cannot work, before anything is written; of an array, every task is looked at.

    The memory estimate costs seconds the first time: without a device to compare it with, only ``--check`` shows it.
    """
    from hpctrain.profile.check import check_profile

    findings = [check_profile(wanted.source, task, memory=False) for task in wanted.tasks]
    has_device = any(found.profile is not None and found.profile.platform for found in findings)
    if memory and (has_device or even_without_device) and not any(found.problems for found in findings):
        findings = [check_profile(wanted.source, task) for task in wanted.tasks]
    for warning in dict.fromkeys(str(warning) for found in findings for warning in found.warnings):
        print(f"warning: {warning}", file=sys.stderr)
    for found in findings:
        if found.problems:
            raise ProfileError(found.source, found.problems)
    return findings[0]


def _ask_the_cluster(submission: Submission) -> list[str]:
    """Let Slurm itself judge the job, so that nothing is written for one that it would refuse."""
    if submission.cluster != "slurm":
        return []
    from hpctrain.launch import slurm

    return [f"sbatch: {slurm.test_only(submission.plan, submission.script)}"]


def _inside_job(arguments: argparse.Namespace) -> int:
    """Make (or on a requeue find again) the run directory of the Slurm job we are in; print what its script needs."""
    from hpctrain.launch.byhand import run_of_this_job

    overrides = _overrides(arguments)
    if not arguments.profile:
        raise SiteError("usage: sbatch slurm/train_hpc.sh PROFILE [--set KEY=VALUE ...]")
    run_dir, launch = run_of_this_job(arguments.profile, overrides)
    print(run_dir.path, "yes" if launch.requeue else "no", sep="\n")
    print(launch.max_attempts, launch.max_attempts_without_progress, sep="\n")
    return 0


def _what_next(submission: Submission) -> str:
    run_dir = as_typed(submission.runs[0].path)
    return "\n".join(f"  hpctrain {verb:<8}{run_dir}" for verb in ("status", "logs -f", "cancel", "report"))
