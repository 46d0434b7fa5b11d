"""Read what a user gives a bundle, a batch at a time. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpctrain.api.data import chosen_rows
from hpctrain.edge.reference import NUM_REFERENCE
from hpctrain.edge.spectra_files import FILE_NAMES, RawSpectra, SpectraFiles
from hpctrain.errors import DataError
from hpctrain.ingest.desi import NOT_SPECTRA
from hpctrain.ingest.sources import find_sources
from hpctrain.kinds.spectra.arrays import SpectraArrays
from hpctrain.kinds.spectra.wavelength import same_grid

if TYPE_CHECKING:
    from hpctrain.api.data import Asked, Given
    from hpctrain.edge.bundle import Bundle

Numbered = tuple[np.ndarray, RawSpectra]
"""Row numbers in the data, shape (n,), and these n spectra."""


def read_given(given: Given, asked: Asked, bundle: Bundle) -> Iterator[Numbered]:
    """Yield spectra with their row numbers in the data.

    Parameters
    ----------
    given : Given
        The data.
    asked : Asked
        How to read them. Files are read from the first row to the last, so their rows must increase.
    bundle : Bundle
        Whose grid the spectra must have.

    Raises
    ------
    DataError
        The data cannot be read or do not fit the bundle.
    """
    batch_size = NUM_REFERENCE if asked.batch_size is None else asked.batch_size
    if batch_size < 1:
        raise DataError(f"batch_size: found {batch_size}; must be 1 or more")
    if given.files is not None:
        yield from _read_files(given.files, bundle, _Wanted(asked.rows), asked.columns, batch_size)
        return
    if given.samples is not None and not isinstance(given.samples, SpectraArrays):
        raise DataError("a bundle reads files, tables and arrays; give the names of the files of this set")
    spectra = given.samples if given.arrays is None else SpectraArrays(given.arrays)
    assert spectra is not None
    _check_grid(spectra, bundle)
    chosen = chosen_rows(asked.rows, len(spectra))
    for start in range(0, len(chosen), batch_size):
        piece = chosen[start : start + batch_size]
        yield piece, _raw(spectra, piece)


def _check_grid(spectra: SpectraArrays, bundle: Bundle) -> None:
    ours, theirs = bundle.wavelength_aa, spectra.wavelength_aa
    if spectra.num_pixels != bundle.num_pixels:
        what = f"{spectra.num_pixels} pixels, the model has {bundle.num_pixels}"
    elif ours is not None and (theirs is None or not same_grid(theirs, ours)):
        what = "they are on another wavelength grid"
    else:
        return
    advice = "run `hpctrain ingest` with the grid of the training data"
    raise DataError(f"the spectra do not fit the model: {what}; {advice}")


def _raw(spectra: SpectraArrays, rows: np.ndarray) -> RawSpectra:
    flux, ivar, wavelength = spectra.take(rows)
    redshift = np.where(spectra.has_redshift[rows], spectra.redshift[rows].astype(np.float64), np.nan)
    unknown = np.full(len(rows), np.nan)
    grid = wavelength if spectra.wavelength_aa is None else spectra.wavelength_aa
    return RawSpectra(
        Path("arrays"), flux, ivar, grid, redshift, spectra.target_id[rows], ra=unknown, dec=unknown, row=rows
    )


def _read_files(
    names: list[str], bundle: Bundle, wanted: _Wanted, columns: Mapping[str, str] | None, batch_size: int
) -> Iterator[Numbered]:
    paths = find_sources(names, FILE_NAMES, NOT_SPECTRA).paths
    named = {Path(name).expanduser() for name in names}
    searched = {path for path in paths if path not in named}
    grid, num_pixels = bundle.wavelength_aa, bundle.num_pixels
    files = SpectraFiles(paths, grid, num_pixels, columns=dict(columns or {}), searched=searched)
    done = 0
    for raw in files:
        for start in range(0, len(raw), batch_size):
            piece = raw.take(slice(start, start + batch_size))
            kept = wanted.among(done, len(piece))
            if len(kept):
                yield done + kept, piece if len(kept) == len(piece) else piece.take(kept)
            done += len(piece)
        if wanted.is_complete(done):
            break
    if files.failed:
        raise DataError("\n".join(f"{path}: {reason}" for path, reason in files.failed))
    wanted.check_end(done)


class _Wanted:
    """Rows of files whose number is not known before they have been read."""

    def __init__(self, rows: Any) -> None:
        self._slice = slice(None) if rows is None else rows if isinstance(rows, slice) else None
        self._numbers = np.empty(0, np.int64)
        if self._slice is None:
            numbers = np.atleast_1d(np.asarray(rows))
            if numbers.dtype.kind not in "iu" or (np.diff(numbers) <= 0).any() or (numbers < 0).any():
                raise DataError(f"{_RULE} or [0, 5, 9]")
            self._numbers = numbers.astype(np.int64)
        elif any(number is not None and number < 0 for number in (self._slice.start, self._slice.stop)) or (
            self._slice.step is not None and self._slice.step < 1
        ):
            raise DataError(f"{_RULE} or [0, 5, 9]")

    def among(self, first: int, count: int) -> np.ndarray:
        """Return which of `count` rows from `first` on are wanted, as indices from 0."""
        number = np.arange(first, first + count)
        if self._slice is None:
            return np.flatnonzero(np.isin(number, self._numbers))
        start, stop, step = self._slice.indices(first + count)
        return np.flatnonzero((number >= start) & (number < stop) & ((number - start) % step == 0))

    def is_complete(self, done: int) -> bool:
        """Return whether no row from `done` on is wanted."""
        if self._slice is None:
            return not len(self._numbers) or done > self._numbers[-1]
        return self._slice.stop is not None and done >= self._slice.stop

    def check_end(self, num_rows: int) -> None:
        """Raise if rows are wanted that the files do not have."""
        if self._slice is None and len(self._numbers) and self._numbers[-1] >= num_rows:
            raise DataError(f"rows: {self._numbers[-1]} was asked for; there are {num_rows} rows, numbered from 0")


_RULE = "rows: a bundle reads files from the first row to the last, so rows must increase from 0, such as slice(0, 100)"
