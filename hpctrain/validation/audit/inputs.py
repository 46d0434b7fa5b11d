"""What a model reads of some rows, as plain arrays that all kinds of data share. n rows, L numbers each.

Torch is imported only by the reader of the samples, not here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpctrain.samples.hashing import key_of, mix64

SLOT_DAYS = 1e-3
"""Points of light curves that are closer than this have one time [day]."""


@dataclass(frozen=True)
class Inputs:
    """The numbers of some rows.

    Parameters
    ----------
    values : ndarray, shape (n, L), float32
        0 where `weight` is 0.
    weight : ndarray, shape (n, L), float32
        Inverse variance, or 1 where the data have no errors; 0 where there is no value.
    has_errors : bool
        Whether `weight` is an inverse variance.
    slot : ndarray, shape (n, L), uint64, optional
        What number is meant, where that differs from row to row: time and band of a point of a light curve.
    features : ndarray, shape (n, F), float32, optional
        Columns that are fed beside; NaN where a value is missing.
    """

    values: np.ndarray
    weight: np.ndarray
    has_errors: bool
    slot: np.ndarray | None = None
    features: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values)

    def has_content(self) -> np.ndarray:
        """Return which rows (n,) have at least two different values; others look alike without being alike."""
        known = self.weight > 0
        lowest = np.where(known, self.values, np.inf).min(axis=1, initial=np.inf)
        highest = np.where(known, self.values, -np.inf).max(axis=1, initial=-np.inf)
        return highest > lowest

    def hashes(self) -> np.ndarray:
        """Return a hash of the values of each row, shape (n,), uint64."""
        values = np.ascontiguousarray(self.values, dtype=np.float32) + np.float32(0)  # -0 becomes 0
        found = hash_rows(values)
        return found if self.slot is None else mix64(found ^ hash_rows(self.slot))


def hash_rows(values: np.ndarray) -> np.ndarray:
    """Return a hash of the bytes of each row.

    Parameters
    ----------
    values : ndarray, shape (n, ...)
        Numbers of 4 or 8 bytes.

    Returns
    -------
    ndarray, shape (n,), uint64
        The same on machines with the same order of bytes.
    """
    words = np.ascontiguousarray(values).reshape(len(values), -1)
    words = words.view(np.uint32 if words.dtype.itemsize == 4 else np.uint64)
    found = np.full(len(words), key_of(f"{words.shape[1]}"), dtype=np.uint64)
    if words.shape[1] <= 64:
        for column in words.T:
            found = mix64(found ^ column)
        return found
    place = mix64(np.arange(words.shape[1], dtype=np.uint64))
    for start in range(0, len(words), 256):
        block = mix64(words[start : start + 256].astype(np.uint64) ^ place)
        found[start : start + 256] ^= block.sum(axis=1, dtype=np.uint64)
    return mix64(found)


def _masked(values: np.ndarray, weight: np.ndarray, has_errors: bool, **more: Any) -> Inputs:
    """Return inputs whose numbers are finite and whose weights are sound."""
    good = np.isfinite(values) & np.isfinite(weight) & (weight > 0)
    with np.errstate(over="ignore"):
        values = np.where(good, values, 0).astype(np.float32)
    good &= np.isfinite(values)
    return Inputs(np.where(good, values, 0), np.where(good, weight, 0).astype(np.float32), has_errors, **more)


def _of_spectra(batch: Any) -> Inputs:
    return _masked(batch.flux.numpy().astype(np.float32), batch.ivar.numpy().astype(np.float32), True)


def _of_images(batch: Any) -> Inputs:
    num = len(batch)
    values = batch.image.numpy().astype(np.float32).reshape(num, -1)
    weight = np.ones_like(values)
    if batch.ivar is not None:
        weight = batch.ivar.numpy().astype(np.float32).reshape(num, -1)
    if batch.mask is not None:
        masked = np.broadcast_to(batch.mask.numpy(), batch.image.shape).reshape(num, -1)
        weight = np.where(masked, 0, weight)
    return _masked(values, weight, batch.ivar is not None)


def _of_curves(batch: Any) -> Inputs:
    columns = {name: values.numpy() for name, values in batch.columns.items()}
    error = columns["error"].astype(np.float64)
    exists = (columns["band"] >= 0) & (error > 0) & np.isfinite(columns["time"])
    with np.errstate(divide="ignore", over="ignore"):
        weight = np.where(exists, 1 / np.square(np.where(exists, error, 1)), 0)
    time = np.where(exists, columns["time"], 0)
    slot = (np.round(time / SLOT_DAYS).astype(np.int64) * 64 + np.maximum(columns["band"], 0)).astype(np.uint64)
    return _masked(columns["value"], weight, True, slot=np.where(exists, slot, 0), features=columns.get("features"))


def _of_any(batch: Any) -> Inputs:
    """Return the tensors that a network reads, one after the other; for kinds of data of the user's own."""
    parts = [values.numpy().reshape(len(batch), -1).astype(np.float32) for values in batch.tensors().values()]
    return of_table(np.concatenate(parts, axis=1))


def of_table(values: np.ndarray) -> Inputs:
    """Return numbers (n, F) without errors; NaN where a value is missing."""
    return _masked(values, np.ones_like(values), False, features=values)


_READERS: dict[str, Callable[[Any], Inputs]] = {
    "spectra": _of_spectra,
    "images": _of_images,
    "light_curves": _of_curves,
}


def inputs_of(kind: str, batch: Any) -> Inputs:
    """Return the inputs of a batch as it was read, of a kind of data by its name."""
    return _READERS.get(kind, _of_any)(batch)
