"""The newest records of ``metrics.jsonl``, read from the end of the file: status must not read all of a long run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctrain.metrics.progress import describe_event
from hpctrain.rundir import RunDir

_FIRST_BYTES = 1 << 16
_RATE_OVER_RECORDS = 20


@dataclass(frozen=True)
class LastWords:
    """What a run last said about itself.

    Parameters
    ----------
    step, total_steps : int
    loss, validation_loss, samples_per_s, steps_per_s : float or None
        The last on record; the rate of steps is that of the newest attempt's last records.
    started_at : float
        When the newest attempt began; 0 if none did.
    finished : bool
        The last step is done and the model written.
    stopped : str
        Why the newest attempt was stopped and saved; empty if it was not.
    error : str
        What the newest attempt failed with; empty if it did not.
    exit_code : int or None
        Of the newest attempt, if it said so.
    bad_data : str
        What it has masked because it cannot be used; empty if nothing.
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


def read_last_words(run: RunDir) -> LastWords:
    """Read back to the start of the newest attempt, or to the start of the file."""
    train: list[dict[str, Any]] = []
    last: dict[str, dict[str, Any]] = {}
    step = 0
    for record in read_backwards(run.metrics):
        kind = record.get("kind")
        name = str(record.get("event")) if kind == "event" else str(kind)
        step = max(step, int(record.get("step") or 0))
        last.setdefault(name, record)
        if kind == "train" and len(train) < _RATE_OVER_RECORDS:
            train.append(record)
        if name == "started":
            break
    started = last.get("started", {})
    ending = last.get("failed") or last.get("diverged") or {}
    stopped = last.get("stopped", {})
    newest = train[0] if train else {}
    return LastWords(
        step=step,
        total_steps=int(started.get("total_steps") or 0),
        loss=newest.get("loss"),
        validation_loss=last.get("eval", {}).get("loss"),
        samples_per_s=newest.get("samples_per_s"),
        steps_per_s=_rate(train),
        started_at=float(started.get("time") or 0.0),
        finished="finished" in last,
        stopped=str(stopped.get("cause", "stopped")) if stopped else "",
        error=str(ending.get("error") or ending.get("event") or ""),
        exit_code=ending.get("exit_code", stopped.get("exit_code")),
        bad_data=describe_event(last["bad_pixels"]) if "bad_pixels" in last else "",
    )


def read_backwards(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a JSON-lines file from the last to the first, reading only as much as is asked for."""
    if not path.exists():
        return
    with open(path, "rb") as stream:
        end = stream.seek(0, 2)
        size = _FIRST_BYTES
        rest = b""
        while end > 0:
            begin = max(0, end - size)
            stream.seek(begin)
            lines = (stream.read(end - begin) + rest).split(b"\n")
            rest = lines.pop(0) if begin else b""  # its beginning lies further up
            yield from filter(None, map(_record, reversed(lines)))
            end, size = begin, size * 4


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None  # torn by a kill, or the empty text after the last line break
    return record if isinstance(record, dict) else None


def _rate(train: list[dict[str, Any]]) -> float | None:
    if len(train) < 2:
        return None
    seconds = train[0]["time"] - train[-1]["time"]
    return (train[0]["step"] - train[-1]["step"]) / seconds if seconds > 0 else None
