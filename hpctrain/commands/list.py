"""All runs on disk, newest first, with where each one stands."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hpctrain.launch.present import as_json, print_table
from hpctrain.launch.queue import Queue
from hpctrain.launch.runs import DEFAULT_RUNS_DIR, all_runs
from hpctrain.launch.status import describe_any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain list``."""
    parser.add_argument("--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="where to look (default: ./runs)")
    parser.add_argument("--last", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace) -> int:
    """Print a line per run."""
    queue = Queue()
    statuses = [describe_any(run_dir, queue) for run_dir in all_runs(arguments.runs_dir)[: arguments.last]]
    if arguments.json:
        print(json.dumps([as_json(status) for status in statuses], indent=2))
    elif statuses:
        print_table(statuses)
    else:
        print(f"no runs in {arguments.runs_dir.absolute()}")
    return 0
