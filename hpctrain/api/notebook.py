"""What objects show in a notebook: small HTML tables."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


def html_table(rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> str:
    """Return rows as an HTML table for a notebook; every text is escaped."""

    def line(cells: Sequence[object], tag: str) -> str:
        return (
            "<tr>" + "".join(f"<{tag} style='text-align:left'>{html.escape(str(c))}</{tag}>" for c in cells) + "</tr>"
        )

    lines = [line(head, "th")] if head else []
    return "<table>" + "".join([*lines, *(line(row, "td") for row in rows)]) + "</table>"
