"""Which row of a catalogue belongs to which spectrum: by equal names or by position. N spectra, M objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpctrain.errors import DataError

_SHOWN = 5


@dataclass(frozen=True)
class Match:
    """How spectra find their row of the catalogue.

    Parameters
    ----------
    ours, theirs : str
        Column of the file of spectra and of the catalogue that are equal; empty for a match by position.
    radius_arcsec : float, optional
        Largest distance on the sky, with the columns ``ra`` and ``dec`` of both [deg].
    """

    ours: str = ""
    theirs: str = ""
    radius_arcsec: float | None = None

    def describe(self) -> str:
        """Return the rule in words."""
        if self.radius_arcsec is not None:
            return f"within {self.radius_arcsec:g} arcsec"
        return f"{self.ours} = {self.theirs}"


def their_name(table: Any, name: str) -> str | None:
    """Return the column of a catalogue; ``ra`` and ``dec`` have many spellings."""
    if name in table.colnames:
        return name
    near = {"ra": ("RA", "RAJ2000", "RA_ICRS", "TARGET_RA", "PLUG_RA"), "dec": ("DEC", "Dec", "DEJ2000", "DE_ICRS")}
    near["dec"] += ("TARGET_DEC", "PLUG_DEC")
    return next((one for one in near.get(name, ()) if one in table.colnames), None)


def plain(column: Any) -> np.ndarray:
    """Return a column as numbers or str, shape (M,)."""
    values = np.asarray(column)
    if values.dtype.kind == "S":
        return np.char.strip(np.char.decode(values, "utf-8", "replace"))
    if values.dtype.kind == "O":
        values = np.array([one.decode() if isinstance(one, bytes) else str(one) for one in values])
    return np.char.strip(values) if values.dtype.kind == "U" else values


def rows_by_name(keys: Mapping[str, np.ndarray], table: Any, match: Match, columns: Mapping[str, str]) -> np.ndarray:
    """Return the row of the catalogue for each spectrum, -1 where there is none, shape (N,)."""
    ours, theirs = plain(keys[match.ours]), plain(table[match.theirs])
    if (ours.dtype.kind == "U") != (theirs.dtype.kind == "U"):
        ours, theirs = ours.astype(str), theirs.astype(str)
    known = ~np.ma.getmaskarray(np.ma.asarray(table[match.theirs]))
    places = np.flatnonzero(known)
    order = places[np.argsort(theirs[places], kind="stable")]
    ordered = theirs[order]
    first = np.searchsorted(ordered, ours, side="left")
    last = np.searchsorted(ordered, ours, side="right")
    rows = np.where(last > first, order[np.minimum(first, len(order) - 1)] if len(order) else -1, -1)
    _refuse_contradictions(table, order, first, last, ours, columns, match)
    return rows


def _refuse_contradictions(
    table: Any,
    order: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    ours: np.ndarray,
    columns: Mapping[str, str],
    match: Match,
) -> None:
    """Refuse a catalogue that has several rows with different values for an object that a spectrum shows."""
    wrong = []
    several = np.flatnonzero(last - first > 1)
    for spectrum in several[np.unique(first[several], return_index=True)[1]]:
        rows = order[first[spectrum] : last[spectrum]]
        if any(len({str(value) for value in table[theirs][rows]}) > 1 for theirs in columns.values()):
            wrong.append(str(ours[spectrum]))
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise DataError(
            f"the catalogue has several rows with different values for {match.theirs} "
            f"{', '.join(wrong[:_SHOWN])}{more}; keep one row for each object"
        )


def rows_by_position(keys: Mapping[str, np.ndarray], table: Any, match: Match, notes: list[str]) -> np.ndarray:
    """Return the nearest row within the radius for each spectrum, -1 where there is none, shape (N,)."""
    from astropy import units
    from astropy.coordinates import SkyCoord, match_coordinates_sky, search_around_sky

    theirs = [
        np.ma.filled(np.ma.asarray(table[their_name(table, axis)], dtype=float), np.nan) for axis in ("ra", "dec")
    ]
    usable, known = (np.isfinite(axes).all(axis=0) for axes in (np.array([keys["ra"], keys["dec"]]), np.array(theirs)))
    rows = np.full(len(usable), -1)
    if not usable.any() or not known.any():
        return rows
    here = SkyCoord(keys["ra"][usable], keys["dec"][usable], unit="deg")
    there = SkyCoord(theirs[0][known], theirs[1][known], unit="deg")
    nearest, distance, _ = match_coordinates_sky(here, there)
    radius = match.radius_arcsec * units.arcsec
    rows[usable] = np.where(distance <= radius, np.flatnonzero(known)[nearest], -1)
    if len(there) > 1:
        which, *_ = search_around_sky(here, there, radius)
        crowded = int((np.bincount(which, minlength=1) > 1).sum())
        if crowded:
            notes.append(
                f"{crowded} spectra have several objects within {match.radius_arcsec:g} arcsec: the nearest counts"
            )
    return rows
