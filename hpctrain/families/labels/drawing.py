"""Draw predicted labels against true ones as HTML and SVG. N samples."""

from __future__ import annotations

from html import escape

import numpy as np

from hpctrain.drawing.scale import grouped, padded
from hpctrain.drawing.svg import HALF, Axes, drawing, on_both
from hpctrain.families.labels.scores import confusion, pit_flatness
from hpctrain.families.result_files import Arrays

MOST_CLASSES = 24
"""Largest number of classes of a table; rarer ones are added up."""
MOST_POINTS = 4000
_LEFT, _RIGHT, _HEIGHT = 62, 20, 330
_OTHERS = "others"


def confusion_table(predicted: np.ndarray, true: np.ndarray) -> str:
    """Return the numbers of samples by true (rows) and predicted class (columns) as HTML.

    Parameters
    ----------
    predicted, true : ndarray, shape (N,), bytes
        Empty where there is no label or prediction.
    """
    known = (true != b"") & (predicted != b"")
    if not known.any():
        return ""
    names, counts = confusion(_texts(predicted[known]), _texts(true[known]))
    if len(names) > MOST_CLASSES:
        names, counts = _merged(names, counts)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = "".join(
        f"<tr><th>{escape(name)}</th>"
        + "".join(_cell(int(count), float(part)) for count, part in zip(counts[row], share[row], strict=True))
        + f"<td>{grouped(int(counts[row].sum()))}</td></tr>"
        for row, name in enumerate(names)
    )
    note = "Rows: true classes; columns: predicted ones. The darker a cell, the larger its share of the row."
    return (
        f'<div style="overflow-x:auto"><table><thead><tr><th></th>{head}<th>all</th></tr></thead>'
        f'<tbody>{rows}</tbody></table></div><p class="note">{note}</p>'
    )


def _cell(count: int, share: float) -> str:
    if not count:
        return "<td></td>"
    shade = f"background: color-mix(in srgb, var(--c1) {round(55 * share)}%, transparent)"
    return f'<td style="padding-left:10px; {shade}" title="{100 * share:.0f} % of the row">{grouped(count)}</td>'


def _merged(names: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add up the rarest classes as one."""
    kept = MOST_CLASSES - 1
    fold = np.zeros((len(names), kept + 1), dtype=np.int64)
    fold[np.arange(len(names)), np.minimum(np.arange(len(names)), kept)] = 1
    return np.append(names[:kept], f"{len(names) - kept} {_OTHERS}"), fold.T @ counts @ fold


def _texts(values: np.ndarray) -> np.ndarray:
    return np.char.decode(values, "utf-8", "replace")


def truth_figure(columns: Arrays, title: str) -> str:
    """Draw predicted against true values."""
    true, predicted = _finite(columns, f"{title}_TRUE", f"{title}_PRED")
    if len(true) < 3:
        return ""
    chosen = np.linspace(0, len(true) - 1, min(len(true), MOST_POINTS)).astype(np.int64)
    limits = padded(float(min(true.min(), predicted.min())), float(max(true.max(), predicted.max())))

    def draw(width: int) -> str:
        axes = Axes(_LEFT, 30, width - _LEFT - _RIGHT, _HEIGHT, limits, limits)
        axes.add_grid(f"true {title}", f"predicted {title}", width // 80, 6)
        axes.line(np.array(limits), np.array(limits), "reference")
        axes.dots(true[chosen], predicted[chosen], "c1", 2.0)
        return drawing(width, _HEIGHT + 82, [axes], f"Predicted against true {title} of the held-out samples")

    return on_both(HALF, draw)


def residual_figure(columns: Arrays, title: str) -> str:
    """Draw the distribution of the residuals, in units of their uncertainty where the columns have it."""
    has_pull = f"{title}_PULL" in columns
    name, label = f"{title}_RESIDUAL", f"residual / (1 + {title})" if is_relative(columns, title) else "residual"
    if has_pull:
        name, label = f"{title}_PULL", "residual / uncertainty"
    (residual,) = _finite(columns, name)
    if len(residual) < 8:
        return ""
    far = 5.0 if has_pull else 6 * max(1.4826 * float(np.median(np.abs(residual - np.median(residual)))), 1e-12)
    edges = np.linspace(-far, far, 41)
    counts, _ = np.histogram(residual, bins=edges)
    beyond = int((np.abs(residual) > far).sum())

    def draw(width: int) -> str:
        axes = Axes(
            _LEFT, 30, width - _LEFT - _RIGHT, _HEIGHT, (-far, far), (0.0, 1.15 * max(1.0, float(counts.max())))
        )
        axes.add_grid(label, "held-out samples", width // 80, 6)
        _bars(axes, counts, edges)
        if has_pull:
            grid = np.linspace(-far, far, 201)
            normal = len(residual) * (edges[1] - edges[0]) * np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi)
            axes.line(grid, normal, "ink")
        axes.vertical(0.0, "reference")
        return drawing(width, _HEIGHT + 82, [axes], f"Distribution of the residuals of {title}")

    note = f"Beyond the edges: {beyond}." if beyond else ""
    if has_pull:
        note = f"Line: a normal distribution of width 1. {note}"
    return f'{on_both(HALF, draw)}<p class="note">{note}</p>' if note else on_both(HALF, draw)


def is_relative(columns: Arrays, title: str) -> bool:
    """Return whether the residuals of a label are divided by 1 + true value."""
    true, predicted, residual = _finite(columns, f"{title}_TRUE", f"{title}_PRED", f"{title}_RESIDUAL")
    apart = predicted - true
    near = np.abs(residual * (1 + true) - apart) < np.abs(residual - apart)
    return bool(len(true)) and float(near.mean()) > 0.5


def pit_figure(columns: Arrays, title: str) -> str:
    """Draw the distribution of the predicted probabilities below the true values."""
    if f"{title}_PIT" not in columns:
        return ""
    (pit,) = _finite(columns, f"{title}_PIT")
    if len(pit) < 20:
        return ""
    edges = np.linspace(0, 1, 21)
    counts, _ = np.histogram(pit, bins=edges)

    def draw(width: int) -> str:
        axes = Axes(_LEFT, 30, width - _LEFT - _RIGHT, _HEIGHT, (0.0, 1.0), (0.0, 1.15 * float(counts.max())))
        axes.add_grid("probability below the true value", "held-out samples", width // 80, 6)
        _bars(axes, counts, edges)
        axes.horizontal(len(pit) / 20, "reference", "flat")
        return drawing(width, _HEIGHT + 82, [axes], f"Distribution of the probability integral transform of {title}")

    return f'{on_both(HALF, draw)}<p class="note">Largest distance from flat: {pit_flatness(pit):.3f}.</p>'


def _bars(axes: Axes, counts: np.ndarray, edges: np.ndarray) -> None:
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        if count:
            axes.bar(low, high, 0, count, "fill c2", f"{count} between {low:.3g} and {high:.3g}")


def _finite(columns: Arrays, *names: str) -> list[np.ndarray]:
    arrays = [np.asarray(columns[name], dtype=np.float64) for name in names]
    good = np.logical_and.reduce([np.isfinite(values) for values in arrays])
    return [values[good] for values in arrays]
