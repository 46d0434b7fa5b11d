"""The same position on the sky on two sides of the split. N rows. No torch here.

The rows are sorted by declination, and pairs are counted in one band after the other, so only a band is in a tree.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from hpctrain.errors import DataError
from hpctrain.samples.split import TEST, TRAIN, VALIDATION
from hpctrain.validation.audit.chance import SURE, chance_of
from hpctrain.validation.audit.findings import LEAK, MOST_EXAMPLES, NOTE, Finding
from hpctrain.validation.audit.rows import Rows

RA_NAMES = ("ra", "target_ra", "plug_ra", "raj2000", "ra_deg")
DEC_NAMES = ("dec", "target_dec", "plug_dec", "dej2000", "decj2000", "dec_deg")
"""Names of columns with positions, in upper or lower case."""

ROWS_OF_BAND = 200_000
"""Number of rows that a band holds at least, so that there are not too many bands."""

RING_FACTORS = (10.0, 30.0, 100.0, 300.0)
"""Outer radii of the ring whose pairs say what chance gives, in units of the radius."""

INNER = 5.0
"""Inner radius of the ring: pairs that are closer may be pieces of one object."""

CLOSE_FACTORS = (0.1, 1 / 3, 1.0)
"""Distances that are tried, in units of the radius: in a dense field pairs at small distances are rarer by chance."""

ENOUGH_PAIRS = 1000
"""Number of pairs in the ring from which the ring need not be wider."""

MOST_PAIRS = 100_000
"""Largest number of pairs of a band that are listed."""

_ARCSEC = np.pi / 180 / 3600


@dataclass
class Pairs:
    """Close pairs on different sides.

    Parameters
    ----------
    close : ndarray, shape (3,)
        Number of pairs within each of `CLOSE_FACTORS` times the radius.
    ring : int
        Number of pairs in the ring.
    listed : list of (held-out row, other row, distance [arcsec])
    """

    close: np.ndarray = field(default_factory=lambda: np.zeros(len(CLOSE_FACTORS), dtype=np.int64))
    ring: int = 0
    listed: list[np.ndarray] = field(default_factory=list)


def read_positions(rows: Rows, ra: str | None, dec: str | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Return right ascension and declination of all rows (N,) [deg]; None if the files have none.

    Parameters
    ----------
    rows : Rows
    ra, dec : str or None
        Names of the columns; if None, usual names are tried.

    Raises
    ------
    DataError
        A column that the profile names is absent or holds no positions.
    """
    found = []
    for name, usual in ((ra, RA_NAMES), (dec, DEC_NAMES)):
        values = _column(rows, usual) if name is None else rows.column(name)
        if values is None:
            return None
        found.append(values)
    if all(values.dtype.kind in "fiu" for values in found):
        return found[0].astype(np.float64, copy=False), found[1].astype(np.float64, copy=False)
    try:
        return _from_text(found[0], found[1])
    except ValueError as error:
        if ra is None or dec is None:
            return None
        message = f"{ra}, {dec}: hold neither degrees nor texts such as 08:29:47.6 and +33:54:23 ({error})"
        raise DataError(message) from error


def _column(rows: Rows, names: tuple[str, ...]) -> np.ndarray | None:
    for name in names:
        for form in (name, name.upper(), name.capitalize()):
            with contextlib.suppress(DataError):
                return rows.column(form)
    return None


