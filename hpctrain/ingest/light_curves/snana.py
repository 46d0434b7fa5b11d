"""Text files of SNANA: a header of keywords, ``VARLIST``, and a line ``OBS:`` per observation.

References
----------
.. [1] Kessler et al. 2009, PASP 121, 1028, arXiv:0908.4280; the format is in the manual of SNANA.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.light_curves.observations import Observations, Reading, find_columns, unit_of

_NOT_LABELS = ("SNID", "FILTERS", "NOBS", "NVAR", "NVAR_OBS", "VARLIST", "VARNAMES", "END", "OBS", "SURVEY")
_PREFERRED = {"value": "FLUXCAL", "error": "FLUXCALERR"}
"""SNANA files have fluxes and magnitudes; fluxes also say something where nothing was detected."""


@dataclass
class _Object:
    name: str
    header: dict[str, str] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


def looks_like_snana(first: bytes) -> bool:
    """Return whether the beginning of a file is that of an SNANA text file."""
    lines = first.decode("utf-8", "replace").splitlines()
    return any(line.startswith(("SNID:", "SURVEY:", "SNTYPE:")) for line in lines)


def read_snana(path: Path, reading: Reading) -> Observations:
    """Read the objects of an SNANA text file; its header becomes columns of the objects, in small letters.

    Raises
    ------
    DataError
        The file is damaged or lacks columns; the message has the line.
    """
    objects = _parse(path)
    if not objects:
        raise DataError("has no line OBS:")
    parts = [_numbers(each, reading) for each in objects]
    keys = dict.fromkeys(key for each in objects for key in each.header if key not in _NOT_LABELS)
    columns = {key.lower(): _column([each.header.get(key, "") for each in objects]) for key in keys}
    if reading.labels:
        absent = [theirs for theirs in reading.labels.values() if theirs.lower() not in columns]
        if absent:
            raise DataError(f"has no keyword {', '.join(absent)}; it has {', '.join(columns)[:400]}")
        columns = {ours: columns[theirs.lower()] for ours, theirs in reading.labels.items()}
    time, value, error, band = (np.concatenate([part[index] for part in parts]) for index in range(4))
    return Observations(
        names=[each.name for each in objects],
        object_of=np.repeat(np.arange(len(objects)), [len(part[0]) for part in parts]),
        time=time,
        value=value,
        error=error,
        band=band,
        columns=columns,
        unit=unit_of(_names(objects[0], reading)["value"], reading),
    )


def _parse(path: Path) -> list[_Object]:
    objects: list[_Object] = []
    current = _Object(path.stem)
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        key, colon, rest = line.partition(":")
        key, words = key.strip(), rest.split("#")[0].split()
        if not colon or not key.replace("_", "").isalnum():
            continue
        if key == "SNID":
            if current.rows:
                objects.append(current)
            current = _Object(words[0] if words else path.stem, dict(current.header) if not current.rows else {})
        elif key in ("VARLIST", "VARNAMES"):
            current.columns = words
        elif key == "OBS":
            if len(words) != len(current.columns):
                raise DataError(f"line {number}: has {len(words)} values, but VARLIST names {len(current.columns)}")
            current.rows.append(words)
        elif key == "END" and current.rows:
            objects.append(current)
            current = _Object(path.stem)
        elif words:
            current.header[key] = words[0]
    return [*objects, current] if current.rows else objects


def _names(each: _Object, reading: Reading) -> dict[str, str]:
    given = dict(reading.columns)
    for role, name in _PREFERRED.items():
        if role not in given and name in each.columns:
            given[role] = name
    return find_columns(each.columns, Reading(given, {}, reading.band, reading.assumed_error), optional=("id",))


def _numbers(each: _Object, reading: Reading) -> tuple[np.ndarray, ...]:
    names = _names(each, reading)
    columns = dict(zip(each.columns, zip(*each.rows, strict=True), strict=True))

    def get(role: str) -> np.ndarray:
        try:
            return np.array([float(text) for text in columns[names[role]]])
        except ValueError as error:
            raise DataError(f"{each.name}: {names[role]}: {error}") from error

    num = len(each.rows)
    error = np.full(num, reading.assumed_error, float) if "error" not in names else get("error")
    band = [reading.band] * num if "band" not in names else list(columns[names["band"]])
    return get("time"), get("value"), error, np.array(band, dtype=object)


def _column(texts: list[str]) -> np.ndarray:
    try:
        return np.array([float(text) if text else np.nan for text in texts])
    except ValueError:
        return np.array(texts, dtype=object)
