"""Print or follow the logs of a run: by default that of rank 0 of the newest attempt.

hpctrain logs RUN -f               follow rank 0, across requeues
hpctrain logs RUN --rank 3         print the log of another rank
hpctrain logs RUN --batch          print the log of the batch script or supervisor: how each attempt ended
hpctrain logs RUN --attempt 1      print the log of an earlier attempt (1 is the first)
"""

from __future__ import annotations

import argparse

from hpctrain.commands.status import add_run_argument
from hpctrain.launch.logs import all_files, follow, show
from hpctrain.launch.runs import find_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain logs``."""
    add_run_argument(parser)
    parser.add_argument("--rank", type=int, default=0, help="number of the rank (default: 0)")
    parser.add_argument("--attempt", type=int, help="number of the attempt, counted from 1 (default: the newest)")
    parser.add_argument(
        "--batch",
        action="store_true",
        help="print the log of the batch script, or of a local run's supervisor, instead of a rank",
    )
    parser.add_argument("-f", "--follow", action="store_true", help="keep printing until the run ends")
    parser.add_argument("-n", "--lines", type=int, help="print only the last N lines")
    parser.add_argument("--list", action="store_true", help="print only the names of the log files")


def run(arguments: argparse.Namespace) -> int:
    """Print logs."""
    run_dir = find_run(arguments.run_name, arguments.runs_dir)
    rank = None if arguments.batch else arguments.rank
    if arguments.list:
        print(*all_files(run_dir), sep="\n")
        return 0
    if arguments.follow:
        follow(run_dir, rank, arguments.lines)
        return 0
    show(run_dir, rank, arguments.attempt, arguments.lines)
    return 0
