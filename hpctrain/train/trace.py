"""Record some steps with PyTorch's profiler, and write the trace and its summary into the run directory."""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.autograd.profiler import profile, record_function

from hpctrain.files import NewFile, clear_leftovers
from hpctrain.metrics.events import NotTraced, Traced
from hpctrain.rundir import read_json, write_json
from hpctrain.traces.parts import PREFIX, step_label
from hpctrain.traces.summary import summarise_trace
from hpctrain.train.build import device_facts
from hpctrain.train.trace_labels import Label, no_label

if TYPE_CHECKING:
    from hpctrain.samples.protocols import Batch
    from hpctrain.train.run import Run
    from hpctrain.train.step import StepResult

LARGEST_BYTES = 1 << 28
"""Largest trace to keep, before compression; a step of the default network takes about 1 MB on a GPU."""
_COMPRESSION = 6


def tracer_of(run: Run) -> Tracer | None:
    """Return what records the steps of ``train.profile_steps`` on this rank; None if there is nothing to record.

    That is so without the key, on other ranks than the first (unless ``train.profile_ranks`` is ``all``), if an earlier
    attempt has recorded the steps, and if this attempt does not do them, which the event ``not_traced`` says.
    """
    train = run.profile.train
    if train.profile_steps is None or not run.learns_by_gradient:
        return None
    if not run.world.is_main and train.profile_ranks != "all":
        return None
    first, last = train.profile_steps
    _, summary = run.directory.trace_files(run.world.rank)
    kept = read_json(summary)
    if isinstance(kept, dict) and kept.get("asked") == [first, last]:
        return None
    begin, total = run.progress.step, run.schedule.total_steps
    if max(first, begin + 1) > min(last, total):
        reason = f"the run has {total} steps" if first > total else f"this attempt began after step {begin}"
        _tell(run, first, last, reason)
        return None
    return Tracer(run, max(first, begin + 1), min(last, total))


def _tell(run: Run, first: int, last: int, reason: str) -> None:
    if run.metrics is not None:
        run.metrics.event(NotTraced(first_step=first, last_step=last, reason=reason), run.progress.step)


class Tracer:
    """Does the steps of an attempt, and records those from `first` to `last`.

    Whatever fails in the profiler or on the disk costs the trace and never the run. The profiler only looks: the
    weights have the same bits with and without it.

    Parameters
    ----------
    run : Run
    first, last : int
        Steps by the number of updates that they lead to.
    """

    def __init__(self, run: Run, first: int, last: int) -> None:
        self._run, self._first, self._last = run, first, last
        self._profiler: profile | None = None

    def update(self, step: int, batches: Iterator[Batch]) -> StepResult:
        """Do step ``step + 1`` as ``run.update`` does."""
        if step + 1 == self._first:
            self._guarded(self._start)
        if self._profiler is None:
            return self._run.update(step, batches)
        with record_function(step_label(step + 1)):
            return self._run.update(step, batches)

    def after(self, goes_on: bool) -> float:
        """Write the trace after the last step to record; return how long that took [s].

        Parameters
        ----------
        goes_on : bool
            Whether another step follows. A stop within the steps discards the trace: there may be little time left,
            and the next attempt records the steps that it does.
        """
        is_last = self._run.progress.step == self._last or self._run.progress.stopped_early
        if self._profiler is None or (goes_on and not is_last):
            return 0.0
        began_s = time.perf_counter()
        self._guarded(self._finish if is_last else self._stop)
        self._run.watchdog.progress()
        return time.perf_counter() - began_s

    def _guarded(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except Exception as error:  # no profiler may end the run
            with contextlib.suppress(Exception):
                self._stop()
            self._profiler = None
            _tell(self._run, self._first, self._last, str(error) or repr(error))

    def _start(self) -> None:
        device = "cuda" if self._run.device.type == "cuda" else None
        with profile(use_kineto=True, use_device=device):
            pass  # the first one loads the libraries of the profiler, which takes seconds
        self._profiler = profile(use_kineto=True, use_device=device)
        self._profiler.__enter__()
        self._set_label(lambda part: record_function(f"{PREFIX}{part}"))

    def _stop(self) -> profile:
        """Stop the profiler, which waits for the device, and return it."""
        profiler, self._profiler = self._profiler, None
        self._set_label(no_label)
        profiler.__exit__(None, None, None)
        return profiler

    def _set_label(self, label: Label) -> None:
        self._run.update.label = label
        if self._run.update.peers is not None:
            self._run.update.peers.label = label

    def _finish(self) -> None:
        run, began_s = self._run, time.perf_counter()
        profiler = self._stop()
        run.directory.traces.mkdir(exist_ok=True)
        trace, summary = run.directory.trace_files(run.world.rank)
        with tempfile.TemporaryDirectory(prefix="hpctrain-trace-") as folder:
            raw = Path(folder) / "trace.json"
            profiler.export_chrome_trace(str(raw))
            if (size := raw.stat().st_size) > LARGEST_BYTES:
                raise OSError(f"the trace has {size >> 20} MiB, more than {LARGEST_BYTES >> 20}; record fewer steps")
            with open(raw, encoding="utf-8") as stream:
                found = summarise_trace(json.load(stream)["traceEvents"])
            _compress(raw, trace)
        clear_leftovers(summary)
        facts = {"asked": list(run.profile.train.profile_steps), "rank": run.world.rank, "trace": trace.name}
        facts["device_name"] = str(device_facts(run.device)["device"])
        write_json(summary, {**facts, **found}, durable=False)
        if run.metrics is not None:
            event = Traced(
                path=f"{run.directory.traces.name}/{trace.name}",
                first_step=self._first,
                last_step=run.progress.step,
                seconds=round(time.perf_counter() - began_s, 3),
                bytes=trace.stat().st_size,
            )
            run.metrics.event(event, run.progress.step)


def _compress(raw: Path, trace: Path) -> None:
    """Write the trace in gzip, whole or not at all."""
    clear_leftovers(trace)
    with (
        open(raw, "rb") as source,
        NewFile(trace, durable=False, replace_folders=True) as new,
        gzip.GzipFile("", "wb", _COMPRESSION, new.stream, mtime=0) as packed,
    ):
        shutil.copyfileobj(source, packed, 1 << 20)
