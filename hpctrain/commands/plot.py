"""Draw metrics of a run, or one object of a file, in the terminal or as a picture.

hpctrain plot RUN loss lr               curves of training and evaluations along the steps
hpctrain plot RUN                       the loss
hpctrain plot FILE.h5 --id 39628438     a spectrum with its lines, an image or a light curve
hpctrain plot FILE.h5 --row 7 --run RUN    with the model and its residual, or with what it predicts
hpctrain plot RUN loss -o loss.svg      as a picture: .png, .svg or .pdf

In the terminal the chart fits its width (80 columns in a pipe); NO_COLOR switches colours off.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.errors import Problem, ProfileError
from hpctrain.launch.runs import DEFAULT_RUNS_DIR, find_run
from hpctrain.terminal import has_colours, printable, raw

if TYPE_CHECKING:
    from hpctrain.drawing.chart.parts import Chart

_MOST_COLUMNS = 160
_SUFFIXES = (".h5", ".hdf5", ".hdf", ".fits", ".csv")
"""Endings of names that mean a data file, also if there is none of this name."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain plot``."""
    parser.add_argument("what", metavar="RUN|FILE", help="a run (path, name, run id, job id), or a data file")
    parser.add_argument("metrics", nargs="*", metavar="METRIC", help="of a run: what to draw (default: loss)")
    parser.add_argument("--log", action="store_true", help="of a run: logarithmic y axis")
    parser.add_argument("--id", type=int, metavar="ID", help="of a file: the object, by its target_id")
    parser.add_argument("--row", type=int, metavar="ROW", help="of a file: the object, by its row (default: 0)")
    parser.add_argument("--run", dest="model", metavar="RUN", help="of a file: a trained model to show with the object")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="write a picture: .png, .svg or .pdf")
    parser.add_argument("--height", type=int, default=16, help="lines of each panel in the terminal (default: 16)")
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (default: ./runs)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Draw the chart."""
    chart = _chart(arguments)
    if arguments.out is not None:
        from hpctrain.drawing.chart.picture import save_picture

        save_picture(chart, arguments.out)
        print(arguments.out)
        return 0
    from hpctrain.drawing.chart.terminal import draw_in_terminal

    width = min(_MOST_COLUMNS, shutil.get_terminal_size((80, 24)).columns)
    print(
        draw_in_terminal(_printable(chart), width, max(3, arguments.height), has_colours(sys.stdout)),
        file=raw(sys.stdout),
    )
    return 0


def _chart(arguments: argparse.Namespace) -> Chart:
    path = Path(arguments.what)
    if path.is_file() or path.suffix in _SUFFIXES:
        from hpctrain.commands.plot_object import object_chart

        if arguments.metrics:
            message = f"{path} is a data file; metrics belong to a run"
            raise ProfileError("command line", [Problem(arguments.metrics[0], message)])
        return object_chart(path, arguments.id, arguments.row, arguments.model, arguments.runs_dir)
    from hpctrain.report.metric_chart import metric_chart

    given = (("--id", arguments.id), ("--row", arguments.row), ("--run", arguments.model))
    if wrong := [Problem(name, "is for a data file") for name, value in given if value is not None]:
        raise ProfileError("command line", wrong)
    found = find_run(arguments.what, arguments.runs_dir)
    return metric_chart(found, arguments.metrics or ["loss"], arguments.log)


def _printable(chart: Chart) -> Chart:
    """Return the chart with control characters written out: names of files and bands come from outside."""
    panels = [
        dataclasses.replace(
            panel,
            title=printable(panel.title),
            y_label=printable(panel.y_label),
            curves=[dataclasses.replace(curve, name=printable(curve.name)) for curve in panel.curves],
        )
        for panel in chart.panels
    ]
    return dataclasses.replace(chart, title=printable(chart.title), panels=panels)
