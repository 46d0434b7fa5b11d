"""When the values of a row were true of its object: columns of times as microseconds since 1970, UTC."""

from __future__ import annotations

import datetime

import numpy as np

from hpctrain.errors import DataError

FORMATS = ("mjd", "jd", "unix", "iso")
UNDATED = np.iinfo(np.int64).min
"""Stands for a time that is missing or impossible."""
_EARLIEST, _LATEST = 1859, 2200
"""Years; times outside stand for "not known", such as Modified Julian Dates of 0 (in 1858), -999 or -999999."""
_ZERO_DAY = {"mjd": 40587.0, "jd": 2440587.5}
"""The first of January 1970 as a Julian Date."""


def microseconds(values: np.ndarray, form: str) -> np.ndarray:
    """Return times as microseconds since 1970, UTC.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Modified Julian Dates or Julian Dates [d] or seconds since 1970, all of them UTC; or texts of ISO 8601, which
        are UTC where they name no zone.
    form : str
        One of `FORMATS`.

    Returns
    -------
    ndarray, shape (n,), int64
        `UNDATED` where a value is missing, no time, or outside the years 1859 to 2199.
    """
    if form == "iso":
        return np.array([_of_text(str(text)) for text in values.tolist()], dtype=np.int64)
    seconds = np.asarray(values, dtype=np.float64)
    if form in _ZERO_DAY:
        seconds = (seconds - _ZERO_DAY[form]) * 86400
    is_known = (seconds >= _of_year(_EARLIEST)) & (seconds < _of_year(_LATEST))  # False for NaN, too
    return np.where(is_known, np.round(np.where(is_known, seconds, 0) * 1e6).astype(np.int64), UNDATED)


def moment(text: str) -> int:
    """Return a date, or date and time, as microseconds since 1970.

    Raises
    ------
    ValueError
        It is neither.
    """
    found = _of_text(text)
    if found == UNDATED:
        raise ValueError(f"{text!r} is no date between {_EARLIEST} and {_LATEST}; write 2026-11-26T08:00:00Z")
    return found


def form_of(values: np.ndarray, name: str, unit: str) -> str:
    """Return the format of a column of times, by its values, its name and its unit.

    Raises
    ------
    DataError
        They do not say it.
    """
    if values.dtype.kind == "O":
        return "iso"
    known = values[np.isfinite(values)].astype(np.float64)
    middle = float(np.median(known)) if len(known) else np.nan
    words = name.lower()
    if "mjd" in words or (unit in ("d", "day") and 1e4 < middle < 1e5):
        return "mjd"
    if words == "jd" or words.endswith("_jd") or 2.3e6 < middle < 2.6e6:
        return "jd"
    if "unix" in words:
        return "unix"
    raise DataError(f"the column {name} does not say how its times are written; add --time-format {'|'.join(FORMATS)}")


def _of_text(text: str) -> int:
    try:
        found = datetime.datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        return UNDATED
    if not _EARLIEST <= found.year < _LATEST:
        return UNDATED
    if found.tzinfo is None:
        found = found.replace(tzinfo=datetime.timezone.utc)
    since = found - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return since // datetime.timedelta(microseconds=1)


def _of_year(year: int) -> float:
    return datetime.datetime(year, 1, 1, tzinfo=datetime.timezone.utc).timestamp()
