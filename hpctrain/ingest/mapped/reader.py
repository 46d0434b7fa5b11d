"""Reads files of spectra by a mapping, as blocks for the common way to the output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpctrain.ingest.block import SpectraBlock
from hpctrain.ingest.mapped.convert import Raw, convert, read_raw
from hpctrain.ingest.mapped.labels import label_values, made_ids, one_value, ours_from_theirs
from hpctrain.ingest.mapped.mapping import Mapping
from hpctrain.ingest.mapped.resolve import Layout, resolve
from hpctrain.ingest.mapped.stores.opening import open_stores
from hpctrain.ingest.tally import Tally

MADE_IDS = "target id made of file name and row: repeated observations are not recognised (--column target_id=NAME)"


@dataclass(frozen=True)
class MappedReader:
    """Reads the spectra of FITS, HDF5, npz, text and other files by a mapping.

    Parameters
    ----------
    kind : {"fits", "hdf5", "table", "any"}
        How files are opened.
    mapping : Mapping
    """

    kind: str
    mapping: Mapping

    def read(self, path: Path, tally: Tally) -> Iterator[SpectraBlock]:
        """Yield the spectra of a file; spectra of different wavelengths come in different blocks.

        Raises
        ------
        DataError
            The file is damaged, or lacks what the mapping names.
        """
        first_row = 0
        for store in open_stores(self.kind, path, self.mapping):
            layout = resolve(store, self.mapping)
            num_rows = 0
            for raw, labels in spectra_with_labels(layout):
                tally.num_read += len(raw.rows)
                num_rows += len(raw.rows)
                yield self._block(path, raw, labels, layout, first_row, tally)
            first_row += num_rows

    def _block(
        self, path: Path, raw: Raw, labels: dict[str, np.ndarray], layout: Layout, first_row: int, tally: Tally
    ) -> SpectraBlock:
        columns = ours_from_theirs(labels, layout.labels, self.mapping.missing)
        columns["source_row"] = raw.rows + first_row
        if "target_id" not in columns:
            columns["target_id"] = made_ids(path.name, columns["source_row"])
            tally.remarks[MADE_IDS] += len(raw.rows)
        converted = convert(raw, layout, self.mapping)
        if converted.reason:
            return SpectraBlock.unusable(columns, [converted.reason] * len(raw.rows))
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is masked
            return SpectraBlock(
                converted.wavelength_aa,
                converted.flux.astype(np.float32),
                converted.ivar.astype(np.float32),
                columns,
                ivar_floor=0.0,
            )


def spectra_with_labels(layout: Layout) -> Iterator[tuple[Raw, dict[str, np.ndarray]]]:
    """Yield spectra of one grid with the values of their labels, shape (n,), as the file holds them.

    Raises
    ------
    DataError
        A label of a single spectrum has several values.
    """
    if layout.arrangement.kind != "single":
        for raw in read_raw(layout):
            begin, end = int(raw.rows[0]), int(raw.rows[-1]) + 1
            chosen = raw.rows - begin
            values = {
                ours: label_values(label, slice(begin, end), end - begin)[chosen]
                for ours, label in layout.labels.items()
            }
            yield raw, values
        return
    raw = next(read_raw(layout))
    num_pixels = layout.arrangement.num_pixels
    values = {ours: label_values(label, None, num_pixels) for ours, label in layout.labels.items()}
    for number, pixels in enumerate(_objects(values.get("target_id"), num_pixels)):
        part = Raw(
            np.array([number]),
            raw.wavelength[pixels],
            raw.flux[:, pixels],
            None if raw.noise is None else raw.noise[:, pixels],
            raw.bad[:, pixels],
        )
        yield part, {ours: one_value(ours, layout.labels[ours], each[pixels]) for ours, each in values.items()}


def _objects(target_id: np.ndarray | None, num_pixels: int) -> list[np.ndarray]:
    """Return the pixels of each object of a table with a row per pixel, in order of first appearance."""
    if target_id is None or not num_pixels:
        return [np.arange(num_pixels)]
    _, first, inverse = np.unique(target_id, return_index=True, return_inverse=True)
    return [np.flatnonzero(inverse.reshape(-1) == number) for number in np.argsort(first, kind="stable")]
