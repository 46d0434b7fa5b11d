"""Repeat training rows whose value of a column is rare. The result depends on the rows and their objects alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hpctrain.errors import DataError
from hpctrain.samples.hashing import hash_ids, unit_interval
from hpctrain.samples.labels import MISSING_CODE

if TYPE_CHECKING:
    from hpctrain.profile.sections.data import DataSection
    from hpctrain.samples.protocols import Samples

MOST_VALUES = 1000
"""A column with more different values is no class."""


def oversampled(samples: Samples, rows: np.ndarray, data: DataSection) -> np.ndarray:
    """Return training rows, sorted, with those repeated whose value of ``data.oversample.column`` is rare.

    A row of a value that is k times as rare as the most common one is there k times, at most ``most`` times; of a
    fraction, the hash of the object decides. So an epoch uses each row that often, in an order that depends on the seed
    alone, and a resumed run goes on exactly.

    Parameters
    ----------
    samples : Samples
    rows : ndarray, shape (n,), int64
        Training rows.
    data : DataSection

    Raises
    ------
    DataError
        The column is absent, or is no class.
    """
    if data.oversample is None or not len(rows):
        return rows
    name = data.oversample.column
    column = np.asarray(samples.column(name))[rows]
    if column.dtype.kind == "f" and (np.isfinite(column) & (column != np.round(column))).any():
        raise DataError(f"{name}: holds fractions; data.oversample needs classes, as texts or whole numbers")
    values, of_row, counts = np.unique(
        column.astype(str) if column.dtype.kind == "O" else column, return_inverse=True, return_counts=True
    )
    if len(values) > MOST_VALUES:
        raise DataError(f"{name}: has {len(values):,} different values; data.oversample needs at most {MOST_VALUES:,}")
    known = _is_known(values)
    common = counts[known].max(initial=1)
    times = np.where(known, np.minimum(common / counts, data.oversample.most), 1.0)[of_row.reshape(-1)]
    whole = np.floor(times)
    chance = unit_interval(hash_ids(samples.target_id[rows], f"{data.split.salt}/oversample"))
    return np.repeat(rows, (whole + (chance < times - whole)).astype(np.int64))


def _is_known(values: np.ndarray) -> np.ndarray:
    """Return which values are classes: not an empty text, NaN, or -1 in integers."""
    if values.dtype.kind == "f":
        return np.isfinite(values)
    return values != MISSING_CODE if values.dtype.kind in "iu" else values != values.dtype.type()
