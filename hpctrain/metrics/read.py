"""Read ``metrics.jsonl`` for the report: as a stream, in bounded memory, without torch or numpy."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from hpctrain.files import read_lines
from hpctrain.metrics.events import BadValues, Best, DataFound, Event, read_event
from hpctrain.metrics.objective import Objective
from hpctrain.metrics.thinned import Thinned
from hpctrain.records import Record, is_number, metric_record, parse_json
from hpctrain.rundir import RunDir

E = TypeVar("E", bound=Event)

_LONGEST_MEASUREMENT_BYTES = 1 << 12
"""Longest line of kind ``train``, ``eval`` or ``monitor``, which holds some dozen numbers; longer ones are damaged."""
_MOST_EVENT_BYTES = 1 << 26
"""Largest total size of the events that are read [byte]; later events are skipped."""
_MOST_EVENT_NAMES = 256
_AS_WRITTEN = re.compile(rb'\{"kind":"train","step":\d+,"time":[\d.]+,"attempt":(\d{1,9}),')
_LOSS = re.compile(rb'"loss":(-?\d[\d.]*(?:e[+-]?\d+)?)[,}]')


@dataclass
class History:
    """The records of a run, in the order of writing.

    Parameters
    ----------
    train, evaluations : list of dict
        Records of kind ``train`` and ``eval``.
    events : list of Event
    monitor : list of dict
        Records of kind ``monitor``: readings of the sensors of rank 0.
    superseded : list of dict
        ``train`` and ``eval`` records of steps that were lost and repeated.
    extremes : list of dict
        If there are too many ``train`` records to keep all: those with the lowest and the highest loss between two kept
        ones, so that a curve keeps its spikes.
    num_nonfinite : int
        Number of ``train`` and ``eval`` records with numbers that were not finite, including those that are not kept.

    Notes
    -----
    The history keeps some ten thousand records of each kind at most: evenly spaced ones, the newest thousand, the first
    and the last of every attempt, and the best evaluation (:mod:`hpctrain.metrics.thinned`).
    """

    train: list[Record] = field(default_factory=list)
    evaluations: list[Record] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    monitor: list[Record] = field(default_factory=list)
    superseded: list[Record] = field(default_factory=list)
    extremes: list[Record] = field(default_factory=list)
    num_nonfinite: int = 0

    @property
    def step(self) -> int:
        """The last step whose record is not superseded; 0 if there is none.

        Events of older attempts do not count, because the run may have lost the steps that they had reached.
        """
        newest = max((event.attempt for event in self.events), default=0)
        of_events = [event.step for event in self.events if event.attempt == newest]
        return max([*(record["step"] for record in [*self.train, *self.evaluations]), *of_events], default=0)

    def all_of(self, event: type[E]) -> list[E]:
        """Return the events of one class, oldest first."""
        return [found for found in self.events if isinstance(found, event)]

    def newest(self, event: type[E]) -> E | None:
        """Return the newest event of one class."""
        return next(iter(reversed(self.all_of(event))), None)

    @property
    def data(self) -> DataFound | None:
        """What the newest attempt has found in its data."""
        return self.newest(DataFound)

    @property
    def bad_values(self) -> list[BadValues]:
        """The last count of bad values of each attempt that has read some."""
        return list({event.attempt: event for event in self.all_of(BadValues)}.values())

    def best_evaluation(self, objective: Objective) -> Record | None:
        """Return the best evaluation by `objective` among those that are not superseded; None if there is none."""
        best: Record | None = None
        for record in self.evaluations:
            value = record.get(objective.metric)
            if is_number(value) and objective.is_better(value, best and best[objective.metric]):
                best = record
        return best


def read_history(run: RunDir) -> History:
    """Read the records of a run in one pass and in bounded memory; return an empty history if the file is absent.

    The function skips lines that are not records: damaged ones, and those that a kill has cut off. A ``train`` or
    ``eval`` record that an older attempt wrote after a newer one had begun counts as superseded, because that attempt
    no longer owned the run.
    """
    reader = _Reader()
    reader.read(run.superseded_metrics, is_superseded=True)
    reader.read(run.metrics)
    return reader.history()


class _Reader:
    """Sort lines by kind, and parse only the lines that are kept."""

    def __init__(self) -> None:
        self._kinds = {kind: Thinned(_parsed) for kind in ("train", "eval", "monitor", "superseded")}
        self._events: dict[str, Thinned] = {}
        self._event_bytes = 0
        self._number = 0
        self._newest_attempt = 0
        self._last_evaluation: tuple[int, int, bytes] | None = None

    def read(self, path: Path, is_superseded: bool = False) -> None:
        """Read one file; skip it if it is absent or cannot be read."""
        try:
            for line in read_lines(path):
                self._take(line, is_superseded)
        except OSError:
            return

    def _take(self, line: bytes, is_superseded: bool) -> None:
        self._number += 1
        found = _AS_WRITTEN.match(line)
        if found and len(line) <= _LONGEST_MEASUREMENT_BYTES:
            loss = _LOSS.search(line, found.end())
            self._sort("train", line, int(found[1]), float(loss[1]) if loss else None, is_superseded)
            return
        record = _parsed(line)
        if record is None:
            return
        kind, attempt = record["kind"], record.get("attempt") or 0
        if kind == "event":
            self._event_bytes += len(line)
            if not is_superseded and self._event_bytes <= _MOST_EVENT_BYTES:
                self._newest_attempt = max(self._newest_attempt, attempt)
                name = str(record.get("event")) if len(self._events) < _MOST_EVENT_NAMES else ""
                if name == Best.name:
                    self._keep_best(record["step"])
                self._events.setdefault(name, Thinned(_parsed)).add(self._number, line, attempt, None)
        elif kind in self._kinds and len(line) <= _LONGEST_MEASUREMENT_BYTES:
            became = self._sort(kind, line, attempt, record.get("loss"), is_superseded)
            if became == "eval":
                self._last_evaluation = (record["step"], self._number, line)

    def _keep_best(self, step: int) -> None:
        """Keep the evaluation just before an event ``best``; that of a lost step is not there any more."""
        if self._last_evaluation is not None and self._last_evaluation[0] == step:
            self._kinds["eval"].mark(*self._last_evaluation[1:])

    def _sort(self, kind: str, line: bytes, attempt: int, loss: float | None, is_superseded: bool) -> str:
        """Add a line to those of its kind, or to the superseded ones; return which."""
        if not is_superseded:
            self._newest_attempt = max(self._newest_attempt, attempt)
        if is_superseded or (kind != "monitor" and attempt < self._newest_attempt):
            kind = "superseded"
        self._kinds[kind].add(self._number, line, attempt, loss)
        return kind

    def history(self) -> History:
        """Return the kept records."""
        events = [record for thinned in self._events.values() for record in thinned.numbered()]
        return History(
            train=self._kinds["train"].records(),
            evaluations=self._kinds["eval"].records(with_lowest=True),
            events=[read_event(record) for _, record in sorted(events, key=lambda item: item[0])],
            monitor=self._kinds["monitor"].records(),
            superseded=self._kinds["superseded"].records(),
            extremes=self._kinds["train"].extremes(),
            num_nonfinite=sum(self._kinds[kind].num_nonfinite for kind in ("train", "eval")),
        )


def _parsed(line: bytes) -> Record | None:
    try:
        return metric_record(parse_json(line.decode("utf-8", "replace")))
    except ValueError:
        return None
