"""The state of a run: asks squeue, scontrol, sacct, then the run's own record, and names the one that answered."""

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
    parser.add_argument("--json", action="store_true", help="for programs")


def add_run_argument(
    parser: argparse.ArgumentParser, text: str = "path, name, run id or job id (default: the newest)"
) -> None:
    """Add what says which run is meant; `text` is its help."""
    parser.add_argument("run_name", nargs="?", metavar="RUN", help=text)
    parser.add_argument("--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="where to look (default: ./runs)")


def run(arguments: argparse.Namespace) -> int:
    """Print the status of one run."""
    status = describe(find_run(arguments.run_name, arguments.runs_dir))
    print(json.dumps(as_json(status), indent=2) if arguments.json else block(status))
    return 0
