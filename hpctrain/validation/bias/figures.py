"""Figures of metrics in bins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hpctrain.drawing.described.figure import figure
from hpctrain.validation.bias.judge import LEVEL, Cell, ColumnBins
from hpctrain.validation.bins import Bin
from hpctrain.validation.judged import Judged
from hpctrain.validation.tasks.classes import KIND as CLASS
from hpctrain.validation.tasks.task import ZERO, Task

SHOWN = ("bias", "nmad", "outliers_0.15", "outliers_0.05", "outliers", "accuracy", "completeness", "average_precision")
"""Metrics with a figure; all classes of a metric share one."""
MOST_CLASSES = 6
"""Most classes in a figure; of more, the figure of their metric is left out."""
_OUTER = (0.002, 0.998)
"""Quantiles of the column at which the outer bins end in a figure."""


def bin_figures(judged: Judged, found: Sequence[ColumnBins]) -> list[dict[str, Any]]:
    """Return a figure for each task, column and metric that people look at first."""
    figures = []
    for each in found:
        values = judged.column(each.section.column)
        for task in judged.tasks:
            for name in SHOWN:
                cells = [
                    cell for cell in each.cells if cell.task is task and (cell.metric.of or cell.metric.name) == name
                ]
                names = list(dict.fromkeys(cell.metric.name for cell in cells))
                own = task.kind == CLASS and each.section.column in (f"{task.title}_TRUE", f"{task.title}_PRED")
                says = any(cell.score.value for cell in cells)  # no outlier at all needs no figure
                if says and len(names) <= MOST_CLASSES and not (own and name != "accuracy"):
                    figures.append(_figure(task, each, name, names, cells, values))
    return figures


def _figure(
    task: Task, each: ColumnBins, name: str, names: list[str], cells: list[Cell], values: np.ndarray
) -> dict[str, Any]:
    metric = cells[0].metric
    series = []
    for one in names:
        own = sorted((cell for cell in cells if cell.metric.name == one), key=lambda cell: cell.at)
        label = one.removeprefix(f"{name}.") if len(names) > 1 else ""
        series.append(
            {
                "values": [cell.score.value for cell in own],
                "low": [cell.score.low for cell in own],
                "high": [cell.score.high for cell in own],
                "num": [cell.score.num_objects for cell in own],
                "name": label,
            }
        )
    flagged = sorted({cell.at for cell in cells if cell.is_flagged})
    data: dict[str, Any] = {"names": [part.label for part in each.bins], "series": series, "flagged": flagged}
    edges = _edges(each.bins, values)
    if edges is not None:
        data["edges"] = edges
    if len(names) == 1:
        data["marks"] = [{"value": task.score(metric.name), "name": "all"}]
    if metric.better == ZERO:
        data.setdefault("marks", []).append({"value": 0.0})
    label = metric.label if len(names) == 1 else name.replace("_", " ")
    unit = f" [{metric.unit}]" if metric.unit else ""
    column = each.section.column
    axes = {"x": {"label": column, "log": bool(each.section.log and edges is not None and edges[0] > 0)}}
    title = f"{label[0].upper()}{label[1:]} by {column}"
    return figure(
        f"{task.title}.bins.{column}.{name}", title, "bars", data, _caption(cells, flagged),
        axes={**axes, "y": {"label": f"{label}{unit}"}},
    )  # fmt: skip


def _caption(cells: list[Cell], flagged: list[int]) -> str:
    if not any(cell.is_judged for cell in cells):
        return "With intervals. Too few objects, or not the kind of metric, for a test."
    text = f"With intervals. {len(flagged)} of {len({cell.at for cell in cells})} bins differ from the rest"
    return f"{text} (any false alarm in all bins of all metrics: below {100 * LEVEL:g} %, Holm)."


def _edges(bins: Sequence[Bin], values: np.ndarray) -> list[float] | None:
    """Return the edges of ranges of numbers; None for bins of single values."""
    if len(bins) < 2 or bins[0].low is not None or bins[-1].high is not None or bins[0].high is None:
        return None
    inner = [float(each.high) for each in bins[:-1] if each.high is not None]
    finite = values.astype(np.float64)
    low, high = np.quantile(finite[np.isfinite(finite)], _OUTER)
    width = max(inner[-1] - inner[0], 1e-9) / len(bins)
    first = float(low) if low < inner[0] else inner[0] - width
    return [first, *inner, float(high) if high > inner[-1] else inner[-1] + width]
