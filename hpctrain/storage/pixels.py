"""Read flux and ivar of files in order, block by block, with the reader of the trainer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpctrain.errors import DataError
from hpctrain.kinds.spectra.files import SpectraFile
from hpctrain.kinds.spectra.section import ColumnsSection
from hpctrain.samples.columns import RowReader
from hpctrain.samples.fingerprint import ColumnHash
from hpctrain.storage.opening import own_readers


@dataclass
class PixelBlock:
    """Some consecutive rows of a set."""

    begin: int
    """Position in the set of the first row of this block."""
    flux: np.ndarray
    ivar: np.ndarray


def read_blocks(
    files: list[SpectraFile],
    columns: ColumnsSection,
    rows_at_once: int,
    expected: Mapping[Path, Mapping[str, str]],
) -> Iterator[PixelBlock]:
    """Yield all rows of all files.

    Parameters
    ----------
    files : list of SpectraFile
    columns : ColumnsSection
    rows_at_once : int
        Rows of a block; the last block of a file may have fewer.
    expected : mapping
        SHA-256 of `flux` and `ivar` that a file stores; the function checks them after the last row of the file.

    Yields
    ------
    PixelBlock

    Raises
    ------
    DataError
        A file is damaged, or its values differ from its own SHA-256.
    """
    start = 0
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="decode-chunks") as pool:
        for file in files:
            readers = own_readers(file, columns)
            readers.pop("mask", None)
            for reader in readers.values():
                reader.keep_rows(2 * rows_at_once)
            known = expected.get(file.path, {})
            hashes = {name: ColumnHash() for name in readers if name in known}
            for begin in range(0, len(file), rows_at_once):
                rows = np.arange(begin, min(begin + rows_at_once, len(file)))
                ahead = np.arange(rows[-1] + 1, min(rows[-1] + 1 + rows_at_once, len(file)))
                values = {name: _read(reader, rows, ahead, pool) for name, reader in readers.items()}
                for name, column in hashes.items():
                    column.update(_stored(readers[name], rows, values[name], pool))
                yield PixelBlock(start + begin, values["flux"], values["ivar"])
            for name, column in hashes.items():
                if column.hexdigest() != known[name]:
                    raise DataError(
                        f"{file.path}: {name} differs from the SHA-256 in the file: changed or damaged since it "
                        "was written; --ignore-hashes uses it anyway"
                    )
            start += len(file)


def _read(reader: RowReader, rows: np.ndarray, ahead: np.ndarray, pool: Executor) -> np.ndarray:
    values = np.empty((len(rows), reader.shape[1]), reader.out_dtype)
    reader.take(rows, values, pool)
    if len(ahead):
        reader.prepare(ahead, pool, is_cold=True)
    return values


def _stored(reader: RowReader, rows: np.ndarray, values: np.ndarray, pool: Executor) -> np.ndarray:
    """Return rows in the dtype of the file; unconverted rows already have it."""
    return values if reader.addresses(rows[:1]) is not None else reader.take_stored(rows, pool)
