"""Tiny catalogues."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np


def tiny_file(path: Path, num: int = 60, seed: int = 1) -> Path:
    """Write objects with magnitudes, some of which are missing, and labels that follow from them."""
    rng = np.random.default_rng(seed)
    magnitudes = rng.normal(20, 1, (num, 3))
    colour = magnitudes[:, 0] - magnitudes[:, 1]
    names = np.where(colour < -0.5, "BLUE", np.where(colour < 0.5, "FLAT", "RED")).astype(object)
    names[::7] = ""
    with h5py.File(path, "w") as file:
        for number, band in enumerate("gri"):
            values = magnitudes[:, number].copy()
            values[number::11] = -9999.0
            file[band] = values.astype(np.float32)
        file["g_err"] = np.full(num, 0.1, np.float32)
        file["target_id"] = np.arange(1000, 1000 + num)
        file["colour"] = names
        file["size"] = np.where(np.arange(num) % 5 == 1, np.nan, colour)
        file["size_err"] = np.full(num, 0.05)
        file["angle"] = np.degrees(np.pi * np.tanh(colour)) % 360
        file["redshift"] = (0.5 + 0.4 * np.tanh(colour)).astype(np.float32)
    return path
