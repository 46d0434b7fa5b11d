"""Select a few thousand of millions of lines: evenly spaced ones, and those that a reader needs in any case."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from hpctrain.records import Record

MOST = 16_384
"""Largest number of evenly spaced lines to keep; a page is only some thousand pixels wide."""
_NEWEST = 1024
_MOST_ODD = 4096

Line = tuple[int, bytes]
"""Number of a line, and its text."""


class Thinned:
    """Keep all lines while they are few, then every second, every fourth and so on.

    The class also keeps the newest thousand lines, the first and the last of every attempt, some thousand with numbers
    that were not finite, those with the lowest and highest loss between two kept ones, and a marked one. It parses
    lines only when the caller requests the records, so the memory is that of some ten thousand lines for any number of
    lines.

    Parameters
    ----------
    parse : callable
        Returns the record of a line, or None if the line is not a record.
    most : int
        Largest number of evenly spaced lines to keep.

    Attributes
    ----------
    num_nonfinite : int
        Number of added lines with numbers that were not finite.
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
        self._marked: Line | None = None

    def add(self, number: int, text: bytes, attempt: int, loss: float | None) -> None:
        """Add a line with its number in the file, the number of its attempt, and its loss if it has one."""
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

    def mark(self, number: int, text: bytes) -> None:
        """Keep an added line in any case, instead of the one that was marked before."""
        self._marked = (number, text)

    def _halve(self) -> None:
        """Keep every second line and merge the extremes in pairs; `most` is even, so that each has a partner."""
        self._stride *= 2
        self._first = self._first[::2]
        self._low = [_lower(a, b) for a, b in zip(self._low[::2], self._low[1::2], strict=True)]
        self._high = [_higher(a, b) for a, b in zip(self._high[::2], self._high[1::2], strict=True)]

    def numbered(self, with_lowest: bool = False) -> list[tuple[int, Record]]:
        """Return numbers and records in the order of adding.

        Parameters
        ----------
        with_lowest : bool
            Include the record with the lowest loss of all.
        """
        lines = dict([*self._first, *self._odd, *self._newest])
        lowest = [item for item in self._low if item is not None]
        if with_lowest and lowest:
            number, text = min(lowest)[1]
            lines[number] = text
        if self._marked is not None:
            lines[self._marked[0]] = self._marked[1]
        return [(n, record) for n, text in sorted(lines.items()) if (record := self._parse(text)) is not None]

    def records(self, with_lowest: bool = False) -> list[Record]:
        """Return the records in the order of adding; the parameter is that of :meth:`numbered`."""
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
