"""Prove that runs of a profile survive kills: run it twice, interrupt the second run at random, compare every bit.

Both runs take place on this machine, in runs/<name>-verify/. --seed chooses where and how verify-resume interrupts the
second run: at its start, in a step, an evaluation, a save, or at its end; by SIGKILL, SIGTERM or SIGUSR2. It writes the
result as a table to standard output and into the run. Exit code 0 means identical, 5 that a resume lost or changed
something.

--check FILE.md checks whether somebody edited the tables in a file.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.commands.overrides import add_set_argument, overrides_of
from hpctrain.credentials.hide import own_command
from hpctrain.errors import CheckpointError, HpctrainError, Problem, ProfileError

if TYPE_CHECKING:
    from hpctrain.profile.schema import Profile
    from hpctrain.rundir import RunDir

_TABLE_NAME = "resume-check.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("profile", nargs="?", help="YAML profile; a short run is enough, see --steps")
    add_set_argument(parser)
    parser.add_argument("--kills", type=int, default=8, metavar="N", help="interruptions of the second run (default 8)")
    parser.add_argument(
        "--steps", type=int, metavar="N", help="steps of each run; evaluations and checkpoints become frequent to match"
    )
    parser.add_argument(
        "--ranks", type=int, metavar="N", help="number of ranks; the global batch remains that of the profile"
    )
    parser.add_argument("--seed", type=int, default=1, help="random seed of the interruptions (default 1)")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="also write the table to this file")
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of the table")
    parser.add_argument(
        "--check", type=Path, metavar="FILE.md", help="only check whether somebody edited the tables in a file"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the twins and return the exit code."""
    arguments.overrides = overrides_of(arguments)
    if arguments.check is not None:
        return _check(arguments.check, arguments.profile)
    profile = _judged(arguments)

    from hpctrain.profile.load import dump_profile
    from hpctrain.rundir import new_run_id
    from hpctrain.verify.certificate import Certificate
    from hpctrain.verify.compare import compare
    from hpctrain.verify.twins import make_twin, run_cut, run_straight

    stamp, name, text = new_run_id(), f"{profile.name}-verify", dump_profile(profile)
    twins = [make_twin(Path(profile.launch.runs_dir), name, f"{stamp}-{which}", text) for which in ("straight", "cut")]
    straight, cut = twins
    try:
        _say(f"run 1 of 2, undisturbed: {straight.path}")
        pace = run_straight(straight, profile, _say)
        once_s = pace.start_s + pace.step_s * pace.last_step + pace.finish_s
        _say(f"  {pace.last_step} steps in {once_s:.0f} s, of which {pace.start_s:.1f} s are its start")
        _say(f"run 2 of 2, to be interrupted {arguments.kills} times: {cut.path}")
        cuts = run_cut(cut, profile, arguments.kills, arguments.seed, pace, _say)
    except (KeyboardInterrupt, HpctrainError):
        _say(_where(twins))
        raise
    found = Certificate(
        profile.name,
        _command(),
        arguments.seed,
        profile.launch.world_size,
        pace.last_step,
        straight,
        cut,
        cuts,
        compare(straight, cut),
    )
    table = found.render()
    (cut.path / _TABLE_NAME).write_text(table, encoding="utf-8")
    if arguments.out is not None:
        try:
            arguments.out.write_text(table, encoding="utf-8")
        except OSError as error:  # the file was writable when the runs began
            _say(f"{arguments.out}: {error.strerror}; the table is in {cut.path / _TABLE_NAME}")
    print(json.dumps({**found.as_json(), "table": str(cut.path / _TABLE_NAME)}, indent=2) if arguments.json else table)
    if not found.identical:
        different = ", ".join(part.name for part in found.parts if not part.identical)
        raise CheckpointError(f"{cut.path}: the interrupted run differs from the undisturbed one: {different}")
    return 0


