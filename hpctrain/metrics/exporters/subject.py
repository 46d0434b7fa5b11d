"""What has a tracked run of its own: a run, a study and its trials and folds, a pipeline and its stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpctrain.records import Record
from hpctrain.rundir import RunDir

RUN = "run"
INPUT, OUTPUT, TRAINING = "input", "output", "training"
"""Roles of a data set: read or written by a stage of a pipeline, or the data files of a training."""
FINISHED, FAILED, RUNNING, SCHEDULED = "FINISHED", "FAILED", "RUNNING", "SCHEDULED"
"""States of a tracked run, in the words of MLflow."""
_LONGEST_HEAD = 40
_LONGEST_ID = 64


@dataclass(frozen=True)
class DataSet:
    """A file that was read or written.

    Parameters
    ----------
    path : str
    digest : str
        SHA-256 of what `means` says, as 64 hexadecimal digits.
    means : str
        ``sha256 of the file``; ``sha256 of its columns``, the hashes that the writer of the file has stored; or ``size
        and time``, where nobody has read the file to hash it.
    role : str
        :data:`INPUT`, :data:`OUTPUT` or :data:`TRAINING`.
    size : int or None
        Of the file [byte].
    """

    path: str
    digest: str
    means: str
    role: str
    size: int | None = None

    @property
    def name(self) -> str:
        """Name of the file."""
        return Path(self.path).name


@dataclass(frozen=True)
class Registered:
    """A version of the registry that was made from a run.

    Parameters
    ----------
    model : str
    number : int
    aliases : tuple of str
        Those that mean this version now.
    folder : Path
        Folder of the version, which is laid out like a run directory.
    """

    model: str
    number: int
    aliases: tuple[str, ...]
    folder: Path


@dataclass(frozen=True)
class News:
    """Numbers that are not in ``metrics.jsonl``, such as those of a validation.

    Parameters
    ----------
    key : str
        What they are; a tracker remembers for each key which state it has received.
    state : str
        The state after them.
    records : list of dict
        Like records of ``metrics.jsonl``, with a `kind` of their own and 900 numbers at most in all. Times must not
        change from one call to the next.
    """

    key: str
    state: str
    records: list[Record]


def _no_news(known: Mapping[str, str]) -> Iterator[News]:
    return iter(())


@dataclass(frozen=True)
class Subject:
    """What has a tracked run of its own.

    Parameters
    ----------
    run : RunDir
        Its folder; ``track/`` in it holds the id of the tracked run.
    kind : str
        ``run``, ``study``, ``trial``, ``fold``, ``pipeline`` or ``stage``.
    key : str
        Text by which a server finds the tracked run again.
    title : str
        Name of the tracked run.
    experiment : str
        Experiment or project, if the profile and the command name none.
    parent : Subject or None
        The tracked run to which this one belongs.
    description : str
    parameters : mapping of str to str
        They never change.
    tags : mapping of str to str
        They may change.
    config : mapping
        The parameters with their structure.
    data : tuple of DataSet
    registered : tuple of Registered
    news : callable
        Takes the states that a tracker has received, by key, and yields what it has not.
    status : str or None
        One of :data:`FINISHED`, :data:`FAILED`, :data:`RUNNING` and :data:`SCHEDULED`; None if the events of
        ``metrics.jsonl`` say it.
    began_s, ended_s : float or None
        Seconds since 1970.
    """

    run: RunDir
    kind: str
    key: str
    title: str
    experiment: str
    parent: Subject | None = None
    description: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    data: tuple[DataSet, ...] = ()
    registered: tuple[Registered, ...] = ()
    news: Callable[[Mapping[str, str]], Iterator[News]] = _no_news
    status: str | None = None
    began_s: float | None = None
    ended_s: float | None = None

    def changed(self, **changes: Any) -> Subject:
        """Return it with other values of some fields."""
        return dataclasses.replace(self, **changes)

    @property
    def group(self) -> str | None:
        """Key of the study or the pipeline that it belongs to; that of a study or pipeline itself."""
        if self.parent is not None:
            return self.parent.group or self.parent.key
        return None if self.kind == RUN else self.key

    @property
    def short_id(self) -> str:
        """The key as an id of 64 characters at most."""
        head, slash, tail = self.key.partition("/")
        return f"{head[:_LONGEST_HEAD]}{slash}{tail}".replace("/", "-")[:_LONGEST_ID]
