"""Columns of Multimodal Universe and Parquet tables under the names that people give them, turned into ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.bitmasks import ZWARN_UNSPECIFIED
from hpctrain.ingest.block import COLUMNS
from hpctrain.ingest.identifiers import ids_from_values
from hpctrain.kinds.spectra.redshift import is_redshift

KNOWN_NAMES = {
    "target_id": ("target_id", "TARGETID", "targetid", "object_id", "OBJECT_ID"),
    "redshift": ("z", "Z", "redshift", "REDSHIFT", "Z_HELIO"),
    "redshift_error": ("ZERR", "Z_ERR", "zerr", "z_err", "redshift_error"),
    "zwarn": ("ZWARN", "ZWARNING", "zwarn", "zwarning"),
    "spectype": ("SPECTYPE", "CLASS", "spectype", "class"),
    "ra": ("ra", "RA", "TARGET_RA", "PLUG_RA"),
    "dec": ("dec", "DEC", "TARGET_DEC", "PLUG_DEC"),
    "plate": ("PLATE", "plate"),
    "mjd": ("MJD", "mjd"),
    "fiber": ("FIBERID", "fiberid", "fiber"),
    "survey": ("SURVEY", "survey"),
    "program": ("PROGRAM", "program"),
    "healpix": ("healpix", "HEALPIX"),
}
"""Our column: names it goes by, the first that is there counts."""


def name_columns(available: Iterable[str], given: dict[str, str], known: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """Find the name of each of our columns in a table.

    Parameters
    ----------
    available : iterable of str
        Columns of the table.
    given : dict of str
        Ours: theirs, as the user said with ``--column``.
    known : dict of tuple of str
        Ours: the usual names.

    Raises
    ------
    DataError
        A column that the user named is not there.
    """
    there = set(available)
    absent = [f"{ours}={theirs}" for ours, theirs in given.items() if theirs not in there]
    if absent:
        raise DataError(f"--column {' '.join(absent)}: no such column; there are {', '.join(sorted(there))[:400]}")
    found = {ours: next((name for name in names if name in there), "") for ours, names in known.items()}
    return {ours: theirs for ours, theirs in {**found, **given}.items() if theirs}


def read_columns(names: dict[str, str], read: Callable[[str], np.ndarray]) -> dict[str, np.ndarray]:
    """Return our columns from a table's, with sentinels such as -9999 turned into 'not known'.

    Parameters
    ----------
    names : dict of str
        Ours: theirs, from :func:`name_columns`.
    read : callable
        Gives the values of one of their columns.
    """
    columns: dict[str, np.ndarray] = {}
    for ours, theirs in names.items():
        if ours not in COLUMNS:
            continue
        values = np.asarray(read(theirs))
        if ours == "target_id":
            columns[ours] = ids_from_values(values)
        elif ours == "zwarn":
            columns[ours] = warnings_as_bits(values, theirs)
        elif COLUMNS[ours].dtype.startswith("S"):
            columns[ours] = np.array([_as_bytes(value) for value in values], dtype=COLUMNS[ours].dtype)
        else:
            columns[ours] = _without_sentinels(ours, values).astype(COLUMNS[ours].dtype)
    return columns


def warnings_as_bits(values: np.ndarray, name: str) -> np.ndarray:
    """Return ZWARN as int64 bits.

    The Multimodal Universe's reader of DESI turns ZWARN into a bool and inverts it: True is good. Its reader of SDSS
    does not invert ZWARNING: True is a warning. Integers are the survey's own bits.
    """
    if values.dtype == np.bool_:
        is_warning = ~values if name.upper() == "ZWARN" else values
        return np.where(is_warning, ZWARN_UNSPECIFIED, 0).astype(np.int64)
    number = values.astype(np.float64)
    return np.where(np.isfinite(number), np.nan_to_num(number), -1).astype(np.int64)


def _without_sentinels(ours: str, values: np.ndarray) -> np.ndarray:
    number = values.astype(np.float64)
    if ours == "redshift":
        return np.where(is_redshift(number), number, np.nan)
    lowest = {"ra": 0.0, "dec": -90.0, "redshift_error": 0.0}.get(ours, -np.inf)
    if COLUMNS[ours].dtype.startswith("i"):
        return np.where(np.isfinite(number), np.nan_to_num(number), COLUMNS[ours].missing)
    return np.where(np.isfinite(number) & (number >= lowest), number, np.nan)


def _as_bytes(value: object) -> bytes:
    if value is None:
        return b""
    return (value if isinstance(value, bytes) else str(value).encode()).strip()
