"""Progress of an export: lines of text, and a bar (or a line now and then) for loops that take minutes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeVar

_EVERY_S = 10.0
"""Time between two lines of one loop where no terminal can show a bar [s]."""

Item = TypeVar("Item")


class Progress:
    """Writes progress to a stream.

    Parameters
    ----------
    stream : TextIO or None
        A terminal shows a bar. None writes nothing.
    clock : callable
        Returns seconds and never goes back.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock

    def __call__(self, text: str) -> None:
        """Write a line."""
        if self._stream is not None:
            print(text, file=self._stream, flush=True)

    def track(self, items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
        """Pass on the items of a loop and show the progress.

        Parameters
        ----------
        items : iterable
        what : str
            Name of the loop, such as ``encoding held-out spectra``.
        total : int
            Number of items.
        """
        if self._stream is None:
            yield from items
        elif self._stream.isatty():
            from rich.console import Console
            from rich.progress import track

            yield from track(items, f"  {what}", total, console=Console(file=self._stream), transient=True)
        else:
            yield from self._in_lines(items, what, total)

    def _in_lines(self, items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
        began_s = last_s = self._clock()
        for done, item in enumerate(items, start=1):
            yield item
            now_s = self._clock()
            if now_s - last_s >= _EVERY_S and done < total:
                last_s = now_s
                left_s = (now_s - began_s) / done * (total - done)
                self(f"  {what}: {done / total:.0%}, about {left_s:.0f} s left")


SILENT = Progress()
"""Shows nothing."""
