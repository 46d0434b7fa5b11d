"""Two halves of the held-out objects: one fits, the other judges, and then the other way round. R rows."""

from __future__ import annotations

import numpy as np

from hpctrain.samples.hashing import hash_ids

SALT = "hpctrain/uncertainty"


def second_half(target_id: np.ndarray) -> np.ndarray:
    """Return which rows belong to the second half, (R,), bool.

    All rows of an object are in the same half, which depends on nothing but its identifier.

    Parameters
    ----------
    target_id : ndarray, shape (R,), int64
    """
    return (hash_ids(target_id, SALT) & np.uint64(1)).astype(bool)


def one_row_per_object(target_id: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return one of the rows of each object, by a hash that knows nothing of the predictions.

    A conformal threshold needs independent objects; several rows of one would count as several.

    Parameters
    ----------
    target_id : ndarray, shape (R,), int64
    rows : ndarray, shape (n,), int64
        The rows to choose from.

    Returns
    -------
    ndarray, shape (number of objects,), int64
        In rising order.
    """
    order = rows[np.argsort(hash_ids(rows, f"{SALT}/row"), kind="stable")]
    _, first = np.unique(target_id[order], return_index=True)
    return np.sort(order[first])
