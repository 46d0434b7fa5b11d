"""One HDF5 file of spectra: find its datasets, and check that they fit together."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from hpctrain.errors import DataError
from hpctrain.kinds.spectra.layout import OTHER_NAMES
from hpctrain.kinds.spectra.wavelength import mend_grids, read_common_grid
from hpctrain.samples.chunks import BandCache
from hpctrain.samples.columns import RowReader
from hpctrain.samples.library import LibraryFile, damage_named, open_library_file
from hpctrain.samples.mapped import MappedFile
from hpctrain.samples.target_id import read_target_id

if TYPE_CHECKING:
    from hpctrain.kinds.spectra.section import ColumnsSection


@dataclass
class SpectraFile:
    """An opened file: arrays of one number per spectrum in memory, readers for the rest."""

    path: Path
    library_file: LibraryFile
    flux: RowReader
    ivar: RowReader
    mask: RowReader | None
    grid: np.ndarray | None
    """Wavelength of all rows, shape (L,), float64, with the padding of the file; None if rows differ."""
    wavelength_rows: RowReader | None
    """Reader of the wavelength column, if it has one row per spectrum."""
    target_id: np.ndarray
    redshift: np.ndarray
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return self.flux.shape[0]

    @property
    def num_pixels(self) -> int:
        """L."""
        return self.flux.shape[1]

    @property
    def _readers(self) -> list[RowReader]:
        return [reader for reader in (self.flux, self.ivar, self.mask) if reader is not None]

    @property
    def decoded_bytes(self) -> int:
        """Memory for each spectrum that is kept decoded [byte]."""
        return sum(reader.decoded_bytes for reader in self._readers)

    @property
    def band_rows(self) -> int:
        """Number of spectra that are decoded together, and so cost as much as one of them."""
        return max(reader.band_rows for reader in self._readers)

    def is_in_memory(self, rows: np.ndarray) -> bool:
        """Return whether rows that are copied from a file are in the page cache; False if that is unknown."""
        return all(reader.is_in_memory(rows) for reader in self._readers)

    def share(self, cache: BandCache) -> None:
        """Keep decoded spectra in a cache that several files share."""
        for reader in self._readers:
            reader.share(cache)

    def prepare(self, rows: np.ndarray, pool: Executor | None, is_cold: bool) -> None:
        """Begin to decode or to prefetch rows before they are read."""
        for reader in self._readers:
            reader.prepare(rows, pool, is_cold)

    def read_grid(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return wavelengths of rows, shape (n, L), float32, with filled padding, and which pixels were padding.

        Raises
        ------
        DataError
            The wavelength of a row runs backwards.
        """
        assert self.wavelength_rows is not None, "only called where grids differ"
        grids = np.empty((len(rows), self.num_pixels), np.float32)
        self.wavelength_rows.take(rows, grids)
        padding, backwards = mend_grids(grids)
        if backwards is not None:
            raise DataError(f"{self.path}: the wavelength of row {rows[backwards]} does not increase")
        return grids, padding

    def close(self) -> None:
        """Close the handle of libhdf5, if there is one."""
        self.library_file.close()

    def fingerprint(self) -> dict:
        """Return name, size and modification time."""
        status = self.path.stat()
        return {
            "path": str(self.path.resolve()),
            "bytes": status.st_size,
            "modified_ns": status.st_mtime_ns,
            "num_spectra": len(self),
        }


def open_file(path: Path, columns: ColumnsSection) -> SpectraFile:
    """Open one file and check that its datasets are spectra.

    Raises
    ------
    DataError
        The file has faults; the message names all of them with their datasets.
    """
    with damage_named(path):
        return _open_file(path, columns)


def _open_file(path: Path, columns: ColumnsSection) -> SpectraFile:
    with open_library_file(path) as library:
        found = _find_columns(library, columns)
        _check_shapes(library, found)
        library_file, mapped = LibraryFile(path), MappedFile(path)
        home = library.filename, library_file, mapped
        readers = {name: _reader(found[name], *home) for name in ("flux", "ivar", "mask") if found.get(name)}
        wavelength = found["wavelength"]
        has_rows = wavelength.ndim == 2 and wavelength.shape[0] == found["flux"].shape[0]
        is_empty = found["flux"].shape[0] == 0
        with _readable(wavelength):
            grid = None if is_empty and has_rows else read_common_grid(wavelength)
        with _readable(found["target_id"]):
            target_id, notes = read_target_id(found["target_id"])
        redshift = np.full(found["flux"].shape[0], columns.absent_redshift, np.float32)
        if "redshift" in found:
            with _readable(found["redshift"]):
                redshift = _read_numbers(found["redshift"])
        return SpectraFile(
            path=path,
            library_file=library_file,
            flux=readers["flux"],
            ivar=readers["ivar"],
            mask=readers.get("mask"),
            grid=grid,
            wavelength_rows=_reader(wavelength, *home) if has_rows else None,
            target_id=target_id,
            redshift=redshift,
            notes=notes,
        )


