"""DESI: coadd-*.fits and spectra-*.fits, plain or gzipped, many spectra in camera arms per file.

HDUs are found by name, never by number: their order, the type of ``*_MASK`` (uint32 with BZERO, int32, compressed, or
absent) and the columns of FIBERMAP differ between releases and between the tools that trimmed the files.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.arms import merge_arms, merged_lattice
from hpctrain.ingest.bitmasks import DESI_BAD_AMPLIFIER, DESI_FIBER_INFORMATION
from hpctrain.ingest.block import SpectraBlock
from hpctrain.ingest.redshifts import RedshiftTable, find_beside, read_redshifts
from hpctrain.ingest.tally import Tally

FILE_NAMES = ("coadd-*.fits", "coadd-*.fits.gz", "spectra-*.fits", "spectra-*.fits.gz")
NOT_SPECTRA = (
    "redrock-*",
    "zbest-*",
    "rrdetails-*",
    "QSO_cat*",
    "qso_*",
    "zall-*",
    "zpix-*",
    "ztile-*",
    "zcat-*",
    "emline-*",
)
ROWS_AT_ONCE = 256
"""Rows merged at a time: 256 x 7,781 pixels take 60 MB as float64."""


@dataclass(frozen=True)
class DesiReader:
    """Reads DESI coadds and spectra onto the merged lattice of the cameras (7,781 pixels of 0.8 AA).

    Parameters
    ----------
    exposures : {"coadd", "rows"}
        What to do with several rows of one target in a file: one inverse-variance coadd, or a row each.
    redshifts : RedshiftTable, optional
        Comes before the redrock file beside the spectra, which fills in the targets this one lacks.
    """

    exposures: Literal["coadd", "rows"] = "coadd"
    redshifts: RedshiftTable | None = None

    def read(self, path: Path, tally: Tally) -> Iterator[SpectraBlock]:
        """Yield the targets of a file in blocks, in the order in which they first appear.

        Raises
        ------
        DataError
            Arms or rows don't fit together, or there are none.
        """
        from astropy.io import fits

        if path.stat().st_size == 0:
            raise DataError("is empty")
        with fits.open(path, memmap=False) as hdus:
            file = _DesiFile(path, hdus)
            num_rows = file.num_rows
            tally.num_read += num_rows
            facts = file.fibermap(tally)
            reasons = _reasons(facts)
            order, groups = self._group(facts["target_id"], reasons)
            tally.num_merged += len(order) - (int(groups[-1]) + 1 if len(groups) else 0)
            beside = self._read_beside(path, tally)
            for begin, end in _group_chunks(groups, ROWS_AT_ONCE):
                rows = order[begin:end]
                flux, ivar = file.merge(rows, groups[begin:end] - groups[begin], facts["fiberstatus"][rows], tally)
                firsts = np.flatnonzero(np.diff(groups[begin:end], prepend=groups[begin] - 1))
                columns = self._columns(file, facts, rows[firsts], beside, tally)
                columns["num_exposures"] = np.diff(np.append(firsts, end - begin))
                yield SpectraBlock(file.wavelength_aa, flux, ivar, columns, [reasons[row] for row in rows[firsts]])

    def _group(self, target_id: np.ndarray, reasons: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return rows in an order that brings exposures of one target together, and the number of each row's group.

        Rows with a reason to be dropped stay alone, so that a bad exposure never enters a coadd.
        """
        if self.exposures == "rows":
            return np.arange(len(target_id)), np.arange(len(target_id))
        numbers: dict[int | tuple[int], int] = {}
        group = np.array(
            [
                numbers.setdefault((row,) if reasons[row] else int(target), len(numbers))
                for row, target in enumerate(target_id)
            ],
            dtype=np.int64,
        )
        order = np.argsort(group, kind="stable")
        return order, group[order]

    def _read_beside(self, path: Path, tally: Tally) -> RedshiftTable | None:
        beside = find_beside(path)
        if beside is None:
            return None
        try:
            return read_redshifts([beside])
        except DataError as error:
            # The spectra are worth having without redshifts, but nobody should have to guess why these are missing.
            tally.failed_files.append((str(beside), str(error)))
            return None

    def _columns(
        self,
        file: _DesiFile,
        facts: dict[str, np.ndarray],
        rows: np.ndarray,
        beside: RedshiftTable | None,
        tally: Tally,
    ) -> dict[str, np.ndarray]:
        num_rows = len(rows)
        columns = {
            "target_id": facts["target_id"][rows],
            "ra": facts["ra"][rows],
            "dec": facts["dec"][rows],
            "redshift": np.full(num_rows, np.nan),
            "redshift_error": np.full(num_rows, np.nan, dtype=np.float32),
            "zwarn": np.full(num_rows, -1, dtype=np.int64),
            "spectype": np.full(num_rows, b"", dtype="S8"),
            "survey": np.full(num_rows, file.survey, dtype="S16"),
            "program": np.full(num_rows, file.program, dtype="S16"),
            "healpix": np.full(num_rows, file.healpix, dtype=np.int64),
            "source_row": rows,
        }
        for table, source in ((self.redshifts, "--redshifts"), (beside, "the redrock file beside")):
            if table is None:
                continue
            found = table.find(columns["target_id"], file.survey, file.program)
            wanted = np.isnan(columns["redshift"]) & (found >= 0) & file.has_targets
            for name, values in (
                ("redshift", table.redshift),
                ("redshift_error", table.error),
                ("zwarn", table.zwarn),
                ("spectype", table.spectype),
            ):
                columns[name][wanted] = values[found[wanted]]
            if wanted.any():
                tally.remarks[f"redshift from {source}"] += int(wanted.sum())
        sky = facts["objtype"][rows] == b"SKY"
        columns["spectype"][sky], columns["redshift"][sky] = b"SKY", np.nan
        return columns


