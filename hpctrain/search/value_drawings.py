"""Drawings of the values of a study: against the trial's number, during training, and against each parameter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from hpctrain.drawing.scale import Scale, padded
from hpctrain.drawing.svg import HALF, LEFT, PHONE, RIGHT, WIDE, Axes, drawing, legend, num_ticks, on_both
from hpctrain.search.facts import StudyFacts, evenly, short_names
from hpctrain.search.space import Parameter
from hpctrain.search.trials import OF_MODEL, PRUNED, Trial, is_running
from hpctrain.states import FINISHED

Limits = tuple[tuple[float, float], str]

MOST_DOTS = 3000
"""Largest number of dots of one colour in a drawing."""
MOST_CURVES = 150
"""Largest number of lines of intermediate values."""
_CELL = 2.0
"""Dots of one colour within one square of this size are drawn once [units of the drawing]."""
_FAR = 2.0
"""Values further from the middle half of all, in widths of that half, do not stretch an axis."""
_QUARTERS = ("z0", "z2", "z4", "z6")


def value_axis(values: Sequence[float], lower_is_better: bool) -> Limits:
    """Return limits and kind of an axis that a few very bad values do not stretch.

    The best value is always within the limits.
    """
    found = np.array(values, dtype=np.float64)
    found = found[np.isfinite(found)]
    if not len(found):
        return (0.0, 1.0), "linear"
    kind = "log" if found.min() > 0 and found.max() > 4 * found.min() else "linear"
    at = np.log10(found) if kind == "log" else found
    lower, upper = np.quantile(at, [0.25, 0.75])
    room = _FAR * (upper - lower) or math.inf
    low, high = float(at.min()), float(at.max())
    if lower_is_better:
        high = min(high, max(float(upper + room), low))
    else:
        low = max(low, min(float(lower - room), high))
    low, high = padded(low, high)
    return ((10**low, 10**high) if kind == "log" else (low, high)), kind


def put_dots(axes: Axes, x: np.ndarray, y: np.ndarray, css: str, radius: float) -> None:
    """Draw dots, of which those that hide each other are drawn once; values beyond the axis are at its edge."""
    good = np.isfinite(x) & np.isfinite(y)
    if axes.y.kind == "log":
        good &= y > 0
    if not good.any():
        return
    x, y = x[good], np.clip(y[good], *_inside(axes.y))
    cells = np.stack([axes.x.place(x) // _CELL, axes.y.place(y) // _CELL], axis=1)
    _, first = np.unique(cells, axis=0, return_index=True)
    if len(first) > MOST_DOTS:
        first = first[np.linspace(0, len(first) - 1, MOST_DOTS).astype(np.int64)]
    axes.dots(x[first], y[first], css, radius)


def _inside(scale: Scale) -> tuple[float, float]:
    """Return the ends of a scale, moved inwards so that a dot at an end is whole."""
    share = _CELL / abs(scale.end - scale.start)
    if scale.kind == "log":
        factor = (scale.high / scale.low) ** share
        return scale.low * factor, scale.high / factor
    air = share * (scale.high - scale.low)
    return scale.low + air, scale.high - air


def history_figure(facts: StudyFacts, objective: int) -> str:
    """Draw one objective of the trials against their numbers, with the best so far; empty if there is no value."""
    pruned = objective == 0 and facts.is_single
    if not facts.order and not (pruned and any(trial.state == PRUNED and trial.scores for trial in facts.trials)):
        return ""
    entries = [("dot c1", "finished")]
    if pruned and any(trial.state == PRUNED and trial.scores for trial in facts.trials):
        entries.append(("dot c2", "pruned: its last evaluation"))
    entries += [("line ink", "best so far"), ("ring good", "best")] if facts.order else []
    return legend(entries) + on_both(WIDE, partial(_history, facts=facts, objective=objective, pruned=pruned))


def _history(width: int, facts: StudyFacts, objective: int, pruned: bool) -> str:
    finished = sorted(facts.order, key=lambda trial: trial.number)
    scores = [trial.scores[objective] for trial in finished]  # type: ignore[index]
    ended = [trial for trial in facts.trials if pruned and trial.state == PRUNED and trial.scores]
    last = _finite([trial.scores[0] for trial in ended])  # type: ignore[index]
    is_low = facts.lower_is_better[objective]
    limits, kind = value_axis([*scores, *last], is_low)
    height = 260 if width > PHONE else 200
    most = max(len(facts.trials) - 1, 1)
    axes = Axes(LEFT, 30, width - LEFT - RIGHT, height, (-0.02 * most, 1.02 * most), limits, y_kind=kind)
    axes.add_grid("trial", _axis_label(facts.metrics[objective], kind), min(num_ticks(width), most + 1), 5)
    radius = 2.5 if len(finished) <= 500 else 1.5
    put_dots(axes, np.array([trial.number for trial in ended], dtype=np.float64), np.array(last), "c2", radius)
    numbers, y = np.array([trial.number for trial in finished], dtype=np.float64), np.array(scores, dtype=np.float64)
    put_dots(axes, numbers, y, "c1", radius)
    if len(finished):
        so_far = np.minimum.accumulate(y) if is_low else np.maximum.accumulate(y)
        place = int(np.argmin(y) if is_low else np.argmax(y))
        axes.line(*_steps(numbers, so_far, float(most)), "ink", "best so far")
        axes.ring(numbers[place], y[place], "good", f"trial {finished[place].number}: {y[place]:.5g}")
    return drawing(width, height + 72, [axes], f"{facts.metrics[objective]} of each trial, and the best so far")


def _steps(x: np.ndarray, y: np.ndarray, end: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of a line that keeps each value until the next change, up to `end`."""
    changed = np.flatnonzero(np.diff(y, prepend=np.nan) != 0)
    corners_x = np.repeat(np.append(x[changed], end), 2)[1:-1]
    return np.append(corners_x, end), np.append(np.repeat(y[changed], 2)[: len(corners_x)], y[-1])


