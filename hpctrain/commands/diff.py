"""Show what differs between two runs: profiles, data, code, machines, curves.

hpctrain diff RUN RUN           text of 80 columns
hpctrain diff RUN RUN --code    with the whole diff of the uncommitted changes
hpctrain diff RUN RUN --json    for programs

The exit code is 0 whether they differ or not.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hpctrain.launch.runs import DEFAULT_RUNS_DIR, find_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain diff``."""
    parser.add_argument("runs", nargs=2, metavar="RUN", help="path, name, run id or job id")
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (default: ./runs)"
    )
    parser.add_argument("--code", action="store_true", help="show the whole diff of the uncommitted changes")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Print what differs."""
    before, after = (find_run(text, arguments.runs_dir) for text in arguments.runs)
    from hpctrain.report.differences.text import as_values, compare_runs, describe_differences

    found = compare_runs(before, after)
    if arguments.json:
        print(json.dumps(as_values(found), indent=2, ensure_ascii=False, default=str))
    else:
        print(describe_differences(found, arguments.code))
    return 0
