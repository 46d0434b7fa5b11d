"""What all events of ``metrics.jsonl`` have in common: how one becomes a record, and how a record becomes one again."""

from __future__ import annotations

import functools
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from hpctrain.records import (
    Record,
    is_count,
    is_list,
    is_moment,
    is_number,
    is_number_or_null,
    is_record,
    is_text,
    is_text_or_texts,
    is_texts,
    is_whole,
)
from hpctrain.words import Words

if TYPE_CHECKING:
    from typing import Self

NO_WORDS = Words()
OF_EVERY_RECORD = frozenset({"kind", "step", "time", "attempt", "event", "nonfinite"})
"""Entries that do not belong to one event."""


def _are_counts(value: Any) -> bool:
    return is_record(value) and all(is_count(number) for number in value.values())


def _are_numbers(value: Any) -> bool:
    return is_record(value) and all(is_number_or_null(number) for number in value.values())


def _are_records(value: Any) -> bool:
    return is_list(value) and all(is_record(item) for item in value)


# The types of fields. None stands for a field that a damaged record, or one of another version, does not have.
Count = Annotated[int | None, is_count]
Whole = Annotated[int | None, is_whole]
Number = Annotated[float | None, is_number]
Text = Annotated[str | None, is_text]
Texts = Annotated[Sequence[str] | None, is_texts]
TextOrTexts = Annotated[str | Sequence[str] | None, is_text_or_texts]
Entries = Annotated[Mapping[str, Any] | None, is_record]
Listed = Annotated[Sequence[Any] | None, is_list]
ListedEntries = Annotated[Sequence[Mapping[str, Any]] | None, _are_records]

# The type of a field that holds all entries of the record that no other field names, such as the counts of a kind.
_REST = "rest"
OpenCounts = Annotated[Mapping[str, int] | None, _are_counts, _REST]
OpenNumbers = Annotated[Mapping[str, float | None] | None, _are_numbers, _REST]
OpenEntries = Annotated[Mapping[str, Any] | None, is_record, _REST]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened in a run. Each subclass is one event, and its attributes are the fields of its record.

    The constructor needs every field that has no default, and writes it, None as null. A field with the default None is
    left out of the record while it is None. An event that was read has None for each field that its record lacks.

    Attributes
    ----------
    name : str
        The entry ``event`` of the record.
    step : int
        Last step done.
    time_s : float
        When the event was written [s since 1970]; 0 before that.
    attempt : int
        Number of the attempt; 0 before the event is written.
    """

    name: ClassVar[str] = ""
    step: int = field(default=0, repr=False)
    time_s: float = field(default=0.0, repr=False)
    attempt: int = field(default=0, repr=False)

    def describe(self, words: Words = NO_WORDS) -> str:
        """Return the event in words: one line, or one and another for each warning and note."""
        raise NotImplementedError

    def at(self, step: int, time_s: float = 0.0, attempt: int = 0) -> Self:
        """Return the same event at this step, time [s since 1970] and attempt."""
        return replace(self, step=step, time_s=time_s, attempt=attempt)

    def to_record(self) -> Record:
        """Return the entries that the record has beside those of every record, in their order on the disk."""
        record: Record = {"event": self.name}
        for item in _own_fields(type(self)):
            value = getattr(self, item.name)
            if _REST in _metadata(type(self))[item.name]:
                record |= value or {}
            elif item.default is MISSING or value is not None:
                record[item.name] = value
        return record

    def whole_record(self) -> Record:
        """Return the record as it is on the disk, with None for each field that it lacks there."""
        place = {"kind": "event", "step": self.step, "time": self.time_s, "attempt": self.attempt}
        return {**place, **self.to_record()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return the event of a record; a damaged record, or one of another version, gives an event with gaps."""
        known: dict[str, Any] = {}
        own = {item.name: item for item in _own_fields(cls)}
        others = {name: value for name, value in record.items() if name not in own and name not in OF_EVERY_RECORD}
        for name, (check, *is_open) in _metadata(cls).items():
            if is_open:
                known[name] = {other: value for other, value in others.items() if check({other: value})}
            elif name in record and check(record[name]):
                known[name] = record[name]
            elif own[name].default is MISSING:
                known[name] = None
        return cls(**known, **place_of(record))


def place_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return step, time and attempt of a record, as the constructor of an event takes them."""
    step, time_s, attempt = record.get("step"), record.get("time"), record.get("attempt")
    return {
        "step": step if is_count(step) else 0,
        "time_s": float(time_s) if is_moment(time_s) else 0.0,
        "attempt": attempt if is_count(attempt) else 0,
    }


def _own_fields(event: type[Event]) -> list[Field]:
    return [item for item in fields(event) if item.name not in ("step", "time_s", "attempt")]


@functools.cache
def _metadata(event: type[Event]) -> dict[str, tuple[Any, ...]]:
    """Return for each field the function that checks its value, and `_REST` for a field that holds the others."""
    hints = typing.get_type_hints(event, include_extras=True)
    return {item.name: hints[item.name].__metadata__ for item in _own_fields(event)}


def shown(value: Any, unknown: str = "?") -> str:
    """Return the text of a value that a record may lack."""
    return unknown if value is None else str(value)


def joined(texts: str | Sequence[str] | None) -> str:
    """Return texts as one, separated by commas; older runs have a text or a list of texts."""
    return texts if isinstance(texts, str) else ", ".join(texts or ())


@dataclass(frozen=True, kw_only=True)
class OtherEvent(Event):
    """An event that this version does not know; nobody writes it."""

    what: Text
    entries: OpenEntries

    def to_record(self) -> Record:
        return {"event": self.what, **(self.entries or {})}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> OtherEvent:
        entries = {name: value for name, value in record.items() if name not in OF_EVERY_RECORD}
        return cls(what=str(record.get("event", "event")), entries=entries, **place_of(record))

    def describe(self, words: Words = NO_WORDS) -> str:
        values = ", ".join(f"{name} {value}" for name, value in (self.entries or {}).items())
        return f"{shown(self.what, 'event').replace('_', ' ')} at step {self.step}" + (f": {values}" if values else "")
