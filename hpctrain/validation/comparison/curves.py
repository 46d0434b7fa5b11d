"""The learning curves of several runs over each other, as described figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpctrain.drawing.decimate import decimate, running_mean
from hpctrain.drawing.described.figure import figure
from hpctrain.drawing.svg import WIDE
from hpctrain.families.shown import Curve
from hpctrain.metrics.read import History, read_history
from hpctrain.plugins import PluginError
from hpctrain.profile.lookup import find_family
from hpctrain.records import Record, is_number
from hpctrain.rundir import RunDir

MOST_LINES = 5
"""Largest number of runs in a drawing: as many as there are colours."""
_NOT_A_METRIC = ("step", "time", "attempt", "seconds", "epoch")
_SMOOTHED = 150
"""A training curve is smoothed over this share of its records."""


def curve_figures(runs: Mapping[str, RunDir], families: Sequence[str]) -> list[dict[str, Any]]:
    """Return the loss and every metric of the evaluations that two runs or more have.

    Parameters
    ----------
    runs : mapping of str to RunDir
        Runs by their names in the page.
    families : sequence of str
        Family of each run.
    """
    chosen = dict(list(runs.items())[:MOST_LINES])
    histories = {name: read_history(run) for name, run in chosen.items()}
    known = _curves(families[0])
    loss = known.pop("loss")
    found = [
        _figure(loss, "Training loss", {name: _smooth(each.train, "loss") for name, each in histories.items()}),
        _figure(loss, "Validation loss", {name: points(each.evaluations, "loss") for name, each in histories.items()}),
    ]
    for metric in _metrics(histories, known):
        lines = {name: points(each.evaluations, metric) for name, each in histories.items()}
        curve = known.get(metric) or Curve(metric, metric.replace("_", " "))
        found.append(_figure(curve, curve.title, lines))
    return [each for each in found if each]


def _curves(family: str) -> dict[str, Curve]:
    """Return the loss of a family and its other curves, by their metrics."""
    try:
        own = find_family(family)
        return {curve.metric: curve for curve in own.curves()} | {"loss": own.loss}
    except (PluginError, OSError):
        return {"loss": Curve("loss", "Loss")}


def _metrics(histories: Mapping[str, History], known: Mapping[str, Curve]) -> list[str]:
    """Return the metrics of evaluations that at least two runs have, those that the family describes first."""
    counts: dict[str, int] = {}
    for history in histories.values():
        own = {name for record in history.evaluations for name, value in record.items() if is_number(value)}
        for name in own:
            counts[name] = counts.get(name, 0) + 1
    skipped = ("loss", *_NOT_A_METRIC)
    names = [n for n, count in counts.items() if count > 1 and n not in skipped and not n.startswith("num_")]
    return sorted(names, key=lambda name: (name not in known, name))


def points(records: Sequence[Record], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and finite values of a number in records, by step."""
    found = sorted((record["step"], record[name]) for record in records if is_number(record.get(name)))
    return np.array([step for step, _ in found], dtype=np.float64), np.array([value for _, value in found], dtype=float)


def _smooth(records: Sequence[Record], name: str) -> tuple[np.ndarray, np.ndarray]:
    steps, values = points(records, name)
    return decimate(steps, running_mean(values, len(values) // _SMOOTHED), WIDE) if len(steps) else (steps, values)


def _figure(curve: Curve, title: str, lines: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, Any] | None:
    """Return the description of a figure; None if fewer than two runs have a line."""
    drawn = {name: line for name, line in lines.items() if len(line[0]) > 1}
    if len(drawn) < 2:
        return None
    values = np.concatenate([y for _, y in drawn.values()])
    finite = values[np.isfinite(values)]
    log = len(finite) > 0 and finite.min() > 0 and (finite.max() > 4 * finite.min() if curve.log is None else curve.log)
    data = {"lines": [{"x": x, "y": y, "name": name} for name, (x, y) in drawn.items()]}
    axes = {"x": {"label": "step"}, "y": {"label": curve.axis + (" (logarithmic)" if log else ""), "log": bool(log)}}
    return figure(f"curves.{curve.metric}.{title}", title, "curve", data, axes=axes)
