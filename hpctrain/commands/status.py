"""Print the state of a run: ask squeue, scontrol, sacct, then the run's own records, and name the source."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from hpctrain.launch.forecast import forecast_of
from hpctrain.launch.present import as_json, block
from hpctrain.launch.runs import DEFAULT_RUNS_DIR, find_run
from hpctrain.launch.status import describe
from hpctrain.launch.targets import target_of
from hpctrain.rundir import RunDir
from hpctrain.states import FAILED, LOST, RUNNING
from hpctrain.terminal import folded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain status``."""
    add_run_argument(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def add_run_argument(
    parser: argparse.ArgumentParser, text: str = "path, name, run id or job id (default: the newest)"
) -> None:
    """Add the arguments that choose a run; `text` is the help of RUN."""
    parser.add_argument("run_name", nargs="?", metavar="RUN", help=text)
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (default: ./runs)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the status of one run."""
    status = describe(find_run(arguments.run_name, arguments.runs_dir))
    target = target_of(status.run)
    may_wait = status.is_active and target is not None and target.has_queue
    finish = forecast_of(status.run, status.state == RUNNING) if may_wait else None
    if arguments.json:
        facts = None if finish is None else dataclasses.asdict(finish)
        print(json.dumps({**as_json(status), "forecast": facts}, indent=2))
        return 0
    lines = [block(status)]
    if finish is not None:
        lines.append(f"{'finished':<16}{finish}")
    if status.state in (FAILED, LOST):
        lines.append(f"{'advice':<16}{_advice(status.run)}")
    print(folded("\n".join(lines), 16))
    return 0


def _advice(directory: RunDir) -> str:
    """Return the most pressing advice in one line."""
    from hpctrain.advice.advise import advise
    from hpctrain.advice.gather import summarise
    from hpctrain.launch.present import as_typed

    command = f"hpctrain advise {as_typed(directory.path)}"
    try:
        found = advise(summarise(directory))
    except Exception as error:  # a rule that stumbles over damaged records must not cost the status
        return f"none: {error!r} ({command})"
    if not found:
        return f"no rule knows this failure; hpctrain logs {directory.run_id}"
    return f"{found[0].line()} ({command})"
