"""Find the known name that a user probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known name most like `word`, or None where none is near.

    Case, blanks, hyphens and underscores do not count: ``batchSize`` is near ``batch_size``.
    """
    names = sorted(known)
    squashed = {_squash(name): name for name in reversed(names)}
    matches = difflib.get_close_matches(_squash(word), squashed, n=1, cutoff=0.7)
    return squashed[matches[0]] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for a near name, else the list of the known names."""
    names = sorted(known)
    near = nearest(word, names)
    if near is not None:
        return f"; did you mean '{near}'?"
    return f"; there is {', '.join(names)}" if names else ""


def _squash(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())
