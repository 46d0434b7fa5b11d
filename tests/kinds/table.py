"""Tiny files of the kind of data in ``docs/examples/table.py``."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np


def tiny_file(path: Path, num: int = 60, seed: int = 1) -> Path:
    """Write objects of three groups with two features."""
    rng = np.random.default_rng(seed)
    centres = np.array([[0.0, 0.0], [6.0, 6.0], [0.0, 8.0]])
    with h5py.File(path, "w") as file:
        file["features"] = (centres[rng.integers(3, size=num)] + rng.normal(size=(num, 2))).astype(np.float32)
        file["target_id"] = np.arange(1000, 1000 + num)
    return path
