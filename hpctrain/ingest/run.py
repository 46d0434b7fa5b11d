"""The way from many survey files to one HDF5 file: read, select, resample, write, count.

A file that breaks is reported with its reason and the others go on. With several workers whole files are read in other
processes (reading FITS holds Python's lock), but rows are written in the order of the sorted files, so that the output
is the same for any number.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import warnings
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import hpctrain
from hpctrain.errors import DataError
from hpctrain.ingest.block import SpectraBlock
from hpctrain.ingest.grid import desi_grid, find_offset, sdss_grid
from hpctrain.ingest.identifiers import position_ids
from hpctrain.ingest.resample import IvarConvention, Resampler
from hpctrain.ingest.selection import Selection
from hpctrain.ingest.tally import Tally
from hpctrain.ingest.writer import FORMAT, FORMAT_VERSION, SpectraWriter, require_free

FILES_AT_ONCE = 8
"""Files sent to a worker together: a small one takes 3 ms, so the sending must not cost as much."""

RESAMPLERS_KEPT = 64


class Reader(Protocol):
    """What a survey's module provides: spectra of one file."""

    def read(self, path: Path, tally: Tally) -> Iterator[SpectraBlock]: ...


@dataclass(frozen=True)
class IngestPlan:
    """All that decides what the output holds.

    Parameters
    ----------
    survey : str
        Name of the survey, for the record.
    reader : Reader
        Reads one file.
    paths : list of Path
        Files, in the order of the output.
    out : Path
        The HDF5 file to make.
    grid : ndarray or str
        Pixel centres [AA], or ``native`` (the grid of the first spectrum), or ``auto`` (the lattice of SDSS or DESI
        where the first spectrum lies on one, else its own).
    ivar_convention : {"per_pixel", "conserve"}
        See :mod:`hpctrain.ingest.resample`.
    selection : Selection
        Which rows are kept.
    limit : int, optional
        Stop after so many spectra.
    workers : int
        Processes that read; 1 reads here.
    ids_by_position : bool
        Give rows at one place on the sky one target id (SDSS).
    overwrite : bool
        Replace an existing `out`.
    """

    survey: str
    reader: Reader
    paths: list[Path]
    out: Path
    grid: np.ndarray | str = "auto"
    ivar_convention: IvarConvention = "per_pixel"
    selection: Selection = field(default_factory=Selection)
    limit: int | None = None
    workers: int = 1
    ids_by_position: bool = False
    overwrite: bool = False


@dataclass
class ReadyRows:
    """Rows of one file on the common grid."""

    flux: np.ndarray
    ivar: np.ndarray
    columns: dict[str, np.ndarray]
    duplicate_keys: list[tuple[int, ...]] | None
    upsampling: float


@dataclass
class IngestResult:
    """What an ingest did."""

    tally: Tally
    wavelength_aa: np.ndarray
    grid_name: str
    seconds: float
    num_objects: int
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            **self.tally.as_dict(),
            "objects": self.num_objects,
            "grid": self.grid_name,
            "pixels": len(self.wavelength_aa),
            "wavelength_aa": [float(self.wavelength_aa[0]), float(self.wavelength_aa[-1])],
            "seconds": round(self.seconds, 3),
            "warnings": self.warnings,
        }


def run_ingest(plan: IngestPlan, progress: Callable[[Path, Tally], None] | None = None) -> IngestResult:
    """Read, select, resample and write.

    Parameters
    ----------
    plan : IngestPlan
    progress : callable, optional
        Called after each file with its path and the counts so far.

    Raises
    ------
    DataError
        Nothing was kept, or the output cannot be written.
    """
    started = time.monotonic()
    require_free(plan.out, plan.overwrite)
    total = Tally()
    wavelength, grid_name = choose_grid(plan)
    upsampling = 1.0
    seen: set[tuple[int, ...]] = set()
    with SpectraWriter(plan.out, wavelength, plan.overwrite) as writer:
        for index, item in _process_all(plan, wavelength):
            if isinstance(item, Tally):
                item.num_files = 1
                total.add(item)
                if progress is not None:
                    progress(plan.paths[index], total)
                continue
            rows = _without_duplicates(item, seen, total)
            room = None if plan.limit is None else plan.limit - writer.num_rows
            kept = slice(0, room)
            num_over = len(rows.flux) - len(rows.flux[kept])
            if num_over:
                total.dropped["beyond --limit"] += num_over
            if len(rows.flux[kept]):
                columns = {name: values[kept] for name, values in rows.columns.items()}
                columns["source_file"] = np.full(len(rows.flux[kept]), index)
                writer.append(rows.flux[kept], rows.ivar[kept], columns)
                total.num_kept = writer.num_rows
                upsampling = max(upsampling, rows.upsampling)
            if plan.limit is not None and writer.num_rows >= plan.limit:
                total.num_files += 1
                total.num_read = writer.num_rows + total.num_dropped + total.num_merged
                break
        total.num_kept = writer.num_rows
        _require_something(total)
        if plan.ids_by_position:
            _name_objects(writer)
        remarks = _warnings(writer, total, upsampling, plan)
        num_objects = len(np.unique(writer.column("target_id")))
        seconds = time.monotonic() - started
        result = IngestResult(total, wavelength, grid_name, seconds, num_objects, remarks)
        writer.finish(_provenance(plan, result), [str(path) for path in plan.paths])
    result.seconds = time.monotonic() - started
    return result


