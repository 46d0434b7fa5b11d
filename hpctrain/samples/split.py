"""Split objects into training, validation and test, by default by a hash of the object id.

So all rows of an object are on the same side in any file, every machine gives the same split, and spectra that are
added later never move an existing one. Every object has a place in [0, 1); the sides and the folds are intervals of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from hpctrain.errors import DataError
from hpctrain.samples.hashing import hash_ids, unit_interval
from hpctrain.samples.sky import sky_cells
from hpctrain.samples.target_id import ids_of

if TYPE_CHECKING:
    from hpctrain.profile.sections.data import SplitSection

TRAIN = 0
VALIDATION = 1
TEST = 2

NO_FOLD = -1
MOST_VALUES = 20
"""A column of numbers with more different values than this is stratified by tenths."""
_NUM_STRATA = 10


def assign_split(
    target_id: np.ndarray, split: SplitSection, column: Callable[[str], np.ndarray] | None = None
) -> np.ndarray:
    """Return the side of each row.

    Parameters
    ----------
    target_id : ndarray, shape (N,), int64
        Identifier of the object of each row.
    split : SplitSection
        Shares of objects, folds, and the salt. Without folds validation takes the lower end of the places and test the
        upper one, so changing one share never moves an object into or out of the other.
    column : callable, optional
        Returns a column (N,) of the files by its name; only a split by the object id alone needs none.

    Returns
    -------
    ndarray, shape (N,), uint8
        `TRAIN`, `VALIDATION` or `TEST`.

    Raises
    ------
    DataError
        A column is absent, or a row has no value that decides its side.
    SiteError
        The package astropy-healpix is missing.
    """
    place = places(target_id, split, column)
    side = np.full(place.shape, TRAIN, dtype=np.uint8)
    side[place >= 1.0 - split.test] = TEST
    fold = _folds(place, split)
    if split.test_fold is not None:
        side[fold == split.test_fold] = TEST
    if split.fold is not None:
        side[fold == split.fold] = VALIDATION
    elif split.by == "time":
        side[(place >= 1.0 - split.test - split.validation) & (side == TRAIN)] = VALIDATION
    elif split.folds is None:
        side[place < split.validation] = VALIDATION
    else:
        # Within each fold the same share, so that no fold is lost as a whole.
        within = place / (1.0 - split.test) * split.folds - fold
        side[(side == TRAIN) & (within < split.validation)] = VALIDATION
    return side


def assign_folds(
    target_id: np.ndarray, split: SplitSection, column: Callable[[str], np.ndarray] | None = None
) -> np.ndarray:
    """Return the fold of each row, (N,), int64, from 0; `NO_FOLD` for rows of ``data.split.test``.

    The arguments and exceptions are those of :func:`assign_split`.
    """
    return _folds(places(target_id, split, column), split)


def _folds(place: np.ndarray, split: SplitSection) -> np.ndarray:
    if split.folds is None:
        return np.full(place.shape, NO_FOLD)
    fold = np.minimum((place / (1.0 - split.test) * split.folds).astype(np.int64), split.folds - 1)
    return np.where(place >= 1.0 - split.test, NO_FOLD, fold)


def places(target_id: np.ndarray, split: SplitSection, column: Callable[[str], np.ndarray] | None = None) -> np.ndarray:
    """Return the place of each row in [0, 1), shape (N,), float64; rows that stay together have the same.

    The arguments and exceptions are those of :func:`assign_split`.
    """
    if split.by == "object" and split.stratify is None:
        return unit_interval(hash_ids(target_id, split.salt))
    if column is None:
        raise ValueError(f"a split by {split.by} reads columns")
    objects, first, of_row = np.unique(target_id, return_index=True, return_inverse=True)
    if split.by == "object":
        found = _stratified(objects, _values(column, split.stratify)[first], split.salt)
    elif split.by == "sky":
        position = _numbers(column, split.ra)[first], _numbers(column, split.dec)[first]
        cells = sky_cells(*position, split.nside, "data.split.by: sky", split.dec)
        found = unit_interval(hash_ids(cells, f"{split.salt}/sky"))
    elif split.by == "field":
        fields, _ = ids_of(_values(column, split.column)[first], str(split.column))
        found = unit_interval(hash_ids(fields, f"{split.salt}/field"))
    else:
        found = _ranks(_numbers(column, split.column)[first], hash_ids(objects, split.salt))
    return found[of_row.reshape(-1)]


def _stratified(objects: np.ndarray, values: np.ndarray, salt: str) -> np.ndarray:
    """Return the place of each object among those of its stratum, in the order of their hashes."""
    hashes = hash_ids(objects, salt)
    _, stratum = np.unique(_strata(values), return_inverse=True)
    order = np.lexsort((hashes, stratum))
    begins = np.searchsorted(stratum[order], stratum[order], side="left")
    ends = np.searchsorted(stratum[order], stratum[order], side="right")
    # The own hash places an object within its rank, so that the only one of a stratum can be on any side.
    place = np.empty(len(objects))
    place[order] = (np.arange(len(order)) - begins + unit_interval(hashes)[order]) / (ends - begins)
    return np.minimum(place, np.nextafter(1.0, 0.0))


def _strata(values: np.ndarray) -> np.ndarray:
    """Return what names the stratum of each value; a missing number has a stratum of its own."""
    if values.dtype.kind not in "fiu" or len(np.unique(values)) <= MOST_VALUES:
        return values.astype(str) if values.dtype.kind == "O" else values
    values = values.astype(np.float64)
    finite = np.isfinite(values)
    edges = np.quantile(values[finite], np.arange(1, _NUM_STRATA) / _NUM_STRATA) if finite.any() else []
    return np.where(finite, np.searchsorted(edges, values, side="right"), NO_FOLD)


def _ranks(values: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Return the share of objects that come before each one; hashes decide between equal values."""
    place = np.empty(len(values))
    place[np.lexsort((hashes, values))] = (np.arange(len(values)) + 0.5) / max(1, len(values))
    return place


def _numbers(column: Callable[[str], np.ndarray], name: str | None) -> np.ndarray:
    values = _values(column, name)
    if values.dtype.kind not in "fiu":
        raise DataError(f"{name}: holds texts, not numbers; data.split needs numbers there")
    values = values.astype(np.float64)
    _refuse_missing(~np.isfinite(values), name)
    return values


def _values(column: Callable[[str], np.ndarray], name: str | None) -> np.ndarray:
    if name is None:
        raise ValueError("the split names no column")
    return column(name)


def _refuse_missing(is_missing: np.ndarray, name: str | None) -> None:
    if number := int(np.count_nonzero(is_missing)):
        raise DataError(
            f"{name}: {number:,} of {len(is_missing):,} rows have no number there (first: row "
            f"{int(np.argmax(is_missing)):,}), so data.split cannot tell their side; fill them, or split "
            "by another column"
        )


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
