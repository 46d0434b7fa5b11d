"""Integer hashes of any number of ids at once, the same on every machine."""

from __future__ import annotations

import hashlib

import numpy as np


def key_of(text: str) -> np.uint64:
    """Return a 64-bit hash of `text` (BLAKE2b)."""
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def mix64(value: np.ndarray) -> np.ndarray:
    """Scramble 64-bit integers: a bijection in which each input bit flips each output bit half of the time.

    Parameters
    ----------
    value : ndarray, uint64
        An array, not a scalar: numpy warns when the product of two scalars wraps around, which is intended here.

    Returns
    -------
    ndarray, uint64

    References
    ----------
    .. [1] Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators"; constants of SplitMix64.
    """
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def hash_ids(ids: np.ndarray, salt: str) -> np.ndarray:
    """Return 64 random-looking bits for each id; another salt gives other bits.

    Parameters
    ----------
    ids : ndarray, shape (N,), int64
    salt : str

    Returns
    -------
    ndarray, shape (N,), uint64
    """
    bits = np.ascontiguousarray(ids, dtype=np.int64).view(np.uint64)
    # Mix twice: the ids of a survey are consecutive, and the salt must affect every bit of each of them.
    return mix64(mix64(bits ^ key_of(salt)) ^ key_of(salt + "/second"))


def unit_interval(bits: np.ndarray) -> np.ndarray:
    """Return uniform numbers in [0, 1), float64, from the upper 53 of 64 bits."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
