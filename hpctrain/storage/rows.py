"""Find the datasets of the input files with a row for each spectrum, and read those of all files in turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from hpctrain.errors import DataError
from hpctrain.kinds.spectra.files import SpectraFile
from hpctrain.kinds.spectra.layout import SOURCE_FILE, SOURCE_FILES
from hpctrain.kinds.spectra.section import ColumnsSection
from hpctrain.samples.fingerprint import datasets
from hpctrain.samples.library import open_library_file
from hpctrain.storage.reading import stored_blocks


@dataclass
class Contents:
    """The datasets of the input files other than flux and ivar.

    Parameters
    ----------
    by_row : list of str
        Datasets in all files with a row for each spectrum.
    shared : list of str
        Other datasets that are equal in all files.
    differing : list of str
        Other datasets that are unequal, or that only some files have.
    """

    by_row: list[str]
    shared: list[str]
    differing: list[str]


def named_datasets(library: h5py.File, columns: ColumnsSection) -> dict[str, h5py.Dataset]:
    """Return all datasets by path; a column that is a link has the name of the link."""
    found = datasets(library)
    for _, name in columns:
        if name is not None and name not in found and isinstance(library.get(name), h5py.Dataset):
            target = library[name]
            found = {other: item for other, item in found.items() if item != target} | {name: target}
    return found


def list_contents(files: list[SpectraFile], columns: ColumnsSection, dropped: set[str], one_grid: bool) -> Contents:
    """Sort the datasets of all files.

    Parameters
    ----------
    files : list of SpectraFile
    columns : ColumnsSection
    dropped : set of str
        Datasets to leave out.
    one_grid : bool
        Whether all rows share one grid; the caller then writes the wavelength column.

    Raises
    ------
    DataError
        Only some files have a column, or its shape or type differs between files. The message lists all such columns.
    """
    special = {columns.flux, columns.ivar, *([columns.wavelength] if one_grid else [])}
    by_row: dict[str, list[tuple[SpectraFile, h5py.Dataset]]] = {}
    others: dict[str, list[h5py.Dataset]] = {}
    problems: list[str] = []
    libraries = [open_library_file(file.path) for file in files]
    try:
        for file, library in zip(files, libraries, strict=True):
            for name, dataset in named_datasets(library, columns).items():
                if name in special or name in dropped:
                    continue
                if dataset.ndim and dataset.shape[0] == len(file) and name != SOURCE_FILES:
                    by_row.setdefault(name, []).append((file, dataset))
                else:
                    others.setdefault(name, []).append(dataset)
        for name, found in by_row.items():
            problems += _misfits(name, found, files)
        if problems:
            raise DataError("\n".join(problems))
        shared = [name for name, found in others.items() if len(found) == len(files) and _are_equal(found)]
        if _has_sources(by_row, others, len(files)):
            shared = [name for name in shared if name != SOURCE_FILES]
            others.pop(SOURCE_FILES)
        return Contents(list(by_row), shared, [name for name in others if name not in shared])
    finally:
        for library in libraries:
            library.close()


def _misfits(name: str, found: list[tuple[SpectraFile, h5py.Dataset]], files: list[SpectraFile]) -> list[str]:
    having = {id(file) for file, _ in found}
    without = [file for file in files if id(file) not in having]
    advice = f"exclude it with --drop {name}"
    problems = [f"{file.path}: has no {name}, which {found[0][0].path} has; {advice}" for file in without]
    first = found[0][1]
    for file, dataset in found[1:]:
        if dataset.shape[1:] != first.shape[1:] or _kind(dataset) != _kind(first):
            other = f"{dataset.dtype} {dataset.shape[1:]}"
            mine = f"{first.dtype} {first.shape[1:]} in {found[0][0].path}"
            problems.append(f"{file.path}: {name}: rows of {other}, but {mine}; {advice}")
    return problems


def _kind(dataset: h5py.Dataset) -> str:
    # Fixed text may have different lengths; numbers of different widths would lose precision or take more space.
    return dataset.dtype.kind if dataset.dtype.kind == "S" else dataset.dtype.newbyteorder("<").str


def _are_equal(found: list[h5py.Dataset]) -> bool:
    first = found[0]
    return all(
        other.shape == first.shape
        and other.dtype == first.dtype
        and (first.shape is None or np.array_equal(np.asarray(other[()]), np.asarray(first[()])))
        for other in found[1:]
    )


def _has_sources(by_row: dict[str, Any], others: dict[str, list[h5py.Dataset]], num_files: int) -> bool:
    return num_files > 1 and SOURCE_FILE in by_row and len(others.get(SOURCE_FILES, [])) == num_files


def column_dtype(files: list[SpectraFile], name: str) -> tuple[np.dtype, tuple[int, ...]]:
    """Return the little-endian type that holds a column of all files, and the shape of its rows."""
    dtypes = []
    for file in files:
        with open_library_file(file.path) as library:
            dataset = library[name]
            dtypes.append(dataset.dtype)
            tail = dataset.shape[1:]
    first = dtypes[0]
    if first.kind == "S":
        return max(dtypes, key=lambda dtype: dtype.itemsize), tail
    # newbyteorder drops h5py's metadata: that objects are text, and that integers belong to an enumeration.
    return first if first.metadata else first.newbyteorder("<"), tail


def column_blocks(files: list[SpectraFile], name: str) -> Iterator[np.ndarray]:
    """Yield the rows of a column of all files in turn, without conversion."""
    start = 0
    for file in files:
        for values in stored_blocks(file.path, name):
            yield np.where(values >= 0, values + start, values).astype(values.dtype) if name == SOURCE_FILE else values
        if name == SOURCE_FILE:
            with open_library_file(file.path) as library:
                start += library[SOURCE_FILES].shape[0] if SOURCE_FILES in library else 0
