"""Draw a described figure as HTML."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

from hpctrain.drawing.described.bars import draw_bars
from hpctrain.drawing.described.figure import Figure
from hpctrain.drawing.described.lines import draw_curve, draw_histogram
from hpctrain.drawing.described.matrix import draw_matrix
from hpctrain.drawing.described.scatter import draw_scatter
from hpctrain.drawing.described.sky import draw_sky
from hpctrain.drawing.table import table

_DRAW: dict[str, Callable[[Figure], str]] = {
    "scatter": draw_scatter,
    "histogram": draw_histogram,
    "curve": draw_curve,
    "matrix": draw_matrix,
    "bars": draw_bars,
    "sky": draw_sky,
    "table": lambda figure: _table(figure),
}


def draw_figure(figure: Figure) -> str:
    """Return a figure with its title and caption as HTML; empty if there is nothing to draw."""
    drawn = _DRAW[figure.kind](figure)
    if not drawn:
        return ""
    return f"<figure><figcaption><b>{escape(figure.title)}</b> {escape(figure.caption)}</figcaption>{drawn}</figure>"


def draw_figures(figures: list[Figure]) -> str:
    """Return figures as HTML: wide ones below each other, two of the others side by side."""
    parts: list[str] = []
    narrow: list[str] = []
    for figure in figures:
        drawn = draw_figure(figure)
        if not drawn:
            continue
        if figure.wide or figure.kind in ("table", "matrix"):
            parts += [_pair(narrow), drawn]
            narrow = []
        else:
            narrow.append(drawn)
    return "".join([*parts, _pair(narrow)])


def _pair(drawn: list[str]) -> str:
    return f'<div class="pair">{"".join(drawn)}</div>' if drawn else ""


def _table(figure: Figure) -> str:
    rows = [[_cell(value) for value in row] for row in figure.data.rows]  # type: ignore[union-attr]
    return table(figure.data.heads, rows) if rows else ""  # type: ignore[union-attr]


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, str):
        return escape(value)
    return (f"{value:.4g}" if isinstance(value, float) else f"{value}").replace("-", "−")
