"""The rules of ``rules_*.py`` add their problems to a :class:`Judge`; a check returns :class:`Findings`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hpctrain.errors import Problem, ProfileError
from hpctrain.profile.document import Document, KeyPath, sort_problems
from hpctrain.profile.schema import Profile

if TYPE_CHECKING:
    from hpctrain.profile.memory import Measurement
    from hpctrain.profile.site import Site


@dataclass
class Findings:
    """The result of a check.

    Parameters
    ----------
    source : str
        The profile's file.
    profile : Profile or None
        None if a value is not even of the right type.
    problems, warnings : list of Problem
        Problems must, and warnings should, be fixed before the job is queued.
    site : Site or None
        Facts of the cluster the profile names.
    measurement : Measurement or None
        Memory and data, if they were measured.
    judge : Judge or None
        What the rules have found so far, for a check that goes on later.
    """

    source: str
    profile: Profile | None = None
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    site: Site | None = None
    measurement: Measurement | None = None
    judge: Judge | None = field(default=None, repr=False, compare=False)

    def raise_problems(self) -> Profile:
        """Return the profile, or raise all problems at once.

        Raises
        ------
        ProfileError
            There are problems.
        """
        if self.problems or self.profile is None:
            raise ProfileError(self.source, self.problems)
        return self.profile


class Judge:
    """Collect problems and warnings with the lines of the document.

    A rule names every key that it read. If one of these keys is already known to be faulty, the judge drops the
    finding, because the rule has seen a default instead of the user's value.

    Parameters
    ----------
    document : Document
    profile : Profile
        The profile of the document, with defaults in place of faulty values.
    faulty : set of tuple
        Key paths of faulty values.
    """

    def __init__(self, document: Document, profile: Profile, faulty: set[KeyPath]) -> None:
        self.document, self.profile = document, profile
        self._faulty = faulty
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def problem(self, message: str, where: str, *also: str) -> None:
        """Record that the value at `where`, judged with the values at `also`, cannot work."""
        self._note(self.problems, message, where, also)

    def warn(self, message: str, where: str, *also: str) -> None:
        """Record that the value at `where` works, but is probably a mistake."""
        self._note(self.warnings, message, where, also)

    def is_written(self, where: str) -> bool:
        """Return whether the user set a key rather than leaving it at its default."""
        return as_path(where) in self.document.places

    def is_faulty(self, where: str) -> bool:
        """Return whether a key, a part of its value, or a section around it is known to be faulty."""
        path = as_path(where)
        return any(path[: len(bad)] == bad or bad[: len(path)] == path for bad in self._faulty)

    def _note(self, notes: list[Problem], message: str, where: str, also: tuple[str, ...]) -> None:
        if not any(self.is_faulty(key) for key in (where, *also)):
            notes.append(self.document.problem(as_path(where), message))

    def sorted_notes(self) -> tuple[list[Problem], list[Problem]]:
        """Return problems and warnings in the order of the file."""
        return sort_problems(self.problems), sort_problems(self.warnings)


def as_path(where: str) -> KeyPath:
    """Return ``data.files.0`` as keys and list positions."""
    return tuple(int(key) if key.isdecimal() else key for key in where.split("."))


def plural(count: int, noun: str) -> str:
    """Return ``1 GPU`` or ``4 GPUs``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
