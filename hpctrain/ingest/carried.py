"""Columns that a user carries along, such as temperatures or types: any name, numbers or text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class CarriedColumns:
    """Collects columns whose names and types show only when files are read.

    Parameters
    ----------
    meanings : dict of (str, str)
        Unit and description of a column, by its name.
    """

    meanings: dict[str, tuple[str, str]] = field(default_factory=dict)
    _parts: dict[str, list[np.ndarray | int]] = field(default_factory=dict)
    _num_rows: int = 0

    def append(self, columns: dict[str, np.ndarray], num_rows: int) -> None:
        """Add rows; a column that these rows do not have is filled when it is written.

        Parameters
        ----------
        columns : dict of ndarray, shape (num_rows,)
        num_rows : int
        """
        for name, values in columns.items():
            if name not in self._parts:
                self._parts[name] = [self._num_rows] if self._num_rows else []
            self._parts[name].append(values)
        for name, parts in self._parts.items():
            if name not in columns:
                parts.append(num_rows)
        self._num_rows += num_rows

    def column(self, name: str) -> np.ndarray:
        """Return a column of all rows: missing numbers are NaN, missing text is empty."""
        parts = self._parts[name]
        known = [part for part in parts if isinstance(part, np.ndarray)]
        is_text = any(part.dtype.kind == "S" for part in known)
        if is_text:
            return np.concatenate([_text(part) for part in parts])
        has_gaps = len(known) < len(parts)
        filled = [np.full(part, np.nan) if isinstance(part, int) else part for part in parts]
        return np.concatenate(filled).astype(np.float64) if has_gaps else np.concatenate(filled)

    def write(self, file: Any) -> None:
        """Write all columns into an open HDF5 file."""
        for name in self._parts:
            dataset = file.create_dataset(name, data=self.column(name))
            unit, description = self.meanings.get(name, ("", ""))
            if description:
                dataset.attrs["description"] = description
            if unit:
                dataset.attrs["unit"] = unit


def _text(part: np.ndarray | int) -> np.ndarray:
    if isinstance(part, int):
        return np.full(part, b"")
    # A name that is a number in one file and text in another is text.
    return part if part.dtype.kind == "S" else part.astype("S")
