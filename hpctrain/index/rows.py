"""Rows of many tables, as they are read from the disk."""

from __future__ import annotations

import hashlib
import json
import math
from functools import cache
from typing import Any

from sqlalchemy import Table

_LONGEST_TEXT = 20_000
_LARGEST_WHOLE = 2**63


class Rows:
    """Rows to insert, by table.

    Attributes
    ----------
    of : dict of str to list of tuple
        By name of the table: values in the order of its columns.
    """

    def __init__(self) -> None:
        self.of: dict[str, list[tuple[Any, ...]]] = {}

    def add(self, table: Table, **values: Any) -> None:
        """Add a row; a column without a value is NULL, and so is a number that is not finite."""
        names = _names_of(table)
        if unknown := values.keys() - names:
            raise KeyError(f"{table.name} has no column {', '.join(unknown)}")
        self.of.setdefault(table.name, []).append(tuple(plain(values.get(name)) for name in names))

    def add_plain(self, table: Table, row: tuple[Any, ...]) -> None:
        """Add a row whose values are :func:`plain`, in the order of the columns."""
        self.of.setdefault(table.name, []).append(row)

    def extend(self, other: Rows) -> None:
        """Add all rows of another set."""
        for name, rows in other.of.items():
            self.of.setdefault(name, []).extend(rows)

    def __len__(self) -> int:
        return sum(map(len, self.of.values()))


@cache
def _names_of(table: Table) -> tuple[str, ...]:
    return tuple(column.name for column in table.columns)


def id_of(path: str) -> int:
    """Return the id of a path: 63 bits of its SHA-256."""
    return int.from_bytes(hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest()[:8], "big") >> 1


def as_json(value: Any) -> str:
    """Return compact JSON that is the same for equal values; numbers that are not finite become null."""
    return json.dumps(_finite(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def plain(value: Any) -> Any:
    """Return what both databases can hold: NULL for numbers that are not finite, text without NUL, JSON of the rest."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        # PostgreSQL takes neither NUL nor halves of characters.
        return value[:_LONGEST_TEXT].replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, int):
        return value if abs(value) < _LARGEST_WHOLE else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return as_json(value)
