"""Read HDF5 files of spectra by row, as one set. N spectra, L pixels.

docs/data.md describes the layout; ``data.columns`` of the profile gives other names of datasets.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import torch

from hpctrain.errors import DataError
from hpctrain.kinds.spectra.batch import SpectraBatch
from hpctrain.kinds.spectra.files import DAMAGE, SpectraFile, open_file
from hpctrain.kinds.spectra.redshift import is_redshift
from hpctrain.kinds.spectra.wavelength import fill_padding, is_wavelength, same_grid
from hpctrain.samples.buffers import BufferPool
from hpctrain.samples.chunks import BandCache
from hpctrain.samples.cold import FETCH_BATCHES, ColdDisk
from hpctrain.samples.find import find_files
from hpctrain.samples.labels import read_whole_column, take_labels
from hpctrain.samples.library import allow_many_files, open_library_file
from hpctrain.samples.mapped import gather
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


class SpectraSet:
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
        self._files = files
        self.needs_redshift = needs_redshift
        self.labels: Mapping[str, np.ndarray] = {}
        self._starts = np.cumsum([0, *(len(file) for file in files)])
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
        self._buffers = BufferPool()
        self._pool: ThreadPoolExecutor | None = None
        self._pool_pid = 0
        self._disk = ColdDisk()
        self._own_window = 0
        self._decoded = BandCache()
        for file in files:
            file.share(self._decoded)
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

    def __len__(self) -> int:
        return int(self._starts[-1])

    def usable(self, rows: np.ndarray) -> np.ndarray:
        """Return, for each of these rows (n,), whether it can carry weight: has a redshift, or needs none."""
        return self.has_redshift[rows] | (not self.needs_redshift)

    @property
    def decoded_bytes(self) -> int:
        """Memory for each spectrum that is kept decoded [byte]; 0 if nothing has to be decoded."""
        return max(file.decoded_bytes for file in self._files)

    @property
    def is_prepared_ahead(self) -> bool:
        """Whether :meth:`prepare` has anything to do at the moment."""
        return self.decoded_bytes > 0 or self._disk.is_cold

    def batches_ahead(self, batch_size: int) -> int:
        """Return how many batches ahead of reading a batch should be prepared."""
        # Not more than a window: spectra for later must not evict those that are being read.
        return self._own_window // batch_size if self.decoded_bytes else 2 * FETCH_BATCHES

    @property
    def batches_together(self) -> int:
        """Number of batches to prepare together: among more rows, more are neighbours on a disk."""
        return 1 if self.decoded_bytes else FETCH_BATCHES

    def blocks(self, rows: np.ndarray) -> np.ndarray:
        """Return the indices in `rows` at which the blocks begin that are decoded as a whole.

        Parameters
        ----------
        rows : ndarray, shape (n,), int64
            Sorted rows of the set.

        Returns
        -------
        ndarray, int64
            Indices into `rows`; the first one is 0.
        """
        file = np.searchsorted(self._starts, rows, side="right") - 1
        band = (rows - self._starts[file]) // np.array([max(file.band_rows, 1) for file in self._files])[file]
        return np.concatenate([[0], np.flatnonzero(np.diff(file) | np.diff(band)) + 1])

    def keep_window(self, num_rows: int, num_readers: int = 1) -> None:
        """Keep two windows of decoded spectra: the one that is being read and the next.

        Parameters
        ----------
        num_rows : int
            Number of spectra of a window.
        num_readers : int
            Number of ranks that share the spectra of each window.
        """
        self._own_window = num_rows // num_readers
        # Chunks at the borders of a window, and files with larger chunks than the others, need a little more.
        self._decoded.max_bytes = max(self._decoded.max_bytes, round(2.1 * num_rows * self.decoded_bytes))

    def prepare(self, rows: np.ndarray) -> None:
        """Begin to decode the chunks of rows, or to prefetch them from a slow disk, before they are read."""
        for file, _, rows_of_file in self._by_file(rows):
            file.prepare(rows_of_file, self._decoders(), self._disk.is_cold)

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
        rows = np.ascontiguousarray(rows, dtype=np.int64)
        if rows.size and not (rows.min() >= PADDING_ROW and rows.max() < len(self)):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of a set of {len(self)}")
        parts = list(self._by_file(rows))
        self._ask_for(parts)
        with self._disk.watched() if rows.size else contextlib.nullcontext():
            flux = self._gather("flux", parts, len(rows), pin)
            ivar = self._gather("ivar", parts, len(rows), pin)
        grid = self._wavelength if self.wavelength_aa is not None else self._tensor(len(rows), np.float32, pin)
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

    def _ask_for(self, parts: list[Part]) -> None:
        """Request all rows of a batch from a slow disk before waiting for the first of them."""
        self._disk.look(lambda: all(file.is_in_memory(rows[:8]) for file, _, rows in parts))
        if self._disk.is_cold:
            for file, _, rows in parts:
                file.prepare(rows, None, is_cold=True)

    def locate(self, row: int) -> tuple[Path, int]:
        """Return the file that holds a row of the set, and the row in that file."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._files[number].path, row - int(self._starts[number])

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

    def close(self) -> None:
        """Close the open files; a later read opens them again."""
        for file in self._files:
            file.close()

    def fingerprint(self) -> dict:
        """Return values that identify these files without reading them: name, size, modification time, counts.

        For copies these are the values of the originals.
        """
        return self.copy_of or {
            "num_spectra": len(self),
            "num_pixels": self.num_pixels,
            "files": [file.fingerprint() for file in self._files],
        }

    def _tensor(self, num_rows: int, dtype: np.dtype, pin: bool) -> torch.Tensor:
        if pin:
            # Torch itself keeps a pool of page-locked memory, and knows which copies to the device still read it.
            kind = torch.float16 if dtype == np.float16 else torch.float32
            return torch.empty((num_rows, self.num_pixels), dtype=kind, pin_memory=True)
        return torch.from_numpy(self._buffers.lend((num_rows, self.num_pixels), np.dtype(dtype)))

    def _decoders(self) -> ThreadPoolExecutor:
        """Return the threads that decode chunks; a forked process starts its own."""
        if self._pool is None or self._pool_pid != os.getpid():
            self._pool_pid = os.getpid()
            self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="decode-chunks")
        return self._pool

    def _by_file(self, rows: np.ndarray) -> Iterator[Part]:
        if len(self._files) == 1 and (not rows.size or rows.min() >= 0):
            yield self._files[0], np.arange(len(rows)), rows
            return
        number = np.searchsorted(self._starts, rows, side="right") - 1
        for index in np.unique(number[rows != PADDING_ROW]):
            places = np.flatnonzero(number == index)
            yield self._files[index], places, rows[places] - self._starts[index]

    def _gather(self, column: str, parts: list[Part], num_rows: int, pin: bool) -> torch.Tensor:
        """Return the rows of a column, those of each file at their places; padding rows have arbitrary values."""
        out = self._tensor(num_rows, self._dtypes[column], pin)
        target = out.numpy()
        readers = [getattr(file, column) for file, _, _ in parts]
        if len(parts) == 1 and len(parts[0][1]) == num_rows:
            readers[0].take(parts[0][2], target, self._decoders())
            return out
        addresses = np.zeros(num_rows, np.int64)
        for reader, (_, places, rows) in zip(readers, parts, strict=True):
            found = reader.addresses(rows) if reader.out_dtype == target.dtype else None
            if found is None:
                values = np.empty((len(rows), self.num_pixels), target.dtype)
                reader.take(rows, values, self._decoders())
                target[places] = values
            else:
                reader.check()
                addresses[places] = found
        in_memory = np.flatnonzero(addresses)
        if in_memory.size == num_rows:
            gather(addresses, target.view(np.uint8))
        elif in_memory.size:
            values = np.empty((in_memory.size, self.num_pixels), target.dtype)
            gather(addresses[in_memory], values.view(np.uint8))
            target[in_memory] = values
        return out
