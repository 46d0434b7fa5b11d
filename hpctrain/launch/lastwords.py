"""Read the newest records of ``metrics.jsonl`` from the end of the file, so that status need not read a long run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hpctrain.files import open_regular
from hpctrain.metrics.progress import describe_event
from hpctrain.records import Record, metric_record, parse_json
from hpctrain.rundir import RunDir

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
        Unusable pixels and spectra that the newest attempt has masked; empty if none.
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
    train: list[Record] = []
    last: dict[str, Record] = {}
    step = 0
    for block in _blocks_backwards(run.metrics, _FURTHEST_BYTES):
        is_enough = len(train) == _RATE_OVER_RECORDS
        if is_enough and not any(name in block for name in _RARE):
            continue
        for line in reversed(block.split(b"\n")):
            if len(train) == _RATE_OVER_RECORDS and not any(name in line for name in _RARE):
                continue
            record = _record(line)
            if record is None:
                continue
            kind = record["kind"]
            name = str(record.get("event")) if kind == "event" else kind
            step = max(step, record["step"])
            last.setdefault(name, record)
            if kind == "train" and len(train) < _RATE_OVER_RECORDS:
                train.append(record)
            if name == "started":
                if not train or "eval" not in last:
                    last |= _numbers_before(run)
                return _last_words(run, train, last, step)
    return _last_words(run, train, last, step)


def _last_words(run: RunDir, train: list[Record], last: dict[str, Record], step: int) -> LastWords:
    started = last.get("started", {})
    ending = last.get("failed") or last.get("diverged") or {}
    stopped = last.get("stopped", {})
    newest = next((record for record in train if _says_loss(record)), last.get("train", {}))
    return LastWords(
        step=step,
        total_steps=started.get("total_steps", 0),
        loss=newest.get("loss"),
        validation_loss=last.get("eval", {}).get("loss"),
        samples_per_s=train[0].get("samples_per_s") if train else None,
        steps_per_s=_rate(train),
        started_at=started.get("time", 0.0) or _started_by_lease(run),
        finished="finished" in last,
        stopped=str(stopped.get("cause", "stopped")) if stopped else "",
        error=str(ending.get("error") or ending.get("event") or ""),
        exit_code=ending.get("exit_code", stopped.get("exit_code")),
        bad_data=describe_event(last["bad_pixels"]) if "bad_pixels" in last else "",
        warnings=[
            *last.get("data", {}).get("warnings", []),
            *(describe_event(last[name]) for name in ("gpu_missing", "evaluation_empty") if name in last),
        ],
        notes=last.get("data", {}).get("notes", []),
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
