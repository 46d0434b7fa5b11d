"""Draw counts by row and column as a table whose cells are the darker, the larger their share of the row."""

from __future__ import annotations

from html import escape

from hpctrain.drawing.described.figure import Figure, MatrixData
from hpctrain.drawing.scale import grouped


def draw_matrix(figure: Figure) -> str:
    """Return a table with counts and percentages of the rows as HTML; empty if all counts are 0."""
    data = figure.data
    assert isinstance(data, MatrixData)
    if not any(count for row in data.counts for count in row):
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in data.columns)
    rows = "".join(_row(name, counts) for name, counts in zip(data.rows, data.counts, strict=True))
    across, down = escape(data.column_label), escape(data.row_label)
    corner = f"<th><small>{down} ↓ {across} →</small></th>" if across or down else "<th></th>"
    head = f"<thead><tr>{corner}{head}<th>all</th></tr></thead>"
    return f'<div class="matrix"><table>{head}<tbody>{rows}</tbody></table></div>'


def _row(name: str, counts: list[int]) -> str:
    total = sum(counts)
    cells = "".join(_cell(count, count / total if total else 0.0) for count in counts)
    return f"<tr><th>{escape(name)}</th>{cells}<td>{grouped(total)}</td></tr>"


def _cell(count: int, share: float) -> str:
    if not count:
        return "<td></td>"
    shade = f"background: color-mix(in srgb, var(--c1) {round(55 * share)}%, transparent)"
    return f'<td style="{shade}">{grouped(count)}<small>{_percent(share)}</small></td>'


def _percent(share: float) -> str:
    text = f"{100 * share:.1f}"
    if 0 < share < 0.0005:
        text = "&lt; 0.1"
    if 0.9995 <= share < 1:
        text = "&gt; 99.9"
    return f"{text} %"
