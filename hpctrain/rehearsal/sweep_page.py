"""A learning rate range test as a page, a picture and text."""

from __future__ import annotations

import time
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.drawing.scale import padded
from hpctrain.drawing.svg import LEFT, RIGHT, WIDE, Axes, drawing, legend, num_ticks, on_both
from hpctrain.files import NewFile
from hpctrain.rehearsal.sweep import DIVISOR, Sweep
from hpctrain.report.document import Head, moment, render_document

_COLUMNS, _LINES = 64, 12
_RULE = (
    f"The suggestion is the learning rate at which the smoothed loss is lowest, divided by {DIVISOR:g}. It is the peak "
    "of the schedule: set train.learning_rate to it."
)
_CITED = "Method: Smith 2017, arXiv:1506.01186, section 3.3."


def text(found: Sweep, current: float) -> list[str]:
    """Return lines for a terminal of 80 columns; `current` is the learning rate of the profile."""
    lines = [*_plot(found), "", sentence(found, current), f"It ended after {len(found.losses)} steps: {found.ended}."]
    return [*lines, *(f"note: {note}" for note in found.notes)]


def sentence(found: Sweep, current: float) -> str:
    """Return the suggestion in words."""
    if found.suggested is None:
        return f"No learning rate can be suggested; the profile has {current:.2g}."
    return (
        f"Suggested: train.learning_rate={found.suggested:.2g} (the profile has {current:.2g}). The loss falls fastest "
        f"at {found.steepest:.2g} and is lowest at {found.lowest:.2g}."
    )


def page(found: Sweep, name: str, source: str, current: float) -> str:
    """Return the page as HTML."""
    head = Head(
        kind="Learning rate range test",
        name=escape(name),
        place=escape(source),
        sentence=escape(sentence(found, current)),
    )
    ended = f"The sweep ran on {found.device} and ended after {len(found.losses)} steps: {found.ended}."
    notes = "".join(f"<li>{escape(note)}</li>" for note in found.notes)
    rules = f'<p>{escape(ended)}</p><ul>{notes}</ul><p class="note">{escape(_RULE)} {escape(_CITED)}</p>'
    return render_document(head, [("curve", "Loss by learning rate", f"{_figure(found)}{rules}")], moment(time.time()))


def _figure(found: Sweep) -> str:
    if len(found.rates) < 2:
        return '<p class="empty">Too few steps to draw.</p>'
    x, y, smoothed = (np.array(part) for part in (found.rates, found.losses, found.smoothed))
    low, high = limits(found)

    def draw(width: int) -> str:
        axes = Axes(LEFT, 26, width - LEFT - RIGHT, 300, (x[0], x[-1]), (low, high), x_kind="log")
        axes.add_grid("learning rate", "loss of the batch", num_ticks(width), 6)
        axes.line(x, y, "raw")
        axes.line(x, smoothed, "c1", "smoothed loss")
        for rate, label in ((found.suggested, "suggested"), (found.steepest, "steepest"), (found.lowest, "lowest")):
            if rate is not None:
                axes.vertical(rate, "reference", f"{label} {rate:.2g}")
        return drawing(width, 380, [axes], "Loss by learning rate")

    return legend([("line raw", "loss of each batch"), ("line c1", "smoothed")]) + on_both(WIDE, draw)


def limits(found: Sweep) -> tuple[float, float]:
    """Return the range of losses to draw: a blow-up at the end must not flatten the rest."""
    smoothed = np.array(found.smoothed)
    start = float(np.median(smoothed[: max(2, len(smoothed) // 20)]))
    low = float(min(smoothed.min(), np.quantile(found.losses, 0.01)))
    return padded(low, max(start, low) + 0.5 * max(start - low, 0.1 * abs(low)), 0.08)


def write_picture(found: Sweep, path: Path, title: str) -> None:
    """Write the curve as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.semilogx(found.rates, found.losses, color="0.75", linewidth=0.8, label="loss of each batch")
    axes.semilogx(found.rates, found.smoothed, color="C0", label="smoothed")
    for rate, label, style in (
        (found.suggested, "suggested", "-"),
        (found.steepest, "steepest", ":"),
        (found.lowest, "lowest", "--"),
    ):
        if rate is not None:
            axes.axvline(rate, color="C3", linestyle=style, linewidth=1, label=f"{label}: {rate:.2g}")
    if len(found.rates) > 1:
        axes.set_ylim(*limits(found))
    axes.set(xlabel="learning rate", ylabel="loss of the batch", title=title)
    axes.legend()
    with NewFile(path, durable=False) as new:
        figure.savefig(new.stream, format="png", dpi=150)


def _plot(found: Sweep) -> list[str]:
    """Return the smoothed loss as lines of characters, with a mark below the suggestion."""
    if len(found.rates) < 2:
        return []
    x = np.log10(found.rates)
    columns = np.linspace(x[0], x[-1], _COLUMNS)
    low, high = limits(found)
    heights = np.clip((np.interp(columns, x, found.smoothed) - low) / (high - low), 0, 1) * (_LINES - 1)
    places = np.round(heights).astype(int)
    lines = []
    for level in range(_LINES - 1, -1, -1):
        label = f"{low + (high - low) * level / (_LINES - 1):>10.4g}" if level % 4 == 3 or level == 0 else " " * 10
        lines.append(f"{label} |" + "".join("*" if place == level else " " for place in places).rstrip())
    axis = ["-"] * _COLUMNS
    if found.suggested is not None and found.suggested >= found.rates[0]:
        axis[int(np.argmin(np.abs(columns - np.log10(found.suggested))))] = "^"
    first, last = f"{found.rates[0]:.1e}", f"{found.rates[-1]:.1e}"
    return [*lines, " " * 10 + " +" + "".join(axis), " " * 12 + first + last.rjust(_COLUMNS - len(first))]


def to_json(found: Sweep, current: float) -> dict[str, Any]:
    """Return everything as plain values."""
    return {**vars(found), "profile_learning_rate": current, "rule": _RULE}
