"""Redshifts of files of spectra as a catalogue. N spectra; they are streamed, and only the columns stay in memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpctrain import __version__
from hpctrain.files import creation_stamp
from hpctrain.kinds.spectra.catalogue import other_columns, source_files, write_catalogue
from hpctrain.redshift.catalogue import COLUMNS, EDGES, EDGES_MEANING, FORMAT, FORMAT_VERSION
from hpctrain.redshift.estimate import RedshiftEstimator
from hpctrain.redshift.zwarn import describe
from hpctrain.samples.loader import padded_requests, read_ahead

if TYPE_CHECKING:
    from hpctrain.kinds.spectra.hdf5 import SpectraSet


@dataclass(frozen=True)
class RedshiftSummary:
    """Counts of a written catalogue.

    Parameters
    ----------
    path : Path
        The catalogue.
    zwarn : ndarray, shape (N,), int64
    spectype : ndarray, shape (N,), bytes
    seconds : float
        Time for reading the spectra and finding their redshifts.
    columns : list of str
        Columns copied from the input.
    """

    path: Path
    zwarn: np.ndarray
    spectype: np.ndarray
    seconds: float
    columns: list[str]

    def __str__(self) -> str:
        total, good = len(self.zwarn), int((self.zwarn == 0).sum())
        speed = f"{self.seconds:.1f} s, {total / max(self.seconds, 1e-9):,.0f} spectra/s"
        lines = [f"{self.path}: redshifts of {total:,} spectra ({speed})"]
        lines.append(f"{good:>9,}  without a warning" + _by_class(self.spectype[self.zwarn == 0]))
        lines += describe(self.zwarn)
        if self.columns:
            lines.append(f"  columns copied from the input: {', '.join(self.columns)}")
        return "\n".join(lines)


def _by_class(spectype: np.ndarray) -> str:
    names, counts = np.unique(spectype, return_counts=True)
    listed = ", ".join(f"{count:,} {name.decode()}" for name, count in zip(names, counts, strict=True))
    return f" ({listed})" if listed else ""


def write_redshifts(
    estimator: RedshiftEstimator,
    spectra: SpectraSet,
    out: str | Path,
    *,
    batch_size: int = 256,
    reader_threads: int = 2,
    on_batch: Callable[[int], object] | None = None,
) -> RedshiftSummary:
    """Find the redshifts of spectra and write them as an HDF5 catalogue; write it as a whole or not at all.

    Parameters
    ----------
    estimator : RedshiftEstimator
    spectra : SpectraSet
        Opened with :class:`~hpctrain.kinds.spectra.section.ColumnsWithoutRedshift`: otherwise spectra without a
        redshift have no weight.
    out : str or Path
        The catalogue; an existing file is replaced.
    batch_size : int
        Spectra per batch, which limits the memory.
    reader_threads : int
        Number of threads that prefetch batches.
    on_batch : callable, optional
        Receives the number of spectra done so far.

    Raises
    ------
    DataError
        A spectrum cannot be read, or `out` cannot be written.
    """
    start = time.monotonic()
    rows = np.arange(len(spectra), dtype=np.int64)
    parts: dict[str, list[np.ndarray]] = {}
    done = 0
    for batch in read_ahead(spectra, padded_requests(rows, batch_size), reader_threads, 2 * max(1, reader_threads)):
        num_real = min(batch_size, len(rows) - done)
        for name, values in estimator(batch).items():
            parts.setdefault(name, []).append(values[:num_real].astype(COLUMNS[name][0]))
        done += num_real
        if on_batch is not None:
            on_batch(done)
    seconds = time.monotonic() - start
    table = {name: np.concatenate(values) for name, values in parts.items()}
    table["target_id"] = spectra.target_id
    others = other_columns(spectra, rows, {*table, EDGES})
    edges = {EDGES: (estimator.edges, EDGES_MEANING)}
    copied = write_catalogue(Path(out), table, COLUMNS, _attributes(estimator, spectra), others, edges, {"PZ"})
    return RedshiftSummary(Path(out), table["ZWARN"], table["SPECTYPE"], seconds, copied)


def _attributes(estimator: RedshiftEstimator, spectra: SpectraSet) -> dict[str, object]:
    templates = estimator.templates
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "hpctrain_version": __version__,
        "created": creation_stamp(),
        "source_files": source_files(spectra),
        "templates_sha256": templates.digest,
        "templates_provenance": json.dumps(templates.provenance),
        "classes": templates.names,
        "log_step": templates.step,
    }
