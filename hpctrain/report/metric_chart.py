"""A chart of metrics of runs: training and evaluations along the steps."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np

from hpctrain.drawing.chart.parts import LINE, POINTS, Chart, Curve, Panel
from hpctrain.errors import Problem, ProfileError
from hpctrain.metrics.read import History, read_history
from hpctrain.records import Record, is_number
from hpctrain.rundir import RunDir

OTHER_NAMES = {"learning_rate": "lr", "speed": "samples_per_s", "memory": "memory_gib", "power": "gpu_power_w"}
"""Other names for metrics."""
_NOT_METRICS = ("step", "time", "attempt", "kind")


def metric_chart(run: RunDir, names: Sequence[str], log: bool = False) -> Chart:
    """Return a panel per metric.

    Parameters
    ----------
    run : RunDir
    names : sequence of str
        Such as ``loss``: of training, evaluations and sensors.
    log : bool
        Whether the y axes are logarithmic.

    Raises
    ------
    ProfileError
        The run has not recorded one of them; the message names those that it has.
    """
    history = read_history(run)
    panels, problems = [], []
    for name in names:
        curves = _curves(history, OTHER_NAMES.get(name, name))
        if curves:
            panels.append(Panel(name, "step", curves=curves, log_y=log))
        else:
            problems.append(Problem(name, _no_such_metric(name, metric_names(history))))
    if problems:
        raise ProfileError("command line", problems)
    return Chart(f"{run.name}/{run.run_id}", panels)


def metric_names(history: History) -> list[str]:
    """Return the names of all numbers that a run has recorded, in the order of writing."""
    records = [*history.train[-1:], *history.evaluations[-1:], *history.monitor[-1:]]
    found = {name for record in records for name, value in record.items() if is_number(value)}
    return sorted(found - set(_NOT_METRICS))


def _curves(history: History, name: str) -> list[Curve]:
    parts = (
        ("training", history.train, LINE),
        ("evaluations", history.evaluations, POINTS),
        ("sensors", history.monitor, LINE),
    )
    return [Curve(title, *_points(records, name), style) for title, records, style in parts if _has(records, name)]


def _has(records: list[Record], name: str) -> bool:
    return any(is_number(record.get(name)) for record in records)


def _points(records: list[Record], name: str) -> tuple[np.ndarray, np.ndarray]:
    values = {record["step"]: record[name] for record in records if is_number(record.get(name))}
    steps = sorted(values)
    return np.array(steps, np.float64), np.array([values[step] for step in steps], np.float64)


def _no_such_metric(name: str, known: list[str]) -> str:
    if not known:
        return "the run has recorded nothing yet"
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return (
        f"the run has not recorded it{hint} There is {', '.join(known)}"
        if near
        else f"is not one of {', '.join(known)}"
    )
