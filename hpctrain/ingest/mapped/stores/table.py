"""Tables of text (csv, ECSV, columns) and VOTables, through astropy.table."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.mapped.mapping import USUAL_NAMES
from hpctrain.ingest.mapped.stores.store import Item, Store
from hpctrain.words import is_number

FORMATS = {
    ".ecsv": "ascii.ecsv",
    ".vot": "votable",
    ".votable": "votable",
    ".xml": "votable",
    ".mrt": "ascii.mrt",
    ".tex": "ascii.latex",
}
"""Formats that the name of the file decides; all others are recognised by their first lines."""

FEWEST_PIXEL_COLUMNS = 16
"""A table with so many columns that are named by numbers has a spectrum per row, and the names are wavelengths."""

_KNOWN = frozenset(name for role in ("flux", "wavelength") for name in USUAL_NAMES[role])

UNNAMED = ("wavelength", "flux", "error")
"""What the columns of a text file with two or three columns without names are."""


class TableStore(Store):
    """An opened table. Two or three columns without names are taken to be wavelength, flux and error, in this order.

    Parameters
    ----------
    path : Path

    Raises
    ------
    DataError
        The file is empty, or astropy does not recognise it as a table.
    """

    kind = "table"

    def __init__(self, path: Path) -> None:
        super().__init__()
        if path.stat().st_size == 0:
            raise DataError("is empty")
        table, is_unnamed = read_table(path)
        self._columns = {name: table[name] for name in table.colnames}
        for name, column in self._columns.items():
            ragged = column.dtype == object
            self.items[name] = Item(name, column.shape, str(column.unit or ""), ragged, place=name)
        self.header = {key: value for key, value in table.meta.items() if isinstance(value, (str, int, float))}
        if is_unnamed and len(table.colnames) in (2, 3):
            self.defaults = dict(zip(UNNAMED, table.colnames, strict=False))
        self._join_pixel_columns()

    def close(self) -> None:
        """Do nothing: the whole table is in memory."""

    def read(self, item: Item, rows: slice | None = None) -> np.ndarray:
        """Return a column or some of its rows; missing numbers are NaN, missing text is empty."""
        if isinstance(item.place, list):
            return np.stack([self._plain(name)[rows or slice(None)] for name in item.place], axis=1)
        if isinstance(item.place, np.ndarray):
            return item.place
        values = self._plain(item.place)
        return values if rows is None else values[rows]

    def _plain(self, name: str) -> np.ndarray:
        column = self._columns[name]
        mask = getattr(column, "mask", None)
        if mask is None or not np.any(mask):
            return np.asarray(column)
        if column.dtype.kind in "SU":
            return np.asarray(column.filled(""))
        if column.dtype == object:
            return np.asarray(column.filled(None))
        values = np.asarray(column.filled(0)).astype(np.float64)
        values[np.asarray(mask)] = np.nan
        return values

    def _join_pixel_columns(self) -> None:
        """Add ``flux`` and ``wavelength`` if the columns are pixels, named by their wavelengths."""
        names = [name for name in self._columns if is_number(name)]
        if len(names) < FEWEST_PIXEL_COLUMNS or {"flux", "wavelength"} & set(self._columns):
            return
        num_rows = len(self._columns[names[0]])
        for name in names:
            del self.items[name]
        self.items["flux"] = Item("flux", (num_rows, len(names)), place=names)
        wavelength = np.array([float(name) for name in names])
        self.items["wavelength"] = Item("wavelength", wavelength.shape, place=wavelength)


def read_table(path: Path) -> tuple[Any, bool]:
    """Return the table of a file, and whether its columns have no names."""
    from astropy.table import Table

    suffix = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    name = FORMATS.get(f".{suffix}")
    names, delimiter = (None, None) if name else _peek(path)
    try:
        if name:
            return Table.read(path, format=name), False
        if delimiter is not None:
            return _read_plain(path, delimiter, names), names is None
        return Table.read(path, format="ascii.csv" if suffix == "csv" else "ascii"), False
    except (ValueError, TypeError, LookupError, OSError, EOFError, UnicodeDecodeError) as error:
        # astropy lists all formats it has tried; the first sentence is enough.
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise DataError(f"is not a table that astropy recognises: {first}") from error


def _read_plain(path: Path, delimiter: str, names: list[str] | None) -> Any:
    """Return the table of a file of numbers; astropy's fast reader takes a tenth of the time, but knows no tabs."""
    from astropy.table import Table

    options = {"format": "ascii.no_header", "guess": False, **({"names": names} if names else {})}
    if delimiter == " ":
        with contextlib.suppress(ValueError):
            return Table.read(path, delimiter=" ", **options)
    return Table.read(path, delimiter="," if delimiter == "," else r"\s", **options)


def _peek(path: Path) -> tuple[list[str] | None, str | None]:
    """Return names from a comment line, and the delimiter, if the first line of data holds only numbers.

    astropy's guessing takes 0.1 s; most spectra are plain columns, which need none.
    """
    import gzip

    comment, open_text = "", gzip.open if path.name.endswith(".gz") else open
    with open_text(path, "rt", errors="replace") as stream:
        for line in stream:
            text = line.strip()
            if text.startswith("#"):
                comment = text.lstrip("# ")
            elif text:
                delimiter = "," if "," in text else (r"\s" if "\t" in text else " ")
                values = [part.strip() for part in (text.split(",") if delimiter == "," else text.split())]
                if not all(is_number(value) for value in values):
                    return None, None
                names = [part.strip() for part in (comment.split(",") if "," in comment else comment.split())]
                # A comment may have as many words as there are columns and be none of their names.
                are_names = any(name.lower() in _KNOWN for name in names)
                usable = are_names and len(names) == len(values) and len(set(names)) == len(names)
                return (names if usable else None), delimiter
    return None, None
