"""Which of two versions an object goes to: a share of all objects, by a hash of the object's id."""

from __future__ import annotations

import numpy as np

from hpctrain.samples.hashing import hash_ids, unit_interval


def goes_to_b(target_id: np.ndarray, share: float, name: str) -> np.ndarray:
    """Return which objects the second of two versions gets, such as the candidate beside the champion.

    An object goes to the same version always and everywhere, and a larger share only adds objects to the second one.
    The hash is another one than that of splits, so both versions see objects of every split.

    Parameters
    ----------
    target_id : ndarray, shape (N,), int64
        Identifiers of the objects.
    share : float
        Share of the objects for the second version, 0 to 1.
    name : str
        Name of the model: two models choose independently.

    Returns
    -------
    ndarray, shape (N,), bool
    """
    return unit_interval(hash_ids(np.asarray(target_id, dtype=np.int64), f"registry/{name}")) < share
