"""Reading many files: each one guarded, brought to the common grid, in this process or in several.

With several workers whole files are read in other processes (reading FITS holds Python's lock), but rows come back in
the order of the files, so that the output is the same for any number.
"""

from __future__ import annotations

import multiprocessing
import warnings
import zlib
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.block import SpectraBlock
from hpctrain.ingest.selection import Selection
from hpctrain.ingest.tally import Tally
from hpctrain.kinds.spectra.layout import FLUX_UNIT
from hpctrain.preprocess.resample import IvarConvention, Resampler

FILES_AT_ONCE = 8
"""Files sent to a worker together: a small one takes 3 ms, so the sending must not cost as much."""

RESAMPLERS_KEPT = 64


class Reader(Protocol):
    """What a survey's module provides: spectra of one file."""

    def read(self, path: Path, tally: Tally) -> Iterator[SpectraBlock]: ...


@dataclass(frozen=True)
class IngestPlan:
    """All options that determine the output.

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
        See :mod:`hpctrain.preprocess.resample`.
    selection : Selection
        Which rows are kept.
    limit : int, optional
        Stop after so many spectra.
    workers : int
        Processes that read; 1 reads here.
    ids_by_position : bool
        Give rows at one place on the sky one target id.
    overwrite : bool
        Replace an existing `out`.
    flux_unit : str
        Of the output.
    meanings : dict of (str, str)
        Unit and description of columns that are carried along.
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
    flux_unit: str = FLUX_UNIT
    meanings: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass
class ReadyRows:
    """Rows of one file on the common grid."""

    flux: np.ndarray
    ivar: np.ndarray
    columns: dict[str, np.ndarray]
    duplicate_keys: list[tuple[int, ...]] | None
    upsampling: float


def read_guarded(reader: Reader, path: Path, tally: Tally) -> Iterator[SpectraBlock]:
    """Yield a file's blocks; record errors that a damaged or foreign file causes, instead of raising them."""
    blocks = reader.read(path, tally)
    while True:
        try:
            with warnings.catch_warnings():
                # astropy warns about headers by the thousand, and only warns about a truncated file.
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
        for block in read_guarded(self._reader, path, tally):
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


def process_all(plan: IngestPlan, wavelength_aa: np.ndarray) -> Iterator[tuple[int, ReadyRows | Tally]]:
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
                # Bounded, so that a slow output disk does not fill the memory.
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
