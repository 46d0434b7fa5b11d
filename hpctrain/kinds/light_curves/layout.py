"""The HDF5 layout of light curves: N curves, P points of all curves, B bands. No torch here.

::

    offsets    (N + 1,)  int64    the points of curve i are offsets[i] to offsets[i + 1], without the last
    time       (P,)      float64  [day], in order within a curve
    value      (P,)      float32  magnitude or flux
    error      (P,)      float32  standard deviation of value
    band       (P,)      int16    number of the band in `bands`
    bands      (B,)      text     names
    target_id  (N,)      int64    identifier of the object
    others     (N,)               labels and other numbers or texts of one per curve
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpctrain.files import NewFile

POINTS = {"time": np.float64, "value": np.float32, "error": np.float32, "band": np.int16}
"""Datasets with one number per point, and how they are written."""

OFFSETS, BANDS, TARGET_ID = "offsets", "bands", "target_id"

OWN_NAMES = frozenset({*POINTS, OFFSETS, BANDS, TARGET_ID})
"""Names that no other column of a file can have."""


@dataclass(frozen=True)
class Curves:
    """Light curves as arrays.

    Parameters
    ----------
    offsets : ndarray, shape (N + 1,), int64
    time : ndarray, shape (P,), float64
        Time [day].
    value, error : ndarray, shape (P,), float32
    band : ndarray, shape (P,), int16
        Numbers in `bands`.
    bands : sequence of str
    target_id : ndarray, shape (N,), int64
    columns : mapping of str to ndarray, shape (N,)
        Labels and other columns: numbers, or texts as ``object`` arrays of str.
    unit : str
        Unit of `value`, such as ``mag``.
    """

    offsets: np.ndarray
    time: np.ndarray
    value: np.ndarray
    error: np.ndarray
    band: np.ndarray
    bands: Sequence[str]
    target_id: np.ndarray
    columns: Mapping[str, np.ndarray]
    unit: str


def write_curves(path: Path, curves: Curves, attributes: Mapping[str, Any]) -> None:
    """Write a file of light curves, whole or not at all.

    Parameters
    ----------
    path : Path
        The file gets its name when it is complete; a file of this name is replaced.
    curves : Curves
    attributes : mapping
        Attributes of the file.
    """
    with NewFile(path, durable=False) as new, h5py.File(new.stream, "w") as file:
        file.attrs.update(attributes)
        file[OFFSETS] = curves.offsets.astype(np.int64)
        # Contiguous datasets are mapped into memory, so that a batch costs a copy of its points.
        for name, dtype in POINTS.items():
            file[name] = getattr(curves, name).astype(dtype, copy=False)
        file["time"].attrs["unit"] = "d"
        for name in ("value", "error"):
            file[name].attrs["unit"] = curves.unit
        file[BANDS] = np.array([str(name).encode() for name in curves.bands])
        file[TARGET_ID] = curves.target_id.astype(np.int64)
        for name, values in curves.columns.items():
            if values.dtype.kind == "O":
                values = np.char.encode(values.astype(str), "utf-8")
            file[name] = values
