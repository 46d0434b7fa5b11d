"""The columns of a table as features: names and types that a feature store takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from hpctrain.errors import DataError, Problem, ProfileError
from hpctrain.kinds.catalogue.tables import Table
from hpctrain.profile.near import did_you_mean
from hpctrain.samples.library import open_library_file

IDS = ("target_id", "TARGETID", "object_id", "objid", "source_id", "id")
"""Usual names of the column that identifies objects, the likeliest first."""
ROW = "row"
"""Column of results of a run that says where an object is in the files of the run; no property of it."""
TIME, CREATED = "event_timestamp", "created_timestamp"
"""Columns of times of the source."""
_TYPES = {
    "b": "Bool",
    "i1": "Int32",
    "i2": "Int32",
    "i4": "Int32",
    "i8": "Int64",
    "u1": "Int32",
    "u2": "Int32",
    "u4": "Int64",
    "u8": "Int64",
    "f2": "Float32",
    "f4": "Float32",
    "f8": "Float64",
    "O": "String",
}
DTYPES = {"Bool": np.bool_, "Int32": np.int32, "Int64": np.int64, "Float32": np.float32, "Float64": np.float64}


@dataclass(frozen=True)
class Feature:
    """A column of the source.

    Parameters
    ----------
    name : str
        Name in the feature store: letters, digits and underscores.
    column : str
        Name in the table.
    type : str
        Feast's name of the type of one value.
    size : int
        Number of values per row of a vector; 0 for a single value.
    unit, description : str
        Empty where the table says nothing.
    """

    name: str
    column: str
    type: str
    size: int = 0
    unit: str = ""
    description: str = ""


def features_of(table: Table, wanted: Sequence[str] | None, but: Sequence[str]) -> list[Feature]:
    """Return the columns of a table as features.

    Parameters
    ----------
    table : Table
    wanted : sequence of str, or None
        Columns; None for all but the number of the row in another file.
    but : sequence of str
        Columns that are none: the identifier, the time.

    Raises
    ------
    ProfileError
        A column is not there, or two have the same name as features.
    DataError
        A column holds neither numbers nor texts.
    """
    there = [*table.names, *table.vectors]
    usual = [name for name in there if name != ROW]
    names = [name for name in (usual if wanted is None else wanted) if name not in but]
    problems = [Problem("--columns", f"'{name}' is not in the file{did_you_mean(name, there)}") for name in names]
    problems = [problem for problem, name in zip(problems, names, strict=True) if name not in there]
    if problems:
        raise ProfileError(str(table.path), problems)
    said = _said_by(table.path, names)
    found = [_feature(table, name, *said.get(name, ("", ""))) for name in names]
    taken: dict[str, str] = {TIME: TIME, CREATED: CREATED}
    for each in found:
        if each.name in taken:
            both = f"'{each.column}' and '{taken[each.name]}'"
            message = f"{both} would both be called {each.name}; choose with --columns"
            problems.append(Problem("--columns", message))
        taken[each.name] = each.column
    if problems:
        raise ProfileError(str(table.path), problems)
    return found


def id_column(table: Table, given: str | None) -> str:
    """Return the column that identifies the objects.

    Raises
    ------
    ProfileError
        The one that is given is not there, or there is none of the usual names.
    """
    if given is not None and given not in table.names:
        message = f"'{given}' is not in the file{did_you_mean(given, list(table.names))}"
        raise ProfileError(str(table.path), [Problem("--id", message)])
    found = given or next((name for name in IDS if name in table.names), None)
    if found is None:
        message = f"none of {', '.join(IDS)} is in the file; name the column with the identifiers of the objects"
        raise ProfileError(str(table.path), [Problem("--id", message)])
    return found


def plain_name(text: str) -> str:
    """Return a name of letters, digits and underscores that begins with no digit: ``g - r`` becomes ``g_r``."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or "column"
    name = re.sub(r"_{2,}", "_", name)  # Feast joins names of views and features with two
    return f"_{name}" if name[0].isdigit() else name


def _feature(table: Table, column: str, unit: str, description: str) -> Feature:
    values = table.between(0, 1).values(column) if table.part is not None else table.values(column)
    kind = values.dtype.kind
    dtype = kind if kind in "bO" else f"{kind}{values.dtype.itemsize}"
    if dtype not in _TYPES or (kind == "O" and column in table.vectors):
        raise DataError(f"{table.path}: {column}: holds {values.dtype}, which a feature store has no type for")
    size = values.shape[1] if values.ndim == 2 else 0
    return Feature(plain_name(column), column, _TYPES[dtype], size, unit or table.units.get(column, ""), description)


def _said_by(path: Path, names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return unit and description of the datasets of an HDF5 file; nothing for other files."""
    if not h5py.is_hdf5(path):
        return {}
    with open_library_file(path) as file:
        attributes = {name: file[name].attrs for name in names if name in file}
        return {
            name: (_text(each.get("unit", "")), _text(each.get("description", ""))) for name, each in attributes.items()
        }


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
