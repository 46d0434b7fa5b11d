"""Choose a few hundred rows to look at before the whole is read."""

from __future__ import annotations

import numpy as np

NUM_INSPECTED = 256
NEIGHBOURS = 16
"""Number of neighbouring rows that are read together, so that few chunks of a compressed file are decoded."""


def choose_sample(rows: np.ndarray, count: int = NUM_INSPECTED) -> np.ndarray:
    """Return at most `count` of the rows, in evenly spread runs of neighbours; the same each time."""
    if len(rows) <= count:
        return rows
    begins = np.linspace(0, len(rows) - NEIGHBOURS, count // NEIGHBOURS).astype(np.int64)
    return rows[np.unique((begins[:, None] + np.arange(NEIGHBOURS)).reshape(-1))]
