"""Curves against the step: losses, chi-square, learning rate, gradient norm, throughput."""

from __future__ import annotations

from typing import Any, NamedTuple

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
from hpctrain.metrics.read import History
from hpctrain.report.attempts import Attempt

LATE_FROM = 0.2
LATE, FIT = "Loss after the first 20 %", "Reconstruction error (χ²)"
_LONGEST_LABEL = 48


class Curve(NamedTuple):
    """A line of a small figure: steps, values, CSS class of the line, name."""

    steps: np.ndarray
    values: np.ndarray
    css: str
    name: str


def series(records: list[dict[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values of one quantity, by step; NaN if the number in a record was not finite."""
    found = sorted((r["step"], r[name]) for r in records if name in r and not isinstance(r[name], str | list))
    steps = np.array([step for step, _ in found], dtype=np.float64)
    return steps, np.array([np.nan if value is None else value for _, value in found], dtype=np.float64)


def recorded_losses(history: History) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and losses of training for the faint line: with the extremes between the records that are kept."""
    return series([*history.train, *history.extremes], "loss")


def y_axis(values: list[np.ndarray], always_linear: bool = False) -> tuple[tuple[float, float], str]:
    """Return limits and kind of an axis: logarithmic if positive values span more than a factor of four."""
    together = np.concatenate([v[np.isfinite(v)] for v in values]) if values else np.empty(0)
    if not len(together):
        return (0.0, 1.0), "linear"
    low, high = float(together.min()), float(together.max())
    if low > 0 and high > 4 * low and not always_linear:
        return (low / 1.15, high * 1.15), "log"
    return padded(low, high), "linear"


def loss_figure(history: History, attempts: list[Attempt]) -> str:
    """Draw training and validation loss; return an empty text if there is neither."""
    steps, loss = series(history.train, "loss")
    eval_steps, _ = series(history.evaluations, "loss")
    if not len(steps) and not len(eval_steps):
        return ""
    smoothed = len(loss) // 150
    best = history.best_evaluation()
    entries = [("line c1", "training" + (", smoothed" if smoothed else ""))]
    if smoothed:
        entries.append(("line c1 faint", "training, as recorded"))
    if len(eval_steps):
        entries += [("line c2", "validation")] + ([("ring c2", "best")] if best else [])
    if len(attempts) > 1:
        entries.append(("line resume", "resumed"))
    if changes_of(history):
        entries.append(("line change", "resumed with a changed profile"))
    return legend(entries) + on_both(WIDE, lambda width: _loss_drawing(width, history, attempts))


def _loss_drawing(width: int, history: History, attempts: list[Attempt]) -> str:
    steps, loss = series(history.train, "loss")
    all_steps, all_losses = recorded_losses(history)
    eval_steps, eval_loss = series(history.evaluations, "loss")
    limits, kind = y_axis([all_losses, eval_loss])
    if kind == "log":  # single records may scatter far down, so the means set the limit
        drawn = np.nanquantile(all_losses, [0.001, 1.0]) if np.isfinite(all_losses).any() else all_losses
        limits, kind = y_axis([drawn, eval_loss])
    height = 300 if width > PHONE else 230
    axes = Axes(LEFT, 30, width - LEFT - RIGHT, height, _step_limits(history), limits, y_kind=kind)
    axes.add_grid("step", "loss per pixel" + (" (logarithmic)" if kind == "log" else ""), num_ticks(width), 6)
    _mark_resumptions(axes, attempts)
    _mark_changes(axes, history, labelled=True)
    if limits[0] < 0.5 < limits[1]:
        axes.horizontal(0.5, "reference", "0.5: as good as the noise allows")
    if len(loss) // 150:
        axes.line(all_steps, all_losses, "c1 faint")
    axes.line(steps, running_mean(loss, len(loss) // 150), "c1", "training")
    axes.line(eval_steps, eval_loss, "c2", "validation")
    if len(eval_steps) <= 120:
        axes.dots(eval_steps, eval_loss, "c2", 2.4)
    best = history.best_evaluation()
    if best is not None:
        axes.ring(best["step"], best["loss"], "c2", f"best validation loss {best['loss']:.5g} at step {best['step']}")
    return drawing(width, height + 78, [axes], "Training and validation loss against the step")


def small_figures(history: History, attempts: list[Attempt]) -> list[tuple[str, str]]:
    """Return (title, HTML) of each smaller curve for which there are records."""
    train = history.train
    first = LATE_FROM * history.step
    late = [[r for r in records if r["step"] > first] for records in (train, history.evaluations)]
    wanted = [
        (LATE, [(late[0], "loss", "c1", "training"), (late[1], "loss", "c2", "validation")], "loss per pixel", False),
        (FIT, [(history.evaluations, "chi2", "c2", "validation")], "mean χ² per pixel", False),
        ("Throughput", [(train, "samples_per_s", "c3", "spectra/s")], "spectra per second, all ranks", True),
        ("Gradient norm", [(train, "grad_norm", "c4", "gradient norm")], "before clipping", False),
        ("Learning rate", [(train, "lr", "c1", "learning rate")], "of AdamW", True),
        ("Kullback–Leibler divergence", [(history.evaluations, "kl", "c2", "validation")], "nat per spectrum", False),
    ]
    figures = []
    for title, lines, unit, linear in wanted:
        curves = [Curve(*series(records, name), css, label) for records, name, css, label in lines]
        if any(np.isfinite(curve.values).sum() > 1 for curve in curves):

            def draw(width: int, of: tuple = (title, curves, unit, linear)) -> str:
                return _small_drawing(width, *of, history, attempts)

            figures.append((title, on_both(HALF, draw)))
    return figures


def _small_drawing(
    width: int, title: str, curves: list[Curve], unit: str, linear: bool, history: History, attempts: list[Attempt]
) -> str:
    limits, kind = y_axis([curve.values for curve in curves], linear)
    if linear:
        limits = (0.0, limits[1])
    if title == FIT and 1 < limits[0] < 1.5:
        limits = (0.98, limits[1])
    steps = _step_limits(history)
    steps = (LATE_FROM * steps[1], steps[1]) if title == LATE else steps
    height = SMALL if width > PHONE else SMALL_ON_PHONE
    axes = Axes(LEFT, 30, width - LEFT - RIGHT, height, steps, limits, y_kind=kind)
    axes.add_grid("step", unit + (" (logarithmic)" if kind == "log" else ""), num_ticks(width), 4)
    _mark_resumptions(axes, attempts)
    _mark_changes(axes, history)
    if title == FIT and limits[0] < 1 < limits[1]:
        axes.horizontal(1.0, "reference", "1: the noise")
    for curve in curves:
        smoothed = len(curve.values) // 100 if title != "Learning rate" else 0
        if smoothed:
            axes.line(curve.steps, curve.values, f"{curve.css} faint")
        axes.line(curve.steps, running_mean(curve.values, smoothed), curve.css, curve.name)
        if len(curve.values) <= 40 and curve.css == "c2":  # mark single evaluations if they are few
            axes.dots(curve.steps, curve.values, curve.css, 2.0)
    return drawing(width, height + 72, [axes], f"{title}: {unit} against the step")


def changes_of(history: History) -> list[tuple[int, str]]:
    """Return step and text of every change of the profile at a resume."""
    found = []
    for event in history.named("profile_changed"):
        changes = event.get("changes")
        texts = [
            f"{change.get('key')}: {change.get('old')} → {change.get('new')}"
            for change in (changes if isinstance(changes, list) else [])
            if isinstance(change, dict)
        ]
        if texts:
            found.append((event["step"], "; ".join(texts)))
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
