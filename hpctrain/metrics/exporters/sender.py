"""Keep a tracked run complete: send what the tracker has not received."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator

from hpctrain.metrics.events import Finished
from hpctrain.metrics.exporters.facts import sha256_of
from hpctrain.metrics.exporters.folder import figures_of
from hpctrain.metrics.exporters.mark import Mark, RecordsAfter, state_of
from hpctrain.metrics.exporters.numbers import numbers_of
from hpctrain.metrics.exporters.tracker import MOST_NUMBERS, Tracker
from hpctrain.records import Record
from hpctrain.rundir import RunDir

_FINAL_FILES = {
    "model": ("model/model.safetensors", "model/model.json"),
    "report": ("report.html",),
    "provenance": ("provenance.json", "profile.yaml"),
}
"""What ``artifacts`` of a tracker's section names, and the files of a finished run that it means."""


class Sender:
    """Send a tracker what it has not received: facts, data sets, records, figures, and the files of a finished run.

    Parameters
    ----------
    tracker : Tracker

    Attributes
    ----------
    num_sent : int
        Number of records that were sent.
    num_opened : int
        How often the tracker has answered after it had not, or for the first time.
    num_passed : int
        Number of requests that have succeeded after that.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._subject, self._tracker = tracker.subject, tracker
        self._run = tracker.subject.run
        self._records = RecordsAfter(self._run.metrics)
        self._mark: Mark | None = None
        self._last_known = Mark()
        self._finished = False
        self.num_sent = 0
        self.num_opened = self.num_passed = 0

    def send_new(self) -> None:
        """Send everything that is new. After an error the next call asks the tracker anew what it has received.

        Raises
        ------
        TrackingError
            The tracker cannot be reached or refuses.
        OSError
            The run directory cannot be read.
        """
        try:
            if self._mark is None:
                self._records.rewind()
                self._finished = False
                self._mark = self._tracker.open()
                self.num_opened += 1
                self._send_facts()
            self._send_records()
            self._send_figures()
            self._send_news()
            if self._finished:
                self._send_final_files()
            self._send_versions()
        except BaseException:
            self._last_known, self._mark = self._mark or self._last_known, None
            raise

    def num_waiting(self) -> int:
        """Return the number of records that the tracker has not received, as far as it has answered."""
        return sum(1 for _ in RecordsAfter(self._run.metrics).read(self._mark or self._last_known))

    def _send_facts(self) -> None:
        """Send what changes rarely: parameters, tags, state, data sets."""
        subject = self._subject
        facts = [dict(subject.parameters), dict(subject.tags), subject.status, subject.group, subject.description]
        if (mark := self._mark_of("facts", sha256_of(facts)[:16])) is not None:
            self._tracker.send_facts(mark)
            self._advance(mark)
        state = sha256_of([dataclasses.astuple(each) for each in subject.data])[:16]
        if subject.data and (mark := self._mark_of("data", state)) is not None:
            self._tracker.send_data(subject.data, mark)
            self._advance(mark)

    def _send_news(self) -> None:
        for news in self._subject.news(self._mark.files):
            mark = self._mark.with_files(news.key, news.state, len(news.records))
            self._tracker.send(news.records, mark)
            self._advance(mark)
            self.num_sent += len(news.records)

    def _send_versions(self) -> None:
        for version in self._subject.registered:
            state = " ".join([str(version.number), *version.aliases])
            if (mark := self._mark_of(f"registered {version.model}:{version.number}", state)) is not None:
                self._tracker.send_version(version, mark)
                self._advance(mark)

    def _advance(self, mark: Mark) -> None:
        self._mark = mark
        self.num_passed += 1

    def _mark_of(self, key: str, state: str) -> Mark | None:
        """Return the mark after something with a state; None if the tracker has it."""
        return None if self._mark.files.get(key) == state else self._mark.with_files(key, state)

    def _send_records(self) -> None:
        for records, mark in _batches(self._records.read(self._mark)):
            self._tracker.send(records, mark)
            self._advance(mark)
            self.num_sent += len(records)
        self._finished = self._finished or _has_finished(self._run)

    def _send_figures(self) -> None:
        for name, step, path in figures_of(self._run):
            if not self._tracker.has_figure(name, step):
                mark = self._mark.with_figure()
                self._tracker.send_figure(path, name, step, mark)
                self._advance(mark)

    def _send_final_files(self) -> None:
        for kind in self._tracker.artifacts:
            paths = {name: self._run.path / name for name in _FINAL_FILES[kind]}
            paths = {name: path for name, path in paths.items() if os.access(path, os.R_OK)}
            state = " ".join(state_of(path) for path in paths.values())
            if paths and self._mark.files.get(kind) != state:
                mark = self._mark.with_files(kind, state)
                self._tracker.send_files(kind, paths, mark)
                self._advance(mark)


def _batches(records: Iterator[tuple[Record, Mark]]) -> Iterator[tuple[list[Record], Mark]]:
    batch: list[Record] = []
    room, mark = MOST_NUMBERS, None
    for record, after in records:
        count = len(numbers_of(record)) if record["kind"] != "event" else 1
        if batch and count > room:
            yield batch, mark
            batch, room = [], MOST_NUMBERS
        batch.append(record)
        room, mark = room - count, after
    if batch:
        yield batch, mark


def _has_finished(run: RunDir) -> bool:
    return (run.model / "model.safetensors").exists() and any(
        record.get("event") == Finished.name for record in run.read_metrics("event")
    )
