"""The rows of the table: what was looked at, what was found, and whether that is good."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

GOOD, WRONG, MISSED, SKIPPED, MEASURED = "good", "WRONG", "MISSED", "skipped", "measured"
"""Verdicts: as it must be; a fault; correct, but beyond the goal; not possible here; a figure without a goal."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Parameters
    ----------
    what : str
        What was looked at.
    found : str
        What was found, with units.
    verdict : str
        One of the constants of this module.
    goal : str
        What would be good; empty where there is no goal.
    numbers : mapping of str to float
        The same as numbers, for ``--json``.
    """

    what: str
    found: str
    verdict: str = MEASURED
    goal: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_bad(self) -> bool:
        return self.verdict in (WRONG, MISSED)

    def line(self) -> str:
        """Return the row as a line of text."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, line: str) -> Row:
        """Read back what :meth:`line` returned."""
        return cls(**json.loads(line))


def check(what: str, is_right: bool, found: str, goal: str = "", **numbers: float) -> Row:
    """Return a row about something that is right or wrong."""
    return Row(what, found, GOOD if is_right else WRONG, goal, numbers)


def within(what: str, value: float, limit: float, found: str) -> Row:
    """Return a row about a difference that is right up to a limit; beyond it, there is a fault."""
    return Row(what, found, GOOD if value <= limit else WRONG, f"≤ {limit:g}", {"value": value})


def compare(what: str, value: float, limit: float, found: str, at_least: bool = False, **numbers: float) -> Row:
    """Return a row about a figure with a goal."""
    met = value >= limit if at_least else value <= limit
    goal = f"{'≥' if at_least else '≤'} {limit:g}"
    return Row(what, found, GOOD if met else MISSED, goal, {"value": value, **numbers})


def skip(what: str, why: str) -> Row:
    """Return a row about something that cannot be looked at here."""
    return Row(what, why, SKIPPED)


def guarded(what: str, look: Callable[..., Iterator[Row]], *arguments: Any) -> Iterator[Row]:
    """Yield the rows of `look`; an error in it is a row, and the other checks go on."""
    try:
        yield from look(*arguments)
    except Exception as error:
        text = (str(error).strip() or "no message").splitlines()
        yield Row(what, f"{type(error).__name__}: {' | '.join(text[:3])}", WRONG)


def table(part: str, rows: list[Row]) -> str:
    """Return the rows of a part as text."""
    wide = max((len(row.what) for row in rows), default=0)
    lines = [f"{part}"]
    for row in rows:
        goal = f"  (goal {row.goal})" if row.goal else ""
        lines.append(f"  {row.verdict:<9}{row.what:<{wide}}  {row.found}{goal}")
    return "\n".join(lines)
