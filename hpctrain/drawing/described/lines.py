"""Draw curves with bands, and histograms with the numbers that are expected."""

from __future__ import annotations

import numpy as np

from hpctrain.drawing.described.figure import CurveData, Figure, HistogramData
from hpctrain.drawing.described.frame import (
    BOTTOM,
    COLOURS,
    HEIGHT,
    TOP,
    array,
    css_of,
    draw_lines,
    kind_of,
    legend_of,
    limits_of,
)
from hpctrain.drawing.svg import HALF, LEFT, WIDE, Axes, drawing, num_ticks, on_both

_RIGHT = 20


def draw_curve(figure: Figure) -> str:
    """Return lines as HTML; empty if none has two points."""
    data = figure.data
    assert isinstance(data, CurveData)
    if not any(np.isfinite(array(line.y)).sum() > 1 for line in data.lines):
        return ""
    css = css_of(data.lines)
    ends_x = [array(line.x) for line in data.lines]
    ends_y = [array(part) for line in data.lines for part in (line.y, line.low, line.high)]
    x, y = figure.axes.x, figure.axes.y

    def draw(width: int) -> str:
        frame = Axes(
            LEFT,
            TOP,
            width - LEFT - _RIGHT,
            HEIGHT,
            limits_of(x, ends_x, 0.0),
            limits_of(y, ends_y),
            kind_of(x),
            kind_of(y),
        )
        frame.add_grid(x.label, y.label, num_ticks(width), 6)
        draw_lines(frame, data.lines, css)
        return drawing(width, TOP + HEIGHT + BOTTOM, [frame], figure.title)

    return legend_of([line.name for line in data.lines], css) + on_both(WIDE if figure.wide else HALF, draw)


def draw_histogram(figure: Figure) -> str:
    """Return a histogram as HTML; empty if all counts are 0."""
    data = figure.data
    assert isinstance(data, HistogramData)
    counts = [array(series.values) for series in data.series]
    if not any(np.nansum(values) > 0 for values in counts):
        return ""
    several = len(counts) > 1
    css = [COLOURS[number % len(COLOURS)] for number in range(len(counts))]
    expected = [array(part) for part in (data.expected, data.expected_high)]
    y_axis = (
        figure.axes.y.model_copy(update={"low": figure.axes.y.low or 0.0}) if not figure.axes.y.log else figure.axes.y
    )

    def draw(width: int) -> str:
        x_limits = limits_of(figure.axes.x, [np.array(data.edges)], 0.0)
        y_limits = limits_of(y_axis, [*counts, *expected], 0.12)
        frame = Axes(
            LEFT, TOP, width - LEFT - _RIGHT, HEIGHT, x_limits, y_limits, kind_of(figure.axes.x), kind_of(y_axis)
        )
        frame.add_grid(figure.axes.x.label, figure.axes.y.label, num_ticks(width), 6)
        _draw_counts(frame, data, counts, css, several)
        _draw_expected(frame, data)
        for mark in data.marks:
            frame.vertical(mark.value, "reference", mark.name)
        return drawing(width, TOP + HEIGHT + BOTTOM, [frame], figure.title)

    return _legend(data, css, several) + on_both(WIDE if figure.wide else HALF, draw)


def _legend(data: HistogramData, css: list[str], several: bool) -> str:
    entries = [
        (series.name, f"{'line' if several else 'box'} {colour}")
        for series, colour in zip(data.series, css, strict=True)
    ]
    names = [name for name, _ in entries]
    key = legend_of(names, [colour for _, colour in entries], "")
    if data.expected is not None and key:
        key += legend_of(["expected"], ["ink"])
    return key


def _draw_counts(frame: Axes, data: HistogramData, counts: list[np.ndarray], css: list[str], several: bool) -> None:
    edges = np.array(data.edges)
    if not several:
        for value, low, high in zip(counts[0], edges[:-1], edges[1:], strict=True):
            if value > 0:
                bottom = frame.y.low
                frame.bar(low, high, bottom, value, "fill c1", f"{value:g} from {low:.4g} to {high:.4g}")
        return
    for values, colour, series in zip(counts, css, data.series, strict=True):
        frame.line(np.repeat(edges, 2)[1:-1], np.repeat(values, 2), colour, series.name)


def _draw_expected(frame: Axes, data: HistogramData) -> None:
    steps = np.repeat(np.array(data.edges), 2)[1:-1]
    if data.expected_low is not None and data.expected_high is not None:
        low, high = (np.repeat(array(part), 2) for part in (data.expected_low, data.expected_high))
        frame.band(steps, low, high, "ink", "interval")
    if data.expected is not None:
        frame.line(steps, np.repeat(array(data.expected), 2), "ink", "expected")
