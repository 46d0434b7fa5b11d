"""Run a bundle over files of spectra, in bounded memory: latent vectors, reconstruction error and anomaly score."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpctrain import __version__
from hpctrain.edge.bundle import Bundle
from hpctrain.edge.runtime import OnnxNetwork
from hpctrain.edge.spectra_files import POSITION, SURVEY_COLUMNS, RawSpectra, SpectraFiles
from hpctrain.errors import DataError
from hpctrain.families.spectral_vae.anomaly_reference import UNUSUAL
from hpctrain.families.spectral_vae.catalogue import COLUMNS, ENCODED, FORMAT, FORMAT_VERSION, STATUS
from hpctrain.files import NewFile
from hpctrain.ingest.block import COLUMNS as BLOCK_COLUMNS
from hpctrain.ingest.identifiers import sdss_ids
from hpctrain.kinds.spectra.snr import signal_to_noise_of_arrays

FOREST = ("float32", "", "Isolation Forest of the bundle on LATENT_VEC; negative: more isolated than training spectra")
MORE_COLUMNS = {
    "ra": ("float64", "deg", "right ascension, ICRS; NaN where the file has none"),
    "dec": ("float64", "deg", "declination, ICRS; NaN where the file has none"),
    "source_row": ("int64", "", "row in source_file"),
}
"""Columns in addition to those of ``hpctrain encode``; `SURVEY_COLUMNS` and ``source_file`` follow."""

_CHUNK_ROWS = 4096

Table = dict[str, np.ndarray]


@dataclass
class InferSummary:
    """Numbers of spectra by status, and the time they took.

    Parameters
    ----------
    counts : Counter of int
        Number of spectra of each STATUS.
    num_anomalous : int
        Number of spectra with an anomaly score of `UNUSUAL` or more.
    seconds_network, seconds_total : float
        Time in the network, and total time [s].
    """

    counts: Counter[int] = field(default_factory=Counter)
    num_anomalous: int = 0
    seconds_network: float = 0.0
    seconds_total: float = 0.0

    @property
    def num_spectra(self) -> int:
        return sum(self.counts.values())

    def __str__(self) -> str:
        lines = [f"{self.num_spectra} spectra in {self.seconds_total:.2f} s"]
        if self.num_spectra:
            each_ms = 1000 * self.seconds_network / self.num_spectra
            lines[0] += f", {each_ms:.2f} ms in the network for each"
        lines += [f"  {self.counts[status]:>9}  {STATUS[status]}" for status in sorted(self.counts)]
        if self.counts[ENCODED]:
            lines.append(f"  {self.num_anomalous:>9}  with an anomaly score of {UNUSUAL:g} or more")
        return "\n".join(lines)


def infer(bundle: Bundle, network: OnnxNetwork, raw: RawSpectra) -> Table:
    """Run the network over some spectra.

    Parameters
    ----------
    bundle : Bundle
    network : OnnxNetwork
        Network of that bundle.
    raw : RawSpectra
        N spectra.

    Returns
    -------
    dict of ndarray, each of length N
        Columns of the catalogue: :data:`~hpctrain.families.spectral_vae.catalogue.COLUMNS`, ``ra``, ``dec``,
        ``source_row`` and the survey's columns of `raw`.
    """
    prepared = bundle.preparation(raw.flux, raw.ivar, raw.wavelength_aa, raw.redshift)
    table = bundle.preparation.catalogue(prepared, network(prepared.feeds))
    # The catalogue holds latents in half precision; its readers can compute the same scores from them.
    latents = table["LATENT_VEC"].astype(np.float16)
    snr = signal_to_noise_of_arrays(prepared.feeds["flux"], prepared.feeds["ivar"])
    snr[table["STATUS"] != ENCODED] = np.nan
    return {
        **table,
        "LATENT_VEC": latents,
        "SNR": snr,
        **bundle.scores(latents, table["RECON_MSE"], snr, raw.redshift.astype(np.float32)),
        "target_id": raw.target_id,
        "redshift": raw.redshift.astype(np.float32),
        "ra": raw.ra,
        "dec": raw.dec,
        "source_row": raw.row,
        **raw.columns,
    }


def infer_files(
    bundle: Bundle,
    network: OnnxNetwork,
    files: SpectraFiles,
    batch_size: int,
    on_batch: Callable[[RawSpectra, Table], None],
) -> InferSummary:
    """Run the network over files and pass on the results batch by batch.

    Parameters
    ----------
    bundle : Bundle
    network : OnnxNetwork
    files : SpectraFiles
    batch_size : int
        Number of spectra in one call of the network.
    on_batch : callable
        Is called with each batch and its columns.
    """
    summary, started = InferSummary(), time.perf_counter()
    timed = _Timed(network)
    for raw in _in_batches(files, batch_size):
        table = infer(bundle, timed, raw)
        values, numbers = np.unique(table["STATUS"], return_counts=True)
        summary.counts.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
        summary.num_anomalous += int((table["ANOMALY_SCORE"] >= UNUSUAL).sum())
        on_batch(raw, table)
    summary.seconds_network, summary.seconds_total = timed.seconds, time.perf_counter() - started
    return summary


class _Timed:
    """A network that adds up the time of its calls."""

    def __init__(self, network: OnnxNetwork) -> None:
        self._network, self.seconds = network, 0.0

    def __call__(self, feeds: Table) -> Table:
        started = time.perf_counter()
        try:
            return self._network(feeds)
        finally:
            self.seconds += time.perf_counter() - started


def _in_batches(files: SpectraFiles, batch_size: int) -> Iterator[RawSpectra]:
    """Cut the rows of the files into batches of at most `batch_size`."""
    for raw in files:
        for start in range(0, len(raw), batch_size):
            yield raw.take(slice(start, start + batch_size))


def _described(bundle: Bundle) -> str:
    """Return what the anomaly scores of a bundle compare with."""
    if bundle.ordinary is None:
        return "none: the bundle was exported by an older hpctrain; only FOREST_SCORE is known"
    origin = bundle.entries.get("anomaly_reference", f"{bundle.ordinary.num_objects} training spectra")
    return f"{origin} in the bundle"


class CatalogueWriter:
    """An HDF5 catalogue that grows batch by batch and gets its name when it is complete.

    Parameters
    ----------
    path : Path
        The catalogue; it replaces an existing file when it is complete.
    bundle : Bundle
    sources : list of Path
        Files that hold the spectra.

    Raises
    ------
    DataError
        The file cannot be written.
    """

    def __init__(self, path: Path, bundle: Bundle, sources: list[Path]) -> None:
        self._path = path
        # Strings of fixed length: h5py, PyTables and astropy read them as an array of bytes, without a table of names.
        longest = max((len(os.fsencode(source)) for source in sources), default=1)
        self._name_type = np.dtype(f"S{longest}")
        self._named_by_position: list[tuple[int, int]] = []
        self._num_rows = 0
        try:
            self._new = NewFile(path)
            self._file = h5py.File(self._new.name_for_libraries, "w")
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error})") from error
        self._file.attrs.update(
            {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "hpctrain_version": __version__,
                "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "model_name": bundle.name,
                "bundle": str(bundle.path.resolve()),
                "anomaly_reference": _described(bundle),
                "bundle_status": str(bundle.entries["status"]),
                "network_sha256": str(bundle.entries["files"][bundle.network.name]["sha256"]),
                "normalise": json.dumps(
                    {"windows_aa": bundle.preparation.windows_aa, "min_snr": bundle.preparation.min_snr}
                ),
            }
        )

    def __call__(self, raw: RawSpectra, table: Table) -> None:
        """Append a batch."""
        source = np.full(len(raw), os.fsencode(raw.path), dtype=self._name_type)
        if raw.is_named_by_position:
            self._named_by_position.append((self._num_rows, self._num_rows + len(raw)))
        try:
            for name, (dtype, unit, meaning) in {**COLUMNS, "FOREST_SCORE": FOREST, **MORE_COLUMNS}.items():
                self._append(name, table[name].astype(dtype, copy=False), unit, meaning)
            for name in SURVEY_COLUMNS:
                if name in table:
                    column = BLOCK_COLUMNS[name]
                    values = np.asarray(table[name]).astype(column.dtype)
                    self._append(name, values, column.unit, column.description, column.missing)
            self._append("source_file", source, "", "path of the file that holds the spectrum", compression="gzip")
        except OSError as error:
            raise DataError(f"{self._path}: cannot be written ({error})") from error
        self._num_rows += len(raw)

    def _append(
        self, name: str, values: np.ndarray, unit: str, meaning: str, missing: object = None, **options: Any
    ) -> None:
        """Add values to a column; a column that begins later than the others holds `missing` in the rows before."""
        if name not in self._file:
            shape = values.shape[1:]
            options |= {"maxshape": (None, *shape), "chunks": (_CHUNK_ROWS, *shape), "fillvalue": missing}
            dataset = self._file.create_dataset(name, (0, *shape), values.dtype, **options)
            dataset.attrs.update({"unit": unit, "description": meaning})
        dataset = self._file[name]
        dataset.resize(self._num_rows + len(values), axis=0)
        dataset[self._num_rows :] = values

    def _name_objects(self) -> None:
        """Give all observations of one object the same target id, as `hpctrain ingest` does."""
        if not self._named_by_position:
            return
        rows = np.concatenate([np.arange(*piece) for piece in self._named_by_position])
        target_id = self._file["target_id"][:]
        target_id[rows] = sdss_ids(*(self._file[name][:][rows] for name in POSITION))
        self._file["target_id"][:] = target_id

    def finish(self) -> None:
        """Complete the columns and give the file its name."""
        try:
            for dataset in self._file.values():
                dataset.resize(self._num_rows, axis=0)
            self._name_objects()
            self._file.close()
            self._new.publish()
        except OSError as error:
            raise DataError(f"{self._path}: cannot be written ({error})") from error

    def discard(self) -> None:
        """Remove the unfinished file; does nothing after :meth:`finish`."""
        if self._file:
            self._file.close()
        self._new.discard()
