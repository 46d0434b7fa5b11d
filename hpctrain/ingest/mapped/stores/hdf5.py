"""HDF5 files: datasets by path or by name, attributes as a header."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.mapped.stores.store import Item, Store


class Hdf5Store(Store):
    """An opened HDF5 file.

    Datasets are named by their path; the last part of it is enough if no other dataset has the same. Attributes of the
    file are its header, those of a dataset are ``dataset@attribute``.

    Parameters
    ----------
    path : Path

    Raises
    ------
    DataError
        The file is empty or not HDF5.
    """

    kind = "HDF5"

    def __init__(self, path: Path) -> None:
        import h5py

        super().__init__()
        if path.stat().st_size == 0:
            raise DataError("is empty")
        if not h5py.is_hdf5(path):
            raise DataError("is not an HDF5 file")
        self._file = h5py.File(path, "r")
        self.header = {key: _plain(value) for key, value in self._file.attrs.items()}
        self._file.visititems(self._add)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, item: Item, rows: slice | None = None) -> np.ndarray:
        """Return the values of a dataset; text as bytes."""
        import h5py

        dataset = self._file[item.place]
        values = dataset[...] if rows is None else dataset[rows]
        if h5py.check_string_dtype(dataset.dtype) is not None:
            # Text of any length comes as objects; numpy finds the width.
            return np.asarray(values, dtype="S") if np.ndim(values) else np.array(values).astype("S")
        return np.asarray(values)

    def _add(self, path: str, thing: Any) -> None:
        import h5py

        if not isinstance(thing, h5py.Dataset) or thing.shape is None or thing.dtype.names:
            return
        is_text = h5py.check_string_dtype(thing.dtype) is not None
        ragged = h5py.check_vlen_dtype(thing.dtype) is not None and not is_text
        unit = next((_plain(thing.attrs[key]) for key in ("unit", "units", "UNIT", "UNITS") if key in thing.attrs), "")
        self.items[path] = Item(path, tuple(thing.shape), str(unit).strip(), ragged, place=path)
        for key, value in thing.attrs.items():
            self.header.setdefault(f"{path}@{key}", _plain(value))

    def _find_item(self, name: str) -> Item | None:
        found = super()._find_item(name.strip("/"))
        if found is not None:
            return found
        short = [item for path, item in self.items.items() if path.rpartition("/")[2].lower() == name.lower()]
        return short[0] if len(short) == 1 else None


def _plain(value: Any) -> Any:
    """Return an attribute as text or a number."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, np.ndarray) and value.size == 1:
        return _plain(value.reshape(-1)[0])
    return value.item() if isinstance(value, np.generic) else value
