"""Check a profile, make its run directory and submit it; print the run directory and the job id, and return at once.

hpc-submit profiles/hpc.yaml                           check, render, submit
hpc-submit profiles/hpc.yaml --dry-run                 check, then print script and files; write nothing
hpc-submit profiles/hpc.yaml --set train.seed=7        change a value
hpc-submit profiles/hpc.yaml --array train.seed=1,2,3  one run per value, as one Slurm array
hpc-submit --resume RUN --set train.epochs=200         resume a run, with other values if you like
hpc-submit profiles/hpc.yaml --after RUN               start when another run has finished
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.commands.arrays import array_tasks, index_lines
from hpctrain.commands.overrides import add_set_argument, overrides_of
from hpctrain.errors import Problem, ProfileError, SiteError
from hpctrain.launch.present import as_typed
from hpctrain.launch.submit import Submission, prepare, submit, with_absolute_paths, with_global_batch
from hpctrain.launch.targets import TARGETS, choose_target, find_target
from hpctrain.rundir import RunDir

if TYPE_CHECKING:
    from hpctrain.launch.status import RunStatus
    from hpctrain.profile.check import Findings
    from hpctrain.profile.memory import Measurement


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain submit``."""
    add_profile_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="check, then print the script and the files")
    parser.add_argument("--check", action="store_true", help="only report problems; ask the cluster too")
    parser.add_argument("--no-memory", action="store_true", help="do not estimate the memory or inspect the data")
    parser.add_argument("--wait", action="store_true", help="wait, show progress, exit with the run's exit code")
    parser.add_argument("--inside-job", action="store_true", help=argparse.SUPPRESS)  # slurm/train_hpc.sh


