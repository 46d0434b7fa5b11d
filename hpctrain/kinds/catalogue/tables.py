"""Tables in HDF5, FITS, CSV, text and Parquet, read by column. N rows. No torch here."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py
import numpy as np

from hpctrain.errors import DataError
from hpctrain.profile.near import did_you_mean
from hpctrain.samples.library import open_library_file
from hpctrain.words import is_number

ROWS_AT_ONCE = 1 << 20
"""Rows of a large table that are read at a time."""

_HDF5_OFFSETS = (0, 512, 1024, 2048, 4096)
_HDF5, _GZIP, _FITS, _PARQUET = b"\x89HDF\r\n\x1a\n", b"\x1f\x8b", b"SIMPLE  =", b"PAR1"
_NO_TEXT = "is neither HDF5, FITS, Parquet nor text in UTF-8"


@dataclass(frozen=True)
class Table:
    """A table that is read by column.

    Parameters
    ----------
    path : Path
    num_rows : int
        N.
    names : tuple of str
        Columns of one value per row.
    get : callable
        Returns the values of one of `names` or `vectors`, shape (N,) or (N, S).
    vectors : tuple of str
        Columns of S values per row.
    part : callable, optional
        Returns the values of a column in the rows from a first one up to a last one, without reading the others; None
        where the format needs the whole file in memory.
    rows : ndarray, shape (N,), int64, optional
        Rows of the file that the table has, sorted; None for all.
    of_rows : int, optional
        Rows of the file, where the table has only some.
    units : mapping of str to str
        Units of columns, where the file states them.
    """

    path: Path
    num_rows: int
    names: tuple[str, ...]
    get: Callable[[str], np.ndarray]
    vectors: tuple[str, ...] = ()
    part: Callable[[str, int, int], np.ndarray] | None = None
    rows: np.ndarray | None = None
    of_rows: int | None = None
    units: Mapping[str, str] = field(default_factory=dict)

    def between(self, first: int, last: int) -> Table:
        """Return the table of the rows from `first` up to but without `last`."""
        last = min(last, self.num_rows)
        if self.part is None:
            return replace(self, num_rows=last - first, get=lambda name: self.get(name)[first:last])
        part = self.part
        return replace(self, num_rows=last - first, get=lambda name: part(name, first, last))

    def only(self, rows: np.ndarray) -> Table:
        """Return the table of some rows (n,), sorted, of which few are in memory besides those that it has."""
        chosen = replace(self, num_rows=len(rows), rows=rows, of_rows=self.num_rows)
        if self.part is None:
            return replace(chosen, get=lambda name: np.asarray(self.get(name))[rows])

        def part(name: str, first: int, last: int) -> np.ndarray:
            own = rows[first:last]
            starts = range(int(own[0]), int(own[-1]) + 1, ROWS_AT_ONCE) if len(own) else range(1)
            found = []
            for start in starts:
                here = own[np.searchsorted(own, start) : np.searchsorted(own, start + ROWS_AT_ONCE)]
                found.append(np.asarray(self.between(start, start + ROWS_AT_ONCE).get(name))[here - start])
            return np.concatenate(found)

        return replace(chosen, get=lambda name: part(name, 0, len(rows)), part=part)

    def column(self, name: str) -> np.ndarray:
        """Return a column, shape (N,): numbers as they are stored, or texts as an ``object`` array of str.

        Raises
        ------
        DataError
            There is no such column, or it holds neither numbers nor texts.
        """
        if name in self.vectors:
            raise DataError(f"{self.path}: {name}: holds several values per object; only data.features can name it")
        return self.values(name)

    def values(self, name: str) -> np.ndarray:
        """Return a column, shape (N,), or (N, S) where a row has S values.

        Raises
        ------
        DataError
            As for :meth:`column`.
        """
        if name not in self.names and name not in self.vectors:
            raise DataError(f"{self.path}: {name}: is not in the file{did_you_mean(name, self.names + self.vectors)}")
        values = np.asarray(self.get(name))
        if values.dtype.kind in "SUO":
            return np.array([_text(value) for value in values.tolist()], dtype=object)
        if values.dtype.kind not in "biuf":
            raise DataError(f"{self.path}: {name}: holds {values.dtype}, neither numbers nor texts")
        return values.astype(values.dtype.newbyteorder("="), copy=False)


def open_table(path: Path) -> Table:
    """Open a table; its first bytes say which format it has.

    Raises
    ------
    DataError
        The file cannot be read or is damaged, or its header does not fit its rows.
    """
    try:
        with open(path, "rb") as stream:
            first = stream.read(16)
            is_hdf5 = False
            for offset in _HDF5_OFFSETS:
                stream.seek(offset)
                is_hdf5 = is_hdf5 or stream.read(8) == _HDF5
        if is_hdf5:
            return _open_hdf5(path)
        if first.startswith(_PARQUET):
            return _open_parquet(path)
        if first.startswith(_FITS):
            return _open_fits(path, path)
        content = _unzipped(path) if first.startswith(_GZIP) else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    return _open_fits(path, io.BytesIO(content)) if content.startswith(_FITS) else _open_text(path, content)


def _unzipped(path: Path) -> bytes:
    with gzip.open(path) as stream:
        return stream.read()


def _open_hdf5(path: Path) -> Table:
    with open_library_file(path) as file:
        found: dict[str, int] = {}
        vectors: dict[str, int] = {}

        def visit(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset) and len(item.shape) == 1:
                found[name] = item.shape[0]
            elif isinstance(item, h5py.Dataset) and len(item.shape) == 2 and item.dtype.kind in "biuf":
                vectors[name] = item.shape[0]

        file.visititems(visit)
    if not found:
        raise DataError(f"{path}: has no dataset with one value per object")
    num_rows = max(found.values(), key=lambda length: (list(found.values()).count(length), length))

    def get(name: str, first: int, last: int) -> np.ndarray:
        try:
            with open_library_file(path) as file:
                return file[name][first:last]
        except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise DataError(f"{path}: {name}: cannot be read ({error}); the file is damaged") from error

    names, wide = (tuple(key for key, length in each.items() if length == num_rows) for each in (found, vectors))
    return Table(path, num_rows, names, lambda name: get(name, 0, num_rows), wide, get)


def _open_parquet(path: Path) -> Table:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise DataError(f"{path}: Parquet needs pyarrow; pip install 'hpctrain[parquet]'") from error
    try:
        file = parquet.ParquetFile(path)
    except ArrowException as error:
        raise DataError(f"{path}: cannot be read as Parquet ({error})") from error

    counts = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
    ends = np.cumsum([0, *counts])

    def get(name: str) -> np.ndarray:
        return file.read(columns=[name]).column(0).to_numpy()

    def part(name: str, first: int, last: int) -> np.ndarray:
        groups = [number for number in range(len(counts)) if ends[number] < last and ends[number + 1] > first]
        if not groups:
            return get(name)[:0]
        start = first - int(ends[groups[0]])
        return file.read_row_groups(groups, columns=[name]).column(0).to_numpy()[start : start + last - first]

    notes = {
        each.name: (each.metadata or {}).get(b"unit", b"").decode("utf-8", "replace") for each in file.schema_arrow
    }
    return Table(path, file.metadata.num_rows, tuple(file.schema_arrow.names), get, part=part, units=notes)


def _open_fits(path: Path, source: Path | io.BytesIO) -> Table:
    """Open the first table of a FITS file, or of one that is in memory because it was packed."""
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning

    try:
        with warnings.catch_warnings(), fits.open(source, memmap=isinstance(source, Path)) as hdus:
            warnings.filterwarnings("error", "File may have been truncated|Error validating header", AstropyWarning)
            tables = [hdu for hdu in hdus if isinstance(hdu, (fits.BinTableHDU, fits.TableHDU))]
            if not tables:
                raise DataError(f"{path}: has no table extension")
            data = tables[0].data  # a memory map stays open for as long as its arrays are used
            first = {name: np.asarray(data[:1][name]) for name in data.names}
            units = {column.name: str(column.unit or "").strip() for column in tables[0].columns}
    except (OSError, ValueError, TypeError, IndexError, AstropyWarning) as error:
        raise DataError(f"{path}: cannot be read as FITS ({error})") from error

    def part(name: str, begin: int, end: int) -> np.ndarray:
        try:
            return np.array(data[begin:end][name])
        except (OSError, ValueError, TypeError, IndexError) as error:
            raise DataError(f"{path}: {name}: cannot be read as FITS ({error})") from error

    names = tuple(name for name, values in first.items() if values.ndim == 1)
    wide = tuple(name for name, values in first.items() if values.ndim == 2 and values.dtype.kind in "biuf")
    return Table(path, len(data), names, lambda name: part(name, 0, len(data)), wide, part, units=units)


def _open_text(path: Path, content: bytes) -> Table:
    """Open CSV, or columns separated by blanks; the first line names the columns."""
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: {_NO_TEXT}") from error
    names, cells = _cells_of_lines(path, lines)
    rows = list(cells)
    columns = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {}
    return Table(path, len(rows), names, lambda name: _parsed(columns.get(name, ())))


def read_text_blocks(path: Path, num_rows: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield the columns of a table of text, packed by gzip or not, some rows at a time.

    Parameters
    ----------
    path : Path
    num_rows : int
        Largest number of rows in memory.

    Yields
    ------
    dict of ndarray, shape (n,)
        By name; what is a number in one block may be text in another. A file without rows yields one empty block.

    Raises
    ------
    DataError
        As for :func:`open_table`.
    """
    try:
        with open(path, "rb") as stream:
            is_packed = stream.read(2) == _GZIP
        with (gzip.open if is_packed else open)(path, "rt", encoding="utf-8-sig") as lines:
            names, cells = _cells_of_lines(path, lines)
            rows = list(itertools.islice(cells, num_rows))
            if not rows:
                yield {name: np.empty(0) for name in names}
            while rows:
                yield {name: _parsed(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
                rows = list(itertools.islice(cells, num_rows))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: {_NO_TEXT}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _cells_of_lines(path: Path, lines: Iterable[str]) -> tuple[tuple[str, ...], Iterator[list[str]]]:
    """Return the names of the columns, and the values of one row after the other."""
    kept = ((number, line.rstrip("\r\n")) for number, line in enumerate(lines, start=1) if line.strip())
    number, line = next(kept, (0, ""))
    if not number:
        raise DataError(f"{path}: is empty")
    names = _cells(line.lstrip("#"))
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path}: line {number}: the header names {', '.join(repeated)} twice")
    if all(is_number(name) for name in names):
        raise DataError(f"{path}: line {number}: holds numbers; the first line must name the columns")
    return tuple(names), _rows(path, kept, names, number, "," in line)


def _rows(
    path: Path, kept: Iterable[tuple[int, str]], names: list[str], header: int, comma: bool
) -> Iterator[list[str]]:
    for number, line in kept:
        if line.startswith("#"):
            continue
        cells = _cells(line) if comma else line.split()
        if len(cells) != len(names):
            raise DataError(
                f"{path}: line {number}: has {len(cells)} values, but the header (line {header}) names "
                f"{len(names)} columns; correct the header, or every later column would be read under a wrong name"
            )
        yield cells


def _cells(line: str) -> list[str]:
    if "," in line:
        return [cell.strip() for cell in next(csv.reader([line]))]
    return line.split()


def _parsed(cells: tuple[str, ...]) -> np.ndarray:
    """Return integers, floats with NaN for empty cells, or texts."""
    try:
        return np.array([int(cell) for cell in cells], dtype=np.int64)
    except (ValueError, OverflowError):
        pass
    try:
        return np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError:
        return np.array(cells, dtype=object)


def _text(value: object) -> str:
    if value is None:
        return ""
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip()
