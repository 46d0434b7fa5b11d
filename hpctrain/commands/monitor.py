"""Watch a run: progress, load and temperature of each rank's GPU and board, energy, events.

monitor reads the run directory, so the run may be on any node. It asks the queue only before the first heartbeat. On a
terminal it redraws the view until Ctrl-C or until the run has ended; elsewhere, and with --once, it prints one frame.
--sensors needs no run: it prints every sensor of this machine, and the reasons why others are absent.

hpctrain monitor --sensors                         print every sensor of this machine
hpctrain monitor --record my-board.txt             save its sensor files, to read them on another machine
hpctrain monitor --sensors --board my-board.txt    print the sensors of that machine, on any machine
hpctrain monitor --rules hpctrain-rules.yaml       write the alerts as rules of Prometheus
hpctrain monitor --dashboard hpctrain.json         write a dashboard for Grafana
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from hpctrain.errors import Problem, ProfileError
from hpctrain.launch.queue import Queue
from hpctrain.launch.runs import DEFAULT_RUNS_DIR, find_run
from hpctrain.rundir import RunDir, write_atomic
from hpctrain.states import OVER

_ASK_EVERY_S = 10.0
"""Shortest time between two questions to the queue before the first heartbeat [s]."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain monitor``."""
    parser.add_argument("run_name", nargs="?", metavar="RUN", help="path, name, run id or job id (default: the newest)")
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (default: ./runs)"
    )
    parser.add_argument("--once", action="store_true", help="print one frame and exit")
    parser.add_argument("--interval", type=float, default=2.0, metavar="S", help="seconds between frames (default: 2)")
    parser.add_argument("--sensors", action="store_true", help="print every sensor of this machine, and exit")
    parser.add_argument(
        "--board", type=Path, metavar="FILE.txt", help="with --sensors: read them from a recorded machine"
    )
    parser.add_argument("--record", type=Path, metavar="FILE.txt", help="record this machine's sensor files, and exit")
    parser.add_argument("--rules", type=Path, metavar="OUT.yaml", help="write rules of alerts for Prometheus, and exit")
    parser.add_argument("--dashboard", type=Path, metavar="OUT.json", help="write a dashboard for Grafana, and exit")
    parser.add_argument("--site", metavar="NAME", help="with --rules: take the limits of alerts from this site's file")


def run(arguments: argparse.Namespace) -> int:
    """Show the run, or the sensors of this machine or of a recorded one; or write files for Prometheus and Grafana."""
    if arguments.rules is not None or arguments.dashboard is not None:
        return _write_files(arguments.rules, arguments.dashboard, arguments.site)
    if arguments.record is not None:
        from hpctrain.monitor.board import record
        from hpctrain.monitor.sysfs import sysfs_root

        number = record(arguments.record, sysfs_root())
        print(f"{arguments.record}: {number} files recorded; see hpctrain monitor --sensors --board {arguments.record}")
        return 0
    if arguments.sensors or arguments.board is not None:
        return _print_sensors(arguments.board)
    directory = find_run(arguments.run_name, arguments.runs_dir)
    if arguments.once or not sys.stdout.isatty():
        _print_once(directory)
        return 0
    return _watch(directory, max(0.2, arguments.interval))


def _write_files(rules: Path | None, dashboard: Path | None, site: str | None) -> int:
    """Write the rules, the dashboard, or both, and print what to do with them."""
    from hpctrain.alerts.dashboard import dashboard_file
    from hpctrain.alerts.prometheus_rules import rules_file
    from hpctrain.profile.sections.alerts import AlertsSection
    from hpctrain.profile.site import load_site

    if rules is not None:
        limits = AlertsSection() if site is None else load_site(site).alerts
        _write(rules, rules_file(limits), "--rules")
        print(
            f"{rules}: rules for Prometheus; name it under rule_files, and check it with: promtool check rules {rules}"
        )
    if dashboard is not None:
        _write(dashboard, dashboard_file(), "--dashboard")
        print(f"{dashboard}: a dashboard for Grafana; import it there (Dashboards, New, Import)")
    return 0


def _write(path: Path, text: str, option: str) -> None:
    try:
        write_atomic(path, text, durable=False)
    except OSError as error:
        raise ProfileError("hpctrain monitor", [Problem(option, f"{path}: {error.strerror}")]) from None


def _print_sensors(board: Path | None) -> int:
    from hpctrain.monitor.survey import survey

    if board is None:
        print(survey())
        return 0
    if not board.exists():
        message = f"{board}: no such file; record a machine with: hpctrain monitor --record FILE.txt"
        raise ProfileError("hpctrain monitor", [Problem("--board", message)])
    from hpctrain.monitor.board import unfolded

    print(survey(board if board.is_dir() else unfolded(board.absolute()), is_recorded=True))
    return 0


def _print_once(directory: RunDir) -> None:
    from hpctrain.launch.live import draw, read_frame
    from hpctrain.terminal import console, terminal_columns

    screen = console()
    if not screen.is_terminal:
        screen = console(width=terminal_columns() or 120)
    screen.print(draw(read_frame(directory, queue=Queue())))


def _watch(directory: RunDir, interval_s: float) -> int:
    from rich.live import Live

    from hpctrain.launch.live import draw, read_frame
    from hpctrain.terminal import console

    queue = Queue(remember_s=_ASK_EVERY_S)
    try:
        frame = read_frame(directory, queue=queue)
        with Live(draw(frame), auto_refresh=False, console=console()) as live:
            while frame.status.state not in OVER:
                time.sleep(interval_s)
                frame = read_frame(directory, queue=queue)
                live.update(draw(frame), refresh=True)
    except KeyboardInterrupt:
        pass  # Ctrl-C ends the view, not the run
    return 0