def add_profile_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that describe a job; ``render`` has the same."""
    parser.add_argument("profile", nargs="?", help="YAML profile")
    add_set_argument(parser)
    names = ", ".join(("auto", *TARGETS))
    parser.add_argument("--cluster", metavar="TARGET", help=f"where to run, instead of launch.cluster: {names}")
    parser.add_argument(
        "--array",
        action="append",
        default=[],
        metavar="KEY=V1,V2,...",
        help="submit one run per value; repeat it for one run per combination",
    )
    parser.add_argument("--resume", metavar="RUN", help="resume this run (path, name, run id or job id)")
    parser.add_argument(
        "--after",
        action="append",
        nargs="+",
        default=[],
        metavar="RUN|JOB",
        help="start only when these have finished; if one of them fails, this job never starts",
    )
    parser.add_argument("--runs-dir", help="folder of runs, instead of launch.runs_dir")


def run(arguments: argparse.Namespace) -> int:
    """Submit the job, or do one of the parts that the options choose."""
    if arguments.inside_job:
        return _inside_job(arguments)
    wanted = _wanted(arguments)
    if arguments.dry_run:
        return _dry_run(wanted)
    if not arguments.check and _has_nothing_left(wanted):
        return 0
    judged = warn_or_refuse(wanted, memory=not arguments.no_memory, even_without_device=arguments.check)
    within_budget(wanted, judged, may_ask=not arguments.check)
    submission = submission_from(wanted, judged)
    # The platform itself checks the job, so that nothing is written for a job that it would refuse.
    said = find_target(submission.cluster).ask(submission.plan, submission.texts)
    if arguments.check:
        from hpctrain.commands.check import summary

        lines = summary(judged[0], ask_queue=True, steps_done=wanted.steps_done)
        print(f"{judged[0].source}: good", *(f"  {line}" for line in [*lines, *said]), sep="\n")
        return 0
    start_and_tell(submission)
    if not arguments.wait:
        return 0
    from hpctrain.launch.wait import wait_for

    return wait_for(submission.runs)


def start_and_tell(submission: Submission) -> None:
    """Submit, then print each run directory and job id, and what can be done with them.

    Raises
    ------
    SiteError
        The platform refuses; nothing stays behind.
    """
    job_ids = submit(submission, Path.cwd())
    for line in index_lines(submission.array_values):
        print(line)
    for run_dir, job_id in zip(submission.runs, job_ids, strict=True):
        print(f"run directory  {as_typed(run_dir.path)}")
        print(f"job id         {job_id}")
    print(_what_next(submission))


def dry_run(arguments: argparse.Namespace) -> int:
    """Check the profile, then print script and files, for ``hpctrain render`` and ``--dry-run``."""
    return _dry_run(_wanted(arguments))


@dataclass(frozen=True)
class Wanted:
    """The request of the command line: the profile, and its changes for each task."""

    source: Path | str
    tasks: list[list[str]]
    resumed: RunStatus | None = None
    array_values: Sequence[Sequence[str]] = ()
    after: Sequence[str] = ()

    @property
    def resume(self) -> RunDir | None:
        return None if self.resumed is None else self.resumed.run

    @property
    def steps_done(self) -> int:
        return 0 if self.resumed is None else self.resumed.step


def _wanted(arguments: argparse.Namespace) -> Wanted:
    overrides = overrides_of(arguments)
    after = _after(arguments)
    resumed = _run_to_resume(arguments)
    overrides += [f"launch.cluster={arguments.cluster}"] if arguments.cluster else []
    if arguments.runs_dir and resumed is None:
        overrides.append(f"launch.runs_dir={json.dumps(arguments.runs_dir)}")
    source = resumed.run.profile if resumed else arguments.profile
    values = array_tasks(arguments.array)
    return Wanted(source, [[*overrides, *task] for task in values], resumed, values, after)


def _after(arguments: argparse.Namespace) -> list[str]:
    """Return the values of ``--after``; a profile that the user typed after them counts as the profile."""
    after = [text for group in arguments.after for text in group]
    if not arguments.profile and not arguments.resume and after and after[-1].endswith((".yaml", ".yml")):
        arguments.profile = after.pop()
    return after


def warn_or_refuse(wanted: Wanted, memory: bool, even_without_device: bool = False) -> list[Findings]:
    """Check every task, print the warnings, and raise all problems before anything is written.

    The memory estimate takes seconds the first time. Without a device to compare it with, or a budget, only ``--check``
    makes it.

    Returns
    -------
    list of Findings
        One per task, without problems.

    Raises
    ------
    ProfileError
        The profile, the site or the command line has problems.
    """
    from hpctrain.profile.check import add_memory, check_profile

    findings = [check_profile(wanted.source, task, memory=False) for task in wanted.tasks]
    _add_resume_problems(wanted, findings)
    is_needed = even_without_device or any(map(_uses_memory, findings))
    if memory and is_needed and not any(found.problems for found in findings):
        measured: dict[str, Measurement] = {}
        for found in findings:
            add_memory(found, measured)
    for warning in dict.fromkeys(str(warning) for found in findings for warning in found.warnings):
        print(f"warning: {warning}", file=sys.stderr)
    for found in findings:
        found.raise_problems()
    return findings


def _uses_memory(found: Findings) -> bool:
    """Return whether there is a device to compare the memory with, or a budget, which needs the length of the run."""
    from hpctrain.cost.budget import has_budget

    profile = found.profile
    return profile is not None and (profile.platform is not None or has_budget(profile, found.site))


def within_budget(wanted: Wanted, judged: list[Findings], may_ask: bool) -> None:
    """Refuse a submission over its budget, or ask; a budget is in ``launch`` of the profile, or in the site.

    Parameters
    ----------
    wanted : Wanted
    judged : list of Findings
    may_ask : bool
        Whether to ask; otherwise only a warning is printed.

    Raises
    ------
    ProfileError
        The budget does not allow it.
    """
    from hpctrain.cost.budget import check_budget

    check_budget(judged, wanted.resume, wanted.steps_done, may_ask)


def _add_resume_problems(wanted: Wanted, findings: list[Findings]) -> None:
    if wanted.resume is None:
        return
    from hpctrain.launch.resume import resume_problems

    for task, found in zip(wanted.tasks, findings, strict=True):
        if found.profile is not None:
            profile = with_absolute_paths(found.profile, Path.cwd())
            found.problems += resume_problems(wanted.resume, profile, task)


def submission_from(wanted: Wanted, findings: list[Findings]) -> Submission:
    """Return the submission of checked profiles, without writing anything.

    Raises
    ------
    ProfileError
        The ranks cannot share the global batch of the run that is resumed, the target cannot run the job, or a job of
        ``--after`` has failed.
    """
    profiles = [with_absolute_paths(found.raise_problems(), Path.cwd()) for found in findings]
    if wanted.resume is not None:
        from hpctrain.profile.load import load_profile

        global_batch = load_profile(wanted.resume.profile).global_batch
        profiles = [with_global_batch(profile, global_batch, str(wanted.source)) for profile in profiles]
    cluster = choose_target(profiles[0].launch.cluster)
    after = ()
    if wanted.after:
        from hpctrain.launch.after import jobs_before

        after = jobs_before(wanted.after, Path(profiles[0].launch.runs_dir), cluster)
    values = wanted.array_values
    return prepare(profiles, cluster, findings[0].site, resume=wanted.resume, array_values=values, after=after)


def _dry_run(wanted: Wanted) -> int:
    if _has_nothing_left(wanted):
        return 0
    from hpctrain.commands.check import cost_lines

    findings = warn_or_refuse(wanted, memory=False)
    within_budget(wanted, findings, may_ask=False)
    print(describe_dry_run(submission_from(wanted, findings)))
    if lines := cost_lines(findings[0], ask_queue=True, steps_done=wanted.steps_done):
        each = f"each of {len(findings)} runs" if len(findings) > 1 else "the run"
        print(f"# what {each} would need from now on:", *(f"#   {line}" for line in lines), sep="\n")
    return 0


def describe_dry_run(submission: Submission) -> str:
    """Return the script, the command of every rank and the files that would be written."""
    first = submission.runs[0]
    lines = [line for text in submission.texts.values() for line in (text.rstrip(), "")]
    command = shlex.join([*submission.plan.command, submission.plan.run_dir])
    ranks = f"{submission.plan.resources.nodes} nodes x {submission.plan.resources.ranks_per_node} ranks"
    lines += [f"# nothing was written or submitted; on {submission.cluster}, {ranks} would run: {command}"]
    lines += [f"# {line}" for line in index_lines(submission.array_values)]
    lines += ["# these files would be written:"]
    lines += [f"#   {path}  ({len(text.encode())} bytes)" for path, text in submission.files().items()]
    lines += [f"#   {run_dir.provenance}" for run_dir in submission.runs]
    if submission.is_resumed:
        lines += [f"# {first.run_id} exists and would be resumed"]
    return "\n".join(lines)


def _run_to_resume(arguments: argparse.Namespace) -> RunStatus | None:
    if bool(arguments.profile) == bool(arguments.resume):
        message = "give a profile, or --resume with a run, not both" if arguments.profile else "which profile?"
        raise ProfileError("command line", [Problem("", f"{message} (hpc-submit profiles/quickstart.yaml)")])
    if not arguments.resume:
        return None
    from hpctrain.launch.resume import refuse_to_resume
    from hpctrain.launch.runs import DEFAULT_RUNS_DIR, find_run
    from hpctrain.launch.status import describe

    if arguments.array:
        raise ProfileError("command line", [Problem("--array", "starts new runs; it cannot resume one")])
    status = describe(find_run(arguments.resume, Path(arguments.runs_dir or DEFAULT_RUNS_DIR)))
    refuse_to_resume(status)
    return status


def _has_nothing_left(wanted: Wanted) -> bool:
    """Print a message and return True if the run to resume is finished and has no further step to do."""
    if wanted.resumed is None:
        return False
    from hpctrain.launch.resume import nothing_left
    from hpctrain.profile.load import load_profile

    message = nothing_left(wanted.resumed, load_profile(wanted.source, wanted.tasks[0]))
    if message:
        print(message)
    return bool(message)


def _inside_job(arguments: argparse.Namespace) -> int:
    """Make, resume, or after a requeue find the run directory of the surrounding Slurm job; print it for the script.

    The script reads four lines: the run directory, and three values of ``launch``. A single line ``finished`` means
    that there is nothing to do.
    """
    from hpctrain.launch.targets.slurm_byhand import run_of_this_job

    overrides = overrides_of(arguments)
    if bool(arguments.profile) == bool(arguments.resume):
        raise SiteError("usage: sbatch slurm/train_hpc.sh PROFILE [--set KEY=VALUE ...], or --resume RUN instead")
    resume = None
    if arguments.resume:
        from hpctrain.launch.resume import nothing_left, refuse_to_resume
        from hpctrain.launch.runs import DEFAULT_RUNS_DIR, find_run
        from hpctrain.launch.status import describe
        from hpctrain.profile.load import load_profile

        resume = find_run(arguments.resume, Path(arguments.runs_dir or DEFAULT_RUNS_DIR))
        status = describe(resume)
        if status.job_id != os.environ.get("SLURM_JOB_ID"):
            refuse_to_resume(status)
        if message := nothing_left(status, load_profile(resume.profile, overrides)):
            print(message, file=sys.stderr)
            print("finished")
            return 0
    source = resume.profile if resume else arguments.profile
    run_dir, launch = run_of_this_job(source, overrides, resume=resume)
    print(run_dir.path, "yes" if launch.requeue else "no", sep="\n")
    print(launch.max_attempts, launch.max_attempts_without_progress, sep="\n")
    return 0


def _what_next(submission: Submission) -> str:
    run_dir = as_typed(submission.runs[0].path)
    return "\n".join(f"  hpctrain {verb:<8}{run_dir}" for verb in ("status", "logs -f", "cancel", "report"))
