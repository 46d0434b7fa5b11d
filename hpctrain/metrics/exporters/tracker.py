"""The contract of a tracker, which keeps a copy of a run on a server, and the sender that keeps the copy complete."""

from __future__ import annotations

import abc
import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpctrain.errors import HpctrainError
from hpctrain.files import open_append
from hpctrain.metrics.events import Finished
from hpctrain.metrics.exporters.folder import figures_of
from hpctrain.metrics.exporters.mark import Mark, RecordsAfter, state_of
from hpctrain.metrics.exporters.numbers import numbers_of
from hpctrain.records import Record
from hpctrain.rundir import RunDir, read_json, write_json

MOST_NUMBERS = 900
"""Largest number of numbers that are sent together; MLflow accepts 1000."""
_FINAL_FILES = {
    "model": ("model/model.safetensors", "model/model.json"),
    "report": ("report.html",),
    "provenance": ("provenance.json", "profile.yaml"),
}
"""What ``artifacts`` of a tracker's section names, and the files of a finished run that it means."""


class TrackingError(HpctrainError):
    """A tracker cannot be reached, refuses, or is not installed; what it has not received can be sent later."""

    exit_code = 3


class Tracker(abc.ABC):
    """Keep a copy of one run in a tracking service, as one tracked run over all attempts.

    Attributes
    ----------
    name : str
        ``mlflow`` or ``wandb``.
    artifacts : sequence of str
        What to send of a finished run: ``model``, ``report``, ``provenance``.
    """

    name: str
    artifacts: Sequence[str]

    @abc.abstractmethod
    def open(self) -> Mark:
        """Connect, make the tracked run or open it again, and return what it has received.

        Raises
        ------
        TrackingError
            The server does not answer or refuses, or a package or a key is missing.
        """

    @abc.abstractmethod
    def send(self, records: Sequence[Record], mark: Mark) -> None:
        """Send records, and note `mark` as what the tracked run has received after them.

        Parameters
        ----------
        records : sequence of dict
            Records of ``metrics.jsonl`` with :data:`MOST_NUMBERS` numbers at most.
        mark : Mark

        Raises
        ------
        TrackingError
            The records may or may not have arrived; :meth:`open` says which.
        """

    @abc.abstractmethod
    def has_figure(self, name: str, step: int) -> bool:
        """Return whether the tracked run has a figure; errors as of :meth:`send`.

        Parameters
        ----------
        name : str
            Name of the figure, such as ``reconstruction/0``.
        step : int
        """

    @abc.abstractmethod
    def send_figure(self, path: Path, name: str, step: int, mark: Mark) -> None:
        """Send a figure, and note `mark`.

        Parameters
        ----------
        path : Path
            PNG file.
        name : str
            Name of the figure, such as ``reconstruction/0``.
        step : int
        mark : Mark

        Raises
        ------
        TrackingError
            As of :meth:`send`.
        """

    @abc.abstractmethod
    def send_files(self, kind: str, paths: Mapping[str, Path], mark: Mark) -> None:
        """Send files of a finished run, and note `mark`.

        Parameters
        ----------
        kind : str
            One of :attr:`artifacts`.
        paths : mapping of str to Path
            Paths by their names relative to the run directory.
        mark : Mark

        Raises
        ------
        TrackingError
            As of :meth:`send`.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Hand over what the service's client still holds, and free its resources."""


class Sender:
    """Send a tracker what it has not received: records, figures, and the files of a finished run.

    Parameters
    ----------
    run : RunDir
    tracker : Tracker
    """

    def __init__(self, run: RunDir, tracker: Tracker) -> None:
        self._run, self._tracker = run, tracker
        self._records = RecordsAfter(run.metrics)
        self._mark: Mark | None = None
        self._last_known = Mark()
        self._finished = False
        self.num_sent = 0

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
            self._send_records()
            self._send_figures()
            if self._finished:
                self._send_final_files()
        except BaseException:
            self._last_known, self._mark = self._mark or self._last_known, None
            raise

    def num_waiting(self) -> int:
        """Return the number of records that the tracker has not received, as far as it has answered."""
        return sum(1 for _ in RecordsAfter(self._run.metrics).read(self._mark or self._last_known))

    def _send_records(self) -> None:
        for records, mark in _batches(self._records.read(self._mark)):
            self._tracker.send(records, mark)
            self._mark = mark
            self.num_sent += len(records)
        self._finished = self._finished or _has_finished(self._run)

    def _send_figures(self) -> None:
        for name, step, path in figures_of(self._run):
            if not self._tracker.has_figure(name, step):
                mark = self._mark.with_figure()
                self._tracker.send_figure(path, name, step, mark)
                self._mark = mark

    def _send_final_files(self) -> None:
        for kind in self._tracker.artifacts:
            paths = {name: self._run.path / name for name in _FINAL_FILES[kind]}
            paths = {name: path for name, path in paths.items() if os.access(path, os.R_OK)}
            state = " ".join(state_of(path) for path in paths.values())
            if paths and self._mark.files.get(kind) != state:
                mark = self._mark.with_files(kind, state)
                self._tracker.send_files(kind, paths, mark)
                self._mark = mark


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


@contextlib.contextmanager
def only_sender(run: RunDir, tracker: str, patience_s: float, ends: threading.Event | None = None) -> Iterator[bool]:
    """Take the lock of one tracker of a run for the block; the value is False if another process keeps it.

    On a file system without locks every process gets the lock.

    Parameters
    ----------
    run : RunDir
    tracker : str
        ``mlflow`` or ``wandb``.
    patience_s : float
        Longest time to wait for the lock [s]: the sender of an attempt that was killed may just be ending.
    ends : Event, optional
        Ends the wait.
    """
    ends = ends or threading.Event()
    deadline_s = time.monotonic() + patience_s
    run.track.mkdir(exist_ok=True)
    descriptor = open_append(run.track / f"{tracker}.lock")
    try:
        while not (is_ours := _locked(descriptor)) and time.monotonic() < deadline_s and not ends.wait(0.5):
            pass
        yield is_ours
    finally:
        os.close(descriptor)


def read_track(run: RunDir, tracker: str) -> dict[str, Any]:
    """Return what ``track/<tracker>.json`` of a run holds; empty if it is absent or damaged."""
    kept = read_json(run.track / f"{tracker}.json", {})
    return kept if isinstance(kept, dict) else {}


def write_track(run: RunDir, tracker: str, values: Mapping[str, Any]) -> None:
    """Write ``track/<tracker>.json`` of a run, whole or not at all."""
    run.track.mkdir(exist_ok=True)
    write_json(run.track / f"{tracker}.json", values)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
