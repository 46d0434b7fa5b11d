"""Rows of catalogues as samples in memory. N objects, F inputs: columns, their differences, and their errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpctrain.errors import DataError
from hpctrain.kinds.catalogue.choose import sampled
from hpctrain.kinds.catalogue.facts import INPUTS
from hpctrain.kinds.catalogue.inputs import collect, ids_of_tables, open_tables, read_in_blocks
from hpctrain.kinds.catalogue.tables import Table
from hpctrain.samples.arrays import ArraySamples

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
        parts = [collect(lambda table=table: read_in_blocks(table, data), problems) for table in tables]
        target_id, notes = ids_of_tables(tables, data, problems)
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
        parts = [collect(lambda table=table: table.column(name), problems) for table in self._tables]
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
    tables, notes = sampled(open_tables(data, base), data)
    samples = CatalogueSamples(tables, data)
    samples.notes += notes
    return samples


def _missing_notes(inputs: np.ndarray, names: Sequence[str]) -> list[str]:
    missing = np.isnan(inputs).sum(axis=0)
    told = [f"{name} {count:,}" for name, count in zip(names, missing.tolist(), strict=True) if count]
    if not told:
        return []
    more = f" and {len(told) - 8} more columns" if len(told) > 8 else ""
    return [f"missing values among {len(inputs):,} objects: {', '.join(told[:8])}{more}"]
