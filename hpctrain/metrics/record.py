"""Write ``metrics.jsonl``, the authoritative record of a run's progress: one JSON object per line.

Every line has ``kind`` (``train``, ``eval``, ``event`` or ``monitor``), ``step``, ``time`` (seconds since 1970) and
``attempt``.
TensorBoard, Prometheus and the progress line are exporters: the writer calls them with each record after it has written
the record. An error in an exporter switches the exporter off and never ends the run.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from hpctrain.credentials.hide import hide_known
from hpctrain.errors import CheckpointError
from hpctrain.files import NewFile, clear_leftovers, fsync_directory, is_in_the_way, open_append, put_aside, read_lines
from hpctrain.metrics.events import Event, ExporterFailed, RecordsLost
from hpctrain.metrics.exporters.exporter import Exporter
from hpctrain.records import metric_head, parse_json
from hpctrain.rundir import RunDir

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hpctrain.metrics.histogram import Histogram

Record = dict[str, Any]
E = TypeVar("E", bound=Event)

log = logging.getLogger(__name__)


def _plain(value: Any, name: str, nonfinite: list[str]) -> Any:
    """Return `value` as a JSON value; add the names of NaN and infinite numbers to `nonfinite`."""
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

    Numbers that are NaN or infinite become null, which every JSON reader accepts; ``nonfinite`` lists their names.
    The line is ASCII, so that a line cut off by a kill is still decodable.
    """
    nonfinite: list[str] = []
    plain = {name: _plain(value, name, nonfinite) for name, value in record.items()}
    if nonfinite:
        plain["nonfinite"] = nonfinite
    return json.dumps(plain, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


class MetricsWriter:
    """Append records to a run's ``metrics.jsonl`` and pass them to exporters.

    Only rank 0 has a writer. Each record is one ``write`` to a descriptor opened with ``O_APPEND``, so lines of two
    threads never interleave and a killed run loses no written line. Call :func:`supersede_after` before the first
    record of a resumed run.

    Parameters
    ----------
    run : RunDir
        The run.
    attempt : int
        Number of this attempt, which each record contains.

    Notes
    -----
    On a full disk the run continues without the record. The writer logs the first loss, and writes their number in an
    event ``records_lost`` as soon as there is room again.
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
        self._failed: set[str] = set()

    def subscribe(self, exporter: Exporter) -> None:
        """Call `exporter` with each record from now on, until its first exception."""
        self._exporters.append(exporter)

    def train(self, step: int, **fields: Any) -> Record:
        """Record the numbers of a step (or their mean over a few steps), which must be on the host."""
        return self._write("train", step, fields)

    def evaluation(self, step: int, **fields: Any) -> Record:
        """Record an evaluation on the held-out split after `step`."""
        return self._write("eval", step, fields)

    def monitor(self, step: int, **fields: Any) -> Record:
        """Record the readings of the sensors of rank 0 and its node after `step`."""
        return self._write("monitor", step, fields)

    def event(self, event: E, step: int) -> E:
        """Record something that happened, and return it with its step, time and attempt."""
        fields = {name: hide_known(value) if name == "error" else value for name, value in event.to_record().items()}
        record = self._write("event", step, fields)
        return event.at(record["step"], record["time"], record["attempt"])

    def figures(self, step: int, draw: Callable[[], Iterable[tuple[str, Figure]]]) -> None:
        """Draw figures and pass them to the exporters that take figures; without one, draw nothing.

        Parameters
        ----------
        step : int
            Last step done.
        draw : callable
            Returns pairs of name and figure. After its first error the run continues without figures.
        """
        takers = [exporter for exporter in self._exporters if exporter.takes_figures]
        # Where there is no home directory to write into, as in containers, matplotlib warns in lines that mean nothing.
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
        for name, figure in self._made("figures", step, lambda: list(draw())) if takers else ():
            self._pass(takers, step, lambda exporter, *shown: exporter.figure(step, *shown), name, figure)

    def histograms(self, step: int, count: Callable[[], Mapping[str, Histogram]]) -> None:
        """Count histograms and pass them to the exporters that take histograms; without one, count nothing.

        Parameters
        ----------
        step : int
            Last step done.
        count : callable
            Returns the histograms by name. After its first error the run continues without histograms.
        """
        takers = [exporter for exporter in self._exporters if exporter.takes_histograms]
        if takers and (named := self._made("histograms", step, count)):
            self._pass(takers, step, lambda exporter: exporter.histogram(step, named))

    def close(self) -> None:
        """Close the exporters and the file."""
        with self._lock:
            for exporter in list(self._exporters):
                self._guarded(exporter, 0, exporter.close)
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
                self._guarded(exporter, record["step"], exporter, record)
        return record

    def _made(self, what: str, step: int, make: Callable[[], Any]) -> Any:
        """Return what `make` returns; after its first error, an empty tuple for the rest of the attempt."""
        if what in self._failed:
            return ()
        try:
            return make()
        except Exception as error:  # no error of a drawing may end the run
            self._failed.add(what)
            log.warning("%s failed and are off: %r", what, error)
            self.event(ExporterFailed(exporter=what, error=repr(error)), step)
            return ()

    def _pass(self, takers: list[Exporter], step: int, call: Callable[..., None], *arguments: Any) -> None:
        with self._lock:
            for exporter in takers:
                if exporter in self._exporters:
                    self._guarded(exporter, step, call, exporter, *arguments)

    def _lost_record(self, record: Record) -> Record:
        common = {name: record[name] for name in ("step", "time", "attempt")}
        return {"kind": "event", **common, **RecordsLost(records=self._num_lost).to_record()}

    def _append(self, record: Record) -> bool:
        line = format_record(record)
        try:
            if self._descriptor is None:
                self._open()
            if self._torn:  # the file ends within a line; the next one must not continue it
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
        self._descriptor = open_append(self._path)
        # Check after opening: an attempt that takes the run over later replaces the file that is open here.
        if (newest := self._run.newest_attempt()) > self._attempt:
            raise CheckpointError(
                f"{self._run.path}: attempt {self._attempt} was replaced by attempt {newest}; this one may not record"
            )
        self._torn = not _ends_with_a_line(self._descriptor)

    def _guarded(self, exporter: Exporter, step: int, call: Callable[..., None], *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:  # no error of a tracker may end the run
            self._exporters.remove(exporter)
            name = type(exporter).__name__
            log.warning("%s failed and gets no more records: %r", name, error)
            self.event(ExporterFailed(exporter=name, error=repr(error)), step)


def _ends_with_a_line(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"


class Superseded(NamedTuple):
    """What :func:`supersede_after` has found: the number of records moved, and the last step of a training record."""

    moved: int
    furthest: int


def supersede_after(run: RunDir, step: int, evaluated_step: int | None = None) -> Superseded:
    """Move away the records of steps that a resumed run will repeat.

    The ``train`` and ``eval`` records beyond `step` move to ``logs/superseded.jsonl``. Events and sensor readings stay,
    because they remain true. The function drops incomplete and damaged lines. It always replaces ``metrics.jsonl`` as a
    whole, so that a surviving rank of an older attempt writes to a file that nobody reads. If that name is not a
    regular file, the function moves it aside.

    Parameters
    ----------
    run : RunDir
        The run that is resumed.
    step : int
        Last step contained in the checkpoint.
    evaluated_step : int, optional
        Step of the last evaluation in the checkpoint, if it is not `step`: a stop may come between step and evaluation.

    Returns
    -------
    Superseded

    Notes
    -----
    All ranks wait meanwhile, so the file is read once, and no entry but kind, step and time is looked at.
    """
    clear_leftovers(run.metrics)
    if is_in_the_way(run.metrics):
        put_aside(run.metrics)
    if not run.metrics.exists():
        return Superseded(0, 0)
    last = {"train": step, "eval": step if evaluated_step is None else min(step, evaluated_step)}
    moved = furthest = 0
    with NewFile(run.metrics) as kept, contextlib.ExitStack() as opened:
        superseded = None
        for line in read_lines(run.metrics):
            head = _head(line)
            if head is None:
                continue
            kind, at = head
            furthest = max(furthest, at) if kind == "train" else furthest
            line = line.rstrip(b"\n") + b"\n"
            if at <= last.get(kind, at):
                kept.stream.write(line)
                continue
            if superseded is None:
                run.logs.mkdir(exist_ok=True)
                superseded = opened.enter_context(os.fdopen(open_append(run.superseded_metrics), "ab"))
                if not _ends_with_a_line(superseded.fileno()):
                    superseded.write(b"\n")
            superseded.write(line)
            moved += 1
        if superseded is not None:  # copy first, then remove: after a kill in between, a record is in both files
            superseded.flush()
            os.fsync(superseded.fileno())
            fsync_directory(run.logs)
    return Superseded(moved, furthest)


def _head(line: bytes) -> tuple[str, int] | None:
    try:
        return metric_head(parse_json(line.decode("utf-8", "replace")))
    except ValueError:
        return None
