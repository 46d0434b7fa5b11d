"""How versions are named: ``NAME``, ``NAME:3`` or ``NAME@champion``, also with ``registry:`` in front."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hpctrain.errors import Problem, ProfileError
from hpctrain.profile.sections.base import NAME_PATTERN
from hpctrain.registry.references import SCHEME

CHAMPION = "champion"
"""Alias of the version in service."""

_NAME = re.compile(NAME_PATTERN)
_REFERENCE = re.compile(r"^(?P<name>[^@:]+)(?:@(?P<alias>[^@:]+)|:(?P<number>\d{1,9}))?$")
_ALIAS = re.compile(r"^[a-z][a-z0-9_-]{0,63}$")
_OF_MLFLOW = re.compile(r"^(latest|v\d+)$")
"""Aliases that MLflow keeps for itself."""


@dataclass(frozen=True)
class Reference:
    """What ``NAME[@ALIAS|:NUMBER]`` means.

    Parameters
    ----------
    name : str
        Name of the model.
    alias : str or None
    number : int or None
    """

    name: str
    alias: str | None = None
    number: int | None = None

    def __str__(self) -> str:
        if self.number is not None:
            return f"{self.name}:{self.number}"
        return self.name if self.alias is None else f"{self.name}@{self.alias}"


def read_reference(text: str) -> Reference:
    """Return what a user means by ``NAME``, ``NAME:3`` or ``NAME@champion``, with or without ``registry:``.

    Raises
    ------
    ProfileError
        The text is none of these.
    """
    found = _REFERENCE.match(text.removeprefix(SCHEME))
    if found is None:
        raise _wrong(text, "is no registered version; write NAME, NAME:3 or NAME@champion")
    alias = found["alias"]
    return Reference(
        check_name(found["name"]),
        None if alias is None else check_alias(alias),
        None if found["number"] is None else int(found["number"]),
    )


def check_name(name: str) -> str:
    """Return the name of a model.

    Raises
    ------
    ProfileError
        It is none.
    """
    if not _NAME.match(name):
        raise _wrong(name, "is no name of a model; use 1 to 64 letters, digits, '.', '_' and '-', such as photoz-mgs")
    return name


def check_alias(alias: str) -> str:
    """Return an alias.

    Raises
    ------
    ProfileError
        It is none.
    """
    if not _ALIAS.match(alias) or _OF_MLFLOW.match(alias):
        message = (
            "is no alias; use lower case letters, digits, '_' and '-', a letter first, such as champion; not 'latest', "
            "not 'v1'"
        )
        raise _wrong(alias, message)
    return alias


def _wrong(text: str, message: str) -> ProfileError:
    return ProfileError("command line", [Problem(text, message)])
