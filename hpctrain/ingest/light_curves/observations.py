"""What every reader of light curves returns: observations of one file. n observations, m objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hpctrain.errors import DataError

ROLES = ("id", "time", "value", "error", "band")
"""What a column of observations can be."""

USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "id": (
        "object_id",
        "objectid",
        "object",
        "oid",
        "id",
        "objid",
        "source_id",
        "name",
        "diaobjectid",
        "starid",
        "star",
    ),
    "time": ("time", "mjd", "t", "hjd", "bjd", "jd", "t_day", "obstime", "obs_time", "midpointmjdtai", "midpointtai"),
    "value": ("mag", "magnitude", "magpsf", "psfmag", "flux", "fluxcal", "psfflux", "value"),
    "error": (
        "magerr",
        "mag_err",
        "e_mag",
        "mag_error",
        "sigmapsf",
        "flux_err",
        "fluxerr",
        "e_flux",
        "fluxcalerr",
        "psffluxerr",
        "error",
        "err",
        "sigma",
    ),
    "band": ("band", "filter", "passband", "flt", "fid", "filtercode", "bandpass"),
}
"""Names in small letters that columns go by; the first that is there counts."""


@dataclass(frozen=True)
class Reading:
    """How the user says to read files.

    Parameters
    ----------
    columns : mapping of str to str
        Role (`ROLES`) to the name in the file, where the user gave one.
    labels : mapping of str to str
        Column of the output to the name in the table of observations, the same for all rows of an object.
    band : str
        Band of all observations, for files without such a column.
    assumed_error : float or None
        Error of all observations, for files without such a column.
    unit : str
        Unit of the values; empty to take it from the name of the column.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    band: str = ""
    assumed_error: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class Observations:
    """Observations of one file.

    Parameters
    ----------
    names : sequence of str, length m
        Identifiers of the objects.
    object_of : ndarray, shape (n,), int64
        Number of the object of each observation.
    time : ndarray, shape (n,), float64
        [day]
    value, error : ndarray, shape (n,), float64
    band : ndarray, shape (n,), object
        Names of bands, str; empty where there is none.
    columns : mapping of str to ndarray, shape (m,)
        What the file says about its objects: numbers, or ``object`` arrays of str.
    unit : str
        ``mag``, or what the values are otherwise.
    dropped : mapping of str to int
        Observations that the file has but that are none, such as upper limits, by reason.
    """

    names: Sequence[str]
    object_of: np.ndarray
    time: np.ndarray
    value: np.ndarray
    error: np.ndarray
    band: np.ndarray
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    unit: str = ""
    dropped: Mapping[str, int] = field(default_factory=dict)


def find_columns(available: Sequence[str], reading: Reading, optional: Sequence[str] = ()) -> dict[str, str]:
    """Return the name in a file of each role.

    Parameters
    ----------
    available : sequence of str
        Columns of the file.
    reading : Reading
    optional : sequence of str
        Roles that a file of this format need not have.

    Raises
    ------
    DataError
        A column that the user named is absent, or one that is needed has no usual name.
    """
    wanted = {**reading.columns, **reading.labels}
    absent = [f"{ours}={theirs}" for ours, theirs in wanted.items() if theirs not in available]
    if absent:
        raise DataError(f"has no column {', '.join(absent)}; it has {', '.join(available)[:400]}")
    small = {name.lower(): name for name in reversed(available)}
    found = dict(reading.columns)
    for role, names in USUAL_NAMES.items():
        if role not in found and (known := next((name for name in names if name in small), None)):
            found[role] = small[known]
    if reading.band:
        found.pop("band", None)
    if reading.assumed_error is not None and "error" not in reading.columns:
        found.pop("error", None)
    given = {"band": bool(reading.band), "error": reading.assumed_error is not None}
    lacking = [role for role in ROLES if role not in found and role not in optional and not given.get(role)]
    if lacking:
        advice = [f"--column {role}=NAME" for role in lacking]
        advice += ["--band NAME for files of one band"] * ("band" in lacking)
        advice += ["--assume-error X"] * ("error" in lacking)
        raise DataError(
            f"has no column for {', '.join(lacking)}; it has {', '.join(available)[:400]}; give {', or '.join(advice)}"
        )
    return found


def unit_of(column: str, reading: Reading) -> str:
    """Return the unit of the values in a column: as the user said, or ``mag`` or ``flux`` by its name."""
    return reading.unit or ("flux" if "flux" in column.lower() else "mag")
