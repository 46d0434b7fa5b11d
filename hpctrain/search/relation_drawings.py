"""Drawings of how the parts of a study belong together: parallel axes, Pareto fronts, importances."""

from __future__ import annotations

import itertools
import math
from functools import partial
from html import escape

import numpy as np

from hpctrain.drawing.scale import Scale
from hpctrain.drawing.svg import HALF, LEFT, RIGHT, WIDE, Axes, drawing, number, on_both, path_of
from hpctrain.search.facts import StudyFacts, evenly, short_names
from hpctrain.search.importance import Importance
from hpctrain.search.space import Parameter
from hpctrain.search.trials import Trial
from hpctrain.search.value_drawings import parameter_limits, put_dots, value_axis

MOST_LINES = 200
"""Largest number of lines across parallel axes."""
_ROW, _HEAD = 62, 26
"""Distance of two parallel axes, and the room above the first one [units of the drawing]."""
_AWAY = 40
"""Room to the left of the axes for trials in which a parameter does not exist."""
_BAR = 26


def parallel_figure(facts: StudyFacts) -> tuple[str, int]:
    """Draw a line per finished trial across one axis per parameter and objective.

    Returns
    -------
    html : str
        Empty if fewer than two trials have finished.
    num_drawn : int
    """
    if len(facts.order) < 2:
        return "", 0
    good = facts.order[: max(1, math.ceil(len(facts.order) / 10))] if facts.is_single else facts.front
    good = good[: MOST_LINES // 2]
    numbers = {trial.number for trial in good}
    others = evenly([t for t in facts.order if t.number not in numbers], MOST_LINES - len(good))
    lines = [(trial, "raw") for trial in others] + [(trial, "c1") for trial in reversed(good)]
    if facts.is_single:
        lines[-1] = (lines[-1][0], "ink")
    return on_both(WIDE, partial(_parallel, facts=facts, lines=lines)), len(lines)


def _parallel(width: int, facts: StudyFacts, lines: list[tuple[Trial, str]]) -> str:
    keys = list(facts.space.parameters)
    num_rows = len(keys) + len(facts.metrics)
    left, right = 12.0 + _AWAY, width - 22.0
    parts, places = [], []
    names = short_names(facts.space)
    for row, parameter in enumerate(keys):
        scale, is_away = _parameter_scale(parameter, left, right), bool(parameter.section.when)
        parts.append(_axis(row, scale, names[parameter.key], width, is_away))
        places.append([_place(parameter, scale, trial) for trial, _ in lines])
    for index, metric in enumerate(facts.metrics):
        scores = [trial.scores[index] for trial, _ in lines]  # type: ignore[index]
        limits, kind = value_axis(scores, facts.lower_is_better[index])
        scale = Scale(*limits, left, right, kind)
        parts.append(_axis(len(keys) + index, scale, metric, width, False))
        places.append(list(np.clip(scale.place(np.array(scores)), left, right)))
    y = np.array([_HEAD + row * _ROW for row in range(num_rows)], dtype=np.float64)
    drawn = []
    for column, (trial, css) in enumerate(lines):
        x = np.array([places[row][column] for row in range(num_rows)])
        thin = " thin" if css != "ink" else ""
        drawn.append(f'<path class="line {css}{thin}" d="{path_of(x, y)}"><title>trial {trial.number}</title></path>')
    height = _HEAD + (num_rows - 1) * _ROW + 28
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="A line per trial across all parameters">'
        f"{''.join(drawn)}{''.join(parts)}</svg>"
    )


def _parameter_scale(parameter: Parameter, left: float, right: float) -> Scale:
    if parameter.section.choices is not None:
        count = len(parameter.names)
        return Scale(-0.5, count - 0.5, left, right, "names", tuple(parameter.names))
    return Scale(*parameter_limits(parameter), left, right, "log" if parameter.section.log else "linear")