class _DesiFile:
    """The arms of one open file on their common lattice, and what its headers and FIBERMAP say."""

    def __init__(self, path: Path, hdus: Any) -> None:
        self.path = path
        with open(path, "rb") as stream:
            self._is_gzip = stream.read(2) == b"\x1f\x8b"
        self._hdus = {hdu.name.upper(): hdu for hdu in hdus}
        self._bands = [name.removesuffix("_WAVELENGTH") for name in self._hdus if name.endswith("_WAVELENGTH")]
        self._bands = [band for band in self._bands if f"{band}_FLUX" in self._hdus]
        if not self._bands:
            names = ", ".join(name or "(no name)" for name in self._hdus)
            raise DataError(f"has no arms (B_WAVELENGTH with B_FLUX, ...); its HDUs are {names[:200]}")
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
        """Return what FIBERMAP says about each row, with stand-ins for columns it lacks."""
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
        """Return rows of an image: only these from a plain file, while a gzipped one is unzipped once and kept."""
        hdu = self._hdus[name]
        if self._is_gzip:
            return np.asarray(hdu.data)[rows]
        first = int(rows.min())
        return np.asarray(hdu.section[first : int(rows.max()) + 1])[rows - first]


def _reasons(facts: dict[str, np.ndarray]) -> list[str]:
    """Say for each row why it is no spectrum of a target, or nothing."""
    harmless = DESI_FIBER_INFORMATION | sum(DESI_BAD_AMPLIFIER.values())
    bad = (facts["fiberstatus"] & ~np.int64(harmless)) != 0
    reasons = []
    for target, objtype, is_bad in zip(facts["target_id"], facts["objtype"], bad, strict=True):
        if objtype == b"SKY":
            reasons.append("sky fibre")
        elif objtype not in (b"TGT", b""):
            reasons.append(f"no target (OBJTYPE {objtype.decode(errors='replace')})")
        elif target < 0:
            reasons.append("no target (TARGETID < 0: stuck or sky fibre)")
        else:
            reasons.append("bad fibre (FIBERSTATUS)" if is_bad else "")
    return reasons


def _group_chunks(groups: np.ndarray, size: int) -> Iterator[tuple[int, int]]:
    """Cut rows into chunks of about `size` rows without cutting a group."""
    if not len(groups):
        return
    starts = np.append(np.flatnonzero(np.diff(groups, prepend=-1)), len(groups)).tolist()
    begin = 0
    for end, following in zip(starts[1:], [*starts[2:], None], strict=True):
        if following is None or following - begin > size:
            yield begin, end
            begin = end


def _ids_from_name(path: Path, count: int) -> np.ndarray:
    """Return ids that depend on file name and row only, for files that don't say which targets they hold."""
    name = re.sub(r"\.gz$", "", path.name)
    digests = (hashlib.blake2b(f"{name}:{row}".encode(), digest_size=8).digest() for row in range(count))
    return np.array([int.from_bytes(digest, "big") >> 1 for digest in digests], dtype=np.int64)
