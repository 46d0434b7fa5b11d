"""Parquet tables with one spectrum per row in list columns.

The names are by default those of radioastronomyio's tiles: ``target_id, ra, dec, z, wavelength, flux, ivar,
mask_array``. Their vectors are the three DESI arms one after the other (7,958 pixels, the wavelength steps back twice):
these are split at the steps and coadded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.arms import merge_arms, merged_lattice, split_arms
from hpctrain.ingest.block import SpectraBlock, group_by_wavelength
from hpctrain.ingest.table_columns import KNOWN_NAMES, name_columns, read_columns
from hpctrain.ingest.tally import Tally

FILE_NAMES = ("*.parquet", "*.pq")
ROWS_AT_ONCE = 256
SPECTRUM_NAMES = {
    "flux": ("flux", "FLUX", "spectrum_flux"),
    "ivar": ("ivar", "IVAR", "spectrum_ivar"),
    "wavelength": ("wavelength", "WAVELENGTH", "wave", "lambda", "spectrum_lambda"),
    "mask": ("mask_array", "mask", "MASK", "spectrum_mask"),
}


@dataclass(frozen=True)
class ParquetReader:
    """Reads Parquet tables of spectra.

    Parameters
    ----------
    columns : dict of str
        Our column (flux, ivar, wavelength, mask, target_id, redshift, ...): theirs, where the names are unusual.
    """

    columns: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        import_pyarrow()

    def read(self, path: Path, tally: Tally) -> Iterator[SpectraBlock]:
        """Yield the rows of a file; rows with different wavelengths come in different blocks.

        Raises
        ------
        DataError
            Columns are missing.
        """
        parquet = import_pyarrow()
        if path.stat().st_size == 0:
            raise DataError("is empty")
        with parquet.ParquetFile(path) as file:
            available = file.schema_arrow.names
            names = name_columns(available, self.columns, {**KNOWN_NAMES, **SPECTRUM_NAMES})
            lacking = [key for key in ("flux", "ivar", "wavelength", "target_id") if key not in names]
            if lacking:
                raise DataError(
                    f"has no column for {', '.join(lacking)}; it has {', '.join(available)[:300]}; "
                    f"name it with --column {lacking[0]}=NAME"
                )
            begin = 0
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=list(dict.fromkeys(names.values()))):
                tally.num_read += batch.num_rows
                yield from self._blocks(batch, names, begin, tally)
                begin += batch.num_rows

    def _blocks(self, batch: Any, names: dict[str, str], begin: int, tally: Tally) -> Iterator[SpectraBlock]:
        columns = read_columns(names, lambda theirs: batch.column(theirs).to_numpy(zero_copy_only=False))
        columns["source_row"] = np.arange(begin, begin + batch.num_rows)
        vectors = {key: _vectors(batch.column(names[key])) for key in SPECTRUM_NAMES if key in names}
        reasons = [_malformed(vectors, row) for row in range(batch.num_rows)]
        nothing = np.zeros(0)
        wavelengths = [
            nothing if reason else np.asarray(vector, dtype=np.float64)
            for reason, vector in zip(reasons, vectors["wavelength"], strict=True)
        ]
        for common, rows in group_by_wavelength(wavelengths):
            part = {name: column[rows] for name, column in columns.items()}
            if not len(common):
                yield SpectraBlock.unusable(part, [reasons[row] for row in rows])
                continue
            flux = np.stack([np.asarray(vectors["flux"][row], dtype=np.float32) for row in rows])
            ivar = np.stack([np.asarray(vectors["ivar"][row], dtype=np.float32) for row in rows])
            if "mask" in vectors:
                mask = np.stack([_as_mask(vectors["mask"][row]) for row in rows])
                ivar[mask] = 0.0
            yield _on_one_grid(common, flux, ivar, part, tally)


def import_pyarrow() -> Any:
    """Return ``pyarrow.parquet``.

    Raises
    ------
    DataError
        pyarrow is not installed; the message says how to install it.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"Parquet files need pyarrow ({error}): pip install 'hpctrain[parquet]'") from error
    return pyarrow.parquet


def _vectors(column: Any) -> list[np.ndarray | None]:
    """Return the lists of a column as arrays, None where the row has none."""
    values = column.to_numpy(zero_copy_only=False)
    if values.dtype != object:
        raise DataError("a column of spectra holds single numbers, not lists")
    return list(values)


def _malformed(vectors: dict[str, list[np.ndarray | None]], row: int) -> str:
    """Say what is wrong with the lists of one row, or nothing."""
    parts = {key: values[row] for key, values in vectors.items()}
    absent = [key for key, part in parts.items() if part is None or len(part) == 0]
    if absent:
        return f"no {' and '.join(absent)}"
    if len({len(part) for part in parts.values()}) > 1:
        return "flux, ivar, wavelength (and mask) have different lengths"
    try:
        split_arms(parts["wavelength"])
    except DataError:
        return "wavelength is neither increasing nor a few camera arms"
    return ""


def _as_mask(values: np.ndarray) -> np.ndarray:
    # A null within a list comes as NaN, and is not known to be good.
    return np.nan_to_num(np.asarray(values, dtype=np.float64), nan=1.0) != 0


def _on_one_grid(
    wavelength_aa: np.ndarray, flux: np.ndarray, ivar: np.ndarray, columns: dict[str, np.ndarray], tally: Tally
) -> SpectraBlock:
    """Coadd arms that are written one after the other; refuse them when they have no lattice in common."""
    arms = split_arms(wavelength_aa)
    if len(arms) == 1:
        return SpectraBlock(wavelength_aa, flux, ivar, columns)
    try:
        merged, positions = merged_lattice([wavelength_aa[arm] for arm in arms])
    except DataError as error:
        return SpectraBlock.unusable(columns, [f"un-coadded: {error}"] * len(flux))
    flux, ivar = merge_arms(len(merged), positions, [flux[:, arm] for arm in arms], [ivar[:, arm] for arm in arms])
    tally.remarks[f"un-coadded vector of {len(wavelength_aa)} pixels, {len(arms)} arms coadded"] += len(flux)
    return SpectraBlock(merged, flux, ivar, columns)
