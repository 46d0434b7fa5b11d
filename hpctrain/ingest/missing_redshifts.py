"""Fills redshifts that no table has. The method itself comes from the caller: this package imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hpctrain.ingest.tally import Tally
from hpctrain.ingest.writer import SpectraWriter

ROWS_AT_ONCE = 256

ESTIMATED = b"estimated"
"""Value of the column ``redshift_source`` for a redshift that was estimated here."""


@dataclass(frozen=True)
class Estimates:
    """Redshifts of n spectra.

    Parameters
    ----------
    redshift, error : ndarray, shape (n,), float64
    spectype : ndarray, shape (n,), bytes
    zwarn : ndarray, shape (n,), int64
        0 where the redshift is reliable; only such a redshift is used.
    """

    redshift: np.ndarray
    error: np.ndarray
    spectype: np.ndarray
    zwarn: np.ndarray


class Estimator(Protocol):
    """Estimates redshifts."""

    def prepare(self, wavelength_aa: np.ndarray) -> None:
        """Get ready for spectra on this grid, shape (L,)."""

    def __call__(self, flux: np.ndarray, ivar: np.ndarray) -> Estimates:
        """Return redshifts of spectra, shape (n, L)."""

    @property
    def provenance(self) -> dict[str, Any]:
        """Plain values that say how the redshifts were estimated."""


def fill_missing(writer: SpectraWriter, estimator: Estimator, tally: Tally) -> dict[str, Any]:
    """Fill the redshift of each row that has none, unless it is a sky fibre or the estimate is unreliable.

    Parameters
    ----------
    writer : SpectraWriter
        All rows of the output; its columns are changed.
    estimator : Estimator
    tally : Tally
        Gets a remark for each outcome.

    Returns
    -------
    dict
        How the redshifts were estimated, for the record; empty if none is missing.
    """
    columns = {name: writer.column(name) for name in ("redshift", "redshift_error", "zwarn", "spectype")}
    source = writer.column("redshift_source")
    rows = np.flatnonzero(np.isnan(columns["redshift"]) & (np.char.strip(columns["spectype"]) != b"SKY"))
    if not len(rows):
        return {}
    estimator.prepare(writer.wavelength_aa)
    num_filled = 0
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        found = estimator(*writer.read(part))
        good = found.zwarn == 0
        chosen = part[good]
        values = {"redshift": found.redshift, "redshift_error": found.error, "zwarn": found.zwarn}
        for name, estimates in values.items():
            columns[name][chosen] = estimates[good]
        unknown = np.char.strip(columns["spectype"][chosen]) == b""
        columns["spectype"][chosen[unknown]] = found.spectype[good][unknown]
        source[chosen] = ESTIMATED
        num_filled += len(chosen)
    for name, values in {**columns, "redshift_source": source}.items():
        writer.replace_column(name, values)
    if num_filled:
        tally.remarks["redshift estimated (redshift_source says which)"] = num_filled
    if num_filled < len(rows):
        tally.remarks["no reliable redshift could be estimated; it stays missing"] = len(rows) - num_filled
    return {"estimated": num_filled, "not_reliable": len(rows) - num_filled, **estimator.provenance}