def _axis(row: int, scale: Scale, name: str, width: int, is_away: bool) -> str:
    y = _HEAD + row * _ROW
    parts = [
        f'<path class="axis" d="M{number(scale.start)} {y}H{number(scale.end)}"/>',
        f'<text class="label" x="{number(scale.start)}" y="{y - 8}" style="fill: var(--ink); {_HALO}">'
        f"{escape(name)}</text>",
    ]
    ticks = scale.ticks(max(2, width // 130))
    room = (scale.end - scale.start) / max(1, len(ticks)) / 6.5
    for value, label in ticks:
        x = number(float(scale.place(value)))
        text = label if scale.kind != "names" or len(label) <= room else f"{label[: max(1, int(room) - 1)]}…"
        parts.append(f'<path class="axis" d="M{x} {y}v4"/>')
        parts.append(
            f'<text class="tick" x="{x}" y="{y + 16}" text-anchor="middle" style="{_HALO}">{escape(text)}</text>'
        )
    if is_away:
        x = scale.start - _AWAY / 2
        parts.append(f'<path class="axis" d="M{number(x - 4)} {y}h8"/>')
        parts.append(f'<text class="tick" x="{number(x)}" y="{y + 16}" text-anchor="middle">none</text>')
    return "".join(parts)


_HALO = "paint-order: stroke; stroke: var(--paper); stroke-width: 3px; stroke-linejoin: round"


def _place(parameter: Parameter, scale: Scale, trial: Trial) -> float:
    """Return the place of a trial's value on the axis; beside it if the parameter does not exist there."""
    if parameter.key not in trial.values:
        return scale.start - _AWAY / 2
    value = trial.values[parameter.key]
    if parameter.section.choices is None:
        return float(scale.place(float(value)))
    names = parameter.names
    return float(scale.place(names.index(str(value)))) if str(value) in names else math.nan


def pareto_figures(facts: StudyFacts) -> list[tuple[str, str]]:
    """Return title and drawing of each pair of objectives."""
    pairs = itertools.combinations(range(len(facts.metrics)), 2)
    width = WIDE if len(facts.metrics) == 2 else HALF
    return [
        (f"{facts.metrics[a]} and {facts.metrics[b]}", on_both(width, partial(_pareto, facts=facts, first=a, second=b)))
        for a, b in (pairs if facts.order else [])
    ]


def _pareto(width: int, facts: StudyFacts, first: int, second: int) -> str:
    scores = np.array([trial.scores for trial in facts.order], dtype=np.float64)
    front = np.array([trial.scores for trial in facts.front], dtype=np.float64)
    (x_limits, x_kind), (y_limits, y_kind) = (
        value_axis(list(scores[:, index]), facts.lower_is_better[index]) for index in (first, second)
    )
    height = 300 if width == WIDE else 220
    axes = Axes(LEFT, 30, width - LEFT - RIGHT, height, x_limits, y_limits, x_kind, y_kind)
    names = [
        f"{facts.metrics[index]}, {'lower' if facts.lower_is_better[index] else 'higher'} is better"
        for index in (first, second)
    ]
    axes.add_grid(names[0], names[1], min(8, width // 90), 5)
    put_dots(axes, np.clip(scores[:, first], *x_limits), scores[:, second], "raw", 2.5)
    if len(facts.metrics) == 2:
        order = np.lexsort((front[:, second], front[:, first]))
        axes.line(front[order, first], front[order, second], "c1")
    put_dots(axes, np.clip(front[:, first], *x_limits), front[:, second], "c1", 3.5)
    return drawing(width, height + 72, [axes], f"{names[0]}; {names[1]}")


def importance_figure(found: Importance, names: dict[str, str]) -> str:
    """Draw a bar per parameter with the share of the variance that it explains."""
    return on_both(HALF, partial(_importance, found=found, names=names))


def _importance(width: int, found: Importance, names: dict[str, str]) -> str:
    left = min(0.45 * width, 12 + 6.8 * max(len(names[key]) for key in found.shares))
    letters, room = int(left / 6.8), width - left - 52
    largest = max(found.shares.values()) or 1.0
    parts = []
    for row, (key, share) in enumerate(found.shares.items()):
        name = names[key] if len(names[key]) <= letters else f"{names[key][: letters - 1]}…"
        y, length = 4 + row * _BAR, room * share / largest
        parts.append(
            f'<text class="label" x="{number(left - 8)}" y="{y + 13}" text-anchor="end" style="fill: var(--ink)">'
            f'{escape(name)}</text><rect class="fill c1" x="{number(left)}" y="{y}" width="{number(max(1.0, length))}" '
            f'height="18" rx="2"><title>{escape(key)}: {share:.3f}</title></rect>'
            f'<text class="label" x="{number(left + length + 8)}" y="{y + 13}">{100 * share:.0f} %</text>'
        )
    height = 8 + len(found.shares) * _BAR
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Share of each parameter">{"".join(parts)}</svg>'
