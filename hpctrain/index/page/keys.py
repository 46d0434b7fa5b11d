"""Keys of profiles that differ between runs, in a form that is short for many runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, func, or_, select

from hpctrain.index import tables
from hpctrain.report.differences.origins import dotted
from hpctrain.terminal import printable

MOST_PAIRS = 250_000
"""Largest number of values that are written; of keys beyond it only the names are."""
_LONGEST_VALUE = 120


@dataclass(frozen=True)
class Keys:
    """Keys whose values differ between some runs.

    Parameters
    ----------
    names : list of str
    values : list of list of (str or None)
        For each key its different values, the most frequent one first; None if a run does not have the key.
    of_runs : list of dict
        For each run: place of a key to place of its value, where that is not the most frequent one.
    left_out : list of str
        Further keys that differ.
    """

    names: list[str]
    values: list[list[str | None]]
    of_runs: list[dict[int, int]]
    left_out: list[str]


def differing_keys(connection: Connection, ids: Sequence[int]) -> Keys:
    """Return the keys that differ between some runs, in the order of the alphabet.

    Numbers are equal if they have the same value, however they are written. Lists count as one value, except those of
    mappings, as for ``hpctrain diff``.

    Parameters
    ----------
    connection : Connection
    ids : sequence of int
    """
    places = {run_id: place for place, run_id in enumerate(ids)}
    found = Keys([], [], [{} for _ in ids], [])
    num_pairs = 0
    for name, values in _values_by_key(connection, places):
        others = _rare_values(values, len(ids))
        if others is None:
            continue
        listed, rare = others
        if num_pairs + len(rare) > MOST_PAIRS:
            found.left_out.append(name)
            continue
        num_pairs += len(rare)
        for place, value in rare.items():
            found.of_runs[place][len(found.names)] = value
        found.names.append(name)
        found.values.append(listed)
    return found


def _values_by_key(connection: Connection, places: dict[int, int]) -> Iterator[tuple[str, dict[int, str]]]:
    """Yield each key with its text in every run that has it; keys that are the same everywhere are left out."""
    settings = tables.settings.c
    counts = select(settings.key).group_by(settings.key)
    varied = or_(func.min(settings.text) != func.max(settings.text), func.count() < len(places))
    query = select(settings.key, settings.run_id, settings.number, settings.text)
    query = query.where(settings.key.in_(counts.having(varied))).order_by(settings.key, settings.run_id)
    for name, rows in groupby(connection.execute(query), key=lambda row: row[0]):
        found: dict[str, dict[int, str]] = {}
        for _, run_id, number, text in rows:
            if run_id in places:
                for inner, value in _parts(name, number, text):
                    found.setdefault(inner, {})[places[run_id]] = value
        yield from found.items()


def _parts(name: str, number: float | None, text: str) -> Iterator[tuple[str, str]]:
    if number is not None:
        yield name, f"{number:.15g}"
    elif text.startswith("[{"):
        try:
            listed: Any = json.loads(text)
        except ValueError:  # too long for the index, which has cut it
            listed = text
        for inner, value in dotted(listed, name):
            yield inner, value if isinstance(value, str) else json.dumps(value)
    else:
        yield name, text


def _rare_values(values: dict[int, str], num_runs: int) -> tuple[list[str | None], dict[int, int]] | None:
    """Return the different values, and by run the place of those that are not the most frequent; None if all agree."""
    count: Counter[str | None] = Counter(values.values())
    if len(values) < num_runs:
        count[None] = num_runs - len(values)
    if len(count) < 2:
        return None
    listed = [value for value, _ in count.most_common()]
    numbers = {value: number for number, value in enumerate(listed)}
    everywhere = ((place, numbers[values.get(place)]) for place in range(num_runs))
    return [value and _cut(value) for value in listed], {place: number for place, number in everywhere if number}


def _cut(value: str) -> str:
    return printable(value if len(value) <= _LONGEST_VALUE else f"{value[: _LONGEST_VALUE - 1]}…")
