"""A few thousand lines of millions: evenly spaced, with all that a reader would miss."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from hpctrain.records import Record

MOST = 16_384
"""Lines kept of those that are evenly spaced; a page is some thousand pixels wide."""
_NEWEST = 1024
_MOST_ODD = 4096

Line = tuple[int, bytes]
"""Number of a line, and its text."""


class Thinned:
    """Keep lines as they come: all while they are few, then every second, every fourth ...

    Kept besides: the newest thousand, the first and the last of every attempt, those with numbers that were not finite
    (some thousand), and the lowest and highest loss between two that are kept. A line is parsed only when it is asked
    for at the end, so the memory for any number of lines is that for some ten thousand.

    Parameters
    ----------
    parse : callable
        Line to record, or to None where it is none.
    most : int
        Lines kept of those that are evenly spaced.

    Attributes
    ----------
    num_nonfinite : int
        Lines with numbers that were not finite, of all that were added.
    """

    def __init__(self, parse: Callable[[bytes], Record | None], most: int = MOST) -> None:
        self._parse, self._most = parse, most
        self.num_nonfinite = 0
        self._stride = 1
        self._seen = 0
        self._first: list[Line] = []
        self._low: list[tuple[float, Line] | None] = []
        self._high: list[tuple[float, Line] | None] = []
        self._newest: deque[Line] = deque(maxlen=_NEWEST)
        self._odd: list[Line] = []
        self._attempt: int | None = None

    def add(self, number: int, text: bytes, attempt: int, loss: float | None) -> None:
        """Add a line, with its number in the file, the number of its attempt and its loss where it has one."""
        line = (number, text)
        bucket = self._seen // self._stride
        self._seen += 1
        is_nonfinite = b'"nonfinite"' in text
        self.num_nonfinite += is_nonfinite
        if attempt != self._attempt or is_nonfinite:
            if len(self._odd) < _MOST_ODD:
                self._odd += [*list(self._newest)[-1:], line]
            self._attempt = attempt
        self._newest.append(line)
        if bucket == len(self._first):
            if bucket == self._most:
                self._halve()
                bucket = len(self._first)
            self._first.append(line)
            self._low.append(None)
            self._high.append(None)
        if loss is not None:
            low, high = self._low[bucket], self._high[bucket]
            if low is None or loss < low[0]:
                self._low[bucket] = (loss, line)
            if high is None or loss > high[0]:
                self._high[bucket] = (loss, line)

    def _halve(self) -> None:
        """Put two neighbours together, again and again; `most` is even, so none remains single."""
        self._stride *= 2
        self._first = self._first[::2]
        self._low = [_lower(a, b) for a, b in zip(self._low[::2], self._low[1::2], strict=True)]
        self._high = [_higher(a, b) for a, b in zip(self._high[::2], self._high[1::2], strict=True)]

    def numbered(self, with_lowest: bool = False) -> list[tuple[int, Record]]:
        """Return numbers and records in the order of adding.

        Parameters
        ----------
        with_lowest : bool
            The record with the lowest loss of all is among them.
        """
        lines = dict([*self._first, *self._odd, *self._newest])
        lowest = [item for item in self._low if item is not None]
        if with_lowest and lowest:
            number, text = min(lowest)[1]
            lines[number] = text
        return [(n, record) for n, text in sorted(lines.items()) if (record := self._parse(text)) is not None]

    def records(self, with_lowest: bool = False) -> list[Record]:
        """Return the records in the order of adding; parameters as of :meth:`numbered`."""
        return [record for _, record in self.numbered(with_lowest)]

    def extremes(self) -> list[Record]:
        """Return the records with the lowest and the highest loss between two evenly spaced ones, in order."""
        if self._stride == 1:
            return []
        shown = dict([*self._first, *self._odd, *self._newest])
        lines = dict(item[1] for item in (*self._low, *self._high) if item is not None)
        found = [self._parse(text) for number, text in sorted(lines.items()) if number not in shown]
        return [record for record in found if record is not None]


def _lower(a: tuple[float, Line] | None, b: tuple[float, Line] | None) -> tuple[float, Line] | None:
    return min((item for item in (a, b) if item is not None), default=None)


def _higher(a: tuple[float, Line] | None, b: tuple[float, Line] | None) -> tuple[float, Line] | None:
    return max((item for item in (a, b) if item is not None), default=None)
