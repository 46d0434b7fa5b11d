"""Rows of catalogues as samples in memory. N objects, F inputs: columns, their differences, and their errors."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.kinds.catalogue.choose import DEFAULT_ID, has_ids, sampled
from hpctrain.kinds.catalogue.facts import INPUTS
from hpctrain.kinds.catalogue.magnitudes import to_magnitudes
from hpctrain.kinds.catalogue.tables import ROWS_AT_ONCE, Table, open_table
from hpctrain.samples.arrays import ArraySamples
from hpctrain.samples.find import find_files
from hpctrain.samples.target_id import ids_of

if TYPE_CHECKING:
    from hpctrain.kinds.catalogue.section import CatalogueSection


class CatalogueSamples(ArraySamples):
    """Objects of one or several tables; their inputs are in memory.

    Parameters
    ----------
    tables : sequence of Table
    data : CatalogueSection
    """

    def __init__(self, tables: Sequence[Table], data: CatalogueSection) -> None:
        self._tables = list(tables)
        problems: list[str] = []
        parts = [_collect(lambda table=table: read_in_blocks(table, data), problems) for table in tables]
        target_id, notes = _ids(tables, data, problems)
        if problems:
            raise DataError("\n".join(problems))
        self.names = parts[0][0]
        for table, (names, _) in zip(tables, parts, strict=True):
            if names != self.names:
                message = f"{table.path}: has {len(names)} inputs per object, {tables[0].path} has {len(self.names)}"
                raise DataError(message)
        inputs = np.concatenate([part for _, part in parts])
        notes += _missing_notes(inputs, self.names)
        super().__init__([(table.path, table.num_rows) for table in tables], target_id, {INPUTS: inputs}, notes)

    @property
    def inputs(self) -> np.ndarray:
        """The inputs (N, F), float32; NaN where a value is missing."""
        return self.columns[INPUTS]

    def column(self, name: str) -> np.ndarray:
        problems: list[str] = []
        parts = [_collect(lambda table=table: table.column(name), problems) for table in self._tables]
        if problems:
            raise DataError("\n".join(problems))
        if len({part.dtype.kind == "O" for part in parts}) > 1:
            raise DataError(f"{self._tables[0].path}: {name}: holds texts in some files and numbers in others")
        return np.concatenate(parts)

    def locate(self, row: int) -> tuple[Path, int]:
        path, number = super().locate(row)
        [rows] = [table.rows for table in self._tables if table.path == path]
        return path, number if rows is None else int(rows[number])

    def usable(self, rows: np.ndarray) -> np.ndarray:
        return np.isfinite(self.inputs[rows]).any(axis=1)


def open_catalogue(data: CatalogueSection, base: Path | None = None) -> CatalogueSamples:
    """Open the tables of a ``data`` section as one set.

    Raises
    ------
    DataError
        Files are missing or damaged, or lack columns; the message names all of them.
    """
    problems: list[str] = []
    tables = [_collect(lambda path=path: open_table(path), problems) for path in find_files(data.files, base or Path())]
    if problems:
        raise DataError("\n".join(problems))
    tables, notes = sampled(tables, data)
    samples = CatalogueSamples(tables, data)
    samples.notes += notes
    return samples


def _collect(make: Any, problems: list[str]) -> Any:
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
        values[name] = _collect(lambda name=name: _numbers(table, name, data.missing), problems)
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


def _ids(tables: Sequence[Table], data: CatalogueSection, problems: list[str]) -> tuple[np.ndarray, list[str]]:
    name = data.target_id or DEFAULT_ID
    if not has_ids(tables, data):
        note = (
            f"the files have no column {name}, so the number of the row stands for the object; an object that is "
            "listed twice may then be trained on and held out (data.target_id names another column)"
        )
        return _numbered(tables), [note]
    found = [
        _collect(lambda table=table: ids_of(table.column(name), f"{table.path}: {name}"), problems) for table in tables
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


def _missing_notes(inputs: np.ndarray, names: Sequence[str]) -> list[str]:
    missing = np.isnan(inputs).sum(axis=0)
    told = [f"{name} {count:,}" for name, count in zip(names, missing.tolist(), strict=True) if count]
    if not told:
        return []
    more = f" and {len(told) - 8} more columns" if len(told) > 8 else ""
    return [f"missing values among {len(inputs):,} objects: {', '.join(told[:8])}{more}"]
