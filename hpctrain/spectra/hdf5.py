"""HDF5 files of spectra as one set that is read by row. N spectra, L pixels.

The layout is described in docs/data.md; any other one is named in ``data.columns`` of the profile.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from hpctrain.errors import DataError
from hpctrain.spectra.batch import PADDING_ROW, SpectraBatch
from hpctrain.spectra.buffers import BufferPool
from hpctrain.spectra.files import SpectraFile, find_files, open_file
from hpctrain.spectra.wavelength import fill_padding, is_wavelength, same_grid

if TYPE_CHECKING:
    from hpctrain.profile.schema import DataSection

_BLOCK_BYTES = 256 * 1024
"""Rows are copied and cleaned in pieces of this size, which stay in the cache of the core between the two."""


def open_spectra(data: DataSection, base: Path | None = None) -> SpectraSet:
    """Open the files of a profile's data section as one set.

    Parameters
    ----------
    data : DataSection
        ``files`` (names or glob patterns) and ``columns``.
    base : Path, optional
        What relative names are relative to; the current directory by default.

    Returns
    -------
    SpectraSet
        Rows of the first file, then of the second, ...; files of one pattern in the order of their names.

    Raises
    ------
    DataError
        Files that are missing, damaged or do not fit together; all of them are named.
    """
    files: list[SpectraFile] = []
    problems: list[str] = []
    for path in find_files(data.files, base or Path()):
        try:
            files.append(open_file(path, data.columns))
        except DataError as error:
            problems.append(str(error))
    if not problems:
        problems = _misfits(files)
    if not problems and not any(len(file) for file in files):
        problems = [f"{', '.join(str(file.path) for file in files)}: no spectra in the file"]
    if problems:
        shown = problems[:20] + ([f"... and {len(problems) - 20} more files"] if len(problems) > 20 else [])
        raise DataError("\n".join(shown))
    return SpectraSet([file for file in files if len(file)])


def _misfits(files: list[SpectraFile]) -> list[str]:
    """Say which files cannot be one set with the first of them."""
    first, advice = files[0], "run `hpctrain ingest` to put them on one grid"
    problems = []
    for file in files[1:]:
        if file.num_pixels != first.num_pixels:
            problems.append(f"{file.path}: {file.num_pixels} pixels, but {first.path} has {first.num_pixels}; {advice}")
        elif file.wavelength_rows and first.wavelength_rows:
            continue  # where they differ, each row brings its own
        elif file.grid is None or first.grid is None or not same_grid(file.grid, first.grid):
            problems.append(f"{file.path}: another wavelength grid than {first.path}; {advice}")
    return problems


class SpectraSet:
    """Spectra of one or several files, read by row. Safe to read from many threads and across a fork.

    Parameters
    ----------
    files : list of SpectraFile
        At least one, none empty, all with the same number of pixels.

    Attributes
    ----------
    num_pixels : int
        L.
    wavelength_aa : ndarray, shape (L,), float64, or None
        Observed vacuum wavelength [AA]; None where rows have grids of their own.
    target_id : ndarray, shape (N,), int64
    redshift : ndarray, shape (N,), float32
        Finite everywhere; rows without a usable one hold the median of the others and are masked.
    has_redshift : ndarray, shape (N,), bool
        Whether the catalogue had one.
    notes : list of str
        What a user should know about these files, a line each.
    """

    def __init__(self, files: list[SpectraFile]) -> None:
        self._files = files
        self._starts = np.cumsum([0, *(len(file) for file in files)])
        self.num_pixels = files[0].num_pixels
        self.target_id = np.concatenate([file.target_id for file in files])
        redshift = np.concatenate([file.redshift for file in files])
        # Catalogues write -1, -9999 or NaN for none; no star or galaxy approaches faster than 3 % of light.
        self.has_redshift = np.isfinite(redshift) & (redshift > -0.03)
        usable = redshift[self.has_redshift]
        self.redshift = np.where(self.has_redshift, redshift, np.median(usable) if usable.size else 0.0)
        self.redshift = self.redshift.astype(np.float32)
        self.notes = [f"{file.path}: {note}" for file in files for note in file.notes]
        if usable.size < len(self):
            self.notes.append(f"{len(self) - usable.size} of {len(self)} rows have no redshift and get no weight")
        self._set_grid()
        self._buffers = BufferPool()

    def _set_grid(self) -> None:
        """Decide between one grid for all and one per row."""
        grids = [file.grid for file in self._files]
        first = grids[0]
        if first is not None and all(grid is not None and same_grid(grid, first) for grid in grids):
            self.wavelength_aa: np.ndarray | None = fill_padding(first)
            padding = ~is_wavelength(first)
            self._padding = padding if padding.any() else None
            self._wavelength = torch.from_numpy(self.wavelength_aa.astype(np.float32))
        else:
            self.wavelength_aa = None
            self._padding = None
            self.notes.append(
                "rows have wavelength grids of their own, which cost time and memory with each batch; "
                "`hpctrain ingest` puts them on one"
            )

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, rows: np.ndarray, pin: bool = False) -> SpectraBatch:
        """Read spectra into one batch.

        Parameters
        ----------
        rows : ndarray, shape (n,), int64
            Rows of the set in any order; -1 gives a padding row: no flux, no weight.
        pin : bool
            Read into page-locked memory.

        Returns
        -------
        SpectraBatch

        Raises
        ------
        DataError
            A row cannot be read.
        """
        rows = np.ascontiguousarray(rows, dtype=np.int64)
        if rows.size and not (rows.min() >= PADDING_ROW and rows.max() < len(self)):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of a set of {len(self)}")
        flux, ivar = self._tensor(len(rows), pin), self._tensor(len(rows), pin)
        grid = self._wavelength if self.wavelength_aa is not None else self._tensor(len(rows), pin)
        grid_rows = None if self.wavelength_aa is not None else grid.numpy()
        for file, places, rows_of_file in self._by_file(rows):
            self._fill(file, places, rows_of_file, flux.numpy(), ivar.numpy(), grid_rows)
        padding = rows == PADDING_ROW
        at = np.where(padding, 0, rows)
        no_weight = np.flatnonzero(padding | ~self.has_redshift[at])
        flux[no_weight] = 0.0
        ivar[no_weight] = 0.0
        if grid_rows is not None and padding.any():
            grid_rows[padding] = np.arange(1, self.num_pixels + 1)
        return SpectraBatch(
            flux=flux,
            ivar=ivar,
            wavelength_aa=grid,
            redshift=torch.from_numpy(np.where(padding, np.float32(0), self.redshift[at])),
            target_id=torch.from_numpy(np.where(padding, -1, self.target_id[at])),
            row=torch.from_numpy(rows.copy()),
        )

    def close(self) -> None:
        """Close what is open; a later read opens it again."""
        for file in self._files:
            file.close()

    def fingerprint(self) -> dict:
        """Return what tells these files from others, without reading them: name, size, time of change, counts."""
        return {
            "num_spectra": len(self),
            "num_pixels": self.num_pixels,
            "files": [file.fingerprint() for file in self._files],
        }

    def _tensor(self, num_rows: int, pin: bool) -> torch.Tensor:
        if pin:
            # torch keeps a pool of page-locked memory itself, and knows which copies to the device still read it.
            return torch.empty((num_rows, self.num_pixels), dtype=torch.float32, pin_memory=True)
        return torch.from_numpy(self._buffers.lend((num_rows, self.num_pixels)))

    def _by_file(self, rows: np.ndarray) -> Iterator[tuple[SpectraFile, np.ndarray, np.ndarray]]:
        """Give for each file the places in the batch it fills and its own rows that go there."""
        number = np.searchsorted(self._starts, rows, side="right") - 1
        for index in np.unique(number[rows != PADDING_ROW]):
            places = np.flatnonzero(number == index)
            yield self._files[index], places, rows[places] - self._starts[index]

    def _fill(
        self,
        file: SpectraFile,
        places: np.ndarray,
        rows: np.ndarray,
        flux: np.ndarray,
        ivar: np.ndarray,
        grid: np.ndarray | None,
    ) -> None:
        if not file.flux.is_mapped:
            # libhdf5 decodes a chunk once per call, so it is asked for all rows of the batch at once.
            pieces = [slice(0, len(places))]
        else:
            step = max(1, _BLOCK_BYTES // (4 * self.num_pixels))
            pieces = [slice(start, start + step) for start in range(0, len(places), step)]
        for piece in pieces:
            where = places[piece]
            adjacent = where[-1] - where[0] == len(where) - 1
            target = slice(where[0], where[-1] + 1) if adjacent else where
            flux_piece = flux[target] if adjacent else np.empty((len(where), self.num_pixels), np.float32)
            ivar_piece = ivar[target] if adjacent else np.empty((len(where), self.num_pixels), np.float32)
            file.flux.take(rows[piece], flux_piece)
            file.ivar.take(rows[piece], ivar_piece)
            _clean(flux_piece, ivar_piece)
            if file.mask is not None:
                ivar_piece[file.mask.take_stored(rows[piece]) != 0] = 0.0
            if self._padding is not None:
                ivar_piece[:, self._padding] = 0.0
            if grid is not None:
                grid[target], no_wavelength = file.read_grid(rows[piece])
                ivar_piece[no_wavelength] = 0.0
            if not adjacent:
                flux[target], ivar[target] = flux_piece, ivar_piece


def _clean(flux: np.ndarray, ivar: np.ndarray) -> None:
    """Make flux finite and ivar a weight, in place: ivar is 0 where it was negative or one of the two not finite."""
    # Nearly all pieces of a file need nothing. One pass over each tells: a product of anything with NaN or infinity is
    # not finite, and neither is a sum with such a term. What overflows by being large is put right by the closer look.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.einsum("ij,ij->", flux, ivar)) and ivar.min(initial=0.0) >= 0.0:
            return
    finite = np.isfinite(flux)
    flux[~finite] = 0.0
    ivar[~(finite & np.isfinite(ivar) & (ivar > 0.0))] = 0.0
