"""From conditions to SQLAlchemy's expressions, and the runs that meet them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import Connection, and_, false, not_, null, or_, select
from sqlalchemy.sql.elements import ColumnElement

from hpctrain.errors import ProfileError
from hpctrain.index.names import EITHER, MOMENT, NUMBER, TEXT, Meaning, Names
from hpctrain.index.where import Both, Condition, IsNone, Name, Not, OneOf, Value, fault, parse

WHERE, SORT, SHOW = "--where", "--sort", "--show"
BASIC = ("name", "run_id", "state", "family", "step", "objective", "best", "age")
"""Columns that a list of runs always has."""
_DURATION = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604_800}
_QUANTITY = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)([smhdw]?)")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?)?")


@dataclass(frozen=True)
class Question:
    """What ``hpctrain list`` asks the index.

    Parameters
    ----------
    where : str or None
        Condition, in the language of :mod:`hpctrain.index.where`.
    sort : str or None
        Names to sort by, separated by commas, each with ``desc`` after it or not; the newest run first if None.
    show : str or None
        Further names to show, separated by commas.
    name : str or None
        Pattern of the name of the run.
    states : sequence of str or None
    limit : int
        Largest number of runs.
    """

    where: str | None = None
    sort: str | None = None
    show: str | None = None
    name: str | None = None
    states: Sequence[str] | None = None
    limit: int = 20


def find_runs(connection: Connection, question: Question) -> Iterator[dict[str, Any]]:
    """Yield the runs that meet a condition: path, the basic columns, and what the question names.

    Parameters
    ----------
    connection : Connection
    question : Question

    Raises
    ------
    ProfileError
        A name is unknown, or a value does not fit; the message has all problems.
    """
    names = Names(connection)
    tree = parse(question.where) if question.where else None
    condition = None if tree is None else _Compiler(names).of(tree)
    order = [(names.meaning(name, SORT), is_down) for name, is_down in _sorted_by(question.sort)]
    wanted = [
        *(_names_in(tree) if tree else ()),
        *(name for name, _ in _sorted_by(question.sort)),
        *_listed(question.show),
    ]
    shown: dict[str, Meaning | None] = {}
    for name in [*(Name(each, 1) for each in BASIC), *wanted, Name("run", 1)]:
        shown.setdefault(name.text, names.meaning(name, SHOW))
    if names.problems:
        raise ProfileError("command line", list(dict.fromkeys(names.problems)))
    query = select(*(each.shown.label(name) for name, each in shown.items() if each)).select_from(names.source)
    if condition is not None:
        query = query.where(condition)
    if question.name:
        query = query.where(_like(connection, names.runs.c.name, question.name))
    if question.states:
        query = query.where(names.runs.c.state.in_(question.states))
    for meaning, is_down in order:
        if meaning is not None:
            keys = (meaning.number, meaning.text) if meaning.kind == EITHER else (meaning.number,)
            query = query.order_by(*((key.desc() if is_down else key.asc()).nulls_last() for key in keys))
    query = query.order_by(names.runs.c.run_id.desc(), names.runs.c.run).limit(question.limit)
    settings = {name for name, each in shown.items() if each and each.kind == EITHER}
    for row in connection.execute(query):
        yield {name: _of_setting(value) if name in settings else value for name, value in row._mapping.items()}


def _of_setting(text: str | None) -> Any:
    """Return the value of a key of a profile; lists and words remain text."""
    try:
        found = json.loads(text or "null")
    except ValueError:
        return text
    return found if isinstance(found, (bool, int, float, type(None))) else text


def _listed(text: str | None) -> Iterator[Name]:
    at = 1
    for part in (text or "").split(",") if text else ():
        yield Name(part.strip().strip("`"), at + len(part) - len(part.lstrip()))
        at += len(part) + 1


def _sorted_by(text: str | None) -> Iterator[tuple[Name, bool]]:
    for name in _listed(text):
        words = name.text.split()
        is_down = len(words) > 1 and words[-1].lower() == "desc"
        has_word = is_down or (len(words) > 1 and words[-1].lower() == "asc")
        yield Name(" ".join(words[:-1] if has_word else words), name.at), is_down


def _names_in(condition: Condition) -> Iterator[Name]:
    if isinstance(condition, Both):
        for part in condition.parts:
            yield from _names_in(part)
    elif isinstance(condition, Not):
        yield from _names_in(condition.part)
    else:
        yield condition.name


def _like(connection: Connection, found: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
    """Return whether a text matches a pattern with * and ?; capitals count in both databases."""
    if connection.dialect.name == "sqlite":
        return found.op("GLOB", is_comparison=True)(pattern.replace("[", "[[]"))
    escaped = re.sub(r"([\\%_])", r"\\\1", pattern).replace("*", "%").replace("?", "_")
    return found.like(escaped, escape="\\")


class _Compiler:
    """Make SQL of conditions; what does not fit becomes a problem of the names."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def of(self, condition: Condition) -> ColumnElement[bool]:
        """Return the SQL of a condition."""
        if isinstance(condition, Both):
            return (and_ if condition.word == "and" else or_)(*map(self.of, condition.parts))
        if isinstance(condition, Not):
            return not_(self.of(condition.part))
        meaning = self._names.meaning(condition.name, WHERE)
        if meaning is None:
            return false()
        if isinstance(condition, IsNone):
            return meaning.text.is_not(null()) if condition.is_not else meaning.text.is_(null())
        if isinstance(condition, OneOf):
            found = or_(*(self._compare(meaning, condition.name, "=", value) for value in condition.values))
            return not_(found) if condition.is_not else found
        return self._compare(meaning, condition.name, condition.operator, condition.value)

    def _compare(self, meaning: Meaning, name: Name, operator: str, value: Value) -> ColumnElement[bool]:
        if value.is_none:
            return self._with_none(meaning, name, operator, value)
        if operator in ("~", "!~"):
            found = _like(self._names.connection, meaning.text, value.text)
            return (
                self._refuse(value, _NO_PATTERN.format(name.text))
                if meaning.kind in (NUMBER, MOMENT)
                else (not_(found) if operator == "!~" else found)
            )
        number = _number(value)
        if meaning.kind == MOMENT:
            number = _moment(value)
            if number is None:
                return self._refuse(value, f"{name.text} is a time, found '{value.text}'; write it as 2026-11-26 or "
                                           "'2026-11-26 21:00' (UTC)")  # fmt: skip
        if meaning.kind == NUMBER and number is None:
            return self._refuse(value, f"{name.text} is a number, found '{value.text}'")
        if meaning.kind == TEXT or number is None:
            is_flag = not value.is_quoted and value.text.lower() in ("true", "false")
            return _applied(meaning.text, operator, value.text.lower() if is_flag else value.text)
        return _applied(meaning.number, operator, number)

    def _with_none(self, meaning: Meaning, name: Name, operator: str, value: Value) -> ColumnElement[bool]:
        if operator not in ("=", "!="):
            return self._refuse(value, f"none cannot be compared with {operator}; write '{name.text} is none'")
        return meaning.text.is_(null()) if operator == "=" else meaning.text.is_not(null())

    def _refuse(self, value: Value, message: str) -> ColumnElement[bool]:
        self._names.problems.append(fault(WHERE, value.at, message))
        return false()


_NO_PATTERN = "{} is no text, so ~ and !~ have no meaning for it"


def _applied(found: ColumnElement[Any], operator: str, value: float | str) -> ColumnElement[bool]:
    compared: ColumnElement[bool] = {
        "=": found == value,
        "!=": found != value,
        "<": found < value,
        "<=": found <= value,
        ">": found > value,
        ">=": found >= value,
    }[operator]
    return compared


def _number(value: Value) -> float | None:
    """Return a number; ``7d``, ``12h``, ``30m`` are seconds. None if the value is none."""
    if value.is_quoted:
        return None
    match = _QUANTITY.fullmatch(value.text)
    return None if match is None else float(match[1]) * _DURATION.get(match[2], 1)


def _moment(value: Value) -> float | None:
    """Return the seconds since 1970 of a date, with or without a time, in UTC."""
    if not _DATE.fullmatch(value.text):
        return None
    try:
        return datetime.fromisoformat(value.text).replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        return None
