"""Multimodal Universe: HDF5 files with one contiguous dataset per column, ``<config>/healpix=<n>/001-of-001.hdf5``.

Spectra are ``spectrum_flux``, ``spectrum_ivar``, ``spectrum_lambda`` and ``spectrum_mask`` (True is bad), shape (n, L).
SDSS files pad short spectra with lambda -1, and L differs from file to file.

References
----------
.. [1] MultimodalUniverse/MultimodalUniverse, scripts/desi and scripts/sdss.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.block import SpectraBlock, group_by_wavelength
from hpctrain.ingest.table_columns import KNOWN_NAMES, name_columns, read_columns
from hpctrain.ingest.tally import Tally

FILE_NAMES = ("*.hdf5", "*.h5")
ROWS_AT_ONCE = 256
SPECTRUM_NAMES = {
    "flux": ("spectrum_flux",),
    "ivar": ("spectrum_ivar",),
    "wavelength": ("spectrum_lambda",),
    "mask": ("spectrum_mask",),
}


@dataclass(frozen=True)
class MultimodalReader:
    """Reads Multimodal Universe spectra (DESI, SDSS, BOSS, eBOSS, SEGUE).

    Parameters
    ----------
    columns : dict of str
        Our column: theirs, where the names differ from the usual ones.
    """

    columns: dict[str, str] = field(default_factory=dict)

    def read(self, path: Path, tally: Tally) -> Iterator[SpectraBlock]:
        """Yield the rows of a file; rows with different wavelengths come in different blocks.

        Raises
        ------
        DataError
            Datasets are missing or their shapes don't fit.
        """
        import h5py

        if path.stat().st_size == 0:
            raise DataError("is empty")
        with h5py.File(path, "r") as file:
            names = name_columns(file, self.columns, {**KNOWN_NAMES, **SPECTRUM_NAMES})
            lacking = [SPECTRUM_NAMES[key][0] for key in ("flux", "ivar", "wavelength") if key not in names]
            if lacking:
                there = ", ".join(file)[:200]
                other = "`hpctrain ingest hdf5 FILE --preview` shows what is in any HDF5 file"
                raise DataError(f"has no {', '.join(lacking)}; its datasets are {there}; {other}")
            if "target_id" not in names:
                raise DataError(f"has no object_id or TARGETID; its datasets are {', '.join(file)[:200]}")
            num_rows = len(file[names["flux"]])
            wrong = [name for name in names.values() if len(file[name]) != num_rows]
            if wrong:
                raise DataError(f"{', '.join(wrong)} have not the {num_rows} rows of {names['flux']}")
            tally.num_read += num_rows
            for begin in range(0, num_rows, ROWS_AT_ONCE):
                rows = slice(begin, min(begin + ROWS_AT_ONCE, num_rows))
                yield from _blocks({ours: file[theirs][rows] for ours, theirs in names.items()}, names, begin)


def _blocks(values: dict[str, np.ndarray], names: dict[str, str], begin: int) -> Iterator[SpectraBlock]:
    spectra = {key: values[key] for key in ("flux", "ivar", "wavelength")}
    shape = spectra["flux"].shape
    if any(part.shape != shape for part in spectra.values()) or len(shape) != 2:
        raise DataError(
            f"spectra have the shapes {', '.join(str(part.shape) for part in spectra.values())}; need (n, L)"
        )
    ivar = np.array(spectra["ivar"], dtype=np.float32)
    if "mask" in values:
        ivar[values["mask"].astype(bool)] = 0.0
    columns = read_columns(names, lambda theirs: values[next(ours for ours, name in names.items() if name == theirs)])
    wavelength = spectra["wavelength"].astype(np.float64)
    # Padding has lambda -1; some tools pad with 0 or NaN.
    valid = np.nan_to_num(wavelength, nan=-1.0) > 0
    own = [row[good] for row, good in zip(wavelength, valid, strict=True)]
    for common, rows in group_by_wavelength(own):
        pixels = valid[rows[0]]
        part = {name: column[rows] for name, column in columns.items()}
        part["source_row"] = rows + begin
        if len(common) < 2 or np.any(np.diff(common) <= 0):
            reason = "wavelengths are padding only" if len(common) < 2 else "wavelengths don't increase"
            yield SpectraBlock.unusable(part, [reason] * len(rows))
        else:
            flux = spectra["flux"][rows][:, pixels]
            yield SpectraBlock(common, flux, ivar[rows][:, pixels], part)
