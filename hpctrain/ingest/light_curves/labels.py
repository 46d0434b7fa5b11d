"""Columns of a table with a row per object, for the objects of light curves. N objects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.light_curves.observations import USUAL_NAMES
from hpctrain.ingest.light_curves.table import texts_of
from hpctrain.kinds.catalogue.tables import open_table
from hpctrain.profile.near import did_you_mean


class ObjectTable:
    """A table with a row per object.

    Parameters
    ----------
    path : Path
        CSV, text, Parquet, HDF5 or FITS.
    id_column : str
        Column with the identifiers; empty for a usual name, or the first column.
    labels : mapping of str to str
        Column of the output to the name in the table; empty for all columns.

    Raises
    ------
    DataError
        The table cannot be read, lacks columns, or names an object twice.
    """

    def __init__(self, path: Path, id_column: str, labels: Mapping[str, str]) -> None:
        self._path, self._table = path, open_table(path)
        small = {name.lower(): name for name in reversed(self._table.names)}
        usual = next((small[name] for name in USUAL_NAMES["id"] if name in small), self._table.names[0])
        self._id_column = id_column or usual
        for name in (self._id_column, *labels.values()):
            if name not in self._table.names:
                raise DataError(f"{path}: {name}: is not in the table{did_you_mean(name, self._table.names)}")
        others = [name for name in self._table.names if name != self._id_column]
        self._labels = dict(labels) or {name: name for name in others}
        ids = texts_of(self._table.column(self._id_column)).tolist()
        self._row = {name: row for row, name in enumerate(ids)}
        if len(self._row) < len(ids):
            twice = next(name for row, name in enumerate(ids) if self._row[name] != row)
            raise DataError(f"{path}: {self._id_column}: has {twice} twice; labels need one row per object")

    def columns_for(self, names: np.ndarray, notes: list[str]) -> dict[str, np.ndarray]:
        """Return the columns of these objects (N,); NaN or empty where the table has no row.

        Raises
        ------
        DataError
            No object has a row.
        """
        rows = np.array([self._row.get(name, -1) for name in names.tolist()])
        has = rows >= 0
        if not has.any():
            theirs = next(iter(self._row), "nothing")
            raise DataError(
                f"{self._path}: {self._id_column}: names none of the objects (ours: {names[0]}; there: {theirs}); "
                "--labels-id names another column"
            )
        if not has.all():
            notes.append(f"{int((~has).sum()):,} of {len(names):,} objects have no row in {self._path.name}")
        found = {}
        for ours, theirs in self._labels.items():
            values = self._table.column(theirs)
            taken = values[np.maximum(rows, 0)]
            found[ours] = np.where(has, taken, "") if values.dtype.kind == "O" else _with_nan(taken, has)
        return found


def _with_nan(values: np.ndarray, has: np.ndarray) -> np.ndarray:
    return values if has.all() else np.where(has, values.astype(np.float64), np.nan)
