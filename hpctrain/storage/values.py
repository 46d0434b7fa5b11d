"""Count bad values in files of spectra."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.kinds.spectra.files import SpectraFile
from hpctrain.kinds.spectra.hdf5 import SpectraSet
from hpctrain.kinds.spectra.pixels import count_pixels
from hpctrain.kinds.spectra.section import ColumnsSection
from hpctrain.samples.columns import RowReader
from hpctrain.storage.opening import files_of, own_readers

SAMPLE_ROWS = 4096
_BLOCK_BYTES = 16 * 2**20
_MANY = 100
"""Largest number of damaged places to list."""


@dataclass
class BadValues:
    """Counts of bad values: pixels are counted in the rows read, columns with one number per spectrum in all rows."""

    num_rows: int = 0
    """Number of rows read."""
    num_pixels: int = 0
    flux_nan: int = 0
    flux_infinite: int = 0
    ivar_nan: int = 0
    ivar_infinite: int = 0
    ivar_negative: int = 0
    flux_bad_with_weight: int = 0
    """Pixels whose flux is not finite although ivar gives them weight."""
    num_masked: int = 0
    """Pixels that have weight 0 for any reason."""
    rows_without_weight: int = 0
    rows_without_redshift: int = 0
    """Number among all rows of the files."""
    rows_of_repeated_targets: int = 0
    """Rows, among all, that share their target_id with another: repeated observations, or wrong ids."""
    num_targets: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the counts by name."""
        return asdict(self)


def count_bad_values(
    spectra: SpectraSet, columns: ColumnsSection, full: bool, on_progress: Callable[[str, int, int], None] | None = None
) -> tuple[BadValues, list[str]]:
    """Count bad values in a sample, or in all rows.

    Parameters
    ----------
    spectra : SpectraSet
    columns : ColumnsSection
    full : bool
        Count in all rows.
    on_progress : callable, optional

    Returns
    -------
    counts : BadValues
    problems : list of str
        Rows that cannot be read.
    """
    counts, problems = BadValues(), []
    counts.rows_without_redshift = int((~spectra.has_redshift).sum())
    _, members = np.unique(spectra.target_id, return_counts=True)
    counts.num_targets, counts.rows_of_repeated_targets = len(members), int(members[members > 1].sum())
    share = 1.0 if full else min(1.0, SAMPLE_ROWS / len(spectra))
    done = 0
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="decode-chunks") as pool:
        for file in files_of(spectra):
            readers = own_readers(file, columns)
            for rows in _chosen(file, share):
                try:
                    _count(readers, rows, counts, pool)
                except DataError:
                    problems += [text for text in _damaged(readers, rows, pool) if text not in problems]
                    if len(problems) > _MANY:
                        return counts, problems
                done += len(rows)
                if on_progress is not None:
                    on_progress("looking at values", done, max(done, round(share * len(spectra))))
    return counts, problems


def _chosen(file: SpectraFile, share: float) -> list[np.ndarray]:
    """Return the rows to read, in blocks: all rows, or evenly spread sequences within few chunks."""
    num_rows = len(file)
    at_once = max(1, _BLOCK_BYTES // (4 * file.num_pixels))
    if share >= 1:
        return [np.arange(begin, min(begin + at_once, num_rows)) for begin in range(0, num_rows, at_once)]
    wanted = max(1, round(share * num_rows))
    run = min(wanted, max(file.band_rows, 16), at_once)
    begins = np.unique(np.linspace(0, num_rows - run, max(1, wanted // run)).astype(np.int64) // run * run)
    return [np.arange(begin, min(begin + run, num_rows)) for begin in begins.tolist()]


def _damaged(readers: dict[str, RowReader], rows: np.ndarray, pool: ThreadPoolExecutor) -> list[str]:
    """Return one line for each damaged place in a block that cannot be read as a whole."""
    texts: dict[str, None] = {}
    for reader in readers.values():
        for begin in range(int(rows[0]) // reader.band_rows * reader.band_rows, int(rows[-1]) + 1, reader.band_rows):
            part = rows[(rows >= begin) & (rows < begin + reader.band_rows)]
            try:
                reader.take_stored(part, pool)
            except DataError as error:
                texts[str(error)] = None
    return list(texts)


def _count(readers: dict[str, RowReader], rows: np.ndarray, counts: BadValues, pool: ThreadPoolExecutor) -> None:
    flux, ivar = (np.empty((len(rows), readers[name].shape[1]), np.float32) for name in ("flux", "ivar"))
    readers["flux"].take(rows, flux, pool)
    readers["ivar"].take(rows, ivar, pool)
    mask = readers["mask"].take_stored(rows, pool) if "mask" in readers else None
    found = count_pixels(flux, ivar, mask)
    counts.num_rows += len(rows)
    counts.num_pixels += flux.size
    counts.flux_nan += int(found.flux_nan.sum())
    counts.flux_infinite += int(found.flux_infinite.sum())
    counts.ivar_nan += int(found.ivar_nan.sum())
    counts.ivar_infinite += int(found.ivar_infinite.sum())
    counts.ivar_negative += int(found.ivar_negative.sum())
    counts.flux_bad_with_weight += int(found.bad_with_weight.sum())
    counts.num_masked += int((~found.used).sum())
    counts.rows_without_weight += int((~found.used.any(axis=1)).sum())
