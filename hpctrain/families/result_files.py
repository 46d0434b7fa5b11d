"""Read files of ``results/`` for the report: with a limit of memory, without pickles, and without leaving the run."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpctrain.files import open_regular

if TYPE_CHECKING:
    import h5py

Arrays = Mapping[str, np.ndarray]
"""Arrays of one file by name."""

MOST_RESULT_BYTES = 1 << 30
"""Largest size of the arrays of one file [byte]; a report needs a few samples and some ten thousand predictions."""


class UnusableResultsError(ValueError):
    """A file of ``results/`` was read and cannot be shown. The message continues after the name of the file."""


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an ``npz`` file, or the datasets at the top of an HDF5 file.

    Raises
    ------
    ValueError
        The arrays would need more than `MOST_RESULT_BYTES` of memory, or contain Python objects.
    OSError
        The file cannot be read, or is not a regular file. Libraries raise other exceptions on damaged files.
    """
    return read_npz(path) if path.suffix == ".npz" else read_hdf5(path)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an ``npz`` file; the exceptions are those of :func:`read_arrays`."""
    with os.fdopen(open_regular(path), "rb") as stream:
        with zipfile.ZipFile(stream) as archive:
            _refuse_large(sum(entry.file_size for entry in archive.infolist()))
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}


def read_hdf5(path: Path) -> dict[str, np.ndarray]:
    """Return the datasets at the top of an HDF5 file; the exceptions are those of :func:`read_arrays`."""
    import h5py

    with os.fdopen(open_regular(path), "rb") as stream, h5py.File(stream, "r") as file:
        return read_datasets(file, list(file))


def read_datasets(file: h5py.File, names: list[str]) -> dict[str, np.ndarray]:
    """Return the arrays of those of these datasets that :func:`own_datasets` finds.

    Raises
    ------
    ValueError
        They would need more than `MOST_RESULT_BYTES` of memory.
    """
    found = own_datasets(file, names)
    _refuse_large(sum(math.prod(dataset.shape or ()) * dataset.dtype.itemsize for dataset in found.values()))
    return {name: dataset[()] for name, dataset in found.items()}


def own_datasets(file: h5py.File, names: list[str]) -> dict[str, h5py.Dataset]:
    """Return those of these datasets that the file itself holds, and not another file that it links to."""
    import h5py

    found = {}
    for name in names:
        if isinstance(file.get(name, getlink=True), h5py.HardLink):
            dataset = file[name]
            if isinstance(dataset, h5py.Dataset) and not dataset.is_virtual and not dataset.external:
                found[name] = dataset
    return found


def _refuse_large(num_bytes: int) -> None:
    if num_bytes > MOST_RESULT_BYTES:
        raise ValueError(f"it would need {num_bytes} bytes of memory; at most {MOST_RESULT_BYTES} are read")
