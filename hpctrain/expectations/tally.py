"""Count what one column holds, block by block, and where it differs from what is expected. n rows of a block."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from hpctrain.expectations.codes import codes_of
from hpctrain.expectations.section import ColumnSection

SENTINELS = (
    *(-9.0, -9.99, -90.0, -99.0, -99.9, -99.99, -999.0, -999.9, -999.99, -9999.0, -99999.0, -32768.0, -2147483648.0),
    *(99.0, 99.9, 99.99, 999.0, 9999.0, 99999.0, 2147483647.0, 1e20, -1e20, 1e30, -1e30, 9.9e36, -9.9e36),
    *(9.96921e36, 3.4028234663852886e38, -3.4028234663852886e38, -9223372036854775808.0),
)
"""Numbers that usually stand for "not known"."""
MOST_CLASSES = 64
"""A text column with more values has no classes."""
MOST_SHOWN = 5
"""Number of rows that are shown as examples."""


@dataclass
class Places:
    """Rows where something was found: how many, in which files, and the first of them."""

    number: int = 0
    files: Counter[int] = field(default_factory=Counter)
    first: list[tuple[int, int, str]] = field(default_factory=list)
    """Number of the file, row in the file, value."""

    def add(self, file: int, first_row: int, found: np.ndarray, values: np.ndarray | None = None) -> None:
        """Add rows of a block, which begins at `first_row` of a file, by a mask (n,)."""
        number = int(np.count_nonzero(found))
        if not number:
            return
        self.number += number
        self.files[file] += number
        for place in np.flatnonzero(found)[: MOST_SHOWN - len(self.first)].tolist():
            self.first.append((file, first_row + place, "" if values is None else shown(values[place])))


def shown(value: object) -> str:
    """Return a value as people read it."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (float, np.floating)):
        return f"{value:.7g}"
    return str(value)


