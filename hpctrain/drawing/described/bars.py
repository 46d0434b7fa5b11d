"""Draw numbers with intervals: in bins of an axis, or one row per name."""

from __future__ import annotations

import numpy as np

from hpctrain.drawing.described.figure import BarsData, Figure, Series
from hpctrain.drawing.described.frame import BOTTOM, COLOURS, HEIGHT, TOP, array, kind_of, legend_of, limits_of
from hpctrain.drawing.scale import grouped
from hpctrain.drawing.svg import HALF, LEFT, WIDE, Axes, drawing, num_ticks, on_both

_RIGHT = 20
_ROW = 24
_LETTER = 6.6
MOST_ROWS = 60
"""Largest number of names that are drawn."""


def draw_bars(figure: Figure) -> str:
    """Return numbers with intervals as HTML; empty if there are none."""
    data = figure.data
    assert isinstance(data, BarsData)
    if not any(np.isfinite(array(series.values)).any() for series in data.series):
        return ""
    css = [COLOURS[place % len(COLOURS)] for place in range(len(data.series))]
    key = legend_of([series.name for series in data.series], css, "dot")
    draw = _in_bins if data.edges is not None else _in_rows
    drawn = on_both(WIDE if figure.wide else HALF, lambda width: draw(width, figure, data, css))
    hidden = len(data.names) - MOST_ROWS
    note = f'<p class="note">{hidden} more are in the JSON file.</p>' if data.edges is None and hidden > 0 else ""
    flagged = '<p class="note">Ringed: differs from the others by more than chance.</p>' if data.flagged else ""
    return f"{key}{drawn}{note}{flagged}"


def _values(data: BarsData) -> list[np.ndarray]:
    """Return all values that an axis must reach."""
    return [
        np.array([mark.value for mark in data.marks]),
        *(array(part) for series in data.series for part in (series.values, series.low, series.high)),
    ]


def _in_bins(width: int, figure: Figure, data: BarsData, css: list[str]) -> str:
    edges = np.array(data.edges)
    x, y = figure.axes.x, figure.axes.y
    frame = Axes(
        LEFT,
        TOP,
        width - LEFT - _RIGHT,
        HEIGHT,
        limits_of(x, [edges], 0.02),
        limits_of(y, _values(data), 0.08),
        kind_of(x),
        kind_of(y),
    )
    frame.add_grid(x.label, y.label, num_ticks(width), 6)
    for mark in data.marks:
        frame.horizontal(mark.value, "reference", mark.name)
    middle = np.sqrt(edges[:-1] * edges[1:]) if x.log else 0.5 * (edges[:-1] + edges[1:])
    for series, colour in zip(data.series, css, strict=True):
        values, low, high = array(series.values), array(series.low), array(series.high)
        for at in np.flatnonzero(np.isfinite(values)):
            frame.line(edges[at : at + 2], np.repeat(values[at], 2), colour)
            if len(low) and np.isfinite(low[at]) and np.isfinite(high[at]):
                frame.line(np.repeat(middle[at], 2), np.array([low[at], high[at]]), colour)
            if at in data.flagged:
                frame.ring(middle[at], values[at], "bad", f"{data.names[at]}: {_told(series, at)}")
        frame.dots(middle, values, colour, 3.0)
    return drawing(width, TOP + HEIGHT + BOTTOM, [frame], figure.title)


def _in_rows(width: int, figure: Figure, data: BarsData, css: list[str]) -> str:
    names = data.names[:MOST_ROWS]
    room = min(0.4 * width, 16 + _LETTER * max(len(name) for name in names))
    inside = _ROW * len(names) * (1 + 0.3 * (len(data.series) - 1))
    # Names have no numbers, so the axis of the numbers is the one across, whichever of the two has a label.
    axis, of_names = (figure.axes.y, figure.axes.x.label) if figure.axes.y.label else (figure.axes.x, "")
    x_limits = limits_of(axis, [part[:MOST_ROWS] for part in _values(data)], 0.08)
    frame = Axes(room, TOP, width - room - 64, inside, x_limits, (0.5 - len(names), 0.5), kind_of(axis))
    frame.add_grid(axis.label, "", max(2, num_ticks(width) - 3), 0)
    for mark in data.marks:
        frame.vertical(mark.value, "reference")
        frame.text(float(frame.x.place(mark.value)), TOP - 9, mark.name, "tick", "middle")
    frame.text(room - 10, TOP - 9, of_names, "tick", "end")
    offsets = np.linspace(-0.2, 0.2, len(css)) if len(css) > 1 else np.zeros(1)
    for at in range(len(names)):
        for series, colour, offset in zip(data.series, css, offsets, strict=True):
            _row(frame, data, series, at, -at - offset, colour)
    _name_rows(frame, data, names, width)
    return drawing(width, int(TOP + inside + BOTTOM), [frame], figure.title)


def _name_rows(frame: Axes, data: BarsData, names: list[str], width: int) -> None:
    """Write the name of each row on its left, and the number of its objects on its right."""
    longest = int(frame.left / _LETTER) - 2
    num = next((series.num for series in data.series if series.num), None)
    for at, name in enumerate(names):
        y = float(frame.y.place(-at)) + 4
        frame.text(frame.left - 10, y, name if len(name) <= longest else f"{name[: longest - 1]}…", "tick", "end")
        if num is not None:
            frame.text(width - 4, y, grouped(num[at]), "tick", "end")
    if num is not None:
        frame.text(width - 4, TOP - 9, "objects", "tick", "end")


def _row(frame: Axes, data: BarsData, series: Series, at: int, y: float, colour: str) -> None:
    value = series.values[at]
    if value is None:
        return
    low, high = (part[at] if part is not None else None for part in (series.low, series.high))
    if low is not None and high is not None:
        frame.line(np.array([low, high]), np.array([y, y]), colour)
    frame.dots(np.array([value]), np.array([y]), colour, 3.2)
    if at in data.flagged:
        frame.ring(value, y, "bad", f"{data.names[at]}: {_told(series, at)}")


def _told(series: Series, at: int) -> str:
    low, high = (part[at] if part is not None else None for part in (series.low, series.high))
    between = f" ({low:.4g} to {high:.4g})" if low is not None and high is not None else ""
    num = f", {series.num[at]} objects" if series.num else ""
    return f"{series.values[at]:.4g}{between}{num}"
