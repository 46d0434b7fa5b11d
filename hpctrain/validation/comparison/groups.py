"""What is independent of each other: objects, cells of the sky, or values of a column such as a plate. R rows."""

from __future__ import annotations

import numpy as np

from hpctrain.errors import DataError
from hpctrain.samples.sky import sky_cells
from hpctrain.validation.judged import Judged

OBJECT, SKY = "object", "sky"
FEWEST = 5
"""Smallest number of groups to draw from."""


def group_rows(judged: Judged, by: str, ra: str = "ra", dec: str = "dec", nside: int = 8) -> np.ndarray:
    """Return what is drawn as a whole for each row, (R,).

    Parameters
    ----------
    judged : Judged
    by : str
        ``object``, ``sky``, or a column of the data files.
    ra, dec : str
        Columns of the position [deg], for ``sky``.
    nside : int
        Resolution of the HEALPix cells, for ``sky``.

    Raises
    ------
    DataError
        There is no such column, a row has no value, or there are fewer than 5 groups.
    SiteError
        The package astropy-healpix is missing.
    """
    if by == OBJECT:
        return judged.target_id
    if by == SKY:
        places = [np.asarray(judged.column(name), dtype=np.float64) for name in (ra, dec)]
        _refuse_missing(~np.isfinite(places[0]) | ~np.isfinite(places[1]), f"{ra}, {dec}")
        found = sky_cells(places[0], places[1], nside, "--by sky", dec)
    else:
        found = judged.column(by)
        if found.dtype.kind == "f":
            _refuse_missing(~np.isfinite(found), by)
    # All rows of an object stay together, as in the split.
    _, first, of_row = np.unique(judged.target_id, return_index=True, return_inverse=True)
    found = found[first][of_row.reshape(-1)]
    if (number := len(np.unique(found))) < FEWEST:
        raise DataError(
            f"--by {by}: the shared held-out objects are in {number} groups; it takes {FEWEST}. Take smaller "
            "groups, or --by object"
        )
    return found


def _refuse_missing(is_missing: np.ndarray, name: str) -> None:
    if number := int(np.count_nonzero(is_missing)):
        raise DataError(
            f"--by: {number:,} of {len(is_missing):,} rows have no value in {name}; group by another column"
        )
