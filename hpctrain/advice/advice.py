"""One piece of advice: what was seen, why it matters, what to change, and what that should bring."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

FAILURE, CLUSTER, LEARNING, SPEED = range(4)
"""What a piece of advice is about, the most pressing first."""
TOPICS = ("failure", "cluster", "learning", "speed")


@dataclass(frozen=True)
class Change:
    """A key of the profile and its new value."""

    key: str
    value: Any

    def __str__(self) -> str:
        return f"{self.key}: {self.value if isinstance(self.value, str) else json.dumps(self.value)}"


@dataclass(frozen=True)
class Advice:
    """What a rule says about a run.

    Parameters
    ----------
    topic : int
        `FAILURE`, `CLUSTER`, `LEARNING` or `SPEED`.
    seen : str
        What the records say, with numbers.
    why : str
        What that means.
    gain : str
        What the change should bring.
    changes : tuple of Change
        Keys of the profile to change; the first change of a key by a more pressing piece of advice counts.
    todo : str
        What to do where no key of the profile helps, or beside the changes.
    rule : str
        Name of the rule; `advise` sets it.
    """

    topic: int
    seen: str
    why: str
    gain: str
    changes: tuple[Change, ...] = ()
    todo: str = ""
    rule: str = ""

    @property
    def what_to_do(self) -> str:
        """The changes and what else to do, in one line."""
        return "; ".join(filter(None, [", ".join(map(str, self.changes)), self.todo]))

    def line(self) -> str:
        """Return the advice in one line."""
        return f"{self.rule}: {self.seen}. Change: {self.what_to_do}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "topic": TOPICS[self.topic]}
