"""Read HDF5 files of spectra by row, as one set. N spectra, L pixels.

docs/data.md describes the layout; ``data.columns`` of the profile gives other names of datasets.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import torch

from hpctrain.errors import DataError
from hpctrain.kinds.spectra.batch import SpectraBatch
from hpctrain.kinds.spectra.files import SpectraFile, open_file
from hpctrain.kinds.spectra.redshift import is_redshift
from hpctrain.kinds.spectra.wavelength import fill_padding, is_wavelength, same_grid
from hpctrain.samples.columns import RowReader
from hpctrain.samples.file_set import FileSet, gather_from_many
from hpctrain.samples.find import find_files
from hpctrain.samples.labels import read_whole_column, take_labels
from hpctrain.samples.library import DAMAGE, allow_many_files, open_library_file
from hpctrain.samples.protocols import PADDING_ROW

if TYPE_CHECKING:
    from hpctrain.kinds.spectra.section import SpectraSection

Part = tuple[SpectraFile, np.ndarray, np.ndarray]
"""A file, the places in a batch that it fills, and the rows of the file for these places."""


def open_spectra(data: SpectraSection, base: Path | None = None) -> SpectraSet:
    """Open the files of a profile's data section as one set.

    Parameters
    ----------
    data : SpectraSection
        ``files`` (names or glob patterns) and ``columns``.
    base : Path, optional
        Folder to which relative names refer; by default the current directory.

    Returns
    -------
    SpectraSet
        Rows of the first file, then of the second, ...; files of one pattern in the order of their names.

    Raises
    ------
    DataError
        Files are missing, damaged or do not fit together; the message names all of them.
    """
    allow_many_files()
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
    return SpectraSet([file for file in files if len(file)], data.needs_redshift)


def _misfits(files: list[SpectraFile]) -> list[str]:
    """Return a line for each file that does not fit the first one."""
    first, advice = files[0], "run `hpctrain ingest` to put them on one grid"
    problems = []
    for file in files[1:]:
        if file.num_pixels != first.num_pixels:
            problems.append(f"{file.path}: {file.num_pixels} pixels, but {first.path} has {first.num_pixels}; {advice}")
        elif file.wavelength_rows and first.wavelength_rows:
            continue  # where grids differ, each row has its own
        elif file.grid is None or first.grid is None or not same_grid(file.grid, first.grid):
            problems.append(f"{file.path}: another wavelength grid than {first.path}; {advice}")
    return problems


class SpectraSet(FileSet[SpectraFile]):
    """Spectra of one or several files, read by row. Safe to read from many threads and across a fork.

    Parameters
    ----------
    files : list of SpectraFile
        At least one file; none is empty, and all have the same number of pixels.
    needs_redshift : bool
        Whether a spectrum without a redshift is masked.

    Attributes
    ----------
    num_pixels : int
        L.
    wavelength_aa : ndarray, shape (L,), float64, or None
        Observed vacuum wavelength [AA]; None if rows have different grids.
    target_id : ndarray, shape (N,), int64
    redshift : ndarray, shape (N,), float32
        Redshift. Rows without a usable one hold the median of the others and are masked, or NaN if they are used.
    has_redshift : ndarray, shape (N,), bool
        Whether the catalogue has a redshift.
    labels : mapping of str to ndarray, shape (N,)
        Values that each batch carries for its rows.
    notes : list of str
        Lines about these files that a user should know.
    copy_of : dict or None
        Fingerprint of the originals, if these files are copies.
    """

    def __init__(self, files: list[SpectraFile], needs_redshift: bool = True) -> None:
        super().__init__(files)
        self.needs_redshift = needs_redshift
        self.labels: Mapping[str, np.ndarray] = {}
        self.num_pixels = files[0].num_pixels
        self.target_id = np.concatenate([file.target_id for file in files])
        redshift = np.concatenate([file.redshift for file in files])
        self.has_redshift = is_redshift(redshift)
        usable = redshift[self.has_redshift]
        substitute = (np.median(usable) if usable.size else 0.0) if needs_redshift else np.nan
        self.redshift = np.where(self.has_redshift, redshift, substitute).astype(np.float32)
        self.notes = [f"{file.path}: {note}" for file in files for note in file.notes]
        if usable.size < len(self) and needs_redshift:
            self.notes.append(
                f"{len(self) - usable.size:,} of {len(self):,} rows have no redshift and carry no weight; "
                "data.columns.redshift names the column"
            )
        self._set_grid()
        self._dtypes = {
            column: np.result_type(*{getattr(file, column).out_dtype for file in files}) for column in ("flux", "ivar")
        }
        self.copy_of: dict | None = None

    def _set_grid(self) -> None:
        """Decide between one grid for all rows and one per row."""
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
                "rows have different wavelength grids, which cost time and memory with each batch; "
                "`hpctrain ingest` puts them on one grid"
            )

    def usable(self, rows: np.ndarray) -> np.ndarray:
        """Return, for each of these rows (n,), whether it can carry weight: has a redshift, or needs none."""
        return self.has_redshift[rows] | (not self.needs_redshift)

    def read(self, rows: np.ndarray, pin: bool = False) -> SpectraBatch:
        """Read spectra into one batch, as they are in the file.

        Parameters
        ----------
        rows : ndarray, shape (n,), int64
            Rows of the set in any order; -1 gives a padding row, without flux and weight.
        pin : bool
            Read into page-locked memory.

        Returns
        -------
        SpectraBatch
            Pixels that are masked, belong to padding or to a row that is not usable have ivar 0. Other faults of pixels
            remain for :meth:`~hpctrain.kinds.spectra.batch.SpectraBatch.clean`, on the device. Flux and ivar are
            float16 if all files hold float16, else float32.

        Raises
        ------
        DataError
            A row cannot be read.
        """
        rows = self._checked(rows)
        parts = list(self._by_file(rows))
        self._ask_for(parts)
        with self._disk.watched() if rows.size else contextlib.nullcontext():
            flux = self._gather("flux", parts, len(rows), pin)
            ivar = self._gather("ivar", parts, len(rows), pin)
        is_shared = self.wavelength_aa is not None
        grid = self._wavelength if is_shared else self._lend((len(rows), self.num_pixels), np.float32, pin)
        for file, places, rows_of_file in parts:
            if file.mask is not None:
                masked = file.mask.take_stored(rows_of_file, self._decoders()) != 0
                ivar[places] = ivar[places].masked_fill_(torch.from_numpy(masked), 0.0)
            if self.wavelength_aa is None:
                wavelengths, no_wavelength = file.read_grid(rows_of_file)
                grid[places] = torch.from_numpy(wavelengths)
                ivar[places] = ivar[places].masked_fill_(torch.from_numpy(no_wavelength), 0.0)
        if self._padding is not None:
            ivar[:, self._padding] = 0.0
        padding = rows == PADDING_ROW
        at = np.where(padding, 0, rows)
        no_weight = np.flatnonzero(padding | ~self.usable(at))
        if no_weight.size:
            flux[no_weight] = 0.0
            ivar[no_weight] = 0.0
        if self.wavelength_aa is None and padding.any():
            grid[padding] = torch.arange(1, self.num_pixels + 1, dtype=torch.float32)
        return SpectraBatch(
            flux=flux,
            ivar=ivar,
            wavelength_aa=grid,
            redshift=torch.from_numpy(np.where(padding, np.float32(0), np.nan_to_num(self.redshift[at]))),
            target_id=torch.from_numpy(np.where(padding, -1, self.target_id[at])),
            row=torch.from_numpy(rows.copy()),
            labels=take_labels(self.labels, rows),
        )

    def read_column(self, names: Sequence[str], kinds: str) -> np.ndarray | None:
        """Return a column of one value per spectrum that training does not need, such as ``zwarn``.

        Parameters
        ----------
        names : sequence of str
            Possible names of the column; each file is searched in this order.
        kinds : str
            Accepted kinds of NumPy dtypes, such as ``iu`` for integers.

        Returns
        -------
        ndarray, shape (N,), or None
            None if a file has no such column, or it cannot be read.
        """
        parts = []
        for file in self._files:
            with contextlib.suppress(*DAMAGE, DataError), open_library_file(file.path) as library:
                name = next((name for name in names if name in library), None)
                dataset = None if name is None else library[name]
                if isinstance(dataset, h5py.Dataset) and dataset.shape == (len(file),) and dataset.dtype.kind in kinds:
                    parts.append(dataset[...])
                    continue
            return None
        return np.concatenate(parts)

    def column(self, name: str) -> np.ndarray:
        """Return a column of one number or text per spectrum (N,); a DataError names the files without it."""
        return read_whole_column([(file.path, len(file)) for file in self._files], name)

    def fingerprint(self) -> dict:
        """Return values that identify these files without reading them: name, size, modification time, counts.

        For copies these are the values of the originals.
        """
        return self.copy_of or {
            "num_spectra": len(self),
            "num_pixels": self.num_pixels,
            "files": [file.fingerprint() for file in self._files],
        }

    def _gather(self, column: str, parts: list[Part], num_rows: int, pin: bool) -> torch.Tensor:
        """Return the rows of a column, those of each file at their places; padding rows have arbitrary values."""
        out = self._lend((num_rows, self.num_pixels), self._dtypes[column], pin)
        target = out.numpy()
        readers = [getattr(file, column) for file, _, _ in parts]
        if len(parts) == 1 and len(parts[0][1]) == num_rows:
            readers[0].take(parts[0][2], target, self._decoders())
            return out
        found = []
        for reader, (_, places, rows) in zip(readers, parts, strict=True):
            addresses = reader.addresses(rows) if reader.out_dtype == target.dtype else None
            if addresses is not None:
                reader.check()
            found.append((places, addresses, functools.partial(self._values, reader, rows, target.dtype)))
        gather_from_many(target, found)
        return out

    def _values(self, reader: RowReader, rows: np.ndarray, dtype: np.dtype) -> np.ndarray:
        values = np.empty((len(rows), self.num_pixels), dtype)
        reader.take(rows, values, self._decoders())
        return values
