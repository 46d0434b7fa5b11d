"""Bring the text of other programs into one line of the page."""

from __future__ import annotations

import traceback

LONGEST = 160
"""Largest number of characters to show of a message of another program; the log has the whole message."""


def cut(text: str, most: int = LONGEST) -> str:
    """Return the first line of a text, cut to the length of a line of the page."""
    line = text.strip().splitlines()[0].strip() if text.strip() else ""
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def error_text(error: BaseException) -> str:
    """Return type, message and place of an exception in one line."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    message = cut(str(error))
    return f"{type(error).__name__}{': ' if message else ''}{message}{place}"
