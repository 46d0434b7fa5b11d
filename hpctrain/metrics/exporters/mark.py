"""What a tracker has received so far, and the records of ``metrics.jsonl`` that it has not."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from hpctrain.files import LONGEST_LINE_BYTES, open_regular
from hpctrain.records import Record, is_count, metric_record, parse_json


@dataclass(frozen=True)
class Mark:
    """How far a tracker has received a run. It stays true when a resumed run moves records away and repeats steps.

    Parameters
    ----------
    train, evaluation : int
        Step of the last ``train`` and of the last ``eval`` record; -1 before the first one. A step that was lost and
        repeated is not sent again: the tracker has its numbers, and cannot forget them.
    events, readings : int
        Number of ``event`` and of ``monitor`` records; no resume removes any of them.
    rows : int
        Number of all records and figures.
    files : mapping of str to str
        State of all else that was sent, by what it is: size and time of change of files, a hash of data sets, ...
    """

    train: int = -1
    evaluation: int = -1
    events: int = 0
    readings: int = 0
    rows: int = 0
    files: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str | None) -> Mark:
        """Return the mark of a text that :meth:`to_json` wrote; the first mark for anything else."""
        try:
            values = parse_json(text or "")
        except ValueError:
            return cls()
        if not isinstance(values, dict):
            return cls()
        known = {name: value for name, value in values.items() if name in _NAMES}
        counts = [value for name, value in known.items() if name != "files"]
        is_map = isinstance(known.get("files", {}), dict)
        return cls(**known) if is_map and all(is_count(value) or value == -1 for value in counts) else cls()

    def to_json(self) -> str:
        """Return the mark as one line of JSON."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    def with_figure(self) -> Mark:
        """Return the mark after a figure. Which figures were sent, the tracker itself knows."""
        return dataclasses.replace(self, rows=self.rows + 1)

    def with_files(self, kind: str, state: str, rows: int = 0) -> Mark:
        """Return the mark after the files of one kind, such as ``model``, or after so many records of one kind."""
        return dataclasses.replace(self, rows=self.rows + rows, files={**self.files, kind: state})


_NAMES = frozenset(each.name for each in dataclasses.fields(Mark))
_STEP_OF = {"train": "train", "eval": "evaluation"}
_COUNT_OF = {"event": "events", "monitor": "readings"}


class RecordsAfter:
    """Read the records that come after a mark, again and again while the file grows.

    Parameters
    ----------
    path : Path
        ``metrics.jsonl`` of a run. A resumed run replaces the file; it is then read from its beginning.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity: tuple[int, int] | None = None
        self._place = 0
        self._seen = dict.fromkeys(_COUNT_OF.values(), 0)

    def read(self, mark: Mark) -> Iterator[tuple[Record, Mark]]:
        """Yield each complete record after `mark`, with the mark after this record.

        A consumer that has not dealt with all records calls :meth:`rewind` before it reads again.

        Raises
        ------
        OSError
            The file is there, but cannot be read.
        """
        try:
            stream = os.fdopen(open_regular(self._path), "rb")
        except FileNotFoundError:
            return
        with stream:
            self._begin(stream)
            while line := stream.readline(LONGEST_LINE_BYTES):
                if not line.endswith(b"\n") and len(line) < LONGEST_LINE_BYTES:
                    return  # the run is just writing this line, or was killed while it did
                self._place += len(line)
                record = _parsed(line)
                after = None if record is None else self._mark_after(record, mark)
                if after is not None:
                    mark = after
                    yield record, mark

    def rewind(self) -> None:
        """Read the file from its beginning next time."""
        self._identity = None

    def _begin(self, stream: BinaryIO) -> None:
        """Go to the place where the last call ended; to the beginning if the file is another one."""
        opened = os.fstat(stream.fileno())
        if self._identity != (opened.st_dev, opened.st_ino):
            self._identity, self._place = (opened.st_dev, opened.st_ino), 0
            self._seen = dict.fromkeys(_COUNT_OF.values(), 0)
        stream.seek(self._place)

    def _mark_after(self, record: Record, mark: Mark) -> Mark | None:
        """Return the mark after a record; None if the tracker has it, or if it is of no known kind."""
        kind = record["kind"]
        if kind in _STEP_OF:
            name, value = _STEP_OF[kind], record["step"]
        elif kind in _COUNT_OF:
            name = _COUNT_OF[kind]
            self._seen[name] += 1
            value = self._seen[name]
        else:
            return None
        if value <= getattr(mark, name):
            return None
        return dataclasses.replace(mark, rows=mark.rows + 1, **{name: value})


def _parsed(line: bytes) -> Record | None:
    try:
        return metric_record(parse_json(line.decode("utf-8", "replace")))
    except ValueError:
        return None


def state_of(path: Path) -> str:
    """Return the size and the time of change of a file as one word.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    found = os.stat(path)
    return f"{found.st_size}-{found.st_mtime_ns}"