def _reader(dataset: h5py.Dataset, home: str, library_file: LibraryFile, mapped: MappedFile) -> RowReader:
    """Return a reader of the file that holds the dataset; an external link may lead to another file than `home`."""
    path = dataset.file.filename
    if path == home:
        return RowReader(library_file, mapped, dataset)
    return RowReader(LibraryFile(Path(path)), MappedFile(Path(path)), dataset)


@contextlib.contextmanager
def _readable(dataset: h5py.Dataset) -> Iterator[None]:
    """Name the column that libhdf5 cannot read."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{dataset.file.filename}: {_name(dataset)}: cannot be read ({error}); the file is damaged, or packed with "
            "a filter this machine lacks (pip install hdf5plugin)"
        ) from error


def _find_columns(library: h5py.File, columns: ColumnsSection) -> dict[str, h5py.Dataset]:
    """Return the datasets by their role; those of ``columns.optional`` may be missing, and those whose name is None."""
    found: dict[str, h5py.Dataset] = {}
    missing = []
    for role, name in columns:
        if name is None:
            continue
        item = _item(library, name)
        if isinstance(item, h5py.Dataset):
            found[role] = item
        elif role not in columns.optional or role in columns.model_fields_set:
            missing.append((role, name))
    if missing:
        names = _dataset_names(library)
        lines = [_missing_column(library, role, name, names) for role, name in missing]
        listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise DataError("\n".join([*lines, f"  the file has: {listed or 'no datasets'}"]))
    return found


def _item(library: h5py.File, name: str) -> object:
    """Return the dataset or group of that name; None if there is none."""
    if name not in library:
        return None
    # `library.get` would treat an object that cannot be opened as missing, and silently leave out a mask.
    try:
        return library[name]
    except (LookupError, OSError):
        link = library.get(name, getlink=True)
        if not isinstance(link, h5py.ExternalLink):
            raise
    raise DataError(f"{library.filename}: {name}: links to {link.path} in {link.filename}, which does not exist")


def _missing_column(library: h5py.File, role: str, name: str, names: list[str]) -> str:
    known = [other for other in names if other.rsplit("/", 1)[-1] in OTHER_NAMES[role]]
    near = known or difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    advice = f"; set data.columns.{role}: {near[0]}" if near else ""
    what = "is a group, not a dataset" if name in library else "is not in the file"
    why = " (without redshifts there is no rest frame to model)" if role == "redshift" else ""
    return f"{library.filename}: {name}: {what}{why}{advice}"


def _dataset_names(library: h5py.File) -> list[str]:
    names: list[str] = []
    library.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names


def _check_shapes(library: h5py.File, found: dict[str, h5py.Dataset]) -> None:
    flux = found["flux"]
    if flux.ndim != 2 or flux.shape[1] == 0:
        raise DataError(f"{library.filename}: {_name(flux)}: has shape {flux.shape}; (spectra, pixels) is needed")
    num_spectra, num_pixels = flux.shape
    allowed = {
        "flux": [(num_spectra, num_pixels)],
        "ivar": [(num_spectra, num_pixels)],
        "mask": [(num_spectra, num_pixels)],
        "wavelength": [(num_pixels,), (num_spectra, num_pixels), (1, num_pixels)],
        "target_id": [(num_spectra,)],
        "redshift": [(num_spectra,)],
    }
    problems = []
    for role, dataset in found.items():
        where = f"{library.filename}: {_name(dataset)}"
        if dataset.shape not in allowed[role]:
            wanted = " or ".join(str(shape) for shape in allowed[role][:2])
            problems.append(f"{where}: has shape {dataset.shape}, but {_name(flux)} {flux.shape} asks for {wanted}")
        elif role != "target_id" and dataset.dtype.kind not in "fiub":
            problems.append(f"{where}: holds {dataset.dtype}, not numbers")
    if problems:
        raise DataError("\n".join(problems))


def _read_numbers(dataset: h5py.Dataset) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return dataset[...].astype(np.float32)


def _name(dataset: h5py.Dataset) -> str:
    return dataset.name.lstrip("/")
