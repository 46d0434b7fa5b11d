"""Target ids: all rows of one object on the sky have the same number, so a split by id keeps them together.

DESI has TARGETID. SDSS numbers spectra (SPECOBJID), not objects, and THING_ID exists in BOSS files only and is -1 for
some of them; so SDSS objects are recognised by position. The id reads as the position: 112047_130352 is RA 112.047,
Dec 130.352 - 90 = 40.352.
"""

from __future__ import annotations

import hashlib

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

MATCH_ARCSEC = 2.0
"""Rows closer than this are one object: a BOSS fibre sees 2 arcsec, an SDSS fibre 3."""

DECIMALS_RA = 10**6


def position_ids(ra: np.ndarray, dec: np.ndarray, age: np.ndarray, fallback: np.ndarray) -> np.ndarray:
    """Return an id per row, equal for rows at the same place on the sky.

    Parameters
    ----------
    ra, dec : ndarray, shape (N,), float64
        Position [deg]; NaN where it is unknown.
    age : ndarray, shape (N,)
        Sorts rows by time of observation. The id comes from the oldest row of an object, so that later observations do
        not change it.
    fallback : ndarray, shape (N,), int64
        Ids of rows without a position.

    Returns
    -------
    ndarray, shape (N,), int64
        round(1000 RA) * 10^6 + round(1000 (Dec + 90)): cells of 3.6 arcsec. Two objects in one cell, closer to each
        other than fibres can be placed, would share an id.
    """
    ids = fallback.astype(np.int64)
    known = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    if not len(known):
        return ids
    group = _objects(ra[known], dec[known])
    order = np.lexsort((age[known], group))
    _, first, inverse = np.unique(group[order], return_index=True, return_inverse=True)
    oldest = known[order[first]]
    cell_ra = np.round(ra[oldest] * 1000).astype(np.int64) % 360_000
    cell_dec = np.round((dec[oldest] + 90) * 1000).astype(np.int64)
    ids[known[order]] = (cell_ra * DECIMALS_RA + cell_dec)[inverse]
    return ids


def sdss_ids(ra: np.ndarray, dec: np.ndarray, plate: np.ndarray, mjd: np.ndarray, fiber: np.ndarray) -> np.ndarray:
    """Return the target id of each SDSS observation: :func:`position_ids`, named by the oldest observation.

    Parameters
    ----------
    ra, dec : ndarray, shape (N,), float64
        Position [deg]; NaN where it is unknown.
    plate, mjd, fiber : ndarray, shape (N,)
        They name an observation, and its id if the position is unknown.

    Returns
    -------
    ndarray, shape (N,), int64
    """
    plate, mjd, fiber = (values.astype(np.int64) for values in (plate, mjd, fiber))
    # Negative, so that an observation without a position never meets an object named by its position.
    fallback = -(plate * 10**9 + mjd * 10**4 + fiber)
    age = mjd * 10**10 + plate * 10**4 + fiber
    return position_ids(ra, dec, age, fallback)


def _objects(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Number the groups of rows that lie within :data:`MATCH_ARCSEC` of each other."""
    ra_rad, dec_rad = np.radians(ra), np.radians(dec)
    unit = np.stack([np.cos(dec_rad) * np.cos(ra_rad), np.cos(dec_rad) * np.sin(ra_rad), np.sin(dec_rad)], axis=1)
    chord = 2 * np.sin(np.radians(MATCH_ARCSEC / 3600) / 2)
    # Most repeats have exactly the same catalogue position: merge these first, so that 200 epochs of one object are one
    # point and not 20,000 pairs.
    points, inverse = np.unique(unit, axis=0, return_inverse=True)
    pairs = cKDTree(points).query_pairs(chord, output_type="ndarray")
    graph = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(len(points), len(points)))
    return connected_components(graph, directed=False)[1][inverse.ravel()]


def ids_from_values(values: np.ndarray) -> np.ndarray:
    """Return int64 ids of identifiers that may be integers, strings of digits, or any other strings.

    Numbers of 2^63 and more (SPECOBJID of eBOSS) wrap to negative ones; other strings are hashed. Both are the same in
    every run.
    """
    values = np.asarray(values)
    if values.dtype.kind in "iu":
        return values.astype(np.uint64).astype(np.int64) if values.dtype == np.uint64 else values.astype(np.int64)
    ids = []
    for value in values:
        text = value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
        text = text.strip()
        if text.removeprefix("-").isdecimal():
            number = int(text) % 2**64
        else:
            number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
        ids.append(number - 2**64 if number >= 2**63 else number)
    return np.array(ids, dtype=np.int64)
