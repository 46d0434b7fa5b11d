"""Tables: rows and columns on a wide screen, a card for each row on a phone."""

from __future__ import annotations

from html import escape


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a table as HTML.

    Parameters
    ----------
    heads : list of str
        Heads of the columns; on a narrow screen the style sheet shows them before each cell.
    rows : list of list of str
        Cells as HTML; the caller must escape text that others wrote.
    """
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-head="{escape(name)}"><div>{cell}</div></td>' for name, cell in zip(heads, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return f'<table class="cards"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
