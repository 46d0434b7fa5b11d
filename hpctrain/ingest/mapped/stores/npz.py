"""Archives of numpy arrays (.npz), without pickles."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.mapped.stores.store import Item, Store


class NpzStore(Store):
    """An opened .npz file; arrays of Python objects, which are pickles, are not read.

    Parameters
    ----------
    path : Path

    Raises
    ------
    DataError
        The file is empty or not an archive of arrays.
    """

    kind = "npz"

    def __init__(self, path: Path) -> None:
        super().__init__()
        if path.stat().st_size == 0:
            raise DataError("is empty")
        try:
            self._file = np.load(path, allow_pickle=False)
        except (ValueError, zipfile.BadZipFile) as error:
            raise DataError(f"is not an archive of numpy arrays: {error}") from error
        if not isinstance(self._file, np.lib.npyio.NpzFile):
            raise DataError("holds a single array without a name; save it with numpy.savez(FILE, flux=..., ...)")
        self._arrays: dict[str, np.ndarray] = {}
        for name in self._file.files:
            try:
                array = self._file[name]
            except ValueError:
                continue
            self._arrays[name] = array
            self.items[name] = Item(name, array.shape, place=name)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, item: Item, rows: slice | None = None) -> np.ndarray:
        """Return an array or some of its rows."""
        values = self._arrays[item.place]
        return values if rows is None else values[rows]
