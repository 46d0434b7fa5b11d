"""Draw a chart with characters: braille dots for curves, shades for images. No colour unless asked for."""

from __future__ import annotations

import textwrap

import numpy as np

from hpctrain.drawing.chart.parts import MODEL, POINTS, Chart, Curve, Panel, stretched
from hpctrain.drawing.scale import linear_ticks

SHADES = " .:-=+*#%@"
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
"""Bit of each dot of a braille character, by row and column."""
_COLOURS = (36, 33, 35, 32, 34, 31)
_MARKERS = "•×+o*#"
"""Characters of points, by the number of their curve."""
_MARGIN = 10
"""Columns left of the axis: numbers of nine characters and the axis itself."""


def draw_in_terminal(chart: Chart, width: int = 80, height: int = 16, colour: bool = False) -> str:
    """Return a chart as text.

    Parameters
    ----------
    chart : Chart
    width : int
        Largest number of columns.
    height : int
        Number of lines of each panel, without its title and its axis.
    colour : bool
        Give each curve a colour, with escape sequences of a terminal.
    """
    lines = [part for line in chart.title.splitlines() for part in textwrap.wrap(line, width)]
    for panel in chart.panels:
        lines += ["", *_panel(panel, width, height, colour)]
    return "\n".join(line.rstrip() for line in lines)


def _panel(panel: Panel, width: int, height: int, colour: bool) -> list[str]:
    if panel.image is not None:
        return [panel.title[:width], *_image(panel.image, width)]
    curves = [_logarithmic(curve) if panel.log_y else curve for curve in panel.curves]
    x_range, y_range = _range([curve.x for curve in curves]), _range([curve.y for curve in curves])
    if x_range is None or y_range is None:
        return [panel.title[:width], "  no finite values"]
    if panel.flip_y:
        y_range = y_range[::-1]
    columns = width - _MARGIN
    cells, owner = _rasterise(curves, x_range, y_range, columns, height)
    lines = [_head(panel, width, colour)]
    lines += _rows(cells, owner, curves, _y_labels(y_range, height, panel.log_y), colour)
    lines.append(" " * (_MARGIN - 1) + "└" + "─" * columns)
    lines += _below(panel, x_range, columns)
    return lines


def _logarithmic(curve: Curve) -> Curve:
    with np.errstate(divide="ignore", invalid="ignore"):
        return Curve(curve.name, curve.x, np.where(curve.y > 0, np.log10(curve.y), np.nan), curve.style)


def _range(values: list[np.ndarray]) -> tuple[float, float] | None:
    joined = np.concatenate([np.asarray(value, np.float64) for value in values]) if values else np.empty(0)
    finite = joined[np.isfinite(joined)]
    if not len(finite):
        return None
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2)


