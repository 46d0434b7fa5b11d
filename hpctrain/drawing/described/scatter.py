"""Draw points, cells of many points, and residuals below them."""

from __future__ import annotations

import numpy as np

from hpctrain.drawing.described.figure import Cells, Cloud, Figure, Line, ScatterData
from hpctrain.drawing.described.frame import (
    BOTTOM,
    NUM_LEVELS,
    TOP,
    array,
    colour_scale,
    draw_lines,
    kind_of,
    legend_of,
    level_of,
    limits_of,
)
from hpctrain.drawing.scale import grouped
from hpctrain.drawing.svg import HALF, LEFT, WIDE, Axes, drawing, num_ticks, on_both

_RIGHT = 20
_HEIGHT, _LOWER, _GAP = 340, 120, 30


def draw_scatter(figure: Figure) -> str:
    """Return a scatter plot as HTML; empty if it has no points."""
    data = figure.data
    assert isinstance(data, ScatterData)
    if not data.x and data.cells is None:
        return ""
    parts = [data, data.lower] if data.lower is not None else [data]
    most = max((count for part in parts if part.cells for _, _, count in part.cells.filled), default=0)
    width = WIDE if figure.wide else HALF
    lines = [line for part in parts for line in part.lines]
    key = legend_of([line.name for line in lines], _css_of(lines))
    drawn = on_both(width, lambda width: _draw(width, figure, data, most))
    scale = colour_scale("4", grouped(most), "in a cell") if most else ""
    return f"{key}{drawn}{scale}"


def _draw(width: int, figure: Figure, data: ScatterData, most: int) -> str:
    inner = width - LEFT - _RIGHT
    x_axis = figure.axes.x
    x_limits = limits_of(x_axis, [array(data.x), _ends(data.cells, "x")])
    y_limits = limits_of(figure.axes.y, [array(data.y), _ends(data.cells, "y")])
    lower = data.lower
    upper = Axes(LEFT, TOP, inner, _HEIGHT, x_limits, y_limits, kind_of(x_axis), kind_of(figure.axes.y))
    upper.add_grid("" if lower else x_axis.label, figure.axes.y.label, num_ticks(width), 6)
    _draw_cloud(upper, data, most)
    frames, bottom = [upper], TOP + _HEIGHT
    if lower is not None:
        y_limits = limits_of(lower.axis, [array(lower.y), _ends(lower.cells, "y")])
        below = Axes(LEFT, bottom + _GAP, inner, _LOWER, x_limits, y_limits, kind_of(x_axis))
        below.add_grid(x_axis.label, lower.axis.label, num_ticks(width), 4)
        _draw_cloud(below, lower, most)
        frames, bottom = [upper, below], bottom + _GAP + _LOWER
    return drawing(width, bottom + BOTTOM, frames, figure.title)


def _ends(cells: Cells | None, axis: str) -> np.ndarray:
    return np.array(getattr(cells, axis)[:2]) if cells is not None else np.empty(0)


def _draw_cloud(axes: Axes, cloud: Cloud, most: int) -> None:
    if cloud.x:
        axes.dots(array(cloud.x), array(cloud.y), "z0" if cloud.cells else "c1", 1.2 if cloud.cells else 1.7)
    if cloud.cells is not None and cloud.cells.filled:
        _draw_cells(axes, cloud.cells, most)
    draw_lines(axes, cloud.lines, _css_of(cloud.lines))


def _css_of(lines: list[Line]) -> list[str]:
    """Return the classes of lines; those that are no references are black, because colours are those of the cells."""
    return ["reference" if line.style == "reference" else "ink over" for line in lines]


def _draw_cells(axes: Axes, cells: Cells, most: int) -> None:
    column, row, count = np.array(cells.filled).T
    x_edges = (np.geomspace if axes.x.kind == "log" else np.linspace)(cells.x[0], cells.x[1], cells.x[2] + 1)
    y_edges = np.linspace(cells.y[0], cells.y[1], cells.y[2] + 1)
    good = (column >= 0) & (column < cells.x[2]) & (row >= 0) & (row < cells.y[2]) & (count > 0)
    column, row, count = column[good], row[good], count[good]
    level = level_of(np.log(count), 0.0, np.log(max(most, 2)))
    for number in range(NUM_LEVELS):
        here = level == number
        if here.any():
            x, y = column[here], row[here]
            axes.boxes(x_edges[x], x_edges[x + 1], y_edges[y], y_edges[y + 1], f"z{number}")
