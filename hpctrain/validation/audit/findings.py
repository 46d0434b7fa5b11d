"""What an audit finds: a table, worst first. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

LEAK, SUSPICION, NOTE = "leak", "suspicion", "note"
"""``leak``: held-out samples are not held out, so the numbers of the model will be too good. ``suspicion``: a user has
to decide. ``note``: what was not looked at, and why."""

SEVERITIES = (LEAK, SUSPICION, NOTE)

MOST_EXAMPLES = 5
"""Largest number of examples that a finding keeps."""


@dataclass(frozen=True)
class Finding:
    """One finding.

    Parameters
    ----------
    severity : str
        One of `SEVERITIES`.
    code : str
        Identifier for programs, such as ``same-position``.
    what : str
        What was found, in one sentence.
    why : str
        Why it matters.
    change : str
        What to do: a key of the profile, or a command.
    count : int
        Number of rows, columns or runs that the finding is about.
    key : str
        Key of the profile to look at.
    examples : sequence of str
        The first few rows, objects, columns or files.
    values : mapping
        Numbers for programs.
    """

    severity: str
    code: str
    what: str
    why: str = ""
    change: str = ""
    count: int = 0
    key: str = "data.files"
    examples: Sequence[str] = ()
    values: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "severity": self.severity,
            "code": self.code,
            "what": self.what,
            "why": self.why,
            "change": self.change,
            "count": self.count,
            "key": self.key,
            "examples": list(self.examples),
            "values": self.values,
        }

    def lines(self) -> list[str]:
        """Return the finding as lines of text."""
        found = [f"{self.severity}: {self.what}"]
        found += [f"    {example}" for example in self.examples[:MOST_EXAMPLES]]
        if self.why:
            found.append(f"  why: {self.why}")
        if self.change:
            found.append(f"  change: {self.change}")
        return found


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """Return findings by severity, and within a severity by the number of rows."""
    return sorted(findings, key=lambda each: (SEVERITIES.index(each.severity), -each.count))
