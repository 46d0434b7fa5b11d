"""Find one sample of a file by the identifier of its object or by its row."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hpctrain.errors import DataError


def row_of(path: Path, target_id: np.ndarray, wanted_id: int | None, row: int | None) -> int:
    """Return the row of a sample.

    Parameters
    ----------
    path : Path
        File, for the message.
    target_id : ndarray, shape (N,), int64
    wanted_id : int or None
        Identifier of the object; of several rows with it the first one counts.
    row : int or None
        Its row, if no identifier is given; without both the first one.

    Raises
    ------
    DataError
        There is no such sample.
    """
    if wanted_id is not None:
        found = np.flatnonzero(target_id == wanted_id)
        if len(found):
            return int(found[0])
        some = ", ".join(map(str, target_id[:3].tolist()))
        raise DataError(f"{path}: holds no object {wanted_id} among {len(target_id):,}; the first ones are {some}")
    row = row or 0
    if not 0 <= row < len(target_id):
        raise DataError(f"{path}: holds no row {row}; the rows are 0 to {len(target_id) - 1:,}")
    return row
