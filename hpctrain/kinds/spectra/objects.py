"""Describe an object by the data of its survey: name, position, class, and web pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

import numpy as np

from hpctrain.kinds.spectra.layout import SURVEY_PREFIX

_NAMES = {
    "ra": ("ra", "target_ra", "plug_ra", "raj2000"),
    "dec": ("dec", "target_dec", "plug_dec", "dej2000", "decj2000"),
    "plate": ("plate", "plateid"),
    "mjd": ("mjd",),
    "fiber": ("fiber", "fiberid", "fibre"),
    "class": ("spectype", "class"),
    "zwarn": ("zwarn", "zwarning"),
    "survey": ("survey",),
}
"""Names of the columns, in upper or lower case, that may contain each fact."""

_DESI_SURVEYS = ("main", "sv1", "sv2", "sv3", "special", "cmx")


class Link(NamedTuple):
    """A web page about an object."""

    text: str
    address: str


class KnownObject(NamedTuple):
    """A survey's facts about an object: its name, short facts, and web pages."""

    name: str
    facts: list[str]
    links: list[Link]


def describe_object(spectrum: Mapping[str, Any]) -> KnownObject:
    """Return the facts about one object from the columns of the data file.

    Parameters
    ----------
    spectrum : mapping
        One spectrum: ``target_id``, and the columns of the data file with the prefix `SURVEY_PREFIX`.
    """
    columns = _survey_columns(spectrum)
    known = _known(columns)
    fibre = tuple(_whole(known[name]) for name in ("plate", "mjd", "fiber"))
    is_sdss = all(number > 0 for number in fibre)
    is_simulated = "is_unusual" in columns  # a column that ``hpctrain simulate`` writes
    is_desi = not is_sdss and _text(known["survey"]).lower() in _DESI_SURVEYS
    target_id = _whole(spectrum.get("target_id"))
    links = []
    if is_sdss:
        name = "SDSS {:04d}-{}-{:04d}".format(*fibre)
        query = urlencode(dict(zip(("plateid", "mjd", "fiberid"), fibre, strict=True)))
        links.append(Link("spectrum at SDSS", f"https://dr17.sdss.org/optical/spectrum/view?{query}"))
    elif is_desi:
        name = f"DESI {target_id}"
        address = f"https://www.legacysurvey.org/viewer/desi-spectrum/dr1/targetid{target_id}"
        links.append(Link("spectrum at DESI", address))
    else:
        name = f"{'simulated object' if is_simulated else 'object'} {target_id}"
    facts = [f"TARGETID {target_id}"] if is_sdss else []
    if kind := _text(known["class"]):
        facts.append(kind)
    ra, dec = _degrees(known["ra"]), _degrees(known["dec"])
    if 0 <= ra <= 360 and -90 <= dec <= 90:
        facts.append(f"RA {ra:.5f}° Dec {dec:+.5f}°".replace("-", "−"))
        if not is_simulated:
            links += [Link("SkyServer", _skyserver(ra, dec)), Link("Legacy Survey", _legacy(ra, dec))]
    if _whole(known["zwarn"]) > 0:
        facts.append(f"ZWARN {_whole(known['zwarn'])}: the survey doubts this redshift")
    return KnownObject(name, facts, links)


def known_values(spectrum: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``ra``, ``dec`` [deg], ``plate``, ``mjd``, ``fiber`` and ``class`` of one object, as far as it has them.

    Parameters
    ----------
    spectrum : mapping
        As for :func:`describe_object`.
    """
    known = _known(_survey_columns(spectrum))
    angles = {name: _degrees(known[name]) for name in ("ra", "dec")}
    numbers = {name: _whole(known[name]) for name in ("plate", "mjd", "fiber")}
    found: dict[str, Any] = {name: value for name, value in angles.items() if np.isfinite(value)}
    found |= {name: value for name, value in numbers.items() if value > 0}
    return found | ({"class": kind} if (kind := _text(known["class"])) else {})


def _survey_columns(spectrum: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key.removeprefix(SURVEY_PREFIX).lower(): np.asarray(value).item()
        for key, value in spectrum.items()
        if key.startswith(SURVEY_PREFIX) and np.asarray(value).ndim == 0
    }


def _known(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {
        wanted: next((columns[name] for name in names if name in columns), None) for wanted, names in _NAMES.items()
    }


def _skyserver(ra: float, dec: float) -> str:
    query = urlencode({"ra": f"{ra:.6f}", "dec": f"{dec:.6f}"})
    return f"https://skyserver.sdss.org/dr18/VisualTools/explore/summary?{query}"


def _legacy(ra: float, dec: float) -> str:
    place = {"ra": f"{ra:.6f}", "dec": f"{dec:.6f}"}
    query = urlencode({**place, "mark": ",".join(place.values()), "layer": "ls-dr10", "zoom": 15}, safe=",")
    return f"https://www.legacysurvey.org/viewer?{query}"


def _whole(value: Any) -> int:
    """Return a whole number; -1 if the value is not one."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return -1


def _degrees(value: Any) -> float:
    """Return an angle; NaN if the value is not one."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _text(value: Any) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
    return text.strip()
