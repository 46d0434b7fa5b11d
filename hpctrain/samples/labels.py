"""Columns of one value per sample that a model learns, carried by every batch. N samples.

The family decides what they mean; the samples only keep the arrays and give each batch its rows. One rule says what is
missing: NaN in an array of floats, -1 in an array of integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from hpctrain.errors import DataError
from hpctrain.profile.near import did_you_mean
from hpctrain.samples.library import open_library_file
from hpctrain.samples.protocols import PADDING_ROW

if TYPE_CHECKING:
    import torch

MISSING_CODE = -1
"""Value of an integer label that a sample does not have."""

_MOST_PROBLEMS = 20
"""Largest number of files that a message names."""


def take_labels(labels: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, torch.Tensor]:
    """Return the values of some rows as tensors.

    Parameters
    ----------
    labels : mapping of str to ndarray, shape (N,)
        Floats or integers.
    rows : ndarray, shape (n,), int64
        Rows in any order; -1 is a padding row, whose labels are missing.

    Returns
    -------
    dict of str to Tensor, shape (n,)
    """
    import torch

    if not labels:
        return {}
    padding = rows == PADDING_ROW
    at = np.where(padding, 0, rows)
    found = {}
    for name, values in labels.items():
        taken = values[at]
        taken[padding] = np.nan if values.dtype.kind == "f" else MISSING_CODE
        found[name] = torch.from_numpy(taken)
    return found


def has_any_label(labels: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Return, for each of these rows (n,), whether it has at least one label; bool."""
    found = np.zeros(len(rows), dtype=bool)
    for values in labels.values():
        found |= np.isfinite(values[rows]) if values.dtype.kind == "f" else values[rows] >= 0
    return found


def read_whole_column(files: Sequence[tuple[Path, int]], name: str) -> np.ndarray:
    """Return a dataset of one value per sample from several files, one after the other.

    Parameters
    ----------
    files : sequence of (Path, int)
        The files, and the number of samples of each.
    name : str
        Path of the dataset in the files.

    Returns
    -------
    ndarray, shape (N,)
        Numbers as they are stored; texts as ``object`` array of str.

    Raises
    ------
    DataError
        A file has no such column, or it cannot be read; the message names all of these files.
    """
    parts, problems = [], []
    for path, count in files:
        try:
            parts.append(_read(path, count, name))
        except DataError as error:
            problems.append(str(error))
    if problems:
        more = [f"... and {len(problems) - _MOST_PROBLEMS} more files"] if len(problems) > _MOST_PROBLEMS else []
        raise DataError("\n".join([*problems[:_MOST_PROBLEMS], *more]))
    if any(part.dtype.kind == "O" for part in parts) and not all(part.dtype.kind == "O" for part in parts):
        raise DataError(f"{files[0][0]}: {name}: holds texts in some files and numbers in others")
    return np.concatenate(parts)


def _read(path: Path, count: int, name: str) -> np.ndarray:
    try:
        with open_library_file(path) as library:
            dataset = library.get(name)
            if not isinstance(dataset, h5py.Dataset):
                columns = [key for key, item in library.items() if getattr(item, "shape", None) == (count,)]
                raise DataError(f"{path}: {name}: is not in the file{did_you_mean(name, columns)}")
            if dataset.shape != (count,):
                raise DataError(f"{path}: {name}: has shape {dataset.shape}; one value per sample ({count},) is needed")
            if dataset.dtype.kind in "biuf":
                return dataset[...]
            if dataset.dtype.kind == "S" or h5py.check_string_dtype(dataset.dtype) is not None:
                return np.array([_text(value) for value in dataset[...]], dtype=object)
    except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise DataError(f"{path}: {name}: cannot be read ({error}); the file is damaged") from error
    raise DataError(f"{path}: {name}: holds {dataset.dtype}, neither numbers nor texts")


def _text(value: object) -> str:
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip()
