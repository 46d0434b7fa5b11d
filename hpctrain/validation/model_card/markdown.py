"""Pieces of Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from hpctrain.drawing.scale import DASH, with_interval

_SPECIAL = "\\`*_[]<>|#~"


def escaped(text: object) -> str:
    """Return a text in one line, with the characters that Markdown interprets escaped."""
    line = " ".join(str(text).split())
    return "".join(f"\\{character}" if character in _SPECIAL else character for character in line)


def code(text: object) -> str:
    """Return a text in one line as code; a grave accent in it becomes an apostrophe, a bar is escaped for tables."""
    return f"`{' '.join(str(text).split()).replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table of cells that are Markdown; none without rows."""
    if not rows:
        return []
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def interval(value: float | None, low: float | None, high: float | None) -> str:
    """Return a number with its interval in brackets."""
    shown, below, above = with_interval(value, low, high)
    return shown if low is None or high is None or shown == DASH else f"{shown} ({below} to {above})"


def file_name(path: object) -> str:
    """Return the name of a file without its folders, which are of no use elsewhere."""
    return code(PurePath(str(path)).name)
