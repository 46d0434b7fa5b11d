"""A sample of rows, and repeated rows, found in one pass with bounded memory. n rows of a block."""

from __future__ import annotations

import numpy as np

from hpctrain.expectations.codes import mixed

MOST_SAMPLED = 1 << 16
"""Largest number of rows of a sample: its cumulative shares are exact to half a per cent."""
MOST_VALUES = 1 << 23
"""Largest number of values of a sample of all columns together: 64 MiB."""
MOST_CODES = 1 << 24
"""Number of rows up to which every repeated one is found: 128 MiB."""


class RowSample:
    """A random sample of rows, the same each time: those whose numbers have the smallest codes.

    Parameters
    ----------
    num_columns : int

    Notes
    -----
    The sample is one without replacement, so tests that compare two samples hold exactly; a sketch of quantiles has an
    error of its own, which such tests would take for a difference.
    """

    def __init__(self, num_columns: int) -> None:
        self.most = int(np.clip(MOST_VALUES // max(1, num_columns), 256, MOST_SAMPLED))
        self.limit = np.uint64(2**64 - 1)
        self._keys: list[np.ndarray] = []
        self._columns: dict[str, list[np.ndarray]] = {}
        self._num = 0

    def choose(self, first: int, num: int) -> np.ndarray:
        """Return the places (m,) in a block of `num` rows, the first of which has the number `first`, that are taken.

        Follow it by :meth:`add` with the values of each column at these places, and by :meth:`shrink`.
        """
        keys = mixed(np.arange(first, first + num, dtype=np.uint64))
        places = np.flatnonzero(keys < self.limit)
        self._keys.append(keys[places])
        return places

    def add(self, name: str, values: np.ndarray) -> None:
        """Add the chosen values (m,) of one column."""
        known = self._columns.setdefault(name, [])
        lacking = self._num - sum(map(len, known))
        if lacking:
            known.append(np.full(lacking, np.nan))
        known.append(values.astype(np.float64))

    def shrink(self) -> None:
        """End a block: drop rows if there are twice as many as wanted."""
        self._num = sum(map(len, self._keys))
        if self._num > 2 * self.most:
            self._cut()

    def _cut(self) -> None:
        keys = np.concatenate(self._keys)
        if len(keys) <= self.most:
            return
        self.limit = np.partition(keys, self.most)[self.most]
        kept = keys < self.limit
        self._keys = [keys[kept]]
        for name, parts in self._columns.items():
            parts = [*parts, np.full(self._num - sum(map(len, parts)), np.nan)]
            self._columns[name] = [np.concatenate(parts)[kept]]
        self._num = int(kept.sum())

    def columns(self) -> dict[str, np.ndarray]:
        """Return the sample by column, shape (m,), float64; NaN where a column has no number."""
        self._cut()
        return {
            name: np.concatenate([*parts, np.full(self._num - sum(map(len, parts)), np.nan)])
            for name, parts in self._columns.items()
        }


class Repeats:
    """Count rows whose code came before.

    Up to 16.8 million rows all codes are kept. Beyond it, only those with some bits of 0: every row with such a code is
    still seen, so the share of repeated rows is that of a sample of codes.
    """

    def __init__(self) -> None:
        self.level = 0
        self.num_rows = 0
        self._codes: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []

    def add(self, first: int, codes: np.ndarray) -> None:
        """Add the codes (n,) of rows that are numbered from `first`."""
        self.num_rows += len(codes)
        kept = self._at_level(codes)
        self._codes.append(codes[kept] if self.level else codes)
        if self.level:
            self._rows.append(first + kept)
        while sum(map(len, self._codes)) > MOST_CODES:
            self._raise_level()

    def _at_level(self, codes: np.ndarray) -> np.ndarray:
        return np.flatnonzero((mixed(codes) & np.uint64((1 << self.level) - 1)) == 0) if self.level else np.arange(0)

    def _raise_level(self) -> None:
        codes = np.concatenate(self._codes)
        rows = np.concatenate(self._rows) if self._rows else np.arange(len(codes))
        self.level += 1
        kept = self._at_level(codes)
        self._codes, self._rows = [codes[kept]], [rows[kept]]

    def found(self, most: int = 1000) -> tuple[int, int, np.ndarray]:
        """Return how many rows were looked at, how many of them have a code that came before, and the first (m,)."""
        codes = np.concatenate(self._codes) if self._codes else np.empty(0, np.uint64)
        ordered = np.sort(codes)
        again = ordered[1:][ordered[1:] == ordered[:-1]]
        if not len(again):
            return len(codes), 0, np.empty(0, np.int64)
        del ordered
        wanted = np.unique(again)
        # Only places of repeated codes are looked at again, in their order in the files.
        places = np.flatnonzero(np.isin(codes, wanted))
        _, first = np.unique(codes[places], return_index=True)
        later = np.delete(places, first)[:most]
        rows = np.concatenate(self._rows)[later] if self._rows else later
        return len(codes), len(again), rows

    def shared_with(self, other: Repeats, most: int = 1000) -> tuple[int, int, np.ndarray]:
        """Return how many rows were looked at, how many have a code of `other`, and the first of these (m,)."""
        level = max(self.level, other.level)
        mask = np.uint64((1 << level) - 1)
        own, theirs = (np.concatenate(each._codes) if each._codes else np.empty(0, np.uint64) for each in (self, other))
        keep = np.flatnonzero((mixed(own) & mask) == 0) if level else np.arange(len(own))
        places = keep[np.isin(own[keep], theirs)]
        rows = np.concatenate(self._rows)[places[:most]] if self._rows else places[:most]
        return len(keep), len(places), rows
