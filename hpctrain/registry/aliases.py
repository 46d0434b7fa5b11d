"""Aliases of versions: every move is a file that is written once, and the last one is valid."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctrain.errors import CheckpointError, Problem, ProfileError, SiteError
from hpctrain.files import publish_once
from hpctrain.registry.folder import ModelFolder, entries
from hpctrain.registry.sealed import digest_of, read_sealed, sealed_text
from hpctrain.trail.who import who

PROMOTE, ROLLBACK = "promote", "rollback"
ANY = -1
"""Stands for any version, or none, where an alias may mean what it likes."""
_FILE = re.compile(r"^(\d{8})\.json$")


@dataclass(frozen=True)
class Move:
    """One move of an alias.

    Parameters
    ----------
    alias : str
    number : int
        Place in the history of the alias, from 1.
    facts : mapping
        ``action``, ``from``, ``to``, ``why``, ``gates``, ``who``, ``when``, ``token``, and ``before``: the SHA-256 of
        the move before.
    """

    alias: str
    number: int
    facts: Mapping[str, Any]

    @property
    def to(self) -> int:
        """Number of the version that the alias means since this move."""
        return int(self.facts["to"])


def history_of(model: ModelFolder, alias: str) -> list[Move]:
    """Return all moves of an alias, oldest first; none if there is no such alias.

    Raises
    ------
    CheckpointError
        A move is missing or damaged.
    """
    folder = model.aliases / alias
    numbers = [int(match[1]) for match in map(_FILE.match, entries(folder)) if match]
    moves: list[Move] = []
    for number in range(1, max(numbers, default=0) + 1):
        moves.append(Move(alias, number, _read(folder / f"{number:08d}.json", moves)))
    return moves


def _read(path: Path, before: Sequence[Move]) -> dict[str, Any]:
    try:
        facts = read_sealed(path)
        if facts["before"] != (digest_of(before[-1].facts) if before else None):
            raise ValueError("does not follow the move before; somebody has changed one of them")
        if not isinstance(facts["to"], int):
            raise ValueError("names no version")
    except (OSError, ValueError, KeyError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(f"{path}: {reason}; put the file back from a backup") from error
    return facts


def current(model: ModelFolder, alias: str) -> int | None:
    """Return the number of the version that an alias means; None if there is no such alias."""
    moves = history_of(model, alias)
    return moves[-1].to if moves else None


def aliases_of(model: ModelFolder) -> dict[str, int]:
    """Return the number of the version of each alias."""
    found = {alias: current(model, alias) for alias in model.alias_names()}
    return {alias: number for alias, number in found.items() if number is not None}


def move_to(
    model: ModelFolder,
    alias: str,
    number: int,
    why: str,
    gates: str,
    audit: Callable[[Mapping[str, Any]], None],
    instead_of: int | None = ANY,
) -> Move | None:
    """Let an alias mean a version; return None if it does already.

    Of two users at once both moves are kept, one after the other.

    Parameters
    ----------
    model : ModelFolder
    alias : str
    number : int
        Number of the version.
    why : str
    gates : str
        What the gates say.
    audit : callable
        Gets the facts of the move before it is made.
    instead_of : int or None
        Number of the version that the alias must mean until then; None if there must be no such alias. By default it
        may mean any.

    Raises
    ------
    SiteError
        It means another one.
    """
    while True:
        moves = history_of(model, alias)
        found = moves[-1].to if moves else None
        if moves and found == number:
            return None
        if instead_of != ANY and found != instead_of:
            was, now = (f"version {each}" if each is not None else "no version" for each in (instead_of, found))
            raise SiteError(
                f"{model.name}@{alias} means {now} now, and meant {was} when version {number} was compared with it; "
                "compare them again"
            )
        if (move := _append(model, alias, moves, PROMOTE, number, why, gates, audit)) is not None:
            return move


def roll_back(model: ModelFolder, alias: str, why: str, audit: Callable[[Mapping[str, Any]], None]) -> Move:
    """Let an alias mean the version that it meant before its last promotion.

    Raises
    ------
    ProfileError
        There is no version before.
    SiteError
        Somebody has moved the alias meanwhile.
    """
    moves = history_of(model, alias)
    before = _before(moves)
    if before is None:
        state = f"had no version before {model.name}:{moves[-1].to}" if moves else "does not exist"
        message = f"the alias {alias} {state}, so there is nothing to go back to"
        raise ProfileError("command line", [Problem(f"{model.name}@{alias}", message)])
    move = _append(model, alias, moves, ROLLBACK, before, why, "it had the alias before", audit)
    if move is None:
        raise SiteError(
            f"{model.aliases / alias}: somebody has moved the alias meanwhile; look at it with 'hpctrain registry show "
            f"{model.name}', and decide again"
        )
    return move


def _before(moves: Sequence[Move]) -> int | None:
    """Return the version before the last promotion that was not rolled back."""
    stack = kept(moves)
    return stack[-2] if len(stack) > 1 else None


def kept(moves: Sequence[Move]) -> list[int]:
    """Return the numbers of the versions that an alias has meant, oldest first, without promotions that were rolled
    back; the last one has the alias."""
    stack: list[int] = []
    for move in moves:
        if move.facts["action"] == ROLLBACK:
            stack.pop()
        else:
            stack.append(move.to)
    return stack


def _append(
    model: ModelFolder,
    alias: str,
    moves: Sequence[Move],
    action: str,
    to: int,
    why: str,
    gates: str,
    audit: Callable[[Mapping[str, Any]], None],
) -> Move | None:
    """Write the next move; None if somebody else has written a move with its number."""
    number = len(moves) + 1
    facts = {
        "alias": alias,
        "number": number,
        "action": action,
        "from": moves[-1].to if moves else None,
        "to": to,
        "why": why.encode("utf-8", "replace").decode(),
        "gates": gates,
        "who": who(),
        "when": time.time(),
        "token": secrets.token_hex(16),
        "before": digest_of(moves[-1].facts) if moves else None,
    }
    folder = model.registry.make(model.aliases / alias)
    audit(facts)
    try:
        written = publish_once(folder / f"{number:08d}.json", sealed_text(facts).encode(), model.registry.file_mode)
    except OSError as error:
        raise SiteError(f"{folder}: cannot be written: {error.strerror}; the alias was not moved") from error
    return Move(alias, number, facts) if written else None
