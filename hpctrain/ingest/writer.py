"""Writes the output file in bounded memory, contiguous; it gets its name only when it is complete.

The loader reads contiguous datasets fastest, but they cannot grow. So rows are first written to two files without a
name in the folder of the output, and copied into datasets of the final size at the end. Such a file is gone when its
process ends, however it ends. Columns of single numbers are kept in memory.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from hpctrain.errors import DataError
from hpctrain.files import NewFile
from hpctrain.ingest.block import ALWAYS_WRITTEN, COLUMNS
from hpctrain.ingest.carried import CarriedColumns
from hpctrain.kinds.spectra.layout import FLUX_UNIT, IVAR_UNIT
from hpctrain.samples.fingerprint import ColumnHash, settle_time, write_hashes
from hpctrain.samples.sink import Sink, new_hdf5_file, require_free

COPY_BYTES = 32 << 20


class SpectraWriter:
    """Collects rows and writes them as one HDF5 file; a context manager that removes its files when it fails.

    Parameters
    ----------
    out : Path
        The file to make; its folder is made when it is missing.
    wavelength_aa : ndarray, shape (L,), float64
        The common grid [AA].
    overwrite : bool
        Replace an existing file, at the very end.
    carried : CarriedColumns, optional
        What the columns beside :data:`hpctrain.ingest.block.COLUMNS` mean.
    flux_unit : str
        Unit of flux, or ``relative``.

    Raises
    ------
    DataError
        `out` exists and `overwrite` is false, or the folder cannot be written to.
    """

    def __init__(
        self,
        out: Path,
        wavelength_aa: np.ndarray,
        overwrite: bool = False,
        carried: CarriedColumns | None = None,
        flux_unit: str = FLUX_UNIT,
    ) -> None:
        self.out = out
        self.wavelength_aa = wavelength_aa
        self.overwrite = overwrite
        self.num_rows = 0
        self.flux_unit = flux_unit
        self._columns: dict[str, list[np.ndarray]] = {name: [] for name in COLUMNS}
        self._carried = carried or CarriedColumns()
        require_free(out, overwrite)
        self._spools: dict[str, BinaryIO] = {}

    def __enter__(self) -> SpectraWriter:
        with _disk_errors(self.out):
            self.out.parent.mkdir(parents=True, exist_ok=True)
            for name in ("flux", "ivar"):
                self._spools[name] = tempfile.TemporaryFile(dir=self.out.parent)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for spool in self._spools.values():
            with contextlib.suppress(OSError):
                spool.close()

    def append(self, flux: np.ndarray, ivar: np.ndarray, columns: dict[str, np.ndarray]) -> None:
        """Add rows.

        Parameters
        ----------
        flux, ivar : ndarray, shape (n, L), float32
            On the common grid.
        columns : dict of ndarray, shape (n,)
            Any of :data:`hpctrain.ingest.block.COLUMNS`, and columns that are carried along; a missing column gets its
            value for 'not known'.
        """
        with _disk_errors(self.out):
            self._spools["flux"].write(np.ascontiguousarray(flux, dtype=np.float32).data)
            self._spools["ivar"].write(np.ascontiguousarray(ivar, dtype=np.float32).data)
        for name, column in COLUMNS.items():
            values = columns.get(name)
            filled = np.full(len(flux), column.missing, column.dtype) if values is None else values.astype(column.dtype)
            self._columns[name].append(filled)
        extra = {name: values for name, values in columns.items() if name not in COLUMNS}
        self._carried.append(extra, len(flux))
        self.num_rows += len(flux)

    def column(self, name: str) -> np.ndarray:
        """Return a column of all rows so far."""
        return np.concatenate(self._columns[name]) if self._columns[name] else np.empty(0, COLUMNS[name].dtype)

    def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return flux and ivar of rows (n,) that were appended, shape (n, L) each, float32."""
        found = []
        for name in ("flux", "ivar"):
            spool = self._spools[name]
            with _disk_errors(self.out):
                spool.flush()
            shape = self.num_rows, len(self.wavelength_aa)
            found.append(np.memmap(spool, dtype=np.float32, mode="r", shape=shape)[rows])
        return np.asarray(found[0]), np.asarray(found[1])

    def replace_column(self, name: str, values: np.ndarray) -> None:
        """Set a column of all rows at once."""
        self._columns[name] = [values.astype(COLUMNS[name].dtype)]

    def finish(self, attributes: dict[str, Any], source_files: list[str]) -> None:
        """Write the file and give it its name.

        Parameters
        ----------
        attributes : dict
            Root attributes; what is not a string or number is written as JSON.
        source_files : list of str
            The files that column ``source_file`` counts.
        """
        import h5py

        with _disk_errors(self.out), NewFile(self.out) as new:
            with new_hdf5_file(Path(new.name_for_libraries)) as (file, sink):
                known = self._write_spectra(file, sink)
                self._write_columns(file)
                names = file.create_dataset(
                    "provenance/source_files", data=np.array(source_files, dtype=object), dtype=h5py.string_dtype()
                )
                names.attrs["description"] = "files that the column source_file counts"
                for name, value in attributes.items():
                    plain = isinstance(value, (str, int, float, np.number))
                    file.attrs[name] = value if plain else json.dumps(value)
                write_hashes(file, known)
            settle_time(Path(new.name_for_libraries))
            require_free(self.out, self.overwrite)

    def _write_spectra(self, file: Any, sink: Sink) -> dict[str, str]:
        """Write grid, flux and ivar; return the SHA-256 of the latter two."""
        hashes = {"flux": ColumnHash(), "ivar": ColumnHash()}
        num_pixels = len(self.wavelength_aa)
        wavelength = file.create_dataset("wavelength", data=self.wavelength_aa)
        wavelength.attrs["unit"], wavelength.attrs["description"] = "AA", "vacuum wavelength of the pixel centres"
        described = {
            "flux": (self.flux_unit, "flux density; 0 where ivar is 0"),
            "ivar": (
                IVAR_UNIT if self.flux_unit == FLUX_UNIT else self.flux_unit,
                "inverse variance of flux; 0 masks a pixel",
            ),
        }
        rows_at_once = max(1, COPY_BYTES // (4 * num_pixels))
        for name, (unit, description) in described.items():
            dataset = file.create_dataset(name, shape=(self.num_rows, num_pixels), dtype="f4")
            dataset.attrs["unit"], dataset.attrs["description"] = unit, description
            # Closed after the copy, which frees its bytes: the disk may be too small for two copies of both.
            with self._spools[name] as spool:
                spool.seek(0)
                for begin in range(0, self.num_rows, rows_at_once):
                    end = min(begin + rows_at_once, self.num_rows)
                    rows = np.fromfile(spool, dtype=np.float32, count=(end - begin) * num_pixels)
                    dataset[begin:end] = rows.reshape(end - begin, num_pixels)
                    sink.check()
                    hashes[name].update(rows)
        return {name: column.hexdigest() for name, column in hashes.items()}

    def _write_columns(self, file: Any) -> None:
        for name, column in COLUMNS.items():
            values = self.column(name)
            if name not in ALWAYS_WRITTEN and _is_missing(values, column.missing):
                continue
            dataset = file.create_dataset(name, data=values)
            dataset.attrs["description"] = column.description
            if column.unit:
                dataset.attrs["unit"] = column.unit
        self._carried.write(file)


def _is_missing(values: np.ndarray, missing: Any) -> bool:
    return bool(np.all(np.isnan(values))) if missing is np.nan else bool(np.all(values == missing))


@contextlib.contextmanager
def _disk_errors(out: Path) -> Any:
    try:
        yield
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror or error}; nothing was left there") from error
