"""Read the inputs and identifiers of objects from tables. N objects, F inputs. No torch here."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.kinds.catalogue.choose import DEFAULT_ID, has_ids
from hpctrain.kinds.catalogue.magnitudes import to_magnitudes
from hpctrain.kinds.catalogue.tables import ROWS_AT_ONCE, Table, open_table
from hpctrain.samples.find import find_files
from hpctrain.samples.target_id import ids_of

if TYPE_CHECKING:
    from hpctrain.kinds.catalogue.section import CatalogueSection


def open_tables(data: CatalogueSection, base: Path | None = None) -> list[Table]:
    """Open the tables of a ``data`` section.

    Raises
    ------
    DataError
        Files are missing or damaged; the message names all of them.
    """
    problems: list[str] = []
    tables = [collect(lambda path=path: open_table(path), problems) for path in find_files(data.files, base or Path())]
    if problems:
        raise DataError("\n".join(problems))
    return tables


def collect(make: Callable[[], Any], problems: list[str]) -> Any:
    """Return what a function returns; if it raises a DataError, None, and `problems` gets its message."""
    try:
        return make()
    except DataError as error:
        problems.append(str(error))
        return None


def read_in_blocks(table: Table, data: CatalogueSection) -> tuple[tuple[str, ...], np.ndarray]:
    """Return what :func:`read_inputs` does; of a large table only a block of rows is in memory as it is in the file."""
    if table.part is None or table.num_rows <= ROWS_AT_ONCE:
        return read_inputs(table, data)
    found = np.empty((0, 0), dtype=np.float32)
    for start in range(0, table.num_rows, ROWS_AT_ONCE):
        names, block = read_inputs(table.between(start, start + ROWS_AT_ONCE), data)
        if start == 0:
            found = np.empty((table.num_rows, len(names)), dtype=np.float32)
        found[start : start + len(block)] = block
    return names, found


def read_inputs(table: Table, data: CatalogueSection) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names (F) and the inputs (N, F), float32, of one table.

    A column of S numbers per object gives S inputs: ``NAME[0]`` to ``NAME[S - 1]``.

    Raises
    ------
    DataError
        Columns are absent, or hold something else; the message names all of them.
    """
    problems: list[str] = []
    values = {}
    for name in dict.fromkeys([*data.features, *data.errors.values()]):
        values[name] = collect(lambda name=name: _numbers(table, name, data.missing), problems)
    single = {*itertools.chain(*data.differences), *data.errors.values(), *data.asinh_magnitudes}
    single |= {*data.extinction.coefficients} if data.extinction is not None else set()
    for name in sorted(single & {*table.vectors}):
        problems.append(f"{table.path}: {name}: holds several values per object; only data.features can name it")
    if problems:
        raise DataError("\n".join(problems))
    values = to_magnitudes(values, data, lambda name: _numbers(table, name, data.missing))
    names, columns = [], []
    for name in data.features:
        is_wide = values[name].ndim == 2
        names += [f"{name}[{number}]" for number in range(values[name].shape[1])] if is_wide else [name]
        columns += [*values[name].T] if is_wide else [values[name]]
    columns += [values[first] - values[second] for first, second in data.differences]
    columns += [np.where(values[name] >= 0, values[name], np.nan) for name in data.errors.values()]
    return (*names, *data.input_names[len(data.features) :]), np.stack(columns, axis=1).astype(np.float32)


def _numbers(table: Table, name: str, missing: Sequence[float]) -> np.ndarray:
    column = table.values(name)
    if column.dtype.kind == "O":
        example = next((text for text in column if text), "")
        raise DataError(f"{table.path}: {name}: holds texts such as {example!r}; data.features are columns of numbers")
    values = column.astype(np.float64)
    return np.where(np.isfinite(values) & ~np.isin(values, missing), values, np.nan)


def ids_of_tables(tables: Sequence[Table], data: CatalogueSection, problems: list[str]) -> tuple[np.ndarray, list[str]]:
    """Return the identifier of each row of all tables, shape (N,), int64, and notes; `problems` gets what is wrong."""
    name = data.target_id or DEFAULT_ID
    if not has_ids(tables, data):
        note = (
            f"the files have no column {name}, so the number of the row stands for the object; an object that is "
            "listed twice may then be trained on and held out (data.target_id names another column)"
        )
        return _numbered(tables), [note]
    found = [
        collect(lambda table=table: ids_of(table.column(name), f"{table.path}: {name}"), problems) for table in tables
    ]
    if problems:
        return np.zeros(0, dtype=np.int64), []
    return np.concatenate([ids for ids, _ in found]), list(dict.fromkeys(note for _, notes in found for note in notes))


def _numbered(tables: Sequence[Table]) -> np.ndarray:
    """Return the number of each row, counted over the rows of all files."""
    found, start = [], 0
    for table in tables:
        found.append(start + (np.arange(table.num_rows) if table.rows is None else table.rows))
        start += table.num_rows if table.of_rows is None else table.of_rows
    return np.concatenate(found)
