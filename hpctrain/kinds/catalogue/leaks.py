"""Columns that tell a model which object it sees, rather than what the object is like. No torch here."""

from __future__ import annotations

import re

import numpy as np

ID_NAMES = re.compile(
    r"(^|[_/])(id|ids|index|idx|row|rowid|name|plate|plateid|mjd|fiber|fiberid|run|rerun|camcol|field|tile|tileid"
    r"|healpix|petal)$|(obj|spec|target|source|star|photo|best|bestobj|specobj|gaia|fiber|field|run|plate|tile)_?id$",
    re.IGNORECASE,
)
"""Names of columns that identify an object or its observation."""

FEWEST_TO_JUDGE = 50
"""Smallest number of values from which a column is called an identifier."""


def has_name_of_id(name: str) -> bool:
    """Return whether a column is called like an identifier."""
    return ID_NAMES.search(name) is not None


def looks_like_id(values: np.ndarray) -> bool:
    """Return whether a column (N,) has whole numbers that are all different, as identifiers and row numbers have."""
    known = values[np.isfinite(values)].astype(np.float64)
    if len(known) < FEWEST_TO_JUDGE or not np.array_equal(known, np.round(known)):
        return False
    return len(np.unique(known)) == len(known)
