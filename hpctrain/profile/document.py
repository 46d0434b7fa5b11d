"""The plain data of a profile or site file, with the file and line of each value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hpctrain.errors import Problem

KeyPath = tuple[str | int, ...]
"""Keys and list positions from the top of the document to a value."""


@dataclass(frozen=True)
class Place:
    """Place of a value: the file (or ``--set``) and the line, counted from 1."""

    source: str
    line: int | None = None


@dataclass(frozen=True)
class PlacedProblem(Problem):
    """A problem that may be in another file than the one the user named, such as its base."""

    source: str | None = None

    def __str__(self) -> str:
        if self.source is None:
            return super().__str__()
        line = f" line {self.line}" if self.line else ""
        where = f"{self.where}: " if self.where else ""
        return f"{self.source}{line}: {where}{self.message}"


@dataclass
class Document:
    """Plain data of one YAML text, the place of every value, and the problems of the text.

    Parameters
    ----------
    source : str
        Name of the file as the user gave it.
    data : dict
        Mappings, lists and scalars.
    places : dict
        Place of each key path.
    problems : list of Problem
        Problems found so far; later stages add theirs.
    unknown : set of tuple
        Key paths whose values are already known to be wrong (a variable that is not set, a forbidden tag, a
        credential). Later stages skip them.
    """

    source: str
    data: dict[str, Any] = field(default_factory=dict)
    places: dict[KeyPath, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unknown: set[KeyPath] = field(default_factory=set)

    def problem(self, path: KeyPath, message: str) -> Problem:
        """Return a problem at `path`, with the line of the value or of the nearest section around it."""
        where = ".".join(str(key) for key in path)
        for depth in range(len(path), 0, -1):
            place = self.places.get(path[:depth])
            if place is not None and (place.line is not None or depth == len(path)):
                source = None if place.source == self.source else place.source
                return PlacedProblem(where, message, place.line, source)
        return Problem(where, message)

    def forget(self, path: KeyPath) -> None:
        """Drop the places of `path` and of all below it."""
        depth = len(path)
        for known in [known for known in self.places if known[:depth] == path]:
            del self.places[known]

    def lay_over(self, other: Document, path: KeyPath = ()) -> None:
        """Merge `other` over this document: mappings key by key; any other value replaces the old one."""
        mine, theirs = _at(self.data, path), _at(other.data, path)
        for key, value in theirs.items():
            here = (*path, key)
            if isinstance(value, dict) and isinstance(mine.get(key), dict):
                self.places[here] = other.places.get(here, self.places.get(here, Place(other.source)))
                self.lay_over(other, here)
                continue
            self.forget(here)
            mine[key] = value
            depth = len(here)
            self.places.update({known: place for known, place in other.places.items() if known[:depth] == here})


def _at(data: Any, path: KeyPath) -> Any:
    for key in path:
        data = data[key]
    return data


def kind_of(value: Any) -> str:
    """Return the kind of a value in words that a YAML author knows."""
    kinds: Iterable[tuple[type, str]] = (
        (bool, "true or false"),
        (int, "a whole number"),
        (float, "a number"),
        (str, "text"),
        (dict, "a mapping"),
        (list, "a list"),
    )
    return next((name for kind, name in kinds if isinstance(value, kind)), "nothing (null)")


def sort_problems(problems: list[Problem]) -> list[Problem]:
    """Return the problems of the file itself by line, then those of its bases, then those of ``--set``."""

    def key(problem: Problem) -> tuple[str, int]:
        return getattr(problem, "source", None) or "", problem.line or 0

    ordered = sorted(problems, key=key)
    return [p for p in ordered if key(p)[0] != "--set"] + [p for p in ordered if key(p)[0] == "--set"]
