"""Write the HTML report of a run: curves, attempts, reconstructions, anomalies, profile and provenance in one file.

The file needs no network and can be copied anywhere. It works at any time: before the first step, while the run is at
work, and after a crash.
"""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path

from hpctrain.errors import Problem, ProfileError
from hpctrain.rundir import RunDir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain report``."""
    parser.add_argument("run_dir", metavar="RUN", help="run directory, such as runs/desi_vae/20261121-143000-7f3a")
    parser.add_argument("--out", metavar="FILE", help="where to write (default: report.html in the run directory)")
    parser.add_argument("--timeline", metavar="FILE", help="write the time line as an SVG file, and no report")
    parser.add_argument("--spectrum", metavar="FILE", help="write a held-out spectrum as an SVG file, and no report")
    parser.add_argument("--open", action="store_true", help="open what was written in a browser")


def run(args: argparse.Namespace) -> int:
    """Write the report and say where it is."""
    directory = RunDir(args.run_dir)
    if not directory.path.is_dir() or not any(
        path.exists() for path in (directory.profile, directory.job, directory.metrics)
    ):
        problem = Problem("RUN", "is no run directory: it has no profile.yaml, job.json or metrics.jsonl")
        raise ProfileError(str(args.run_dir), [problem])
    from hpctrain.report.write import write_report, write_spectrum, write_timeline

    if args.timeline:
        path = write_timeline(directory, Path(args.timeline))
    elif args.spectrum:
        path = write_spectrum(directory, Path(args.spectrum))
    else:
        path = write_report(directory, Path(args.out) if args.out else None)
    print(path)
    if args.open:
        webbrowser.open(path.as_uri())
    return 0
