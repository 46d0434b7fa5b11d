"""Copy attributes of HDF5 objects, except those that would be wrong in the copy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import h5py
import numpy as np

from hpctrain.samples.fingerprint import HASH_ATTRIBUTE, TIME_ATTRIBUTE

OF_SCALED_NUMBERS = frozenset({"scale_factor", "bscale", "add_offset", "bzero", "_fillvalue", "blank"})
"""Attributes, in lower case, for a scale and a zero point; they would be wrong beside decoded values."""

_OF_THE_OLD_FILE = frozenset({HASH_ATTRIBUTE, TIME_ATTRIBUTE})


def copy_attributes(source: Any, target: Any, left_out: Iterable[str] = ()) -> None:
    """Copy attributes of a file, group or dataset, except hashes of the old file and references into it."""
    unwanted = _OF_THE_OLD_FILE | frozenset(left_out)
    for name in source.attrs:
        if name.lower() in unwanted or _holds_references(source.attrs.get_id(name).dtype):
            continue
        target.attrs[name] = source.attrs[name]


def equal_attributes(objects: list[Any]) -> set[str]:
    """Return the names of attributes that all objects have with the same value."""
    first = objects[0]
    return {
        name
        for name in first.attrs
        if all(name in other.attrs and _same(first.attrs[name], other.attrs[name]) for other in objects[1:])
    }


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, h5py.Empty) or isinstance(other, h5py.Empty):
        return isinstance(one, h5py.Empty) and isinstance(other, h5py.Empty)
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))


def _holds_references(dtype: np.dtype) -> bool:
    if dtype.names:
        return any(_holds_references(dtype[name]) for name in dtype.names)
    items = h5py.check_vlen_dtype(dtype)
    if items is not None and items not in (str, bytes):
        return _holds_references(np.dtype(items))
    return h5py.check_ref_dtype(dtype) is not None
