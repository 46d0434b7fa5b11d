"""Bits of the surveys' masks, and which of them we mask or drop.

References
----------
.. [1] sdss/idlutils, ``sdssMaskbits.par``: SPPIXMASK and ZWARNING.
.. [2] desihub/desispec, ``maskbits.py``: specmask and fibermask; desihub/redrock, ``zwarning.py``.
"""

from __future__ import annotations

from collections.abc import Iterable

from hpctrain.errors import DataError

SDSS_PIXEL_BITS = {
    "NOPLUG": 0,
    "BADTRACE": 1,
    "BADFLAT": 2,
    "BADARC": 3,
    "MANYBADCOLUMNS": 4,
    "MANYREJECTED": 5,
    "LARGESHIFT": 6,
    "BADSKYFIBER": 7,
    "NEARWHOPPER": 8,
    "WHOPPER": 9,
    "SMEARIMAGE": 10,
    "SMEARHIGHSN": 11,
    "SMEARMEDSN": 12,
    "NEARBADPIXEL": 16,
    "LOWFLAT": 17,
    "FULLREJECT": 18,
    "PARTIALREJECT": 19,
    "SCATTEREDLIGHT": 20,
    "CROSSTALK": 21,
    "NOSKY": 22,
    "BRIGHTSKY": 23,
    "NODATA": 24,
    "COMBINEREJ": 25,
    "BADFLUXFACTOR": 26,
    "BADSKYCHI": 27,
    "REDMONSTER": 28,
}
"""SPPIXMASK, bits of ``and_mask``: 0 to 12 are about the fibre, 16 to 28 about the pixel."""

SDSS_BAD_BITS = (
    "NOPLUG",
    "BADTRACE",
    "BADARC",
    "FULLREJECT",
    "SCATTEREDLIGHT",
    "CROSSTALK",
    "NOSKY",
    "NODATA",
    "COMBINEREJ",
    "BADFLUXFACTOR",
    "BADSKYCHI",
    "REDMONSTER",
)
"""Bits that we mask by default: the flux is not that of the target, or the ivar does not account for the problem.

Left out on purpose: BRIGHTSKY, BADFLAT, LOWFLAT, NEARBADPIXEL, MANYBADCOLUMNS, PARTIALREJECT, WHOPPER. They are set in
8.7 % of the pixels, and there the flux scatters about the pipeline's model as its ivar says (docs/ingest.md has the
table), so the inverse variance already accounts for them.
"""

ZWARN_SKY = 1 << 0
ZWARN_UNPLUGGED = 1 << 7
ZWARN_NODATA = 1 << 9
ZWARN_UNSPECIFIED = 1 << 30
"""Our own bit: the source has only a bool, which does not say which warning it is."""

DESI_FIBER_INFORMATION = (1 << 1) | (1 << 3)
"""STUCKPOSITIONER and RESTRICTED of fibermask: remarks about the positioner, not about the spectrum."""

DESI_BAD_AMPLIFIER = {"B": 1 << 22, "R": 1 << 23, "Z": 1 << 24}
"""BADAMPB, BADAMPR, BADAMPZ of fibermask: only that camera is lost."""


def combine_bits(names: Iterable[str], bits: dict[str, int] = SDSS_PIXEL_BITS) -> int:
    """Return the integer with the named bits set; ``any`` alone sets all, ``none`` alone sets none.

    Raises
    ------
    DataError
        A name is unknown.
    """
    wanted = [name.strip().upper() for name in names if name.strip()]
    if wanted == ["ANY"]:
        return (1 << 32) - 1
    if wanted == ["NONE"]:
        return 0
    unknown = [name for name in wanted if name not in bits]
    if unknown:
        raise DataError(f"unknown mask bits {', '.join(unknown)}; allowed are any, none, or names of {', '.join(bits)}")
    return sum(1 << bits[name] for name in set(wanted))
