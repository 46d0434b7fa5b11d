"""The rows of a profile's data: which side each is on, and their numbers, block by block. N rows.

A catalogue is read from its tables in blocks, so that it need not fit into memory; other kinds are read as in training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hpctrain.errors import DataError
from hpctrain.profile.families import kind_of
from hpctrain.samples.replay import replayed
from hpctrain.samples.split import TEST, TRAIN, VALIDATION, assign_split, choose_rows
from hpctrain.validation.audit.inputs import Inputs, inputs_of, of_table

if TYPE_CHECKING:
    from hpctrain.kinds.catalogue.tables import Table
    from hpctrain.profile.schema import Profile
    from hpctrain.profile.sections.data import DataSection

UNUSED = 3
"""Side of training rows that ``data.max_...`` leaves out."""

SIDE_NAMES = {TRAIN: "training", VALIDATION: "validation", TEST: "test"}

_BLOCK_BYTES = 16 * 2**20


class Rows:
    """The rows of a data section. A subclass says how they are read.

    Parameters
    ----------
    data : DataSection
    target_id : ndarray, shape (N,), int64
    notes : list of str

    Attributes
    ----------
    side : ndarray, shape (N,), uint8
        ``TRAIN``, ``VALIDATION``, ``TEST`` or `UNUSED`.
    names : tuple of str
        Names of the numbers or features that :class:`Inputs` holds, where they have names.
    is_table : bool
        Whether a row has a few numbers with names, as in a catalogue.
    """

    is_table: ClassVar[bool] = False

    def __init__(self, data: DataSection, target_id: np.ndarray, notes: Sequence[str]) -> None:
        self.data, self.target_id, self.notes = data, target_id, list(notes)
        self.names: tuple[str, ...] = ()
        self.side = assign_split(target_id, data.split, self.column)
        if data.max_samples is not None or data.replay is not None:
            trained = np.flatnonzero(self.side == TRAIN)
            self.side[trained] = UNUSED
            trained = replayed(target_id, trained, data)
            self.side[choose_rows(target_id, trained, data.max_samples, data.split.salt)] = TRAIN

    def __len__(self) -> int:
        return len(self.target_id)

    def column(self, name: str) -> np.ndarray:
        """Return a column of one value per row (N,); a DataError if there is none."""
        raise NotImplementedError

    def blocks(self) -> Iterator[tuple[int, Inputs]]:
        """Yield the number of a first row, and the inputs from there on."""
        raise NotImplementedError

    def read(self, rows: np.ndarray) -> Inputs:
        """Return the inputs of these rows (n,), in their order."""
        raise NotImplementedError

    def locate(self, row: int) -> tuple[Path, int]:
        """Return the file that holds a row, and the row in that file."""
        raise NotImplementedError

    def describe(self, row: int) -> str:
        """Return side, identifier, file and row of one row as text."""
        path, number = self.locate(int(row))
        side = SIDE_NAMES.get(int(self.side[row]), "unused")
        return f"{side} object {self.target_id[row]} ({path.name} row {number})"

    def pair(self, first: int, second: int) -> str:
        """Return two rows as text."""
        return f"{self.describe(first)} = {self.describe(second)}"

    def close(self) -> None:
        """Close the files."""


class SampleRows(Rows):
    """Rows of spectra, images, light curves, or a kind of the user's own.

    Parameters
    ----------
    samples : Samples
    data : DataSection
    kind : str
    """

    def __init__(self, samples: Any, data: DataSection, kind: str) -> None:
        self._samples, self._kind = samples, kind
        super().__init__(data, samples.target_id, samples.notes)
        self.names = tuple(getattr(samples, "feature_names", ()))
        facts = samples.read(np.arange(min(1, len(samples)), dtype=np.int64))
        row_bytes = max(1, sum(each.numel() * each.element_size() for each in facts.everything()))
        self._step = int(np.clip(_BLOCK_BYTES // row_bytes, 16, 65536))

    def column(self, name: str) -> np.ndarray:
        return self._samples.column(name)

    def blocks(self) -> Iterator[tuple[int, Inputs]]:
        for start in range(0, len(self), self._step):
            yield start, self.read(np.arange(start, min(len(self), start + self._step)))

    def read(self, rows: np.ndarray) -> Inputs:
        return inputs_of(self._kind, self._samples.read(rows.astype(np.int64)))

    def locate(self, row: int) -> tuple[Path, int]:
        return self._samples.locate(row)

    def close(self) -> None:
        self._samples.close()


class TableRows(Rows):
    """Rows of a catalogue, of which a block is in memory.

    Parameters
    ----------
    tables : sequence of Table
    data : CatalogueSection
    notes : sequence of str
    """

    is_table = True

    def __init__(self, tables: Sequence[Table], data: Any, notes: Sequence[str]) -> None:
        from hpctrain.kinds.catalogue.inputs import ids_of_tables, read_inputs

        self._tables, self._read_inputs = list(tables), read_inputs
        self._starts = np.cumsum([0, *(table.num_rows for table in tables)])
        problems: list[str] = []
        target_id, more = ids_of_tables(tables, data, problems)
        if problems:
            raise DataError("\n".join(problems))
        super().__init__(data, target_id, [*notes, *more])
        self.names = read_inputs(tables[0].between(0, min(1, tables[0].num_rows)), data)[0]

    def column(self, name: str) -> np.ndarray:
        parts = [table.column(name) for table in self._tables]
        if len({part.dtype.kind == "O" for part in parts}) > 1:
            raise DataError(f"{self._tables[0].path}: {name}: holds texts in some files and numbers in others")
        return np.concatenate(parts)

    def blocks(self) -> Iterator[tuple[int, Inputs]]:
        step = int(np.clip(_BLOCK_BYTES // (4 * len(self.names)), 1024, 1 << 18))
        for first, table in zip(self._starts.tolist(), self._tables, strict=False):
            for start in range(0, table.num_rows, step):
                yield first + start, self._inputs(table.between(start, start + step))

    def read(self, rows: np.ndarray) -> Inputs:
        unique, back = np.unique(rows, return_inverse=True)
        found = np.full((len(unique), len(self.names)), np.nan, np.float32)
        for first, table in zip(self._starts.tolist(), self._tables, strict=False):
            here = np.flatnonzero((unique >= first) & (unique < first + table.num_rows))
            if not len(here):
                continue
            own = unique[here] - first
            if table.rows is None:
                found[here] = self._read_inputs(table.only(own), self.data)[1]
            else:  # a table of some rows of a file has few enough to be read as a whole
                found[here] = self._read_inputs(table, self.data)[1][own]
        return of_table(found[back])

    def locate(self, row: int) -> tuple[Path, int]:
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        table, own = self._tables[number], row - int(self._starts[number])
        return table.path, own if table.rows is None else int(table.rows[own])

    def _inputs(self, table: Table) -> Inputs:
        return of_table(self._read_inputs(table, self.data)[1])


def open_rows(profile: Profile, data: DataSection | None = None) -> Rows:
    """Open the data of a profile for an audit.

    Parameters
    ----------
    profile : Profile
    data : DataSection, optional
        Other files of the same kind.

    Raises
    ------
    DataError
        Files are missing, damaged or do not fit together.
    """
    kind, section = kind_of(profile), data or profile.data
    if kind.name == "catalogue":
        from hpctrain.kinds.catalogue.choose import sampled
        from hpctrain.kinds.catalogue.inputs import open_tables

        tables, notes = sampled(open_tables(section, None), section)
        return TableRows(tables, section, notes)
    if kind.name == "light_curves":  # which points of long curves are left out depends on the identifier
        section = section.model_copy(update={"long": "first"})
    return SampleRows(kind.open(section), section, kind.name)
