"""DESI: coadd-*.fits and spectra-*.fits, plain or gzipped: one spectrum per target, redshifts joined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.bitmasks import DESI_BAD_AMPLIFIER, DESI_FIBER_INFORMATION
from hpctrain.ingest.block import SpectraBlock
from hpctrain.ingest.desi_file import DesiFile
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
        Takes precedence over the redrock file beside the spectra, which is used for targets that this table lacks.
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
            file = DesiFile(path, hdus)
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

        Each row that will be dropped is its own group, so that a bad exposure never enters a coadd.
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
            # Spectra without redshifts are still written, so the note says why their redshifts are missing.
            tally.failed_files.append((str(beside), str(error)))
            return None

    def _columns(
        self,
        file: DesiFile,
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


def _reasons(facts: dict[str, np.ndarray]) -> list[str]:
    """Return for each row why it is not the spectrum of a target, or an empty text."""
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
    """Split rows into chunks of about `size` rows without splitting a group."""
    if not len(groups):
        return
    starts = np.append(np.flatnonzero(np.diff(groups, prepend=-1)), len(groups)).tolist()
    begin = 0
    for end, following in zip(starts[1:], [*starts[2:], None], strict=True):
        if following is None or following - begin > size:
            yield begin, end
            begin = end
