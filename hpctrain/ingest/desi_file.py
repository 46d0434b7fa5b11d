"""One DESI FITS file: its arms on their common lattice, and the facts about each row from headers and FIBERMAP.

HDUs are found by name, never by number: their order, the type of ``*_MASK`` (uint32 with BZERO, int32, compressed, or
absent) and the columns of FIBERMAP differ between releases and between the tools that trimmed the files.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.arms import merge_arms, merged_lattice
from hpctrain.ingest.bitmasks import DESI_BAD_AMPLIFIER
from hpctrain.ingest.sources import OTHER_SURVEYS
from hpctrain.ingest.tally import Tally


class DesiFile:
    """The arms of one open file on their common lattice, and the facts from its headers and FIBERMAP.

    Parameters
    ----------
    path : Path
        The file, for ids of rows without a target and to know whether it is gzipped.
    hdus : astropy.io.fits.HDUList
        The same file, open.

    Raises
    ------
    DataError
        There are no arms, or they don't fit together.
    """

    def __init__(self, path: Path, hdus: Any) -> None:
        self.path = path
        with open(path, "rb") as stream:
            self._is_gzip = stream.read(2) == b"\x1f\x8b"
        self._hdus = {hdu.name.upper(): hdu for hdu in hdus}
        self._bands = [name.removesuffix("_WAVELENGTH") for name in self._hdus if name.endswith("_WAVELENGTH")]
        self._bands = [band for band in self._bands if f"{band}_FLUX" in self._hdus]
        if not self._bands:
            names = ", ".join(name or "(no name)" for name in self._hdus)
            raise DataError(f"has no arms (B_WAVELENGTH with B_FLUX, ...); its HDUs are {names[:200]}; {OTHER_SURVEYS}")
        lacking = [f"{band}_IVAR" for band in self._bands if f"{band}_IVAR" not in self._hdus]
        if lacking:
            raise DataError(f"has no {', '.join(lacking)}")
        arms = [np.asarray(self._hdus[f"{band}_WAVELENGTH"].data, dtype=np.float64) for band in self._bands]
        self.wavelength_aa, self._positions = merged_lattice(arms)
        shapes = {band: self._hdus[f"{band}_FLUX"].shape for band in self._bands}
        self.num_rows = shapes[self._bands[0]][0]
        for band, arm in zip(self._bands, arms, strict=True):
            for kind in ("FLUX", "IVAR", "MASK"):
                hdu = self._hdus.get(f"{band}_{kind}")
                if hdu is not None and hdu.shape != (self.num_rows, len(arm)):
                    raise DataError(f"{band}_{kind} has shape {hdu.shape}, expected {(self.num_rows, len(arm))}")
            unit = str(self._hdus[f"{band}_FLUX"].header.get("BUNIT", "") or "")
            if unit and "17" not in unit:
                raise DataError(f"{band}_FLUX is in '{unit}', not in 1e-17 erg s-1 cm-2 AA-1")
        header = hdus[0].header
        fibermap = self._hdus["FIBERMAP"].header if "FIBERMAP" in self._hdus else {}
        self.survey = str(header.get("SURVEY", fibermap.get("SURVEY", ""))).strip().lower().encode()
        self.program = str(header.get("PROGRAM", fibermap.get("PROGRAM", ""))).strip().lower().encode()
        self.healpix = int(header.get("HPXPIXEL", fibermap.get("HPXPIXEL", -1)))
        self.has_targets = "FIBERMAP" in self._hdus

    def fibermap(self, tally: Tally) -> dict[str, np.ndarray]:
        """Return the facts about each row from FIBERMAP, with defaults for columns it lacks."""
        count = self.num_rows
        facts = {
            "target_id": _ids_from_name(self.path, count),
            "ra": np.full(count, np.nan),
            "dec": np.full(count, np.nan),
            "objtype": np.full(count, b"TGT", dtype="S3"),
            "fiberstatus": np.zeros(count, dtype=np.int64),
        }
        if not self.has_targets:
            tally.remarks["no FIBERMAP: target ids made of file name and row, repeats not recognised"] += count
            return facts
        data = self._hdus["FIBERMAP"].data
        if len(data) != count:
            raise DataError(f"FIBERMAP has {len(data)} rows but there are {count} spectra")
        names = {name.upper(): name for name in data.names}
        if "TARGETID" not in names:
            raise DataError("FIBERMAP has no TARGETID")
        sources = {
            "target_id": ("TARGETID",),
            "ra": ("TARGET_RA", "RA_TARGET", "MEAN_FIBER_RA"),
            "dec": ("TARGET_DEC", "DEC_TARGET", "MEAN_FIBER_DEC"),
            "objtype": ("OBJTYPE",),
            "fiberstatus": ("COADD_FIBERSTATUS", "FIBERSTATUS"),
        }
        for fact, candidates in sources.items():
            for name in candidates:
                if name in names:
                    values = np.asarray(data[names[name]])
                    values = np.char.strip(values.astype("S")) if fact == "objtype" else values
                    facts[fact] = values.astype(facts[fact].dtype)
                    break
        facts["ra"][~((facts["ra"] >= 0) & (facts["ra"] <= 360))] = np.nan
        facts["dec"][~(np.abs(facts["dec"]) <= 90)] = np.nan
        return facts

    def merge(
        self, rows: np.ndarray, groups: np.ndarray, fiberstatus: np.ndarray, tally: Tally
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return flux and ivar, shape (groups, L), of the given rows, masks applied before anything is added up."""
        fluxes, ivars = [], []
        for band in self._bands:
            fluxes.append(self._read(f"{band}_FLUX", rows).astype(np.float32))
            ivar = self._read(f"{band}_IVAR", rows).astype(np.float32)
            if f"{band}_MASK" in self._hdus:
                ivar[self._read(f"{band}_MASK", rows) != 0] = 0.0
            lost = (fiberstatus & DESI_BAD_AMPLIFIER.get(band, 0)) != 0
            if lost.any():
                ivar[lost] = 0.0
                tally.remarks[f"{band} arm masked: BADAMP{band} in FIBERSTATUS"] += int(lost.sum())
            ivars.append(ivar)
        return merge_arms(len(self.wavelength_aa), self._positions, fluxes, ivars, groups)

    def _read(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Return rows of an image. A plain file is read row by row; a gzipped one is unzipped once and kept in
        memory."""
        hdu = self._hdus[name]
        if self._is_gzip:
            return np.asarray(hdu.data)[rows]
        first = int(rows.min())
        return np.asarray(hdu.section[first : int(rows.max()) + 1])[rows - first]


def _ids_from_name(path: Path, count: int) -> np.ndarray:
    """Return ids that depend on file name and row only, for files that don't say which targets they hold."""
    name = re.sub(r"\.gz$", "", path.name)
    digests = (hashlib.blake2b(f"{name}:{row}".encode(), digest_size=8).digest() for row in range(count))
    return np.array([int.from_bytes(digest, "big") >> 1 for digest in digests], dtype=np.int64)
