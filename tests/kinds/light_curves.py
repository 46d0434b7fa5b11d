"""Tiny files of light curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np


def tiny_file(path: Path, num: int = 60, seed: int = 1) -> Path:
    """Write sines in two bands with honest noise and some bad points, and labels, some of which are missing."""
    rng = np.random.default_rng(seed)
    strength, period = rng.uniform(0, 2, num), rng.uniform(0.5, 2, num)
    curves = []
    for number in range(num):
        length = int(rng.integers(4, 12))
        time = 58000 + np.sort(rng.uniform(0, 20, length))
        value = 18 + strength[number] * np.sin(2 * np.pi * time / period[number]) + 0.1 * rng.normal(size=length)
        curves.append((time, value, np.full(length, 0.1), rng.integers(2, size=length)))
    curves[2][2][1] = 0.0
    names = np.where(strength < 0.7, "QUIET", np.where(strength < 1.3, "MILD", "WILD")).astype(object)
    names[::7] = ""
    columns = {
        "activity": names,
        "strength": np.where(np.arange(num) % 5 == 1, np.nan, strength),
        "strength_err": np.full(num, 0.05),
        "angle": np.degrees(np.pi * np.tanh(strength)) % 360,
        "period": np.where(np.arange(num) % 9 == 4, np.nan, period),
        "colour": np.where(np.arange(num) % 6 == 2, np.nan, strength + rng.normal(size=num)),
    }
    return write_file(path, curves, ("g", "r"), target_id=np.arange(1000, 1000 + num), **columns)


def write_file(path: Path, curves: Sequence[Sequence[np.ndarray]], bands: Sequence[str], **columns: np.ndarray) -> Path:
    """Write curves of our choosing.

    Parameters
    ----------
    path : Path
    curves : sequence of (time, value, error, band)
    bands : sequence of str
    **columns
        Other datasets, and those to replace; by default ids count from 0.
    """
    time, value, error, band = (np.concatenate(parts) for parts in zip(*curves, strict=True))
    plain = {
        "offsets": np.cumsum([0, *(len(curve[0]) for curve in curves)]),
        "time": time.astype(np.float64),
        "value": value.astype(np.float32),
        "error": error.astype(np.float32),
        "band": band.astype(np.int16),
        "bands": np.array(list(bands), dtype="S8"),
        "target_id": np.arange(len(curves)),
    }
    with h5py.File(path, "w") as file:
        for name, values in {**plain, **columns}.items():
            file[name] = values
    return path
