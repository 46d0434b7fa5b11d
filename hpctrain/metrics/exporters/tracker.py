"""The contract of a tracker, which keeps a copy of a run on a server, and what its implementations share."""

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
from hpctrain.metrics.exporters.mark import Mark
from hpctrain.metrics.exporters.subject import DataSet, Registered, Subject
from hpctrain.records import Record
from hpctrain.rundir import RunDir, read_json, write_json

MOST_NUMBERS = 900
"""Largest number of numbers that are sent together; MLflow accepts 1000."""


class TrackingError(HpctrainError):
    """A tracker cannot be reached, refuses, or is not installed; what it has not received can be sent later.

    Parameters
    ----------
    message : str
    may_pass : bool
        Whether the same request may succeed a little later: the server is down, or has lost its data base.
    """

    exit_code = 3

    def __init__(self, message: str, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass


class Tracker(abc.ABC):
    """Keep a copy of one run in a tracking service, as one tracked run over all attempts.

    Attributes
    ----------
    name : str
        ``mlflow`` or ``wandb``.
    artifacts : sequence of str
        What to send of a finished run: ``model``, ``report``, ``provenance``.
    subject : Subject
        What the tracked run is about.
    """

    name: str
    artifacts: Sequence[str]
    subject: Subject

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
    def send_facts(self, mark: Mark) -> None:
        """Send parameters, tags and state, as far as :meth:`open` has not done it, and note `mark`; errors as there."""

    @abc.abstractmethod
    def send_data(self, data: Sequence[DataSet], mark: Mark) -> None:
        """Send the data sets with their digests, and note `mark`; errors as of :meth:`send`."""

    @abc.abstractmethod
    def send_version(self, version: Registered, mark: Mark) -> None:
        """Send a registered version of the run with its aliases, and note `mark`; errors as of :meth:`send`."""

    @abc.abstractmethod
    def close(self) -> None:
        """Hand over what the service's client still holds, and free its resources."""


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
