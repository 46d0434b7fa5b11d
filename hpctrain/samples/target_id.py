"""Read the object identifier of each row, as an integer, from integers or text in a file. Does not import torch."""

from __future__ import annotations

import hashlib

import h5py
import numpy as np

from hpctrain.errors import DataError


def read_target_id(dataset: h5py.Dataset) -> tuple[np.ndarray, list[str]]:
    """Return ids as int64, and a note if they had to be made from text.

    Raises
    ------
    DataError
        The column holds no ids.
    """
    return ids_of(dataset[...], f"{dataset.file.filename}: {dataset.name.lstrip('/')}")


def ids_of(values: np.ndarray, where: str) -> tuple[np.ndarray, list[str]]:
    """Return ids as int64, and a note if they had to be made from text; `where` names the values in errors.

    Raises
    ------
    DataError
        The values are no ids.
    """
    if values.dtype.kind in "iu":
        return values.astype(np.uint64).view(np.int64) if values.dtype.kind == "u" else values.astype(np.int64), []
    if values.dtype.kind == "f":
        if not np.array_equal(values, np.floor(values)) or np.abs(values).max(initial=0) > 2**53:
            raise DataError(f"{where}: holds fractions or numbers float cannot tell apart; ids are integers or text")
        return values.astype(np.int64), []
    if values.dtype.kind in "SUO":
        texts = [value if isinstance(value, bytes) else str(value).encode() for value in values.tolist()]
        hashed = [int.from_bytes(hashlib.blake2b(text.strip(), digest_size=8).digest(), "little") for text in texts]
        note = f"{where.rpartition(': ')[2]} is text; target_id is its 64-bit BLAKE2b hash"
        return np.array(hashed, dtype=np.uint64).view(np.int64), [note]
    raise DataError(f"{where}: holds {values.dtype}; ids are integers or text")
