"""Files of any kind as blocks of columns with one value per object. n rows of a block; no torch here."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.expectations.summaries import Columns, summarised
from hpctrain.kinds.catalogue.tables import Table, open_table, read_text_blocks

BLOCK_BYTES = 32 << 20
"""Memory of a block, about."""
MOST_ROWS = 1 << 17
"""Largest number of rows of a block."""
_STORES = (".ecsv", ".vot", ".votable", ".xml", ".mrt", ".npz", ".lnw")
"""Ends of the names of files that the stores of ``hpctrain ingest`` read, whole."""
_HDF5, _FITS, _PARQUET, _GZIP = b"\x89HDF", b"SIMPLE  =", b"PAR1", b"\x1f\x8b"


@dataclass(frozen=True)
class Declared:
    """What a file says of a column.

    Parameters
    ----------
    dtype : str or None
        None in a file of text, where it depends on the values.
    unit : str
    shape : tuple of int
        Shape of the values of one row.
    """

    dtype: str | None
    unit: str = ""
    shape: tuple[int, ...] = ()


class Source:
    """A file that is read once, block by block.

    Attributes
    ----------
    path : Path
    kind : str
        ``catalogue``, ``spectra``, ``images`` or ``light_curves``.
    declared : dict of Declared
        By the names of the columns in the file.
    grid : ndarray, shape (L,), or None
        Wavelengths [AA] that all spectra of the file share.
    noise_sample : list of (ndarray, ndarray)
        Flux and ivar, shape (m, L), of some hundred of the spectra that were read.
    """

    def __init__(self, path: Path, kind: str = "catalogue") -> None:
        self.path = path
        self.kind = kind
        self.declared: dict[str, Declared] = {}
        self.grid: np.ndarray | None = None
        self.noise_sample: list[tuple[np.ndarray, np.ndarray]] = []

    def blocks(self) -> Iterator[Columns]:
        """Yield columns (n,) by name: numbers, bool, or texts as bytes.

        Raises
        ------
        DataError
            Some rows cannot be read.
        """
        raise NotImplementedError


def open_sources(files: Sequence[str]) -> list[Source]:
    """Open files, each by its first bytes.

    Raises
    ------
    DataError
        Files are missing or cannot be read, or are of different kinds; the message names all of them.
    """
    from hpctrain.samples.find import find_files

    sources, problems = [], []
    for path in find_files(list(files), Path()):
        try:
            sources.append(_open(path))
        except DataError as error:
            text = str(error)
            problems.append(text if text.startswith(str(path)) else f"{path}: {text}")
    if not problems and len({source.kind for source in sources}) > 1:
        problems = [f"{source.path}: holds {_KINDS[source.kind]}" for source in sources[:20]]
        problems.append("files of one kind belong together; check those of each kind by a command of its own")
    if problems:
        raise DataError("\n".join(problems))
    return sources


_KINDS = {
    "catalogue": "a catalogue",
    "spectra": "spectra",
    "images": "images",
    "light_curves": "light curves",
}


def _open(path: Path) -> Source:
    if path.is_dir():
        raise DataError(f"{path}: is a directory; name its files, such as '{path}/*.h5'")
    with open(path, "rb") as stream:
        first = stream.read(16)
    if not first:
        raise DataError(f"{path}: is empty")
    if path.name.lower().removesuffix(".gz").endswith(_STORES):
        return StoreSource(path)
    if first.startswith(_GZIP):
        try:
            with gzip.open(path) as unpacked:
                first = unpacked.read(16)
        except (OSError, EOFError) as error:
            raise DataError(f"{path}: cannot be read ({error})") from error
    if first.startswith((_FITS, _PARQUET)):
        return TableSource(path)
    if first.startswith(_HDF5):
        from hpctrain.expectations.hdf5 import open_hdf5

        return open_hdf5(path)
    return TextSource(path)


def rows_at_once(row_bytes: int) -> int:
    """Return how many rows of so many bytes make a block."""
    return int(np.clip(BLOCK_BYTES // max(1, row_bytes), 64, MOST_ROWS))


def as_columns(name: str, values: np.ndarray) -> Columns:
    """Return the columns that stand for values as a file gives them, shape (n,) or (n, ...)."""
    from hpctrain.expectations.codes import texts_of

    if values.dtype.kind in "SUO":
        return {name: texts_of(values)} if values.ndim == 1 else {}
    if values.dtype.kind in "Mm":
        numbers = values.astype("datetime64[s]" if values.dtype.kind == "M" else "timedelta64[s]").astype(np.float64)
        values = np.where(np.isnat(values), np.nan, numbers)
    if values.dtype.kind not in "biuf":
        return {}
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    return {name: values} if values.ndim == 1 else summarised(name, values)


class TableSource(Source):
    """A table of FITS or Parquet."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._table: Table = open_table(path)
        self._names = (*self._table.names, *self._table.vectors)
        few = self._table.between(0, 1)
        row_bytes = 0
        for name in self._names:
            values = np.asarray(few.get(name))
            self.declared[name] = Declared(
                _dtype_of(values), self._table.units.get(name, ""), tuple(int(size) for size in values.shape[1:])
            )
            row_bytes += max(8, values.dtype.itemsize) * int(np.prod(values.shape[1:]))
        self._at_once = rows_at_once(row_bytes)

    def blocks(self) -> Iterator[Columns]:
        for start in range(0, max(1, self._table.num_rows), self._at_once):
            part = self._table.between(start, start + self._at_once)
            found: Columns = {}
            for name in self._names:
                found |= as_columns(name, np.asarray(part.get(name)))
            yield found