class _Usual:
    """Numbers to look for, and a quick way to leave out nearly all others: by some bits of their float32."""

    def __init__(self, values: list[float]) -> None:
        self.values = values
        self._may_be = np.zeros(1 << 16, dtype=bool)
        self._may_be[self._bits(np.array(values))] = True

    @staticmethod
    def _bits(numbers: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            words = numbers.astype(np.float32).view(np.uint32)
        return (words >> np.uint32(8)) & np.uint32(0xFFFF) ^ (words & np.uint32(0xFF)) ^ (words >> np.uint32(24))

    def maybe(self, numbers: np.ndarray) -> np.ndarray:
        """Return the places (m,) of all numbers (n,) that may be among the values."""
        return np.flatnonzero(self._may_be[self._bits(numbers)])


class Tally:
    """What one column holds.

    Parameters
    ----------
    expected : ColumnSection, optional
        Rows that do not meet it are counted.

    Attributes
    ----------
    num_rows : int
    sentinels : Counter of float
        How often each of :data:`SENTINELS` came.
    classes : Counter of bytes, or None
        How often each text came; None where there are too many.
    low, high : float
        Smallest and largest finite value.
    """

    def __init__(self, expected: ColumnSection | None = None) -> None:
        self.expected = expected
        self.num_rows = 0
        self._kinds: set[str] = set()
        self.missing, self.outside, self.strange, self.other = Places(), Places(), Places(), Places()
        self.sentinels: Counter[float] = Counter()
        self.classes: Counter[bytes] | None = Counter()
        self.low, self.high = np.inf, -np.inf
        self._codes: dict[int, bytes] = {}
        self._allowed = [each.value for each in expected.sentinels] if expected is not None else []
        self._usual = _Usual([*SENTINELS, *(value for value in self._allowed if value not in SENTINELS)])
        self._known: list[bytes] | None = None
        if expected is not None and expected.classes is not None:
            self._known = [name.encode() for name in expected.classes]
            texts = np.array(self._known, dtype="S")
            self._codes = dict(zip(codes_of(texts).tolist(), self._known, strict=True))

    def add(self, file: int, first_row: int, values: np.ndarray) -> np.ndarray:
        """Count the values of a block, shape (n,); return them as numbers (n,), NaN where they are missing or texts."""
        self.num_rows += len(values)
        self._note_type(values)
        if values.dtype.kind == "S":
            self._add_texts(file, first_row, values)
            return np.full(len(values), np.nan)
        return self._add_numbers(file, first_row, values)

    def _note_type(self, values: np.ndarray) -> None:
        kind = {"S": "text", "b": "flag", "i": "whole", "u": "whole", "f": "number"}[values.dtype.kind]
        # A block without any value says nothing, such as cells of a text file that are all empty.
        if kind not in self._kinds and len(values) and not (kind == "number" and np.isnan(values).all()):
            self._kinds.add(kind)

    @property
    def type(self) -> str:
        """``number``, ``whole``, ``text`` or ``flag``; ``mixed`` where blocks differ; ``number`` without any value."""
        if self._kinds == {"whole", "number"} or not self._kinds:
            return "number"
        return next(iter(self._kinds)) if len(self._kinds) == 1 else "mixed"

    @property
    def has_values(self) -> bool:
        """Whether any value came."""
        return bool(self._kinds)

    def _add_numbers(self, file: int, first_row: int, values: np.ndarray) -> np.ndarray:
        numbers = values.astype(np.float64)
        good = np.isfinite(numbers)
        if not good.all():
            self.missing.add(file, first_row, ~good, values)
            numbers = np.where(good, numbers, np.nan)
        found = self._find_sentinels(values, numbers)
        if self.expected is None:
            inside = good if found is None else good & ~found
        else:
            inside = good & self._judge(file, first_row, values, numbers, found)
        if inside.any():
            self.low = min(self.low, float(np.min(numbers, where=inside, initial=np.inf)))
            self.high = max(self.high, float(np.max(numbers, where=inside, initial=-np.inf)))
        if self.expected is not None and not inside.all():
            numbers = np.where(inside, numbers, np.nan)
        return numbers

    def _find_sentinels(self, values: np.ndarray, numbers: np.ndarray) -> np.ndarray | None:
        """Count usual sentinels; return where there are some (n,), or None."""
        if values.dtype.kind == "b":
            return None
        candidates = self._usual.maybe(numbers)
        if not len(candidates):
            return None
        usual, few = self._usual.values, numbers[candidates]
        known = np.array(usual, dtype=np.float32 if values.dtype == np.float32 else np.float64).astype(np.float64)
        order = np.argsort(known)
        at = np.minimum(np.searchsorted(known[order], few), len(known) - 1)
        hits = known[order][at] == few
        if not hits.any():
            return None
        places, counts = np.unique(order[at[hits]], return_counts=True)
        for place, count in zip(places.tolist(), counts.tolist(), strict=True):
            self.sentinels[usual[place]] += count
        found = np.zeros(len(numbers), dtype=bool)
        found[candidates[hits]] = True
        return found

    def _judge(
        self, file: int, first_row: int, values: np.ndarray, numbers: np.ndarray, found: np.ndarray | None
    ) -> np.ndarray:
        """Count rows that are not as expected; return which rows hold a value that says something (n,)."""
        ordinary = np.ones(len(numbers), dtype=bool)
        if self.expected.classes is not None:
            self._add_numbered_classes(file, first_row, numbers)
            return ordinary
        low, high = (-np.inf, np.inf) if self.expected.range is None else self.expected.range
        with np.errstate(invalid="ignore"):
            outside = (numbers < low) | (numbers > high)
        if found is not None:
            precision = np.float32 if values.dtype == np.float32 else np.float64
            allowed = np.isin(numbers, np.array(self._allowed, dtype=precision).astype(np.float64))
            strange = found & outside & ~allowed
            self.strange.add(file, first_row, strange, values)
            ordinary = ~(strange | allowed)
            outside &= ordinary
        self.outside.add(file, first_row, outside, values)
        return ordinary

    def _add_numbered_classes(self, file: int, first_row: int, numbers: np.ndarray) -> None:
        """Count classes that are whole numbers."""
        left = np.isfinite(numbers)
        for text in self._known or ():
            here = numbers == float(text)
            self.classes[text] += int(np.count_nonzero(here))
            left &= ~here
        self._add_others(file, first_row, left, numbers)

    def _add_others(self, file: int, first_row: int, here: np.ndarray, values: np.ndarray) -> None:
        """Count rows of classes that are not expected, by a mask (n,)."""
        self.other.add(file, first_row, here, values)
        if number := int(np.count_nonzero(here)):
            self.classes[b""] += number

    def _add_texts(self, file: int, first_row: int, values: np.ndarray) -> None:
        left = values != b""
        self.missing.add(file, first_row, ~left)
        if self.classes is None:
            return
        codes = codes_of(values)
        for code, text in self._codes.items():
            here = (codes == np.uint64(code)) & left
            if number := int(np.count_nonzero(here)):
                self.classes[text] += number
                left &= ~here
        if self._known is not None:
            self._add_others(file, first_row, left, values)
            return
        rest, at, counts = np.unique(codes[left], return_index=True, return_counts=True)
        if len(self.classes) + len(rest) > MOST_CLASSES:
            self.classes = None
            return
        places = np.flatnonzero(left)[at]
        for code, place, number in zip(rest.tolist(), places.tolist(), counts.tolist(), strict=True):
            self._codes[code] = bytes(values[place])
            self.classes[bytes(values[place])] += number
