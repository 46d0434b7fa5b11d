"""Writing ``metrics.jsonl``: one JSON object a line, the truth about a run's progress.

Every line has ``kind`` (``train``, ``eval``, ``event`` or ``monitor``), ``step``, ``time`` (seconds since 1970) and
``attempt``.
TensorBoard and the progress line are exporters: they are called with each record after it was written, and what
goes wrong in them costs the exporter, never the run.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from hpctrain.errors import CheckpointError
from hpctrain.rundir import RunDir, fsync_directory, write_atomic

Record = dict[str, Any]
Exporter = Callable[[Record], None]

log = logging.getLogger(__name__)


def _plain(value: Any, name: str, nonfinite: list[str]) -> Any:
    """Return `value` as JSON can say it; the names of NaN and infinite numbers are added to `nonfinite`."""
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)  # numpy.float64 is a float whose repr is not a number
        nonfinite.append(name)
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{name}.{key}", nonfinite) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{name}.{index}", nonfinite) for index, item in enumerate(value)]
    if hasattr(value, "tolist"):  # numpy scalars and arrays, tensors on the CPU
        return _plain(value.tolist(), name, nonfinite)
    return str(value)


def format_record(record: Mapping[str, Any]) -> bytes:
    """Return one line of ``metrics.jsonl``, newline included.

    Numbers that are NaN or infinite become null, which every JSON reader takes, and are named in ``nonfinite``.
    The line is ASCII, so that a line torn by a killed writer is still decodable.
    """
    nonfinite: list[str] = []
    plain = {name: _plain(value, name, nonfinite) for name, value in record.items()}
    if nonfinite:
        plain["nonfinite"] = nonfinite
    return json.dumps(plain, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


class MetricsWriter:
    """Append records to a run's ``metrics.jsonl`` and pass them on to exporters.

    Only rank 0 has one. A record is one ``write`` to a descriptor opened with ``O_APPEND``, so lines of two threads
    never interleave and a killed run loses no line it has written. Call :func:`supersede_after` before the first
    record of a resumed run.

    Parameters
    ----------
    run : RunDir
        The run written to.
    attempt : int
        Number of this attempt, in each record.

    Notes
    -----
    On a full disk the record is lost, not the run: the loss is logged once, and counted in an event
    ``records_lost`` as soon as there is room again.
    """

    def __init__(self, run: RunDir, attempt: int) -> None:
        self._run = run
        self._path = run.metrics
        self._attempt = attempt
        self._descriptor: int | None = None
        self._exporters: list[Exporter] = []
        self._lock = threading.RLock()  # the checkpoint writer's thread records events too
        self._num_lost = 0
        self._torn = False

    def subscribe(self, exporter: Exporter) -> None:
        """Call `exporter` with each record from now on; it is dropped at its first exception."""
        self._exporters.append(exporter)

    def train(self, step: int, **fields: Any) -> Record:
        """Record what an update (or the mean over a few) measured; numbers only, already on the host."""
        return self._write("train", step, fields)

    def evaluation(self, step: int, **fields: Any) -> Record:
        """Record an evaluation on the held-out split after update `step`."""
        return self._write("eval", step, fields)

    def monitor(self, step: int, **fields: Any) -> Record:
        """Record what the sensors of rank 0 and its node told while update `step` was the last one done."""
        return self._write("monitor", step, fields)

    def event(self, name: str, step: int, **fields: Any) -> Record:
        """Record something that happened, such as ``checkpoint`` or ``stopped``."""
        return self._write("event", step, {"event": name, **fields})

    def close(self) -> None:
        """Close the file and those exporters that have a ``close``."""
        with self._lock:
            for exporter in list(self._exporters):
                if hasattr(exporter, "close"):
                    self._guarded(exporter, exporter.close)
            self._exporters.clear()
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _write(self, kind: str, step: int, fields: Mapping[str, Any]) -> Record:
        record = {"kind": kind, "step": int(step), "time": round(time.time(), 3), "attempt": self._attempt, **fields}
        with self._lock:
            if self._num_lost and self._append(self._lost_record(record)):
                self._num_lost = 0
            self._num_lost += not self._append(record)
            for exporter in list(self._exporters):
                self._guarded(exporter, exporter, record)
        return record

    def _lost_record(self, record: Record) -> Record:
        common = {name: record[name] for name in ("step", "time", "attempt")}
        return {"kind": "event", **common, "event": "records_lost", "records": self._num_lost}

    def _append(self, record: Record) -> bool:
        line = format_record(record)
        try:
            if self._descriptor is None:
                self._open()
            if self._torn:  # the rest of a line stands there; it must not swallow this one
                line = b"\n" + line
            written = os.write(self._descriptor, line)
            self._torn = written != len(line)
            if self._torn:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        except OSError as error:
            if not self._num_lost:
                log.warning("a record was lost: %s", error)
            return False
        return True

    def _open(self) -> None:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        # Asked after opening: whoever takes the run over later replaces the file that is open here.
        if (newest := self._run.newest_attempt()) > self._attempt:
            raise CheckpointError(
                f"{self._run.path}: attempt {self._attempt} was replaced by attempt {newest}; this one may not record"
            )
        size = os.fstat(self._descriptor).st_size
        self._torn = size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"

    def _guarded(self, exporter: Exporter, call: Callable[..., None], *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:  # whatever it is, a tracker must never take the run down
            self._exporters.remove(exporter)
            name = type(exporter).__name__
            log.warning("%s failed and gets no more records: %r", name, error)
            step = arguments[0]["step"] if arguments else 0
            self.event("exporter_failed", step, exporter=name, error=repr(error))


def supersede_after(run: RunDir, step: int, evaluated_step: int | None = None) -> int:
    """Take back the records of updates that a resumed run will make again.

    The ``train`` and ``eval`` records beyond `step` move to ``logs/superseded.jsonl``; events and what sensors told
    stay where they are, because what happened has happened. A torn last line is dropped. ``metrics.jsonl`` is replaced
    as a whole, even if nothing moves: a rank of an older attempt that lives on keeps writing to a file that nobody
    reads any more.

    Parameters
    ----------
    run : RunDir
        The run that is resumed.
    step : int
        Last update contained in the checkpoint.
    evaluated_step : int, optional
        Last evaluation contained in it, if that is not up to `step`: a stop may come between the two.

    Returns
    -------
    int
        Number of records moved.
    """
    if not run.metrics.exists():
        return 0
    last = {"train": step, "eval": step if evaluated_step is None else min(step, evaluated_step)}
    kept, moved = [], []
    with open(run.metrics, encoding="ascii", errors="replace") as stream:
        for line in stream:
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            beyond = record.get("kind") in last and record.get("step", 0) > last[record["kind"]]
            (moved if beyond else kept).append(line.rstrip("\n") + "\n")
    if moved:  # first copied, then taken away: killed in between, a record is there twice, never not at all
        run.logs.mkdir(exist_ok=True)
        with open(run.superseded_metrics, "a", encoding="ascii") as stream:
            stream.writelines(moved)
            stream.flush()
            os.fsync(stream.fileno())
        fsync_directory(run.logs)
    write_atomic(run.metrics, "".join(kept))
    return len(moved)
