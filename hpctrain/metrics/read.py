"""Reading ``metrics.jsonl``, for status and report: no torch, no numpy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hpctrain.rundir import RunDir, read_json_lines

Record = dict[str, Any]


@dataclass
class History:
    """What a run has recorded, in the order of writing.

    Parameters
    ----------
    train, evaluations, events : list of dict
        Records of kind ``train``, ``eval`` and ``event``.
    monitor : list of dict
        Records of kind ``monitor``: what the sensors of rank 0 told.
    superseded : list of dict
        ``train`` and ``eval`` records of updates that were lost and made again.
    """

    train: list[Record] = field(default_factory=list)
    evaluations: list[Record] = field(default_factory=list)
    events: list[Record] = field(default_factory=list)
    monitor: list[Record] = field(default_factory=list)
    superseded: list[Record] = field(default_factory=list)

    @property
    def records(self) -> list[Record]:
        """All records but the superseded ones and those of sensors, by time."""
        return sorted([*self.train, *self.evaluations, *self.events], key=lambda record: record["time"])

    @property
    def step(self) -> int:
        """The last update that is done and not taken back; 0 where there is none.

        Events of older attempts do not count: what they had reached may have been lost.
        """
        newest = max((record.get("attempt") or 0 for record in self.events), default=0)
        events = [record for record in self.events if (record.get("attempt") or 0) == newest]
        return max((record["step"] for record in [*self.train, *self.evaluations, *events]), default=0)

    def named(self, event: str) -> list[Record]:
        """Return the events of one name, oldest first."""
        return [record for record in self.events if record.get("event") == event]

    def last(self, event: str) -> Record | None:
        """Return the newest event of one name."""
        return next(iter(reversed(self.named(event))), None)

    def best_evaluation(self) -> Record | None:
        """Return the evaluation with the lowest loss, of those that still stand."""
        finite = [record for record in self.evaluations if record.get("loss") is not None]
        return min(finite, key=lambda record: record["loss"], default=None)


def read_history(run: RunDir) -> History:
    """Read what a run has recorded so far; an absent file gives an empty history.

    Lines that are no records (torn by a kill) are passed over. A ``train`` or ``eval`` record that an older attempt
    wrote after a newer one had begun is put with the superseded ones: that attempt no longer owned the run.
    """
    history = History(superseded=[r for r in read_json_lines(run.superseded_metrics) if _is_record(r)])
    newest_attempt = 0
    for record in read_json_lines(run.metrics):
        if not _is_record(record):
            continue
        attempt = record.get("attempt") or 0
        newest_attempt = max(newest_attempt, attempt)
        kind = record["kind"]
        if kind == "event":
            history.events.append(record)
        elif kind == "monitor":
            history.monitor.append(record)
        elif attempt < newest_attempt:
            history.superseded.append(record)
        elif kind == "train":
            history.train.append(record)
        elif kind == "eval":
            history.evaluations.append(record)
    return history


def _is_record(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("kind"), str)
        and isinstance(value.get("step"), int)
        and isinstance(value.get("time"), int | float)
    )
