"""Read any dataset of a file block by block without conversion, with our own decoders if it is a table of numbers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np

from hpctrain.errors import DataError
from hpctrain.samples.columns import RowReader
from hpctrain.samples.fingerprint import ColumnHash, row_blocks
from hpctrain.samples.library import LibraryFile, open_library_file
from hpctrain.samples.mapped import MappedFile


def stored_blocks(path: Path, name: str) -> Iterator[np.ndarray]:
    """Yield all rows of a dataset.

    Parameters
    ----------
    path : Path
    name : str
        Name of the dataset.

    Yields
    ------
    ndarray
        Rows in the dataset's own dtype.

    Raises
    ------
    DataError
        The dataset is damaged, or compressed with a filter that this machine lacks.
    """
    with open_library_file(path) as library:
        dataset = library[name]
        if dataset.ndim == 2 and dataset.dtype.kind in "fiub" and dataset.size:
            yield from _table_blocks(path, dataset)
            return
        for rows in row_blocks(dataset):
            try:
                yield np.asarray(dataset[rows])
            except (OSError, RuntimeError) as error:
                raise DataError(
                    f"{path}: {name}: cannot be read ({error}); the file is damaged, or packed with a filter this "
                    "machine lacks (pip install hdf5plugin)"
                ) from error


def hash_stored(path: Path, name: str) -> str:
    """Return the SHA-256 of a dataset; raise the errors of :func:`stored_blocks`."""
    column = ColumnHash()
    for values in stored_blocks(path, name):
        column.update(values)
    return column.hexdigest()


def _table_blocks(path: Path, dataset: h5py.Dataset) -> Iterator[np.ndarray]:
    reader = RowReader(LibraryFile(path), MappedFile(path), dataset)
    blocks = [np.arange(rows.start, rows.stop) for rows in row_blocks(dataset)]
    reader.keep_rows(2 * len(blocks[0]))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="decode-chunks") as pool:
        for number, rows in enumerate(blocks):
            values = reader.take_stored(rows, pool)
            if number + 1 < len(blocks):
                reader.prepare(blocks[number + 1], pool, is_cold=True)
            yield values