class TextSource(Source):
    """A table of text: CSV, or columns separated by blanks."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with open(path, "rb") as stream:
            if b"\0" in stream.read(4096) and not path.name.endswith(".gz"):
                raise DataError(f"{path}: is neither HDF5, FITS, Parquet nor text in UTF-8")
        names = next(read_text_blocks(path, 1))
        self.declared = {name: Declared(None) for name in names}

    def blocks(self) -> Iterator[Columns]:
        for block in read_text_blocks(self.path, MOST_ROWS // 2):
            found: Columns = {}
            for name, values in block.items():
                found |= as_columns(name, values)
            yield found


class StoreSource(Source):
    """A file that only the stores of ``hpctrain ingest`` read; it is in memory as a whole."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._store: Any = _open_store(path)
        lengths = [item.shape[0] for item in self._store.items.values() if item.shape and not item.is_ragged]
        if not lengths:
            raise DataError(f"{path}: has no column")
        self._num_rows = max(set(lengths), key=lambda length: (lengths.count(length), length))
        self._items = {
            name: item
            for name, item in self._store.items.items()
            if item.shape[:1] == (self._num_rows,) and not item.is_ragged
        }
        for name, item in self._items.items():
            values = np.asarray(self._store.read(item, slice(0, 1)))
            self.declared[name] = Declared(_dtype_of(values), item.unit, tuple(item.shape[1:]))

    def blocks(self) -> Iterator[Columns]:
        for start in range(0, max(1, self._num_rows), MOST_ROWS):
            found: Columns = {}
            for name, item in self._items.items():
                found |= as_columns(name, np.asarray(self._store.read(item, slice(start, start + MOST_ROWS))))
            yield found


def _open_store(path: Path) -> Any:
    if path.name.lower().endswith((".npz", ".lnw")):
        from hpctrain.ingest.mapped.stores.npz import NpzStore

        return NpzStore(path)
    from hpctrain.ingest.mapped.stores.table import TableStore

    return TableStore(path)


def _dtype_of(values: np.ndarray) -> str:
    return "text" if values.dtype.kind in "SUO" else values.dtype.newbyteorder("=").name
