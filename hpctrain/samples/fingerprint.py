"""SHA-256 of the columns of a spectra file, stored in the file as attributes.

The hash is that of the decoded values, little-endian, row after row, not of the bytes on disk. So it stays the same
when the file is compressed, repacked or copied, and it can be computed from the values alone::

    hashlib.sha256(values.astype(values.dtype.newbyteorder("<")).tobytes()).hexdigest()

Hashing a file of 200 GB takes minutes, so it is not done at every submit: the program that writes a file hashes the
values as it writes them, and later programs copy the attributes. The modification time of the finished file is stored
too. If it differs now, the file was changed, or copied by a tool that does not keep the time; only reading all of it
(``hpctrain data verify``) can decide.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpctrain.files import creation_time

if TYPE_CHECKING:
    import h5py

HASH_ATTRIBUTE = "sha256"
"""Attribute of a dataset: hexadecimal SHA-256 of its values."""

TIME_ATTRIBUTE = "sha256_mtime_s"
"""Attribute of the file: its modification time [s since 1970] when it was finished."""

AS_WRITTEN = "as written"
CHANGED_SINCE = "recorded, but the file was changed since, or copied without its time"
NOT_HASHED = "not hashed"

_BLOCK_BYTES = 32 * 2**20


class ColumnHash:
    """SHA-256 of a column whose rows are added one block after the other."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, values: np.ndarray) -> None:
        """Add rows of any dtype and byte order."""
        self._hash.update(_canonical(np.asarray(values)))

    def hexdigest(self) -> str:
        """Return the hash of all rows so far."""
        return self._hash.hexdigest()


@dataclass(frozen=True)
class StoredHashes:
    """The hashes that a file stores of its columns.

    Parameters
    ----------
    state : str
        `AS_WRITTEN`, `CHANGED_SINCE` or `NOT_HASHED`, or why the file could not be read.
    columns : dict
        SHA-256 of each dataset.
    """

    state: str
    columns: dict[str, str] = field(default_factory=dict)


def hash_dataset(dataset: h5py.Dataset, on_bytes: Callable[[int], None] | None = None) -> str | None:
    """Return the SHA-256 of a dataset's values, read a block at a time; None for references."""
    import h5py

    if h5py.check_ref_dtype(dataset.dtype) is not None:
        return None
    column = ColumnHash()
    for rows in row_blocks(dataset):
        values = np.asarray(dataset[rows])
        column.update(values)
        if on_bytes is not None:
            on_bytes(values.nbytes)
    return column.hexdigest()


def row_blocks(dataset: h5py.Dataset, block_bytes: int = _BLOCK_BYTES) -> Iterator[Any]:
    """Yield indices that read a dataset in order, a bounded and whole number of chunks at a time."""
    if dataset.shape is None:
        return
    if dataset.shape == ():
        yield ()
        return
    row_bytes = max(1, dataset.dtype.itemsize * int(np.prod(dataset.shape[1:], dtype=np.int64)))
    chunk_rows = dataset.chunks[0] if dataset.chunks else 1
    step = max(1, block_bytes // row_bytes // chunk_rows) * chunk_rows
    for begin in range(0, dataset.shape[0], step):
        yield slice(begin, min(begin + step, dataset.shape[0]))


def write_hashes(file: h5py.File, known: Mapping[str, str] | None = None) -> None:
    """Write the hash of every column of a new file, and the time that :func:`settle_time` will give it.

    Parameters
    ----------
    file : h5py.File
        Complete file, open for writing.
    known : mapping, optional
        Hashes of columns that were computed while they were written; the other columns are read again.
    """
    known = known or {}
    for name, dataset in datasets(file).items():
        found = known.get(name) or hash_dataset(dataset)
        if found is not None:
            dataset.attrs[HASH_ATTRIBUTE] = found
    file.attrs[TIME_ATTRIBUTE] = int(creation_time())


def settle_time(path: Path) -> None:
    """Set the modification time of a finished and closed file to the one that it stores."""
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        whole_s = int(file.attrs[TIME_ATTRIBUTE])
    os.utime(path, (whole_s, whole_s))


def stored_hashes(path: Path) -> StoredHashes:
    """Return the stored hashes of a file without reading its columns; a file without hashes is no error."""
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            named = {name: dataset.attrs.get(HASH_ATTRIBUTE) for name, dataset in datasets(file).items()}
            time_s = file.attrs.get(TIME_ATTRIBUTE)
        columns = {name: value for name, value in named.items() if isinstance(value, str)}
        if not columns:
            return StoredHashes(NOT_HASHED)
        is_same = time_s is not None and os.stat(path).st_mtime_ns == int(time_s) * 10**9
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:  # libhdf5 on damaged files: any of these
        return StoredHashes(f"{NOT_HASHED}: cannot be read ({error})")
    return StoredHashes(AS_WRITTEN if is_same else CHANGED_SINCE, columns)


def datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Return all datasets of a file by their path, links followed once."""
    import h5py

    found: dict[str, h5py.Dataset] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item

    file.visititems(note)
    return found


def _canonical(values: np.ndarray) -> bytes | np.ndarray:
    """Return the bytes to hash: little-endian, without padding; text as UTF-8 and a zero byte."""
    if values.dtype.kind == "O":
        return b"".join(_item_bytes(item) for item in values.reshape(-1))
    if values.dtype.kind == "V" and values.dtype.names:
        from numpy.lib.recfunctions import repack_fields

        values = repack_fields(values, recurse=True)
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).reshape(-1)
    return little.view(np.uint8) if little.size and little.dtype.itemsize else b""


def _item_bytes(item: Any) -> bytes:
    if isinstance(item, bytes):
        return item + b"\0"
    if isinstance(item, str):
        return item.encode() + b"\0"
    packed = np.asarray(item)  # a row of variable length
    return len(packed).to_bytes(8, "little") + bytes(_canonical(packed))
