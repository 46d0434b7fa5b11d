"""Rows of equal keys on different sides. No torch here."""

from __future__ import annotations

import numpy as np

from hpctrain.samples.split import TEST, TRAIN, VALIDATION
from hpctrain.validation.audit.spill import groups

LARGEST_GROUP = 200
"""Rows of one key beyond which a key says nothing about single objects."""


def held_out_twins(key: np.ndarray, row: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Return held-out rows with a row of the same key on another side: in training, or else in validation.

    Parameters
    ----------
    key : ndarray, shape (n,)
        Sorted.
    row : ndarray, shape (n,), int64
    side : ndarray, shape (n,), uint8

    Returns
    -------
    ndarray, shape (p, 2), int64
        Each held-out row once, with the first such row.
    """
    begins = groups(key)
    if len(begins) < 2:
        return np.zeros((0, 2), dtype=np.int64)
    last = np.iinfo(np.int64).max
    in_train = np.minimum.reduceat(np.where(side == TRAIN, row, last), begins[:-1])
    in_validation = np.minimum.reduceat(np.where(side == VALIDATION, row, last), begins[:-1])
    number = np.repeat(np.arange(len(begins) - 1), np.diff(begins))
    partner = in_train[number]
    partner = np.where((partner == last) & (side == TEST), in_validation[number], partner)
    wanted = (side != TRAIN) & (partner != last)
    return np.stack([row[wanted], partner[wanted]], axis=1)


def all_twins(key: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Return all pairs of places with the same key and different sides, shape (p, 2), int64.

    Parameters
    ----------
    key : ndarray, shape (n,)
        Sorted. Groups of more than `LARGEST_GROUP` are left out.
    side : ndarray, shape (n,), uint8
    """
    begins = groups(key)
    sizes = np.diff(begins)
    is_fit = (sizes > 1) & (sizes <= LARGEST_GROUP)
    at = np.flatnonzero(np.repeat(is_fit, sizes)) if len(sizes) else np.zeros(0, dtype=np.int64)
    found = []
    for step in range(1, LARGEST_GROUP):
        at = at[at + step < len(key)]
        at = at[key[at + step] == key[at]]
        if not len(at):
            break
        differs = at[side[at + step] != side[at]]
        found.append(np.stack([differs + step, differs], axis=1))
    return np.concatenate(found) if found else np.zeros((0, 2), dtype=np.int64)
