"""Columns of arrays as astropy tables, with units and descriptions. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from hpctrain.errors import DataError

if TYPE_CHECKING:
    from astropy.table import Table

    from hpctrain.families.shown import Column

_FIRST = ("target_id", "row")
"""Columns of a catalogue that its table begins with; HDF5 lists all of them by name."""


def table_of(columns: Mapping[str, np.ndarray], meanings: Mapping[str, Column], meta: Mapping[str, Any]) -> Table:
    """Return columns as a table.

    Parameters
    ----------
    columns : mapping of ndarray, each of shape (N, ...)
    meanings : mapping of Column
        Units and descriptions of some of them.
    meta : mapping
        Entries of ``table.meta``.
    """
    from astropy.table import Table

    table = Table(dict(columns), meta=dict(meta))
    for name, meaning in meanings.items():
        if name in columns:
            describe(table, name, meaning.unit, meaning.description)
    return table


def describe(table: Table, name: str, unit: str, description: str) -> None:
    """Give a column its unit and description; a unit that astropy does not know becomes part of the description."""
    from astropy import units

    column = table[name]
    try:
        column.unit = units.Unit(unit) if unit else None
    except ValueError:
        description = f"{description} [{unit}]"
    column.description = description or None


def read_table(path: Path) -> Table:
    """Read an HDF5 catalogue, such as ``results/latents.h5``, with units and descriptions.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    from astropy.table import Table

    try:
        with h5py.File(path, "r") as file:
            first = [name for name in _FIRST if name in file]
            names = [*first, *sorted(set(file) - set(first))]
            datasets = {name: file[name] for name in names if isinstance(file[name], h5py.Dataset) and file[name].ndim}
            table = Table({name: _texts(item[()]) for name, item in datasets.items()})
            table.meta.update({name: _plain(value) for name, value in file.attrs.items()})
            for name, item in datasets.items():
                unit, description = (_plain(item.attrs.get(key, "")) for key in ("unit", "description"))
                describe(table, name, str(unit), str(description))
            return table
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a catalogue ({error})") from error


def _texts(values: np.ndarray) -> np.ndarray:
    """Return bytes as text; other values unchanged."""
    if values.dtype.kind == "O":
        return np.array([each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in values])
    return np.char.decode(values, "utf-8", "replace") if values.dtype.kind == "S" else values


def _plain(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
