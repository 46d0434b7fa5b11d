"""SDSS, BOSS and eBOSS: one FITS file (spec or spec-lite, plain or gzipped) per spectrum.

HDU 1 has a row per pixel, HDU 2 one row about the object (``SPECOBJ`` or ``SPALL``; some files have empty HDU names, so
the numbers count). Wavelengths come from the LOGLAM column: the header's COEFF0 is up to 44 pixels off in files of
RUN2D 26. Column names are looked up without regard to case.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.bitmasks import SDSS_BAD_BITS, ZWARN_NODATA, ZWARN_SKY, ZWARN_UNPLUGGED, combine_bits
from hpctrain.ingest.block import SpectraBlock
from hpctrain.ingest.fits_table import FitsTable, Header, read_bytes, read_hdus
from hpctrain.ingest.sources import OTHER_SURVEYS
from hpctrain.ingest.tally import Tally
from hpctrain.kinds.spectra.grids import SDSS_LOG_STEP
from hpctrain.kinds.spectra.redshift import is_redshift
from hpctrain.preprocess.grid import ALIGNED_PIXELS

FILE_NAMES = ("spec-*.fits", "spec-*.fits.gz", "spec-*.fit", "spec-*.fit.gz")
NOT_SPECTRA = ("spPlate*", "spZ*", "photoPosPlate*", "specObj*")
_NAME = re.compile(r"spec-(?:lite-)?(\d+)-(\d+)-(\d+)")


@dataclass(frozen=True)
class SdssReader:
    """Reads one SDSS spectrum per file.

    Parameters
    ----------
    bad_bits : int
        Bits of ``and_mask`` that mask a pixel; ivar 0 always does.
    """

    bad_bits: int = combine_bits(SDSS_BAD_BITS)

    def read(self, path: Path, tally: Tally) -> Iterator[SpectraBlock]:
        """Yield the one spectrum of the file as a block of one row.

        Raises
        ------
        DataError
            The file is not an SDSS spectrum; the message says what is missing.
        """
        hdus = read_hdus(read_bytes(path), limit=3)
        if hdus and str(hdus[0].header.get("TELESCOP", "")).strip().upper() == "LAMOST":
            raise DataError("is a LAMOST spectrum; `hpctrain ingest lamost` reads it")
        if len(hdus) < 2 or not hdus[1].is_table:
            raise DataError(f"has no table in HDU 1; this is not an SDSS spec file; {OTHER_SURVEYS}")
        header, coadd = hdus[0].header, hdus[1]
        missing = [name for name in ("FLUX", "IVAR", "LOGLAM") if name not in coadd]
        if missing:
            there = ", ".join(coadd.names)[:120]
            raise DataError(f"HDU 1 lacks {', '.join(missing)}; it has {there}; {OTHER_SURVEYS}")
        if coadd.num_rows < 2:
            raise DataError(f"HDU 1 has {coadd.num_rows} pixels")
        if header.get("VACUUM") is False:
            raise DataError("wavelengths are in air (VACUUM = F); vacuum is needed")
        wavelength = lattice_wavelength(coadd.column("LOGLAM"))
        flux, ivar = coadd.column("FLUX").astype(np.float32), coadd.column("IVAR").astype(np.float32)
        if "AND_MASK" in coadd:
            ivar[(coadd.column("AND_MASK").astype(np.int64) & self.bad_bits) != 0] = 0.0
        else:
            tally.remarks["no AND_MASK column: only ivar masks pixels"] += 1
        columns, reason = self._describe(path, header, hdus[2] if len(hdus) > 2 else None, tally)
        key = tuple(int(columns[name][0]) for name in ("plate", "mjd", "fiber"))
        tally.num_read += 1
        yield SpectraBlock(wavelength, flux[None], ivar[None], columns, [reason], None if -1 in key else [key])

    def _describe(
        self, path: Path, header: Header, table: FitsTable | None, tally: Tally
    ) -> tuple[dict[str, np.ndarray], str]:
        """Return the columns of the row, and why it should be dropped (or nothing)."""
        if table is None or not table.is_table or table.num_rows == 0 or "Z" not in table:
            tally.remarks["no metadata in HDU 2: class and redshift unknown"] += 1
            table = None

        def first(*names: str, default: object) -> object:
            for name in names:
                if table is not None and name in table:
                    return table.column(name)[0]
            return default

        named = _NAME.search(path.name)
        plate, mjd, fiber = named.groups() if named else (-1, -1, -1)
        zwarn = int(first("ZWARNING", default=-1))
        spectype = bytes(first("CLASS", default=b"")).strip()
        redshift = float(first("Z", default=np.nan))
        redshift = redshift if is_redshift(redshift) else np.nan
        target_type = bytes(first("OBJTYPE", "SOURCETYPE", default=b"")).strip().upper()
        is_sky = (zwarn >= 0 and bool(zwarn & ZWARN_SKY)) or target_type == b"SKY"
        reason = ""
        if is_sky:
            # The pipeline fits class and redshift to the noise of a sky fibre; they are meaningless.
            spectype, redshift, reason = b"SKY", np.nan, "sky fibre"
        elif zwarn >= 0 and zwarn & (ZWARN_UNPLUGGED | ZWARN_NODATA):
            reason = "bad fibre (ZWARNING UNPLUGGED or NODATA)"
        columns = {
            "redshift": redshift,
            "redshift_error": _known(first("Z_ERR", default=np.nan), lowest=0.0),
            "zwarn": zwarn,
            "spectype": spectype,
            "ra": _known(first("PLUG_RA", "FIBER_RA", "RACAT", "RA", default=header.get("PLUG_RA", np.nan)), 0.0),
            "dec": _known(
                first("PLUG_DEC", "FIBER_DEC", "DECCAT", "DEC", default=header.get("PLUG_DEC", np.nan)), -90.0
            ),
            "plate": int(first("PLATE", "FIELD", default=header.get("PLATEID", plate))),
            "mjd": int(first("MJD", default=header.get("MJD", mjd))),
            "fiber": int(first("FIBERID", default=header.get("FIBERID", fiber))),
            "specobjid": _identifier(first("SPECOBJID", default=0)),
            "survey": _text(first("RUN2D", default=str(header.get("RUN2D", "")))),
            "source_row": 0,
        }
        return {name: np.array([value]) for name, value in columns.items()}, reason


def lattice_wavelength(loglam: np.ndarray) -> np.ndarray:
    """Return the wavelengths [AA] of SDSS pixels, without float32 rounding if they lie on the common lattice.

    Parameters
    ----------
    loglam : ndarray, shape (L,), float32
        log10 of the vacuum wavelength [AA]; steps of 1e-4, of which float32 rounds off up to 0.0024.

    Returns
    -------
    ndarray, shape (L,), float64
        Vacuum wavelengths [AA].
    """
    steps = loglam.astype(np.float64) / SDSS_LOG_STEP
    nearest = np.round(steps)
    on_lattice = np.all(np.abs(steps - nearest) < ALIGNED_PIXELS)
    return 10.0 ** ((nearest if on_lattice else steps) * SDSS_LOG_STEP)


def _known(value: object, lowest: float) -> float:
    """Return a number, or NaN for the -9999 and the like that catalogues hold."""
    number = float(value)
    return number if np.isfinite(number) and number >= lowest else np.nan


def _text(value: object) -> bytes:
    return (value if isinstance(value, bytes) else str(value).encode()).strip()


def _identifier(value: object) -> np.uint64:
    """Return SPECOBJID, which is a string, an int64 or a uint64 according to the release."""
    text = value.decode("ascii", errors="replace").strip() if isinstance(value, bytes) else str(value)
    return np.uint64(int(text) % 2**64) if re.fullmatch(r"-?\d+", text) else np.uint64(0)
