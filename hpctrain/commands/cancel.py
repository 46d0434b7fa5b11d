"""Stop a run for good: it saves its state and is not requeued. `hpc-submit --resume RUN` goes on with it."""

from __future__ import annotations

import argparse

from hpctrain.commands.status import add_run_argument
from hpctrain.launch.runs import find_run
from hpctrain.launch.stop import cancel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain cancel``."""
    add_run_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Cancel one run."""
    print(cancel(find_run(arguments.run_name, arguments.runs_dir)))
    return 0
