"""Replace ``${NAME}`` in a text by its value on the machine that uses the text: the login node or the compute node."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}|(?P<bare>[A-Za-z_][A-Za-z0-9_]*)?)")
"""``${NAME}``, ``$NAME``, ``$$`` for a dollar sign, or a dollar sign without a name."""


def has_variable(text: str) -> bool:
    """Return whether a text names a variable."""
    return any(match["name"] or match["bare"] for match in VARIABLE.finditer(text))


def expand(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return a text with the values of ``${NAME}`` and ``$NAME``.

    Parameters
    ----------
    text : str
    environment : mapping of str to str
        Values of the variables.

    Raises
    ------
    ValueError
        A variable is not set or empty, or a dollar sign has no name; the message is for the user.
    """

    def value_of(match: re.Match[str]) -> str:
        name = match["name"] or match["bare"]
        if match["escaped"]:
            return "$"
        if name is None:
            raise ValueError("'$' without a name; write ${NAME}, or $$ for a dollar sign")
        if not environment.get(name):
            raise ValueError(f"${{{name}}} is {'empty' if name in environment else 'not set'}")
        return environment[name]

    return VARIABLE.sub(value_of, text)