def _from_text(ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return positions [deg] of texts: hours, minutes and seconds, or degrees; NaN where a text is empty."""
    from astropy.coordinates import Angle

    ra, dec = ra.astype(str), dec.astype(str)
    known = (ra != "") & (dec != "")
    found = np.full((2, len(ra)), np.nan)
    if known.any():
        in_hours = any(mark in ra[known][0] for mark in ":h ")
        found[0, known] = Angle(ra[known], unit="hourangle" if in_hours else "deg").deg
        found[1, known] = Angle(dec[known], unit="deg").deg
    return found[0], found[1]


def find_same_positions(rows: Rows, ra: np.ndarray, dec: np.ndarray, radius_arcsec: float) -> Iterator[Finding]:
    """Yield a finding if more objects than by chance have a twin at their position on another side.

    Parameters
    ----------
    rows : Rows
    ra, dec : ndarray, shape (N,)
        Positions [deg]; rows where they are not finite are left out.
    radius_arcsec : float
        Largest distance of two rows of one object [arcsec].
    """
    good = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90) & (rows.side <= TEST)
    good &= (np.abs(ra) <= 360) & ((ra != 0) | (dec != 0))
    if (bad := int((~good & (rows.side <= TEST)).sum())) > 0:
        text = f"{bad:,} rows have no position and have not been compared by it"
        yield Finding(NOTE, "no-position", text, count=bad, key="validate.audit")
    at = np.flatnonzero(good)
    at = at[np.argsort(dec[at], kind="stable")]
    pairs, outer = count_pairs(ra[at], dec[at], rows.side[at], radius_arcsec)
    area = outer**2 - INNER**2
    found = []
    for number, factor in enumerate(CLOSE_FACTORS):
        expected = pairs.ring * factor**2 / area
        chance = chance_of(int(pairs.close[number]), pairs.ring, factor**2 / area)
        if chance < SURE and pairs.close[number] > 2 * expected:
            found.append((chance, number, expected))
    if not found:
        return
    _, number, expected = min(found)
    limit = CLOSE_FACTORS[number] * radius_arcsec
    listed = np.concatenate([np.zeros(0, _LISTED), *pairs.listed])
    listed = listed[listed["distance"] <= limit]
    listed = listed[np.argsort(listed["distance"], kind="stable")]
    yield Finding(
        LEAK,
        "same-position",
        f"pairs of rows on different sides within {limit:.3g} arcsec of each other: {int(pairs.close[number]):,}; at "
        f"this density {expected:.2g} are expected by chance",
        "the same object has two identifiers, so it is trained on and held out",
        "give all rows of an object one identifier, or keep neighbours together with data.split.by: sky",
        int(pairs.close[number]),
        "data.split",
        [
            f"{rows.pair(int(at[one['first']]), int(at[one['second']]))}: {one['distance']:.2g} arcsec"
            for one in listed[:MOST_EXAMPLES]
        ],
        {"pairs": int(pairs.close[number]), "expected_by_chance": expected, "within_arcsec": limit},
    )


_LISTED = np.dtype([("first", np.int64), ("second", np.int64), ("distance", np.float64)])


def count_pairs(ra: np.ndarray, dec: np.ndarray, side: np.ndarray, radius_arcsec: float) -> tuple[Pairs, float]:
    """Count close pairs on different sides, and those in a ring around.

    Parameters
    ----------
    ra, dec : ndarray, shape (n,)
        Positions [deg], sorted by declination.
    side : ndarray, shape (n,)
    radius_arcsec : float

    Returns
    -------
    pairs : Pairs
        Rows are places in `ra`.
    outer : float
        Outer radius of the ring in units of the radius.
    """
    pairs, outer = Pairs(), 0.0
    for start in range(0, len(ra), ROWS_OF_BAND):
        end = min(len(ra), start + ROWS_OF_BAND)
        if not outer:
            outer = _choose_ring(ra, dec, side, radius_arcsec, end)
        _add_band(pairs, (start, end), (ra, dec, side), radius_arcsec, outer)
    return pairs, outer or RING_FACTORS[0]


def _choose_ring(ra: np.ndarray, dec: np.ndarray, side: np.ndarray, radius_arcsec: float, end: int) -> float:
    for outer in RING_FACTORS:
        pilot = Pairs()
        _add_band(pilot, (0, end), (ra, dec, side), radius_arcsec, outer)
        if pilot.ring * len(ra) / end >= ENOUGH_PAIRS:
            return outer
    return RING_FACTORS[-1]


def _add_band(
    pairs: Pairs,
    band: tuple[int, int],
    table: tuple[np.ndarray, np.ndarray, np.ndarray],
    radius_arcsec: float,
    outer: float,
) -> None:
    """Add the pairs whose held-out row is in a band; the other one may be just outside."""
    from scipy.spatial import cKDTree

    ra, dec, side = table
    margin = outer * radius_arcsec / 3600
    low = int(np.searchsorted(dec, dec[band[0]] - margin, side="left"))
    high = int(np.searchsorted(dec, dec[band[1] - 1] + margin, side="right"))
    around = np.arange(low, high)
    radii = radius_arcsec * np.array([*CLOSE_FACTORS, INNER, outer])
    chords = 2 * np.sin(radii * _ARCSEC / 2)
    own = {
        each: around[(side[low:high] == each) & (around >= band[0]) & (around < band[1])] for each in (VALIDATION, TEST)
    }
    other = {each: around[side[low:high] == each] for each in (TRAIN, VALIDATION)}
    own_trees = {each: cKDTree(_vectors(ra[at], dec[at]), balanced_tree=False) for each, at in own.items()}
    trees = {each: cKDTree(_vectors(ra[at], dec[at]), balanced_tree=False) for each, at in other.items()}
    for held_out, others in ((VALIDATION, TRAIN), (TEST, TRAIN), (TEST, VALIDATION)):
        if not len(own[held_out]) or not len(other[others]):
            continue
        counts = own_trees[held_out].count_neighbors(trees[others], chords)
        pairs.close += counts[: len(CLOSE_FACTORS)]
        pairs.ring += int(counts[-1] - counts[-2])
        if 0 < counts[len(CLOSE_FACTORS) - 1] <= MOST_PAIRS:
            reach = chords[len(CLOSE_FACTORS) - 1]
            found = own_trees[held_out].sparse_distance_matrix(trees[others], reach, output_type="ndarray")
            listed = np.empty(len(found), _LISTED)
            listed["first"], listed["second"] = own[held_out][found["i"]], other[others][found["j"]]
            listed["distance"] = 2 * np.arcsin(found["v"] / 2) / _ARCSEC
            pairs.listed.append(listed)


def _vectors(ra_deg: np.ndarray, dec_deg: np.ndarray) -> np.ndarray:
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
