"""Draw a sample as the network reads it, with the places that carry its loss."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from hpctrain.drawing.scale import padded
from hpctrain.drawing.svg import LEFT, RIGHT, WIDE, Axes, drawing, num_ticks, on_both
from hpctrain.families.image_cnn.saliency import colours, picture_html

if TYPE_CHECKING:
    from hpctrain.rehearsal.objects import Object
    from hpctrain.rehearsal.replay import Point

_HEIGHT = 170
_MARKED = 3
"""Number of places that are marked in a drawing."""
_WORTH = 0.1
"""Smallest share of the loss of a pixel of a picture that is marked."""
_MARK = np.array([214, 39, 40], dtype=np.uint8)


def object_figure(item: Object, coordinate: str | None) -> str:
    """Return a sample as HTML: a line or dots along its axis, or a picture; empty if it has neither."""
    names = [name for place in item.carriers for name in place.values]
    candidates = [*names, "flux", "image", "value", *item.tensors]
    pictures = [name for name in candidates if name in item.tensors and item.tensors[name].ndim == 3]
    if pictures:
        return _picture(item, pictures[0])
    lines = [
        name
        for name in dict.fromkeys(candidates)
        if name in item.tensors and item.tensors[name].ndim == 1 and name != coordinate and "." not in name
    ]
    return "".join(_line(item, name, coordinate) for name in lines[:2])


def _line(item: Object, name: str, coordinate: str | None) -> str:
    values = item.tensors[name].astype(np.float64)
    if not len(values):
        return ""
    where = item.tensors.get(coordinate or "")
    has_places = where is not None and where.shape == values.shape
    x = where.astype(np.float64) if where is not None and has_places else np.arange(len(values), dtype=np.float64)
    label = (coordinate or "").replace("_", " ") if has_places else "place"
    order = np.argsort(x, kind="stable")
    x, values = x[order], np.where(np.isfinite(values), values, np.nan)[order]
    marks = [place for place in item.carriers if len(place.index) == 1 and name in place.values][:_MARKED]

    def draw(width: int) -> str:
        known = values[np.isfinite(values)]
        limits = padded(float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
        axes = Axes(LEFT, 26, width - LEFT - RIGHT, _HEIGHT, padded(float(x.min()), float(x.max()), 0.01), limits)
        axes.add_grid(label, f"{name} (as the network reads it)", num_ticks(width), 5)
        for place in marks:
            axes.vertical(float(x[np.flatnonzero(order == place.index[0])[0]]), "reference", f"[{place.index[0]}]")
        axes.line(x, values, "c1", name)
        return drawing(width, _HEIGHT + 72, [axes], f"{name} of target_id {item.target_id}")

    return on_both(WIDE, draw)


def _picture(item: Object, name: str) -> str:
    image = np.nan_to_num(item.tensors[name].astype(np.float64))
    pixels = colours(image)
    marked = pixels.copy()
    for place in item.carriers[:_MARKED]:
        if len(place.index) == 3 and (place.share is None or place.share > _WORTH):
            _box(marked, place.index[1], place.index[2])
    title = f"target_id {item.target_id}"
    note = "Left: as the network reads it. Right: boxes around the pixels that carry most of the loss."
    pictures = picture_html(pixels, title) + picture_html(marked, f"{title}, marked")
    return f'<div>{pictures}</div><p class="note">{note}</p>'


def _box(pixels: np.ndarray, row: int, column: int, reach: int = 2) -> None:
    """Draw the outline of a square around a pixel, in place."""
    top, bottom = max(row - reach, 0), min(row + reach, pixels.shape[0] - 1)
    left, right = max(column - reach, 0), min(column + reach, pixels.shape[1] - 1)
    pixels[[top, bottom], left : right + 1] = _MARK
    pixels[top : bottom + 1, [left, right]] = _MARK


def curves_figure(curves: dict[str, Sequence[Point]], marked: int | None = None, log: bool | None = None) -> str:
    """Return curves of losses by step as HTML; the names become a legend."""
    css = {name: f"c{number}" for number, name in enumerate(curves, 1)}
    shown = {
        name: [(p.step, p.loss) for p in points if p.loss is not None and np.isfinite(p.loss)]
        for name, points in curves.items()
    }
    every = [pair for points in shown.values() for pair in points]
    if not every:
        return ""
    steps, losses = np.array([s for s, _ in every], dtype=float), np.array([v for _, v in every], dtype=float)
    is_log = bool(losses.min() > 0 and losses.max() > 4 * losses.min()) if log is None else log
    limits = (losses.min() / 1.1, losses.max() * 1.1) if is_log else padded(float(losses.min()), float(losses.max()))

    def draw(width: int) -> str:
        x_limits = padded(float(steps.min()), float(max(steps.max(), marked or 0)), 0.02)
        axes = Axes(LEFT, 26, width - LEFT - RIGHT, 220, x_limits, limits, y_kind="log" if is_log else "linear")
        axes.add_grid("step", "loss of the batch", num_ticks(width), 5)
        if marked is not None:
            axes.vertical(float(marked), "reference", f"step {marked}")
        for name, points in shown.items():
            if points:
                x, y = (np.array(values, dtype=float) for values in zip(*points, strict=True))
                axes.line(x, y, css[name], name)
                axes.dots(x, y, css[name])
        return drawing(width, 300, [axes], f"Losses by step: {', '.join(curves)}")

    keys = "".join(f'<span class="key line {css[name]}">{escape(name)}</span>' for name in curves)
    return f'<div class="legend">{keys}</div>{on_both(WIDE, draw)}'
