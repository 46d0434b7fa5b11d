"""What the drawings of described figures share: limits of axes, colours, legends."""

from __future__ import annotations

import numpy as np

from hpctrain.drawing.described.figure import Axis, Line, Numbers
from hpctrain.drawing.scale import padded
from hpctrain.drawing.svg import Axes, legend

HEIGHT = 300
"""Height of the frame of a figure of half the width of the page."""
TOP, BOTTOM = 30, 48
COLOURS = ("c1", "c2", "c3", "c4", "c5")
NUM_LEVELS = 8
"""Colours of the scale ``z0`` to ``z7``."""


def array(values: Numbers | None) -> np.ndarray:
    """Return numbers as an array, (n,), float64; NaN for None."""
    return np.array([np.nan if value is None else value for value in values or []], dtype=np.float64)


def limits_of(axis: Axis, values: list[np.ndarray], share: float = 0.05) -> tuple[float, float]:
    """Return the ends of an axis: those of its description, else those of the values with a margin."""
    all_values = np.concatenate([np.empty(0), *values])
    all_values = all_values[np.isfinite(all_values)]
    if axis.log:
        all_values = np.log10(all_values[all_values > 0])
    low, high = (float(all_values.min()), float(all_values.max())) if len(all_values) else (np.nan, np.nan)
    low, high = (low, high) if share == 0 and low < high else padded(low, high, share)
    if axis.log:
        low, high = 10.0**low, 10.0**high
    low = low if axis.low is None or (axis.log and axis.low <= 0) else axis.low
    high = high if axis.high is None or (axis.log and axis.high <= 0) else axis.high
    return (low, high) if low < high else padded(min(low, high), max(low, high))


def kind_of(axis: Axis) -> str:
    """Return the kind of scale of an axis."""
    return "log" if axis.log else "linear"


def css_of(lines: list[Line]) -> list[str]:
    """Return the classes of lines: a colour for each, a dashed one for references."""
    found, number = [], 0
    for line in lines:
        if line.style == "reference":
            found.append("reference")
            continue
        found.append(COLOURS[number % len(COLOURS)] + (" faint" if line.style == "faint" else ""))
        number += 1
    return found


def draw_lines(axes: Axes, lines: list[Line], css: list[str]) -> None:
    """Draw lines with the bands around them; bands first, so that they hide no line."""
    for line, colour in zip(lines, css, strict=True):
        if line.low is not None and line.high is not None:
            band = "raw" if colour == "reference" else colour.split()[0]
            axes.band(array(line.x), array(line.low), array(line.high), band, "interval")
    for line, colour in zip(lines, css, strict=True):
        axes.line(array(line.x), array(line.y), colour, line.name)


def legend_of(names: list[str], css: list[str], sign: str = "line") -> str:
    """Return a legend of those that have a name; empty if none has."""
    entries = [
        (("resume" if colour == "reference" else f"{sign} {colour}"), name)
        for name, colour in zip(names, css, strict=True)
        if name
    ]
    return legend(entries) if entries else ""


def level_of(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the colour of each value (n,) on a scale from `low` to `high`, (n,), int64, 0 to 7."""
    share = (values - low) / (high - low) if high > low else np.zeros(len(values))
    return np.clip((share * NUM_LEVELS).astype(np.int64), 0, NUM_LEVELS - 1)


def colour_scale(low: str, high: str, label: str) -> str:
    """Return the scale of colours as HTML."""
    boxes = "".join(f'<i class="z{level}"></i>' for level in range(NUM_LEVELS))
    return f'<div class="colorbar"><span>{label}</span><span>{low}</span><b>{boxes}</b><span>{high}</span></div>'
