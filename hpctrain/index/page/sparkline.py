"""Small curves in a cell of a table; the page's script reads the values back from their paths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from hpctrain.index.read_more import POINTS

WIDTH, HEIGHT = 999, 250
"""Size of a drawing in its own units: enough digits for a larger drawing of the same points."""
MOST_CURVES = 4000
"""Largest number of runs for which the losses of the evaluations are drawn, too."""
_FEWEST_POINTS = 16
_ALL_POINTS = 200_000
"""Number of points on a page; of more runs each has fewer."""
_WIDE = 4.0
"""Ratio of the largest and the smallest loss above which the axis is logarithmic, as in the report."""


@dataclass(frozen=True)
class Curve:
    """Losses against the step."""

    steps: list[int]
    losses: list[float]


def num_points(num_runs: int) -> int:
    """Return the largest number of points of a curve on a page of so many runs."""
    return max(_FEWEST_POINTS, min(POINTS, _ALL_POINTS // max(num_runs, 1)))


def sparkline(train: Curve | None, evaluation: Curve | None) -> str:
    """Return losses as a small drawing; empty if there are fewer than two points.

    ``data-x`` and ``data-y`` hold the values at the edges of the drawing, and ``log`` if the axis is logarithmic.
    """
    curves = [curve for curve in (train, evaluation) if curve is not None and len(curve.steps) > 1]
    if not curves:
        return ""
    losses = [loss for curve in curves for loss in curve.losses]
    steps = [step for curve in curves for step in curve.steps]
    low, high, last = min(losses), max(losses), max(steps) or 1
    is_log = low > 0 and high > _WIDE * low
    paths = "".join(f'<path d="{_path(curve, last, (low, high), is_log)}"/>' for curve in curves)
    limits = f"{low:.5g} {high:.5g}{' log' if is_log else ''}"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" data-x={last} data-y="{limits}">{paths}</svg>'
    )


def _path(curve: Curve, last: int, limits: tuple[float, float], is_log: bool) -> str:
    places = [
        f"{round(WIDTH * step / last)} {round(HEIGHT * (1 - _share(loss, *limits, is_log)))}"
        for step, loss in zip(curve.steps, curve.losses, strict=True)
    ]
    return "M" + " ".join(places)


def _share(value: float, low: float, high: float, is_log: bool) -> float:
    """Return where a value lies between two others, from 0 to 1."""
    if high <= low:
        return 0.5
    if not is_log:
        return (value - low) / (high - low)
    return math.log(value / low) / math.log(high / low)


def thin(curve: Curve, most: int) -> Curve:
    """Return a curve of at most so many points, each the mean of its neighbours."""
    count = len(curve.steps)
    if count <= most:
        return curve
    edges = [place * count // most for place in range(most + 1)]
    return Curve(
        [round(value) for value in _means(curve.steps, edges)],
        _means(curve.losses, edges),
    )


def _means(values: Sequence[float], edges: Sequence[int]) -> list[float]:
    return [sum(values[begin:end]) / (end - begin) for begin, end in pairwise(edges)]
