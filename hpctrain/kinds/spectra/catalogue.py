"""Write a catalogue of spectra: computed columns, and every column of the survey with one value per spectrum.

N spectra. This module imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from hpctrain.errors import DataError
from hpctrain.files import NewFile
from hpctrain.kinds.spectra.layout import SOURCE_FILE, SOURCE_FILES

if TYPE_CHECKING:
    from hpctrain.kinds.spectra.hdf5 import SpectraSet

Meanings = Mapping[str, tuple[str, str, str]]
"""Name of a column to its dtype, unit and meaning."""

OtherColumn = tuple[str, np.ndarray, dict]
"""Name, values and attributes of a column that is copied from the input."""


def source_files(spectra: SpectraSet) -> list[str]:
    """Return the paths of the files of a set; for copies, those of the originals."""
    return [str(file.get("copy_of", file["path"])) for file in spectra.fingerprint()["files"]]


def other_columns(spectra: SpectraSet, rows: np.ndarray, taken: set[str]) -> Iterator[OtherColumn]:
    """Yield every other column with one value per spectrum (ra, dec, class, ...) that all input files have.

    Parameters
    ----------
    spectra : SpectraSet
    rows : ndarray, shape (N,), int64
        Rows of the set, in the order of the catalogue.
    taken : set of str
        Names of columns to leave out.
    """
    files = spectra.fingerprint()["files"]
    starts = np.cumsum([0, *(file["num_spectra"] for file in files)])
    handles = [h5py.File(file["path"], "r") for file in files]
    try:
        lengths = [file["num_spectra"] for file in files]
        for name in handles[0]:
            columns = [handle.get(name) for handle in handles]
            if name in taken or not all(map(_is_column, columns, lengths)):
                continue
            attributes = dict(columns[0].attrs)
            if name == SOURCE_FILE and all(SOURCE_FILES in handle for handle in handles):
                values = np.concatenate([_source_names(handle) for handle in handles])
                attributes["description"] = "path of the survey's file that holds the spectrum"
            else:
                values = np.concatenate([column[()] for column in columns])
            assert len(values) == starts[-1]
            yield name, values[rows], attributes
    finally:
        for handle in handles:
            handle.close()


def _source_names(file: h5py.File) -> np.ndarray:
    """Return the names that column ``source_file`` counts: a catalogue has no table of names beside it.

    They are of a fixed length, so that h5py, PyTables and astropy read them as an array of bytes; empty if unknown.
    """
    names = np.array([*file[SOURCE_FILES][()], b""], dtype=np.bytes_)
    number = file[SOURCE_FILE][()]
    return names[np.where((number >= 0) & (number < len(names) - 1), number, len(names) - 1)]


def _is_column(dataset: Any, length: int) -> bool:
    """Return whether a dataset has one value per spectrum, of a type that a catalogue can hold."""
    if not isinstance(dataset, h5py.Dataset) or dataset.shape != (length,):
        return False
    return dataset.dtype.kind in "biufS" or h5py.check_string_dtype(dataset.dtype) is not None


def write_catalogue(
    out: Path,
    table: Mapping[str, np.ndarray],
    meanings: Meanings,
    attributes: Mapping[str, Any],
    others: Iterator[OtherColumn],
    shared: Mapping[str, tuple[np.ndarray, str]] | None = None,
    compressed: Collection[str] = (),
) -> list[str]:
    """Write an HDF5 catalogue; write the file as a whole or not at all.

    Parameters
    ----------
    out : Path
        The file; an existing one is replaced.
    table : mapping of str to ndarray, shape (N, ...)
        The computed columns.
    meanings : mapping
        Dtype, unit and meaning of each of them, in the order of the file.
    attributes : mapping
        Attributes of the file.
    others : iterator
        Columns of the survey, of :func:`other_columns`.
    shared : mapping, optional
        Values and meaning of arrays that belong to all rows.
    compressed : collection of str
        Names of computed columns to compress with gzip.

    Returns
    -------
    list of str
        Names of the columns of the survey.

    Raises
    ------
    DataError
        The file cannot be written.
    """
    copied = []
    try:
        with NewFile(out) as new, h5py.File(new.name_for_libraries, "w") as file:
            file.attrs.update(attributes)
            for name, (dtype, unit, meaning) in meanings.items():
                values = table[name].astype(dtype, copy=False)
                dataset = file.create_dataset(name, data=values, compression="gzip" if name in compressed else None)
                dataset.attrs.update({"unit": unit, "description": meaning})
            for name, (values, meaning) in (shared or {}).items():
                file.create_dataset(name, data=values).attrs["description"] = meaning
            for name, values, column_attributes in others:
                dtype = h5py.string_dtype() if values.dtype.kind == "O" else None
                file.create_dataset(name, data=values, dtype=dtype).attrs.update(column_attributes)
                copied.append(name)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error})") from error
    return copied
