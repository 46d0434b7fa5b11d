"""Print or follow the logs of a run: rank 0 of the newest attempt, or what is asked for.

hpctrain logs RUN -f               follow rank 0, over requeues
hpctrain logs RUN --rank 3         another rank
hpctrain logs RUN --batch          the batch script: how each attempt ended, and srun's errors
hpctrain logs RUN --attempt 1      an earlier attempt (1 is the first)
"""

from __future__ import annotations

import argparse

from hpctrain.commands.status import add_run_argument
from hpctrain.launch.logs import all_files, follow, show
from hpctrain.launch.runs import find_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain logs``."""
    add_run_argument(parser)
    parser.add_argument("--rank", type=int, default=0, help="whose (default: 0)")
    parser.add_argument("--attempt", type=int, help="of which attempt, counted from 1 (default: the newest)")
    parser.add_argument("--batch", action="store_true", help="of the batch script instead of a rank")
    parser.add_argument("-f", "--follow", action="store_true", help="keep printing until the run ends")
    parser.add_argument("-n", "--lines", type=int, help="only the last N lines")
    parser.add_argument("--list", action="store_true", help="only the names of the log files")


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
