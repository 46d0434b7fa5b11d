"""Curves against the step: losses, the metrics of the family, learning rate, gradient norm, throughput."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from hpctrain.drawing.decimate import running_mean
from hpctrain.drawing.scale import padded
from hpctrain.drawing.svg import (
    HALF,
    LEFT,
    PHONE,
    RIGHT,
    SMALL,
    SMALL_ON_PHONE,
    WIDE,
    Axes,
    drawing,
    legend,
    num_ticks,
    on_both,
)
from hpctrain.families.shown import Curve
from hpctrain.metrics.events import ProfileChanged
from hpctrain.metrics.read import History
from hpctrain.records import Record
from hpctrain.report.attempts import Attempt
from hpctrain.report.gather import RunFacts

LATE_FROM = 0.2
_LONGEST_LABEL = 48


class Line(NamedTuple):
    """A line of a small figure: records, name of the quantity in them, CSS class of the line, name of the line."""

    records: list[Record]
    quantity: str
    css: str
    name: str


@dataclass(frozen=True)
class SmallFigure:
    """A small figure: what it shows, and how its axes are chosen.

    Parameters
    ----------
    title, unit : str
    lines : list of Line
    from_zero : bool
        Whether the axis is linear and begins at zero.
    log : bool, optional
        Whether the axis is logarithmic; by default :func:`y_axis` decides.
    smooth : bool
        Whether long lines are smoothed.
    late : bool
        Whether it shows the last part of the run.
    ideal : float, optional
        Value at which a line is drawn.
    ideal_label : str
    best : Record, optional
        Evaluation that gets a ring.
    """

    title: str
    unit: str
    lines: list[Line]
    from_zero: bool = False
    log: bool | None = None
    smooth: bool = True
    late: bool = False
    ideal: float | None = None
    ideal_label: str = ""
    best: Record | None = None


def series(records: list[Record], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values of one quantity, by step; NaN if the number in a record was not finite."""
    found = sorted((r["step"], r[name]) for r in records if name in r and not isinstance(r[name], str | list))
    steps = np.array([step for step, _ in found], dtype=np.float64)
    return steps, np.array([np.nan if value is None else value for _, value in found], dtype=np.float64)


