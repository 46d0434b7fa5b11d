"""Curves over the steps: losses, chi-square, learning rate, gradient norm, throughput."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpctrain.metrics.read import History
from hpctrain.report.attempts import Attempt
from hpctrain.report.decimate import running_mean
from hpctrain.report.scale import padded
from hpctrain.report.svg import Axes, drawing, legend

WIDE, NARROW = 1040, 508
LATE_FROM = 0.2
LATE, FIT = "Loss, without the first fifth", "Goodness of fit"
_LEFT, _RIGHT = 62, 26


def series(records: list[dict[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values of one quantity, by step; NaN where a record had a number that was not finite."""
    found = sorted((r["step"], r[name]) for r in records if name in r and not isinstance(r[name], str | list))
    steps = np.array([step for step, _ in found], dtype=np.float64)
    return steps, np.array([np.nan if value is None else value for _, value in found], dtype=np.float64)


def y_axis(values: list[np.ndarray], always_linear: bool = False) -> tuple[tuple[float, float], str]:
    """Return limits and kind of an axis: logarithmic where positive values span more than a factor of four."""
    together = np.concatenate([v[np.isfinite(v)] for v in values]) if values else np.empty(0)
    if not len(together):
        return (0.0, 1.0), "linear"
    low, high = float(together.min()), float(together.max())
    if low > 0 and high > 4 * low and not always_linear:
        return (low / 1.15, high * 1.15), "log"
    return padded(low, high), "linear"


def loss_figure(history: History, attempts: list[Attempt]) -> str:
    """Draw training and validation loss; empty where there is neither."""
    steps, loss = series(history.train, "loss")
    eval_steps, eval_loss = series(history.evaluations, "loss")
    if not len(steps) and not len(eval_steps):
        return ""
    smooth = running_mean(loss, len(loss) // 150)
    limits, kind = y_axis([loss, eval_loss])
    if kind == "log":  # the raw scatter may reach far; what matters is where the means lie
        limits, kind = y_axis([np.nanquantile(loss, [0.001, 1.0]) if np.isfinite(loss).any() else loss, eval_loss])
    axes = Axes(_LEFT, 30, WIDE - _LEFT - _RIGHT, 300, _step_limits(history), limits, y_kind=kind)
    axes.add_grid("update", "loss per pixel" + (" (logarithmic)" if kind == "log" else ""), 10, 6)
    _mark_resumptions(axes, attempts)
    if limits[0] < 0.5 < limits[1]:
        axes.horizontal(0.5, "reference", "0.5: as good as the noise allows")
    if len(loss) // 150:
        axes.line(steps, loss, "c1 faint")
    axes.line(steps, smooth, "c1", "training")
    axes.line(eval_steps, eval_loss, "c2", "validation")
    if len(eval_steps) <= 120:
        axes.dots(eval_steps, eval_loss, "c2", 2.4)
    best = history.best_evaluation()
    if best is not None:
        axes.ring(best["step"], best["loss"], "c2", f"best validation loss {best['loss']:.5g} at step {best['step']}")
    entries = [("line c1", "training" + (", smoothed" if len(loss) // 150 else ""))]
    if len(loss) // 150:
        entries.append(("line c1 faint", "training, as recorded"))
    if len(eval_steps):
        entries += [("line c2", "validation")] + ([("ring c2", "best")] if best else [])
    if len(attempts) > 1:
        entries.append(("line resume", "resumed"))
    return legend(entries) + drawing(WIDE, 378, [axes], "Training and validation loss against the number of updates")


def small_figures(history: History, attempts: list[Attempt]) -> list[tuple[str, str]]:
    """Return (title, SVG) of the smaller curves, those that there are records of."""
    train = history.train
    first = LATE_FROM * history.step
    late = [[r for r in records if r["step"] > first] for records in (train, history.evaluations)]
    wanted = [
        (LATE, [(late[0], "loss", "c1", "training"), (late[1], "loss", "c2", "validation")], "loss per pixel", False),
        (FIT, [(history.evaluations, "chi2", "c2", "validation")], "χ² per pixel", False),
        ("Throughput", [(train, "samples_per_s", "c3", "spectra/s")], "spectra per second, all ranks", True),
        ("Gradient norm", [(train, "grad_norm", "c4", "gradient norm")], "before clipping", False),
        ("Learning rate", [(train, "lr", "c1", "learning rate")], "of AdamW", True),
        ("Kullback–Leibler divergence", [(history.evaluations, "kl", "c2", "validation")], "nat per spectrum", False),
    ]
    figures = []
    for title, lines, unit, linear in wanted:
        data = [(series(records, name), css, label) for records, name, css, label in lines]
        if any(np.isfinite(values).sum() > 1 for (_, values), _, _ in data):
            figures.append((title, _small_figure(title, data, unit, linear, history, attempts)))
    return figures


def _small_figure(title: str, data: list, unit: str, linear: bool, history: History, attempts: list[Attempt]) -> str:
    limits, kind = y_axis([values for (_, values), _, _ in data], linear)
    if linear:
        limits = (0.0, limits[1])
    if title == FIT and 1 < limits[0] < 1.5:
        limits = (0.98, limits[1])
    steps = _step_limits(history)
    steps = (LATE_FROM * steps[1], steps[1]) if title == LATE else steps
    axes = Axes(_LEFT, 30, NARROW - _LEFT - _RIGHT, 150, steps, limits, y_kind=kind)
    axes.add_grid("update", unit + (" (logarithmic)" if kind == "log" else ""), 5, 4)
    _mark_resumptions(axes, attempts)
    if title == FIT and limits[0] < 1 < limits[1]:
        axes.horizontal(1.0, "reference", "1: the noise")
    for (steps, values), css, label in data:
        width = len(values) // 100 if title != "Learning rate" else 0
        if width:
            axes.line(steps, values, f"{css} faint")
        axes.line(steps, running_mean(values, width), css, label)
        if len(values) <= 40 and css == "c2":  # evaluations are few and far between
            axes.dots(steps, values, css, 2.0)
    return drawing(NARROW, 222, [axes], f"{title}: {unit} against the number of updates")


def _step_limits(history: History) -> tuple[float, float]:
    return 0.0, float(max(1, history.step))


def _mark_resumptions(axes: Axes, attempts: list[Attempt]) -> None:
    for attempt in attempts[1:]:
        if axes.x.low < attempt.first_step <= axes.x.high:
            axes.vertical(
                attempt.first_step, "resume", title=f"attempt {attempt.number} resumed at step {attempt.first_step}"
            )
