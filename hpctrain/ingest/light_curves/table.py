"""Tables with a row per observation: CSV, text, Parquet, HDF5, FITS, VOTable. n rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.light_curves.observations import Observations, Reading, find_columns, unit_of
from hpctrain.kinds.catalogue.tables import Table, open_table

VOTABLE_ENDINGS = (".xml", ".vot", ".votable")


def read_table_of_points(path: Path, reading: Reading) -> Observations:
    """Read a table with a row per observation; without a column of identifiers the file is one object.

    Raises
    ------
    DataError
        The file cannot be read, columns are absent, or a label differs between the rows of an object.
    """
    table = _open_votable(path) if path.name.lower().endswith(VOTABLE_ENDINGS) else open_table(path)
    if not table.num_rows:
        raise DataError("has no rows")
    names = find_columns(table.names, reading, optional=("id",))
    get, num = table.column, table.num_rows
    if "id" in names:
        ids = texts_of(get(names["id"]))
        objects, object_of = np.unique(ids, return_inverse=True)
    else:
        objects, object_of = np.array([path.name.split(".")[0]], dtype=object), np.zeros(num, np.int64)
    band = np.full(num, reading.band, dtype=object) if "band" not in names else texts_of(get(names["band"]))
    error = np.full(num, reading.assumed_error, float) if "error" not in names else numbers_of(get, names["error"])
    return Observations(
        names=[str(name) for name in objects],
        object_of=object_of.reshape(-1),
        time=numbers_of(get, names["time"]),
        value=numbers_of(get, names["value"]),
        error=error,
        band=band,
        columns={ours: _of_objects(get(theirs), theirs, object_of, objects) for ours, theirs in reading.labels.items()},
        unit=unit_of(names["value"], reading),
    )


def texts_of(values: np.ndarray) -> np.ndarray:
    """Return values as ``object`` array of str; whole numbers without a decimal point."""
    if values.dtype.kind == "O":
        return values
    if values.dtype.kind == "f":
        return np.array([_text_of(value) for value in values.tolist()], dtype=object)
    return values.astype(str).astype(object)


def numbers_of(get: Callable[[str], np.ndarray], name: str) -> np.ndarray:
    """Return a column of numbers, float64; an empty cell is NaN.

    Raises
    ------
    DataError
        The column holds texts.
    """
    values = get(name)
    if values.dtype.kind != "O":
        return values.astype(np.float64)
    try:
        return np.array([float(text) if text not in ("", "null", "None") else np.nan for text in values])
    except ValueError as error:
        raise DataError(f"{name}: holds a text that is no number ({error})") from error


def _text_of(value: float) -> str:
    if value != value:
        return ""
    return str(int(value)) if value.is_integer() else str(value)


def _of_objects(values: np.ndarray, name: str, object_of: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Return a column (m,) that has one value per object, from its rows (n,)."""
    first = np.full(len(objects), -1)
    first[object_of[::-1]] = np.arange(len(values))[::-1]
    own = values[first]
    same = values == own[object_of]
    if values.dtype.kind == "f":
        same |= np.isnan(values) & np.isnan(own[object_of])
    if not same.all():
        row = int(np.flatnonzero(~same)[0])
        there = objects[object_of[row]]
        raise DataError(
            f"{name}: object {there} has {own[object_of[row]]} and {values[row]}; a label is one value per object"
        )
    return own


def _open_votable(path: Path) -> Table:
    from astropy.io.votable import parse

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = parse(str(path)).get_first_table().to_table(use_names_over_ids=True)
    except Exception as error:  # astropy raises errors of many kinds about what is no VOTable
        raise DataError(f"cannot be read as VOTable ({error})") from error
    columns = {name: _plain(found[name]) for name in found.colnames if found[name].ndim == 1}
    return Table(path, len(found), tuple(columns), columns.__getitem__)


def _plain(column: object) -> np.ndarray:
    """Return a column of astropy as a plain array; what is masked becomes NaN or an empty text."""
    values, mask = np.asarray(column), getattr(column, "mask", None)
    if mask is None or not np.any(mask):
        return values
    if values.dtype.kind in "biuf":
        return np.where(mask, np.nan, values.astype(np.float64))
    return np.where(mask, "", values.astype(str)).astype(object)
