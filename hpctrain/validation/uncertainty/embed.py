"""Vectors of samples, in which similar ones are near: what the last layer of a network reads, latents, or the inputs of
trees. Only this module of the folder needs the model itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpctrain.rundir import RunDir
from hpctrain.samples.hashing import hash_ids
from hpctrain.samples.split import TRAIN, assign_split

MOST_TRAINING = 20_000
"""Largest number of training samples that others are compared with; of more, those with the lowest hashes."""
MOST_HELD_OUT = 20_000
SALT = "hpctrain/outliers"
_BATCH = 256


def embed_run(
    run: RunDir, card: Mapping[str, Any], row: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return vectors of training samples and of held-out samples of a run; None if its family has none.

    Parameters
    ----------
    run : RunDir
    card : mapping
        Of its model.
    row : ndarray, shape (R,), int64
        Rows of the held-out samples in the data files.

    Returns
    -------
    training : ndarray, shape (n, F), float64
    held_out : ndarray, shape (m, F), float64
    chosen : ndarray, shape (m,), int64
        Places of these samples among the R.

    Raises
    ------
    DataError
        The data files are gone, or are not like those of the training.
    CheckpointError
        The model is damaged.
    """
    from hpctrain.families.predictions import open_for
    from hpctrain.families.store import load_model
    from hpctrain.profile.load import load_profile

    data = load_profile(run.profile).data
    model, card = load_model(run.path)
    samples = open_for(run.path, card, list(data.files))
    side = assign_split(samples.target_id, data.split, samples.column)
    known = _some(np.flatnonzero(side == TRAIN), MOST_TRAINING)
    chosen = _some(np.arange(len(row)), MOST_HELD_OUT)
    first = _embed(model, card, samples, known)
    if first is None:
        return None
    held_out = _embed(model, card, samples, row[chosen])
    assert held_out is not None
    return first, held_out, chosen


def _some(rows: np.ndarray, most: int) -> np.ndarray:
    if len(rows) <= most:
        return rows
    return np.sort(rows[np.argsort(hash_ids(rows, SALT), kind="stable")[:most]])


def _embed(model: Any, card: Mapping[str, Any], samples: Any, rows: np.ndarray) -> np.ndarray | None:
    from hpctrain.profile.lookup import find_family
    from hpctrain.samples.loader import padded_requests, read_ahead
    from hpctrain.samples.protocols import PADDING_ROW

    family = find_family(card["family"])
    parts = []
    for batch in read_ahead(samples, padded_requests(rows, _BATCH), 2, 4):
        found = family.embedding(model, card, batch)
        if found is None:
            return None
        parts.append(found[batch.row.numpy() != PADDING_ROW].astype(np.float64))
    return np.concatenate(parts) if parts else None