def _judged(arguments: argparse.Namespace) -> Profile:
    """Return the profile of both runs, or raise all problems of the profile and the command line."""
    from hpctrain.launch.submit import with_absolute_paths, with_global_batch
    from hpctrain.profile.check import check_profile
    from hpctrain.profile.load import load_profile

    problems = [
        Problem(f"--{name}", f"{value} is not at least 1")
        for name in ("kills", "steps", "ranks")
        if (value := getattr(arguments, name)) is not None and value < 1
    ]
    if arguments.out is not None and (problem := _cannot_write(arguments.out)):
        problems.append(Problem("--out", problem))
    if arguments.profile is None:
        problems.append(Problem("PROFILE", "which profile? (such as profiles/quickstart.yaml)"))
        raise ProfileError("command line", problems)
    source, profile = "command line", None
    try:
        overrides = [*_derived(arguments), *arguments.overrides, *_forced(arguments)]
        findings = check_profile(arguments.profile, overrides, memory=False)
        if findings.problems:
            source = findings.source
            problems += findings.problems
        elif findings.profile is not None:
            if not findings.profile.update_shape.is_settled:
                message = "each of the two runs would find auto again; give a number: --set train.batch_size=16"
                raise ProfileError(findings.source, [Problem("train.batch_size", message)])
            wanted = load_profile(arguments.profile, arguments.overrides).global_batch
            profile = with_global_batch(findings.profile, wanted, "--ranks")
    except ProfileError as error:
        source = source if error.source == "--ranks" else error.source
        problems += error.problems
    if problems or profile is None:
        raise ProfileError(source, problems)
    return with_absolute_paths(profile, Path.cwd())


def _derived(arguments: argparse.Namespace) -> list[str]:
    """Return the overrides that ``--steps`` implies, so that a short run also has evaluations and checkpoints.

    ``--set`` overrides them.
    """
    from hpctrain.profile.load import load_profile

    steps = arguments.steps
    if steps is None or steps < 1:
        return []
    try:
        warmup_steps = load_profile(arguments.profile, arguments.overrides).train.warmup_steps
    except ProfileError:
        warmup_steps = None  # the check reports this problem with all others
    warmup = [] if warmup_steps is None else [f"train.warmup_steps={min(warmup_steps, steps // 2)}"]
    return [
        f"train.max_steps={steps}",
        *warmup,
        f"train.evaluate_every_steps={max(1, steps // 5)}",
        f"checkpoint.every_steps={max(1, steps // 8)}",
        "checkpoint.keep_every_steps=null",
    ]


def _forced(arguments: argparse.Namespace) -> list[str]:
    """Return the overrides that the proof needs: runs on this machine that log every loss and go to no tracker."""
    forced = ["train.log_every_steps=1", "launch.nodes=1", "launch.cluster=local"]
    forced += ["track.mlflow=null", "track.wandb=null"]
    ranks = arguments.ranks
    if ranks is not None and ranks >= 1:
        forced.append(f"launch.ranks_per_node={ranks}")
    return forced


def _cannot_write(path: Path) -> str | None:
    folder = path.absolute().parent
    if path.is_dir():
        return f"'{path}' is a folder; name a file"
    if not folder.is_dir():
        return f"'{folder}' is not a folder"
    if not os.access(path if path.exists() else folder, os.W_OK):
        return f"'{path}' cannot be written"
    return None


def _check(path: Path, profile: str | None) -> int:
    from hpctrain.verify.certificate import check_tables

    if profile is not None:
        raise ProfileError("command line", [Problem("--check", f"checks a file only; omit '{profile}'")])
    try:
        found = list(check_tables(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError("command line", [Problem("--check", f"'{path}' cannot be read: {error}")]) from error
    if not found:
        raise ProfileError("command line", [Problem("--check", f"'{path}' contains no resume check with its SHA-256")])
    for title, is_intact in found:
        print(f"{title} - {'as it was written' if is_intact else 'EDITED after it was written'}")
    return 0 if all(is_intact for _, is_intact in found) else CheckpointError.exit_code


def _command() -> str:
    return shlex.join(["hpctrain", *own_command()[1:]])


def _where(twins: list[RunDir]) -> str:
    return "\n".join(["all ranks have ended; the run directories are", *(f"  {run.path}" for run in twins)])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