def _axis_label(metric: str, kind: str) -> str:
    return metric + (" (logarithmic)" if kind == "log" else "")


def _finite(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else float(value) for value in values]


def curves_figure(facts: StudyFacts) -> tuple[str, int, int]:
    """Draw the first objective during training, a line per trial.

    Returns
    -------
    html : str
        Empty if no trial was evaluated.
    num_drawn, num_curves : int
    """
    curves = [trial for trial in facts.trials if trial.evaluations]
    drawn = _chosen_curves(facts, curves)
    if not drawn:
        return "", 0, 0
    entries = [("line c1", "finished")]
    entries += [("line c2", "pruned"), ("dot c2", "its last evaluation")] if _has(drawn, PRUNED) else []
    entries += [("line c3", "running")] if any(is_running(trial) for trial in drawn) else []
    if any(not is_running(trial) and trial.state not in (FINISHED, PRUNED) for trial in drawn):
        entries.append(("line lost", "failed, diverged or given back"))
    entries += [("line ink", "best")] if facts.best in drawn else []
    return legend(entries) + on_both(WIDE, partial(_curves, facts=facts, drawn=drawn)), len(drawn), len(curves)


def _has(trials: Sequence[Trial], state: str) -> bool:
    return any(trial.state == state for trial in trials)


