"""Watch a run: progress, what each rank's GPU and board bear, energy, what has happened.

Reads nothing but the run directory, so the run may be on any node. On a terminal the view is redrawn until Ctrl-C or
until the run is over; elsewhere, and with --once, one frame is printed. --sensors needs no run: it prints what can be
read on this very machine, and what cannot and why.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from hpctrain.launch.runs import DEFAULT_RUNS_DIR, find_run
from hpctrain.rundir import RunDir

_OVER = ("finished", "failed", "cancelled")
"""A run that was stopped or lost may well come back."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain monitor``."""
    parser.add_argument("run_name", nargs="?", metavar="RUN", help="path, name, run id or job id (default: the newest)")
    parser.add_argument("--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="where to look (default: ./runs)")
    parser.add_argument("--once", action="store_true", help="print one frame and exit")
    parser.add_argument("--interval", type=float, default=2.0, metavar="S", help="seconds between frames (default: 2)")
    parser.add_argument("--sensors", action="store_true", help="print every sensor of this machine, and exit")


def run(arguments: argparse.Namespace) -> int:
    """Show the run, or the sensors of this machine."""
    if arguments.sensors:
        from hpctrain.monitor.survey import survey

        print(survey())
        return 0
    directory = find_run(arguments.run_name, arguments.runs_dir)
    if arguments.once or not sys.stdout.isatty():
        _print_once(directory)
        return 0
    return _watch(directory, max(0.2, arguments.interval))


def _print_once(directory: RunDir) -> None:
    from rich.console import Console

    from hpctrain.launch.live import draw, read_frame

    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    console.print(draw(read_frame(directory)))


def _watch(directory: RunDir, interval_s: float) -> int:
    from rich.live import Live

    from hpctrain.launch.live import draw, read_frame

    try:
        frame = read_frame(directory)
        with Live(draw(frame), auto_refresh=False) as live:
            while frame.status.state not in _OVER:
                time.sleep(interval_s)
                frame = read_frame(directory)
                live.update(draw(frame), refresh=True)
    except KeyboardInterrupt:
        pass  # this is how one leaves
    return 0