def recorded_losses(history: History) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and losses of training for the faint line: with the extremes between the records that are kept."""
    return series([*history.train, *history.extremes], "loss")


def y_axis(values: list[np.ndarray], log: bool | None = None) -> tuple[tuple[float, float], str]:
    """Return limits and kind of an axis.

    Parameters
    ----------
    values : list of ndarray
    log : bool, optional
        Whether it is logarithmic, if all values are positive; by default if they span more than a factor of four.
    """
    together = np.concatenate([v[np.isfinite(v)] for v in values]) if values else np.empty(0)
    if not len(together):
        return (0.0, 1.0), "linear"
    low, high = float(together.min()), float(together.max())
    if low > 0 and (high > 4 * low if log is None else log):
        return (low / 1.15, high * 1.15), "log"
    return padded(low, high), "linear"


def loss_figure(facts: RunFacts) -> str:
    """Draw training and validation loss; return an empty text if there is neither."""
    history = facts.history
    steps, loss = series(history.train, "loss")
    eval_steps, _ = series(history.evaluations, "loss")
    if not len(steps) and not len(eval_steps):
        return ""
    smoothed = len(loss) // 150
    entries = [("line c1", "training" + (", smoothed" if smoothed else ""))]
    if smoothed:
        entries.append(("line c1 faint", "training, as recorded"))
    if len(eval_steps):
        entries += [("line c2", "validation")] + ([("ring c2", "best")] if _best_loss(facts) else [])
    if len(facts.attempts) > 1:
        entries.append(("line resume", "resumed"))
    if changes_of(history):
        entries.append(("line change", "resumed with a changed profile"))
    return legend(entries) + on_both(WIDE, lambda width: _loss_drawing(width, facts))


def _best_loss(facts: RunFacts) -> Record | None:
    """Return the best evaluation, if the loss decides which one that is."""
    return facts.best_evaluation() if facts.model.family.objective.metric == "loss" else None


def _loss_drawing(width: int, facts: RunFacts) -> str:
    history, curve = facts.history, facts.model.family.loss
    steps, loss = series(history.train, "loss")
    all_steps, all_losses = recorded_losses(history)
    eval_steps, eval_loss = series(history.evaluations, "loss")
    limits, kind = y_axis([all_losses, eval_loss], curve.log)
    if kind == "log":  # single records may scatter far down, so the means set the limit
        drawn = np.nanquantile(all_losses, [0.001, 1.0]) if np.isfinite(all_losses).any() else all_losses
        limits, kind = y_axis([drawn, eval_loss], curve.log)
    height = 300 if width > PHONE else 230
    axes = Axes(LEFT, 30, width - LEFT - RIGHT, height, _step_limits(history), limits, y_kind=kind)
    axes.add_grid("step", curve.axis + (" (logarithmic)" if kind == "log" else ""), num_ticks(width), 6)
    _mark_resumptions(axes, facts.attempts)
    _mark_changes(axes, history, labelled=True)
    if curve.ideal is not None and limits[0] < curve.ideal < limits[1]:
        axes.horizontal(curve.ideal, "reference", curve.ideal_label)
    if len(loss) // 150:
        axes.line(all_steps, all_losses, "c1 faint")
    axes.line(steps, running_mean(loss, len(loss) // 150), "c1", "training")
    axes.line(eval_steps, eval_loss, "c2", "validation")
    if len(eval_steps) <= 120:
        axes.dots(eval_steps, eval_loss, "c2", 2.4)
    _ring(axes, "loss", _best_loss(facts))
    return drawing(width, height + 78, [axes], "Training and validation loss against the step")


def _ring(axes: Axes, metric: str, best: Record | None) -> None:
    if best is not None:
        name = metric.replace("_", " ")
        title = f"best validation {name} {best[metric]:.5g} at step {best['step']}"
        axes.ring(best["step"], best[metric], "c2", title)


def small_figures(facts: RunFacts) -> list[tuple[str, str]]:
    """Return (title, HTML) of each smaller curve for which there are records."""
    found = []
    for figure in _wanted(facts):
        values = [series(line.records, line.quantity)[1] for line in figure.lines]
        if any(np.isfinite(one).sum() > 1 for one in values):
            found.append((figure.title, on_both(HALF, partial(_small_drawing, figure=figure, facts=facts))))
    return found


def _wanted(facts: RunFacts) -> list[SmallFigure]:
    train, evaluations, loss = facts.history.train, facts.history.evaluations, facts.model.family.loss
    first = LATE_FROM * facts.history.step
    late = [[r for r in records if r["step"] > first] for records in (train, evaluations)]
    late_lines = [Line(late[0], "loss", "c1", "training"), Line(late[1], "loss", "c2", "validation")]
    rate = f"{facts.model.many}/s"
    own = [(curve.first, _own_figure(facts, curve)) for curve in facts.model.curves]
    return [
        SmallFigure("Loss after the first 20 %", loss.axis, late_lines, log=loss.log, late=True),
        *(figure for is_first, figure in own if is_first),
        SmallFigure(
            "Throughput",
            f"{facts.model.many} per second, all ranks",
            [Line(train, "samples_per_s", "c3", rate)],
            from_zero=True,
        ),
        SmallFigure("Gradient norm", "before clipping", [Line(train, "grad_norm", "c4", "gradient norm")]),
        SmallFigure(
            "Learning rate", "of AdamW", [Line(train, "lr", "c1", "learning rate")], from_zero=True, smooth=False
        ),
        *(figure for is_first, figure in own if not is_first),
    ]


def _own_figure(facts: RunFacts, curve: Curve) -> SmallFigure:
    """Return the figure of a metric of the family."""
    lines = [Line(facts.history.train, curve.metric, "c1", "training")] if curve.training else []
    lines.append(Line(facts.history.evaluations, curve.metric, "c2", "validation"))
    best = facts.best_evaluation() if curve.metric == facts.model.family.objective.metric else None
    return SmallFigure(
        curve.title,
        curve.axis,
        lines,
        log=curve.log,
        ideal=curve.ideal,
        ideal_label=curve.ideal_label,
        best=best,
    )


def _small_drawing(width: int, figure: SmallFigure, facts: RunFacts) -> str:
    values = [series(line.records, line.quantity) for line in figure.lines]
    limits, kind = y_axis([one for _, one in values], False if figure.from_zero else figure.log)
    if figure.from_zero:
        limits = (0.0, limits[1])
    ideal = figure.ideal
    if ideal is not None and ideal < limits[0] < 1.5 * ideal:
        limits = (0.98 * ideal, limits[1])
    steps = _step_limits(facts.history)
    steps = (LATE_FROM * steps[1], steps[1]) if figure.late else steps
    height = SMALL if width > PHONE else SMALL_ON_PHONE
    axes = Axes(LEFT, 30, width - LEFT - RIGHT, height, steps, limits, y_kind=kind)
    axes.add_grid("step", figure.unit + (" (logarithmic)" if kind == "log" else ""), num_ticks(width), 4)
    _mark_resumptions(axes, facts.attempts)
    _mark_changes(axes, facts.history)
    if ideal is not None and limits[0] < ideal < limits[1]:
        axes.horizontal(ideal, "reference", figure.ideal_label)
    for line, (at, one) in zip(figure.lines, values, strict=True):
        smoothed = len(one) // 100 if figure.smooth else 0
        if smoothed:
            axes.line(at, one, f"{line.css} faint")
        axes.line(at, running_mean(one, smoothed), line.css, line.name)
        if len(one) <= 40 and line.css == "c2":  # mark single evaluations if they are few
            axes.dots(at, one, line.css, 2.0)
    if figure.best is not None:
        _ring(axes, figure.lines[-1].quantity, figure.best)
    return drawing(width, height + 72, [axes], f"{figure.title}: {figure.unit} against the step")


def changes_of(history: History) -> list[tuple[int, str]]:
    """Return step and text of every change of the profile at a resume."""
    found = []
    for event in history.all_of(ProfileChanged):
        changes = event.changes or ()
        texts = [f"{change.get('key')}: {change.get('old')} → {change.get('new')}" for change in changes]
        if texts:
            found.append((event.step, "; ".join(texts)))
    return found


def _step_limits(history: History) -> tuple[float, float]:
    return 0.0, float(max(1, history.step))


def _mark_resumptions(axes: Axes, attempts: list[Attempt]) -> None:
    for attempt in attempts[1:]:
        if axes.x.low < attempt.first_step <= axes.x.high:
            axes.vertical(
                attempt.first_step, "resume", title=f"attempt {attempt.number} resumed at step {attempt.first_step}"
            )


def _mark_changes(axes: Axes, history: History, labelled: bool = False) -> None:
    for step, text in changes_of(history):
        if axes.x.low <= step <= axes.x.high:
            label = text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…"
            axes.vertical(step, "change", label if labelled else "", f"from step {step}: {text}")
