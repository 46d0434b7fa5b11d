"""What a rule is, and the list of all rules."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from hpctrain.lint.script import BatchScript

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("note", "warning", "error")
Hits = Iterator[tuple[int, str]]
Look = Callable[[BatchScript], Iterable[tuple[int, str]]]


@dataclass(frozen=True)
class Rule:
    """One trap.

    Parameters
    ----------
    name : str
        Words with dashes, as in ``--disable``.
    group : str
        The heading of the documentation.
    level : {"error", "warning", "note"}
        An error fails or does something else than it says; a warning is a trap; a note is a hint.
    what : str
        What is found, in a few words.
    why : str
        Why it is a trap.
    fix : str
        What to write instead.
    look : callable
        Function of a script that yields the line and the text of each finding.
    """

    name: str
    group: str
    level: Level
    what: str
    why: str
    fix: str
    look: Look


@dataclass(frozen=True)
class Finding:
    """One place where a rule found its trap.

    Parameters
    ----------
    rule : Rule
    line : int
        From 1.
    found : str
        What is there.
    """

    rule: Rule
    line: int
    found: str


RULES: dict[str, Rule] = {}


def rule(name: str, group: str, level: Level, what: str, why: str, fix: str) -> Callable[[Look], Look]:
    """Return a decorator that makes a rule of a function; its docstring is for maintainers.

    Parameters
    ----------
    name, group, level, what, why, fix
        See :class:`Rule`.
    """

    def add(look: Look) -> Look:
        if name in RULES:
            raise ValueError(f"two rules are called {name}")
        RULES[name] = Rule(name, group, level, what, _plain(why), _plain(fix), look)
        return look

    return add


def _plain(text: str) -> str:
    return " ".join(textwrap.dedent(text).split())