def _chosen_curves(facts: StudyFacts, curves: list[Trial]) -> list[Trial]:
    """Return the trials whose lines are drawn, the best last: the best third of the room, and evenly of the others."""
    best = [trial for trial in facts.order if trial.evaluations][: MOST_CURVES // 3]
    numbers = {trial.number for trial in best}
    others = evenly([trial for trial in curves if trial.number not in numbers], MOST_CURVES - len(best))
    return [*others, *reversed(best)]


def _curves(width: int, facts: StudyFacts, drawn: list[Trial]) -> str:
    lines = {trial.number: _points(trial) for trial in drawn}
    values = np.concatenate([y for _, y in lines.values()])
    limits, kind = value_axis(list(values), facts.lower_is_better[0])
    evaluations = [x for x, _ in lines.values()]
    first, last = min(x[0] for x in evaluations), max(x[-1] for x in evaluations)
    height = 280 if width > PHONE else 220
    air = 0.02 * (last - first) or 0.5
    axes = Axes(LEFT, 30, width - LEFT - RIGHT, height, (first - air, last + air), limits, y_kind=kind)
    metric = next((name for name in facts.metrics if name not in OF_MODEL), facts.metrics[0])
    axes.add_grid("evaluation", _axis_label(metric, kind), min(num_ticks(width), max(1, int(last - first))), 5)
    for trial in drawn:
        axes.line(*lines[trial.number], _curve_css(trial, facts.best))
    ends = [lines[trial.number] for trial in drawn if trial.state == PRUNED]
    put_dots(axes, np.array([x[-1] for x, _ in ends]), np.array([y[-1] for _, y in ends]), "c2", 2.5)
    if facts.best in drawn:
        axes.line(*lines[facts.best.number], "ink", f"trial {facts.best.number}, the best")  # type: ignore[union-attr]
    return drawing(width, height + 72, [axes], f"{metric} of each trial at its evaluations")


def _points(trial: Trial) -> tuple[np.ndarray, np.ndarray]:
    x = np.array([index for index, _ in trial.evaluations], dtype=np.float64)
    return x, np.array(_finite([value for _, value in trial.evaluations]))


def _curve_css(trial: Trial, best: Trial | None) -> str:
    if trial is best:
        return "ink"
    if is_running(trial):
        return "c3"
    return {FINISHED: "c1 thin", PRUNED: "c2 thin"}.get(trial.state, "lost thin")


SLICE_LEGEND = [
    *((f"dot {css}", text) for css, text in zip(_QUARTERS, ("first quarter", "second", "third", "last"), strict=True)),
    ("dot raw", "pruned: its last evaluation"),
    ("ring good", "best"),
]


def slices(facts: StudyFacts, objective: int) -> list[tuple[str, str]]:
    """Return key and drawing of each parameter: one objective against the values that trials had."""
    found = []
    for parameter in facts.space.parameters:
        there = [trial for trial in facts.order if parameter.key in trial.values]
        if there:
            one = partial(_slice, facts=facts, parameter=parameter, objective=objective, there=there)
            found.append((parameter.key, on_both(HALF, one)))
    return found


def _slice(width: int, facts: StudyFacts, parameter: Parameter, objective: int, there: list[Trial]) -> str:
    scores = [trial.scores[objective] for trial in there]  # type: ignore[index]
    is_shown = facts.is_single
    ended = [t for t in facts.trials if is_shown and t.state == PRUNED and t.scores and parameter.key in t.values]
    last = _finite([trial.scores[0] for trial in ended])  # type: ignore[index]
    limits, kind = value_axis(scores, facts.lower_is_better[objective])
    height = 190 if width > PHONE else 160
    axes = _parameter_axes(parameter, width, height, limits, kind, short_names(facts.space)[parameter.key])
    axes.add_grid(_parameter_label(facts, parameter), _axis_label(facts.metrics[objective], kind), num_ticks(width), 4)
    radius = 2.5 if len(there) <= 500 else 1.5
    put_dots(axes, _places(parameter, ended), np.array(last), "raw", radius)
    x, y = _places(parameter, there), np.array(scores, dtype=np.float64)
    quarter = np.array([4 * trial.number // max(1, len(facts.trials)) for trial in there])
    for index, css in enumerate(_QUARTERS):
        put_dots(axes, x[quarter == index], y[quarter == index], css, radius)
    place = int(np.argmin(y) if facts.lower_is_better[objective] else np.argmax(y))
    title = f"trial {there[place].number}: {parameter.key} {there[place].values[parameter.key]}, {y[place]:.5g}"
    axes.ring(x[place], y[place], "good", title)
    return drawing(width, height + 72, [axes], f"{facts.metrics[objective]} against {parameter.key}")


def _parameter_label(facts: StudyFacts, parameter: Parameter) -> str:
    name = short_names(facts.space)[parameter.key]
    return f"{name} (logarithmic)" if parameter.section.log else name


def _parameter_axes(
    parameter: Parameter, width: int, height: int, limits: tuple[float, float], kind: str, name: str
) -> Axes:
    room = width - LEFT - RIGHT
    if parameter.section.choices is None:
        low, high = parameter_limits(parameter)
        x_kind = "log" if parameter.section.log else "linear"
        return Axes(LEFT, 30, room, height, (low, high), limits, x_kind, kind)
    names = parameter.names
    letters = max(3, int(room / len(names) / 6.5))
    shown = [text if len(text) <= letters else f"{text[: letters - 1]}…" for text in names]
    return Axes(LEFT, 30, room, height, (-0.5, len(names) - 0.5), limits, "names", kind, shown)


def parameter_limits(parameter: Parameter) -> tuple[float, float]:
    """Return the ends of a range with a margin."""
    low, high = float(parameter.section.low), float(parameter.section.high)  # type: ignore[arg-type]
    if parameter.section.log:
        low, high = padded(math.log10(low), math.log10(high), 0.03)
        return 10**low, 10**high
    return padded(low, high, 0.03)


def _places(parameter: Parameter, trials: Sequence[Trial]) -> np.ndarray:
    """Return the values of the trials on the axis; choices are spread a little, so that dots do not hide each other."""
    if parameter.section.choices is None:
        return np.array([trial.values[parameter.key] for trial in trials], dtype=np.float64)
    places = {name: index for index, name in enumerate(parameter.names)}
    golden = (math.sqrt(5) - 1) / 2
    return np.array(
        [places.get(str(t.values[parameter.key]), math.nan) + 0.5 * (t.number * golden % 1 - 0.5) for t in trials]
    )
