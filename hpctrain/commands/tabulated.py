"""Rows as a table for people, or as CSV or JSON for programs; few of them are in memory at once."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

from hpctrain.terminal import printable
from hpctrain.words import format_number

TABLE, CSV, JSON = "table", "csv", "json"
_LOOKED_AT = 1000
"""Number of rows that decide how wide the columns of a table are."""
_WIDEST = 80


def write_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], how: str = TABLE) -> int:
    """Print rows, and return how many.

    Parameters
    ----------
    columns : sequence of str
    rows : iterable of sequence
    how : str
        ``table``, ``csv`` or ``json`` (a list of objects).
    """
    writer = {TABLE: _write_table, CSV: _write_csv, JSON: _write_json}[how]
    count = itertools.count()
    writer(columns, _counted(rows, count))
    return next(count)


def _counted(rows: Iterable[Sequence[Any]], count: Iterator[int]) -> Iterator[Sequence[Any]]:
    for row in rows:
        next(count)
        yield row


def _write_table(columns: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    first = [[_cell(value) for value in row] for row in itertools.islice(rows, _LOOKED_AT)]
    widths = [min(_WIDEST, max(map(len, each))) for each in zip(columns, *first, strict=True)]
    rest = ([_cell(value) for value in row] for row in rows)
    for line in itertools.chain([columns], first, rest):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _write_csv(columns: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if value is None else _plain(value) for value in row])


def _write_json(columns: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    print("[", end="")
    for place, row in enumerate(rows):
        found = json.dumps({name: _plain(value) for name, value in zip(columns, row, strict=True)})
        print(f"{',' if place else ''}\n  {found}", end="")
    print("\n]")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    plain = _plain(value)
    text = format_number(plain, "-") if isinstance(plain, float) else str(plain)
    return printable(text).replace("\n", " ")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value.astimezone(timezone.utc) if value.tzinfo else value).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
