"""Units as people and files write them, read by astropy."""

from __future__ import annotations

import functools
import re
import warnings
from typing import Any

from hpctrain.errors import DataError

RELATIVE = "relative"
"""Word for a flux without a physical unit."""

_LOGARITHM = re.compile(r"^\s*(log10|log|ln|dex)\s*\(?\s*([^()]*?)\s*\)?\s*$", re.IGNORECASE)
_POWER = re.compile(r"^\s*\((.*)\)\s*(?:\*\*|\^)?\s*([+-]?\d+)\s*$")
_SPELLINGS = (
    (re.compile(r"(?<![A-Za-z])(?:Angstroms?|angstroms?|ANGSTROMS?|Ang|ANG|ang|AA|A|Å)(?![A-Za-z])"), "Angstrom"),
    (re.compile(r"(?<![A-Za-z])(?:microns?|um|µm|μm|micrometers?|micrometres?)(?![A-Za-z])", re.IGNORECASE), "um"),
    (re.compile(r"(?<![A-Za-z])(?:nanometers?|nanometres?|NM)(?![A-Za-z])"), "nm"),
    (re.compile(r"(?<![A-Za-z])(?:ERGS?|ergs|Ergs?)(?![A-Za-z])"), "erg"),
    (re.compile(r"(?<![A-Za-z])(?:sec|SEC|S|second|seconds)(?![A-Za-z])"), "s"),
    (re.compile(r"(?<![A-Za-z])CM(?![A-Za-z])"), "cm"),
    (re.compile(r"(?<![A-Za-z])(?:JY|jy|Janskys?)(?![A-Za-z])"), "Jy"),
    (re.compile(r"(?<![A-Za-z])(mJY|MJY|mjy)(?![A-Za-z])"), "mJy"),
    (re.compile(r"(?<![A-Za-z])(?:HZ|hz)(?![A-Za-z])"), "Hz"),
    (re.compile(r"(?<![A-Za-z])(?:counts?|COUNTS?|cts|CTS)(?![A-Za-z])"), "ct"),
    (re.compile(r"^\s*(?:flambda|f_lambda|flam)\s*$", re.IGNORECASE), "erg / (s cm2 Angstrom)"),
    (re.compile(r"^\s*(?:fnu|f_nu)\s*$", re.IGNORECASE), "erg / (s cm2 Hz)"),
)
"""Spellings that astropy does not know, or reads as another unit (A is the ampere)."""

EXAMPLES = "'erg s-1 cm-2 AA-1', '1e-17 erg/s/cm2/AA', 'Jy', 'uJy', 'erg/s/cm2/Hz', 'W m-2 um-1'"


@functools.lru_cache(maxsize=256)
def parse_unit(text: str) -> Any:
    """Return the astropy unit of a text; an empty text is dimensionless.

    Raises
    ------
    DataError
        astropy does not know it.
    """
    from astropy import units

    power = _POWER.match(text)
    if power:
        return parse_unit(power.group(1)) ** int(power.group(2))
    spelled = text.strip()
    for pattern, replacement in _SPELLINGS:
        spelled = pattern.sub(replacement, spelled)
    # 10^-17 and 10**-17 are 1e-17; what is left of ^ is a power.
    spelled = re.sub(r"10\s*(?:\^|\*\*)\s*\(?([+-]?\d+)\)?", r"1e\1", spelled).replace("^", "**")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for attempt in (spelled, text):
            for form in (None, "fits", "vounit", "cds"):
                try:
                    return units.Unit(attempt, format=form)
                except (ValueError, TypeError):
                    continue
    raise DataError(f"unit '{text}' is not one that astropy knows; examples: {EXAMPLES}")


def split_logarithm(text: str) -> tuple[str, str]:
    """Return ("log10" or "ln" or "", unit) of a unit of wavelengths such as ``log10(AA)``, ``dex(nm)`` or ``um``."""
    match = _LOGARITHM.match(text)
    if not match:
        return "", text.strip()
    word = "ln" if match.group(1).lower() == "ln" else "log10"
    return word, match.group(2) or "Angstrom"
