"""Read the newest records of ``metrics.jsonl`` from the end of the file, so that status need not read a long run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from hpctrain.files import open_regular
from hpctrain.metrics.events import (
    BadValues,
    DataFound,
    Diverged,
    EvaluationEmpty,
    Event,
    Failed,
    Finished,
    GpuMissing,
    Started,
    Stopped,
    read_event,
)
from hpctrain.metrics.events.event import NO_WORDS
from hpctrain.profile.lookup import words_of_file
from hpctrain.records import Record, metric_record, parse_json
from hpctrain.rundir import RunDir

E = TypeVar("E", bound=Event)

_FIRST_BYTES = 1 << 16
_LARGEST_BYTES = 1 << 20
"""Largest number of bytes to read at a time; the reader skips a longer line."""
_FURTHEST_BYTES = 1 << 26
"""Status reads at most this many bytes back from the end: some hundred thousand records."""
_RATE_OVER_RECORDS = 20
_RARE = (b'"event"', b'"eval"')
"""Each line that is neither a training record nor a sensor reading contains one of these."""


@dataclass(frozen=True)
class LastWords:
    """The newest values that a run has recorded.

    Parameters
    ----------
    step, total_steps : int
    loss, validation_loss, samples_per_s, steps_per_s : float or None
        The last recorded values; `steps_per_s` is computed from the last records of the newest attempt.
    started_at : float
        When the newest attempt began [s since 1970]; 0 if none did.
    finished : bool
        Whether the last step is done and the model is written.
    stopped : str
        Why the newest attempt saved and stopped; empty if it did not.
    error : str
        Error of the newest attempt; empty if it did not fail.
    exit_code : int or None
        Exit code of the newest attempt, if it is on record.
    bad_data : str
        Bad values and samples without weight that the newest attempt has read; empty if none.
    warnings : list of str
        Reasons to doubt the result: implausible data, no GPU, no evaluation.
    notes : list of str
        Notes about the data.
    """

    step: int = 0
    total_steps: int = 0
    loss: float | None = None
    validation_loss: float | None = None
    samples_per_s: float | None = None
    steps_per_s: float | None = None
    started_at: float = 0.0
    finished: bool = False
    stopped: str = ""
    error: str = ""
    exit_code: int | None = None
    bad_data: str = ""
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_last_words(run: RunDir) -> LastWords:
    """Read back to the start of the newest attempt, at most `_FURTHEST_BYTES`; only one block is in memory."""
    last = _Last()
    for block in _blocks_backwards(run.metrics, _FURTHEST_BYTES):
        if last.has_all_training and not any(name in block for name in _RARE):
            continue
        for line in reversed(block.split(b"\n")):
            if last.has_all_training and not any(name in line for name in _RARE):
                continue
            if (record := _record(line)) is not None:
                last.take(record)
            if Started in last.events:
                if not last.train or "eval" not in last.records:
                    last.records |= _numbers_before(run)
                return _last_words(run, last)
    return _last_words(run, last)


class _Last:
    """The newest events, training records and evaluation, given the records from the last to the first."""

    def __init__(self) -> None:
        self.step = 0
        self.train: list[Record] = []
        self.records: dict[str, Record] = {}
        self.events: dict[type[Event], Event] = {}

    @property
    def has_all_training(self) -> bool:
        return len(self.train) == _RATE_OVER_RECORDS

    def take(self, record: Record) -> None:
        kind = record["kind"]
        self.step = max(self.step, record["step"])
        self.records.setdefault(kind, record)
        if kind == "train" and not self.has_all_training:
            self.train.append(record)
        if kind == "event":
            event = read_event(record)
            self.events.setdefault(type(event), event)

    def event(self, wanted: type[E]) -> E | None:
        return self.events.get(wanted)


def _last_words(run: RunDir, last: _Last) -> LastWords:
    started, stopped, failed = last.event(Started), last.event(Stopped), last.event(Failed)
    data, train = last.event(DataFound), last.train
    newest = next((record for record in train if _says_loss(record)), last.records.get("train", {}))
    error = ((failed.error or Failed.name) if failed else Diverged.name) if failed or last.event(Diverged) else ""
    exit_codes = [event.exit_code for event in (failed, stopped) if event is not None]
    doubts = [event for event in (last.event(GpuMissing), last.event(EvaluationEmpty)) if event is not None]
    bad = last.event(BadValues)
    words = words_of_file(run.profile) if doubts or bad else NO_WORDS
    return LastWords(
        step=last.step,
        total_steps=(started.total_steps if started else None) or 0,
        loss=newest.get("loss"),
        validation_loss=last.records.get("eval", {}).get("loss"),
        samples_per_s=train[0].get("samples_per_s") if train else None,
        steps_per_s=_rate(train),
        started_at=(started.time_s if started else 0.0) or _started_by_lease(run),
        finished=Finished in last.events,
        stopped=(stopped.cause or "stopped") if stopped else "",
        error=error,
        exit_code=next((code for code in exit_codes if code is not None), None),
        bad_data=bad.describe(words) if bad else "",
        warnings=[*((data.warnings if data else None) or ()), *(event.describe(words) for event in doubts)],
        notes=list((data.notes if data else None) or ()),
    )


def _says_loss(record: Record) -> bool:
    """Return whether a record has a loss, or has none because it was not finite: a batch without weight has neither."""
    return record.get("loss") is not None or "loss" in (record.get("nonfinite") or [])


def _numbers_before(run: RunDir) -> dict[str, Record]:
    """Return the last training record and the last evaluation of all attempts.

    The status shows them while the newest attempt has none of its own.
    """
    found: dict[str, Record] = {}
    for record in read_backwards(run.metrics, _FURTHEST_BYTES):
        if record["kind"] in ("train", "eval"):
            found.setdefault(record["kind"], record)
        if len(found) == 2:
            break
    return found


def _started_by_lease(run: RunDir) -> float:
    """Return when the newest attempt took its number: its first record may be too far back to be read."""
    if not run.metrics.exists():
        return 0.0
    leases = run.read_attempts()
    return leases[-1].get("started_at", 0.0) if leases else 0.0


def read_backwards(path: Path, furthest_bytes: int | None = None) -> Iterator[Record]:
    """Yield the records of ``metrics.jsonl`` from the last to the first; read only as much as the caller consumes."""
    for block in _blocks_backwards(path, furthest_bytes):
        yield from filter(None, map(_record, reversed(block.split(b"\n"))))


def _blocks_backwards(path: Path, furthest_bytes: int | None = None) -> Iterator[bytes]:
    """Yield blocks of whole lines from the end of a file; yield nothing if the file is unreadable."""
    try:
        descriptor = open_regular(path)
    except OSError:
        return
    with os.fdopen(descriptor, "rb") as stream:
        end = size_bytes = stream.seek(0, 2)
        size = _FIRST_BYTES
        rest = b""
        while end > 0 and (furthest_bytes is None or size_bytes - end < furthest_bytes):
            begin = max(0, end - size)
            stream.seek(begin)
            text = stream.read(end - begin) + rest
            if begin:  # the first line begins in the block before
                rest, _, text = text.partition(b"\n")
                if len(rest) > _LARGEST_BYTES:
                    rest = b"\0"  # no record is so long; the remainder will not parse
            yield text
            end, size = begin, min(size * 4, _LARGEST_BYTES)


def _record(line: bytes) -> Record | None:
    if not line:
        return None
    try:
        return metric_record(parse_json(line.decode("utf-8", "replace")))
    except ValueError:
        return None  # torn by a kill, or damaged


def _rate(train: list[Record]) -> float | None:
    if len(train) < 2:
        return None
    seconds = train[0]["time"] - train[-1]["time"]
    return (train[0]["step"] - train[-1]["step"]) / seconds if seconds > 0 else None
