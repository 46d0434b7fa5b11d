"""Keep control characters of files, profiles, logs and servers away from the terminal.

An escape sequence in a log line or in a profile's key could clear the screen, change the title or hide what follows.
:func:`printable` writes such characters as ``\\x1b``. ``cli.py`` sends all output to a terminal through it; the parts
of the program that draw (bars, colours, tables) use :func:`raw` and :func:`console`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_CONTROLS = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # C0 but tab and line break, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # change the direction of the text
    "\u2028\u2029\ud800-\udfff]"  # other line breaks; halves of characters
    "|\r(?!\n)"
)


def printable(text: str) -> str:
    """Return the text with control characters written out: ``\\x1b``, ``\\u202e``.

    Line breaks, tabs, letters, marks and symbols remain unchanged.
    """
    return _CONTROLS.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class PrintableStream:
    """A text stream that writes the :func:`printable` form of every text to another stream."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text and return its length."""
        self.stream.write(printable(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each of the lines."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def guarded_terminal() -> Iterator[None]:
    """Make all output to a terminal printable within the block; output to files and pipes remains unchanged."""
    before = sys.stdout, sys.stderr
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, PrintableStream) and stream.isatty():
            setattr(sys, name, PrintableStream(stream))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def raw(stream: TextIO) -> TextIO:
    """Return the unguarded stream for drawing; the caller must make text from outside printable."""
    return stream.stream if isinstance(stream, PrintableStream) else stream


def has_colours(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that shows colours, and the user has not switched them off."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def terminal_columns() -> int | None:
    """Return the width of the terminal that the output goes to; None if it goes elsewhere and COLUMNS is not set."""
    if sys.stdout is None or not (sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal()):
        return None
    return shutil.get_terminal_size().columns


def folded(text: str, indent: int) -> str:
    """Return lines that fit the terminal: the rest of a long one goes on below, indented by so many columns.

    Output to files and pipes keeps its lines, and so do words that are longer than a line, such as paths.
    """
    width = terminal_columns()
    if width is None or width < 2 * indent:
        return text
    options = {"subsequent_indent": " " * indent, "break_long_words": False, "break_on_hyphens": False}
    lines: list[str] = []
    for line in text.splitlines():
        lines += textwrap.wrap(line, width, **options) if " " in line[indent:].strip() else [line]
    return "\n".join(lines)


def console(stream: TextIO | None = None, **options: Any) -> Console:
    """Return a console of rich that draws to a stream (None means ``sys.stdout``) and shows only printable text."""
    from rich.console import Console
    from rich.segment import Segment

    class PrintableConsole(Console):
        def render(self, *arguments: Any, **named: Any) -> Any:
            for segment in super().render(*arguments, **named):
                text = segment.text if segment.control else printable(segment.text)
                yield segment if text == segment.text else Segment(text, segment.style)

    return PrintableConsole(file=raw(sys.stdout if stream is None else stream), **options)
