"""Split objects into training, validation and test by a hash of the object id.

So all rows of an object are on the same side in any file, every machine gives the same split, and spectra that are
added later never move an existing one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hpctrain.samples.hashing import hash_ids, unit_interval

if TYPE_CHECKING:
    from hpctrain.profile.sections.data import SplitSection

TRAIN = 0
VALIDATION = 1
TEST = 2


def assign_split(target_id: np.ndarray, split: SplitSection) -> np.ndarray:
    """Return the side of each row.

    Parameters
    ----------
    target_id : ndarray, shape (N,), int64
        Identifier of the object of each row.
    split : SplitSection
        Shares of objects and the salt. Validation takes the lower end of the hash and test the upper one, so changing
        one share never moves an object into or out of the other.

    Returns
    -------
    ndarray, shape (N,), uint8
        `TRAIN`, `VALIDATION` or `TEST`.
    """
    place = unit_interval(hash_ids(target_id, split.salt))
    side = np.full(place.shape, TRAIN, dtype=np.uint8)
    side[place >= 1.0 - split.test] = TEST
    side[place < split.validation] = VALIDATION
    return side


def choose_rows(target_id: np.ndarray, rows: np.ndarray, max_spectra: int | None, salt: str) -> np.ndarray:
    """Return at most `max_spectra` of `rows`, chosen by the hash of the object id.

    Parameters
    ----------
    target_id : ndarray, shape (N,), int64
        Identifiers of the whole set.
    rows : ndarray, shape (M,), int64
        Rows to choose from, increasing.
    max_spectra : int or None
        ``data.max_spectra``; None keeps all.
    salt : str
        ``data.split.salt``.

    Returns
    -------
    ndarray, shape (min(M, max_spectra),), int64
        Rows, increasing. A larger `max_spectra` gives all rows of a smaller one and more.
    """
    if max_spectra is None or max_spectra >= len(rows):
        return rows
    place = hash_ids(target_id[rows], salt + "/choose")
    return np.sort(rows[np.argsort(place, kind="stable")[:max_spectra]])
