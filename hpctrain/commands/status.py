"""Print the state of a run: ask squeue, scontrol, sacct, then the run's own records, and name the source."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hpctrain.launch.present import as_json, block
from hpctrain.launch.runs import DEFAULT_RUNS_DIR, find_run
from hpctrain.launch.status import describe


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
    print(json.dumps(as_json(status), indent=2) if arguments.json else block(status))
    return 0
