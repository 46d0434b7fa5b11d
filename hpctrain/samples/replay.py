"""Train again on a share of the objects that an earlier model has seen. The result depends on the objects alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpctrain.errors import DataError
from hpctrain.samples.hashing import hash_ids, unit_interval

if TYPE_CHECKING:
    from hpctrain.profile.sections.data import DataSection


def replayed(target_id: np.ndarray, rows: np.ndarray, data: DataSection) -> np.ndarray:
    """Return the training rows without those of old objects that are not replayed.

    Old are the objects of ``data.replay.seen``. Whether one is replayed is decided by the hash of its identifier, so a
    larger share keeps all objects of a smaller one, on every machine and in every file.

    Parameters
    ----------
    target_id : ndarray, shape (N,), int64
        Identifiers of the whole set.
    rows : ndarray, shape (n,), int64
        Training rows.
    data : DataSection

    Returns
    -------
    ndarray, shape (m,), int64
        With m at most n.

    Raises
    ------
    DataError
        The file of identifiers is missing or damaged.
    """
    if data.replay is None or not len(rows):
        return rows
    own = target_id[rows]
    place = unit_interval(hash_ids(own, f"{data.split.salt}/replay"))
    return rows[(place < data.replay.share) | ~np.isin(own, read_objects(data.replay.seen))]


def read_objects(path: str | Path) -> np.ndarray:
    """Return the identifiers in a file of numpy, shape (K,), int64.

    Raises
    ------
    DataError
        The file is missing, damaged, or holds something else.
    """
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(
            f"{path}: cannot be read ({reason}); data.replay.seen needs an .npy file of target_id"
        ) from error
    if not isinstance(found, np.ndarray) or found.ndim != 1 or found.dtype != np.int64:
        raise DataError(f"{path}: holds no list of int64; data.replay.seen needs an .npy file of target_id")
    return found