def choose_grid(plan: IngestPlan) -> tuple[np.ndarray, str]:
    """Return the common grid and its name; for ``auto`` and ``native`` the first readable spectrum decides."""
    if not isinstance(plan.grid, str):
        return plan.grid, _grid_name(plan.grid)
    for path in plan.paths:
        for block in _read_guarded(plan.reader, path, Tally()):
            if len(block.wavelength_aa) < 2:
                continue
            if plan.grid == "auto":
                for name, grid in (("desi", desi_grid()), ("sdss", sdss_grid())):
                    if find_offset(block.wavelength_aa, grid) is not None:
                        return grid, f"{name} (auto)"
            return block.wavelength_aa, "native (of the first spectrum)"
    tally = Tally()
    for path in plan.paths:
        for _ in _read_guarded(plan.reader, path, tally):
            pass
    _require_something(tally)
    raise AssertionError("unreachable: nothing was kept")


def _grid_name(grid: np.ndarray) -> str:
    for name, known in (("desi", desi_grid()), ("sdss", sdss_grid())):
        if len(grid) == len(known) and np.array_equal(grid, known):
            return name
    steps = np.diff(grid)
    return f"linear, {steps[0]:.6g} AA" if np.allclose(steps, steps[0]) else f"log10, {np.log10(grid[1] / grid[0]):.6g}"


def _read_guarded(reader: Reader, path: Path, tally: Tally) -> Iterator[SpectraBlock]:
    """Yield a file's blocks; note, instead of raising, what a damaged or foreign file makes the libraries say."""
    blocks = reader.read(path, tally)
    while True:
        try:
            with warnings.catch_warnings():
                # astropy remarks on headers by the thousand, and only warns of a file that was cut off.
                warnings.simplefilter("ignore")
                warnings.filterwarnings("error", message=".*truncated.*")
                block = next(blocks, None)
        except DataError as error:
            tally.failed_files.append((str(path), str(error)))
            return
        except (OSError, EOFError, zlib.error, Warning) as error:
            tally.failed_files.append((str(path), f"cannot be read: {str(error).strip() or type(error).__name__}"))
            return
        except (ValueError, TypeError, LookupError, ArithmeticError, NotImplementedError) as error:
            tally.failed_files.append((str(path), f"is not as expected: {type(error).__name__}: {error}"))
            return
        if block is None:
            return
        yield block


class _FileProcessor:
    """Reads a file and brings its rows to the common grid; keeps the resampling matrices of grids it has met."""

    def __init__(self, plan: IngestPlan, wavelength_aa: np.ndarray) -> None:
        self._reader, self._selection = plan.reader, plan.selection
        self._wavelength, self._convention = wavelength_aa, plan.ivar_convention
        self._resamplers: OrderedDict[bytes, Resampler] = OrderedDict()

    def process(self, path: Path) -> Iterator[ReadyRows | Tally]:
        """Yield ready rows, and at the end the counts."""
        tally, num_ready = Tally(), 0
        for block in _read_guarded(self._reader, path, tally):
            wanted = self._select(block, self._selection.before_resampling(block), tally)
            if not len(wanted):
                continue
            block = block.take(wanted)
            try:
                resampler = self._resampler(block.wavelength_aa)
            except DataError as error:
                tally.dropped[str(error)] += len(block)
                continue
            flux, ivar = resampler(block.flux, block.ivar)
            wanted = self._select(block, self._selection.after_resampling(ivar, resampler.covers()), tally)
            if len(wanted):
                flux[ivar == 0] = 0.0
                block = block.take(wanted)
                num_ready += len(wanted)
                yield ReadyRows(flux[wanted], ivar[wanted], block.columns, block.duplicate_keys, resampler.upsampling)
        num_lost = tally.num_read - tally.num_merged - tally.num_dropped - num_ready
        if num_lost > 0:
            tally.dropped["in a file that could not be read to its end"] += num_lost
        yield tally

    @staticmethod
    def _select(block: SpectraBlock, reasons: list[str], tally: Tally) -> np.ndarray:
        tally.dropped.update(reason for reason in reasons if reason)
        return np.array([row for row, reason in enumerate(reasons) if not reason], dtype=np.int64)

    def _resampler(self, wavelength_aa: np.ndarray) -> Resampler:
        key = wavelength_aa.tobytes()
        if key not in self._resamplers:
            self._resamplers[key] = Resampler(wavelength_aa, self._wavelength, self._convention)
            if len(self._resamplers) > RESAMPLERS_KEPT:
                self._resamplers.popitem(last=False)
        self._resamplers.move_to_end(key)
        return self._resamplers[key]


_processor: _FileProcessor | None = None
"""Of a worker process, set once when it starts: the plan may hold a catalogue of redshifts."""


