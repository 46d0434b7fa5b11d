"""Write the HTML report of a run: curves, attempts, results of the model, profile and provenance in one file.

The file needs no network and can be copied anywhere. It works at any time: before the first step, while the run is
running, and after a crash. `hpctrain index page` writes one page of all runs.
"""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path

from hpctrain.access import enter
from hpctrain.launch.runs import DEFAULT_RUNS_DIR, find_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain report``."""
    parser.add_argument("run_dir", nargs="?", metavar="RUN", help="path, name, run id or job id (default: the newest)")
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (default: ./runs)"
    )
    parser.add_argument("--out", metavar="FILE", help="file to write (default: report.html in the run directory)")
    parser.add_argument("--timeline", metavar="FILE", help="write only the time line, as an SVG file")
    parser.add_argument(
        "--example",
        "--spectrum",
        metavar="FILE",
        help="write only a drawing of one held-out sample, as an SVG file",
    )
    parser.add_argument("--open", action="store_true", help="open the written file in a browser")


def run(args: argparse.Namespace) -> int:
    """Write the report and print its path."""
    directory = find_run(args.run_dir, args.runs_dir)
    enter(directory.path)
    from hpctrain.report.write import write_example, write_report, write_timeline

    if args.timeline:
        path = write_timeline(directory, Path(args.timeline))
    elif args.example:
        path = write_example(directory, Path(args.example))
    else:
        path = write_report(directory, Path(args.out) if args.out else None)
    print(path)
    if args.open:
        webbrowser.open(path.as_uri())
    return 0