def _rasterise(
    curves: list[Curve], x_range: tuple[float, float], y_range: tuple[float, float], columns: int, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the braille bits of each cell, and the number of the last curve in it (-1: none); (height, columns)."""
    cells, owner = np.zeros((height, columns), np.int64), np.full((height, columns), -1)
    order = sorted(range(len(curves)), key=lambda number: curves[number].style == MODEL)
    for number in order:
        curve = curves[number]
        x = (np.asarray(curve.x, np.float64) - x_range[0]) / (x_range[1] - x_range[0]) * (2 * columns - 1)
        y = (y_range[1] - np.asarray(curve.y, np.float64)) / (y_range[1] - y_range[0]) * (4 * height - 1)
        if curve.style != POINTS:
            x, y = _joined(x, y)
        good = np.isfinite(x) & np.isfinite(y)
        column, row = np.rint(x[good]).astype(int), np.rint(y[good]).astype(int)
        np.bitwise_or.at(cells, (row // 4, column // 2), _DOTS[row % 4, column % 2])
        owner[row // 4, column // 2] = number
    return cells, owner


def _joined(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the points with more points between neighbours, so that they touch [dot]."""
    if len(x) < 2:
        return x, y
    steps = np.maximum(np.abs(np.diff(x)), np.abs(np.diff(y)))
    count = np.where(np.isfinite(steps), np.ceil(steps), 1).astype(int).clip(1)
    before = np.repeat(np.arange(len(x) - 1), count)
    share = (np.arange(len(before)) - np.repeat(np.cumsum(count) - count, count)) / count[before]
    between = [np.append(v[before] + share * (v[before + 1] - v[before]), v[-1]) for v in (x, y)]
    lone = np.isfinite(x) & np.isfinite(y)  # a point beside a gap has no finite segment
    return np.append(between[0], x[lone]), np.append(between[1], y[lone])


def _rows(cells: np.ndarray, owner: np.ndarray, curves: list[Curve], labels: list[str], colour: bool) -> list[str]:
    lines = []
    for label, bits, owners in zip(labels, cells, owner, strict=True):
        drawn = ""
        for bit, number in zip(bits.tolist(), owners.tolist(), strict=True):
            text = _character(bit, number, curves)
            drawn += _coloured(text, number) if colour and number >= 0 else text
        lines.append(f"{label:>{_MARGIN - 1}}{'┤' if label else '│'}" + drawn)
    return lines


def _character(bits: int, number: int, curves: list[Curve]) -> str:
    if number >= 0 and curves[number].style == POINTS:
        return _marker(number)
    return chr(0x2800 + bits) if bits else " "


def _marker(number: int) -> str:
    return _MARKERS[number % len(_MARKERS)]


def _coloured(text: str, number: int) -> str:
    return f"\x1b[{_COLOURS[number % len(_COLOURS)]}m{text}\x1b[0m"


def _head(panel: Panel, width: int, colour: bool) -> str:
    text = panel.title + (f" [{panel.y_label}]" if panel.y_label else "")
    if len(panel.curves) < 2:
        return text[:width]
    names = [
        f"{_marker(number)} {curve.name}" if curve.style == POINTS else curve.name
        for number, curve in enumerate(panel.curves)
    ]
    plain = f"{text}: {', '.join(names)}"
    if not colour or len(plain) > width:
        return plain[:width]
    return f"{text}: " + ", ".join(_coloured(name, number) for number, name in enumerate(names))


def _y_labels(y_range: tuple[float, float], height: int, log: bool) -> list[str]:
    labels = [""] * height
    for row in sorted({0, height // 2, height - 1}):
        value = y_range[1] + (y_range[0] - y_range[1]) * row / max(1, height - 1)
        labels[row] = f"{10**value:.3g}" if log else f"{value:.4g}"
    return labels


def _below(panel: Panel, x_range: tuple[float, float], columns: int) -> list[str]:
    """Return the lines below the axis: marks, numbers, and the name of the axis."""

    def place(value: float) -> int:
        return round((value - x_range[0]) / (x_range[1] - x_range[0]) * (columns - 1))

    ticks = [(place(value), text) for value, text in linear_ticks(*x_range, about=6)]
    marks = [(place(value), f"↑{name}") for name, value in panel.marks if x_range[0] <= value <= x_range[1]]
    lines = [_written(marks, columns)] if marks else []
    lines.append(_written([(max(0, at - len(text) // 2), text) for at, text in ticks], columns))
    return [" " * _MARGIN + line for line in [*lines, panel.x_label.center(columns)] if line.strip()]


def _written(texts: list[tuple[int, str]], columns: int) -> str:
    """Return texts at their columns; one that would touch the one before, or the end, is left out."""
    line = ""
    for at, text in sorted(texts):
        if at >= len(line) + bool(line) and at + len(text) <= columns:
            line = line.ljust(at) + text
    return line


def _image(image: np.ndarray, width: int) -> list[str]:
    """Return an image as shades; a character is about twice as high as it is wide."""
    columns = min(width, max(2 * image.shape[1], 40), 64)
    rows = max(1, round(columns * image.shape[0] / image.shape[1] / 2))
    y = np.linspace(0, image.shape[0], rows + 1)
    x = np.linspace(0, image.shape[1], columns + 1)
    bright = stretched(image)
    lines = []
    for row in reversed(range(rows)):
        part = bright[int(y[row]) : max(int(y[row]) + 1, int(y[row + 1]))].mean(axis=0)
        means = [part[int(x[c]) : max(int(x[c]) + 1, int(x[c + 1]))].mean() for c in range(columns)]
        lines.append("".join(SHADES[min(len(SHADES) - 1, int(mean * len(SHADES)))] for mean in means))
    return lines