def _start_worker(plan: IngestPlan, wavelength_aa: np.ndarray) -> None:
    global _processor
    _processor = _FileProcessor(plan, wavelength_aa)


def _process_files(paths: list[Path]) -> list[list[ReadyRows | Tally]]:
    assert _processor is not None
    return [list(_processor.process(path)) for path in paths]


def _process_all(plan: IngestPlan, wavelength_aa: np.ndarray) -> Iterator[tuple[int, ReadyRows | Tally]]:
    """Yield (index of the file, rows or final counts), in the order of the files."""
    if plan.workers <= 1 or len(plan.paths) <= 1:
        processor = _FileProcessor(plan, wavelength_aa)
        for index, path in enumerate(plan.paths):
            for item in processor.process(path):
                yield index, item
        return
    size = max(1, min(FILES_AT_ONCE, len(plan.paths) // (4 * plan.workers)))
    chunks = [range(begin, min(begin + size, len(plan.paths))) for begin in range(0, len(plan.paths), size)]
    # spawn: a forked child would share the parent's locks and open files.
    context = multiprocessing.get_context("spawn")
    pending: deque[tuple[range, Future[list[list[ReadyRows | Tally]]]]] = deque()
    with ProcessPoolExecutor(plan.workers, context, _start_worker, (plan, wavelength_aa)) as pool:
        try:
            for chunk in chunks:
                pending.append((chunk, pool.submit(_process_files, [plan.paths[index] for index in chunk])))
                # Bounded: a slow disk for the output must not fill the memory.
                if len(pending) > 2 * plan.workers:
                    yield from _unpack(*pending.popleft(), plan)
            while pending:
                yield from _unpack(*pending.popleft(), plan)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _unpack(
    chunk: range, future: Future[list[list[ReadyRows | Tally]]], plan: IngestPlan
) -> Iterator[tuple[int, ReadyRows | Tally]]:
    try:
        results = future.result()
    except BrokenProcessPool as error:
        near = plan.paths[chunk[0]]
        raise DataError(
            f"{near}: a reading process was killed near this file (out of memory?); try --workers 1"
        ) from error
    for index, items in zip(chunk, results, strict=True):
        for item in items:
            yield index, item


def _without_duplicates(rows: ReadyRows, seen: set[tuple[int, ...]], total: Tally) -> ReadyRows:
    if rows.duplicate_keys is None:
        return rows
    fresh = []
    for row, key in enumerate(rows.duplicate_keys):
        if key not in seen:
            seen.add(key)
            fresh.append(row)
    total.dropped.update({"same plate-mjd-fibre as an earlier file": len(rows.duplicate_keys) - len(fresh)})
    total.dropped += type(total.dropped)()
    columns = {name: values[fresh] for name, values in rows.columns.items()}
    return ReadyRows(rows.flux[fresh], rows.ivar[fresh], columns, None, rows.upsampling)


def _require_something(total: Tally) -> None:
    if total.num_kept:
        return
    lines = [f"no spectrum was kept of {total.num_read} in {max(total.num_files, len(total.failed_files))} files"]
    lines += [f"  {count} dropped: {reason}" for reason, count in total.dropped.most_common()]
    lines += [f"  {path}: {reason}" for path, reason in total.failed_files[:20]]
    if len(total.failed_files) > 20:
        lines.append(f"  and {len(total.failed_files) - 20} files more that could not be read")
    raise DataError("\n".join(lines))


def _name_objects(writer: SpectraWriter) -> None:
    plate, mjd, fiber = (writer.column(name).astype(np.int64) for name in ("plate", "mjd", "fiber"))
    # Negative, so that an observation without a position never meets an object named by its position.
    fallback = -(plate * 10**9 + mjd * 10**4 + fiber)
    age = mjd * 10**10 + plate * 10**4 + fiber
    writer.replace_column("target_id", position_ids(writer.column("ra"), writer.column("dec"), age, fallback))


def _warnings(writer: SpectraWriter, total: Tally, upsampling: float, plan: IngestPlan) -> list[str]:
    remarks = []
    without = int(np.isnan(writer.column("redshift")).sum())
    if without:
        remarks.append(f"{without} of {writer.num_rows} spectra have no redshift (NaN); training leaves them out")
    if upsampling > 1.01:
        remarks.append(
            f"the grid is up to {upsampling:.1f}x finer than the data: neighbouring pixels are correlated, and with "
            f"--ivar per_pixel the sum of ivar counts their information several times"
        )
    if plan.ids_by_position and np.isnan(writer.column("ra")).any():
        remarks.append("spectra without a position: target id made of plate, mjd, fibre; repeats not recognised")
    return remarks


def _provenance(plan: IngestPlan, result: IngestResult) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "hpctrain_version": hpctrain.__version__,
        "created_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": " ".join(sys.argv),
        "working_directory": os.getcwd(),
        "survey": plan.survey,
        "grid": result.grid_name,
        "ivar_convention": plan.ivar_convention,
        "counts": {key: value for key, value in result.tally.as_dict().items() if key != "failed_files"},
        "num_failed_files": len(result.tally.failed_files),
    }
