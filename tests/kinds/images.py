"""Tiny files of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

BANDS = ("g", "r")


def tiny_file(path: Path, num: int = 60, seed: int = 1, side: int = 12) -> Path:
    """Write blobs with noise and some masked pixels, and labels that follow from their colours."""
    rng = np.random.default_rng(seed)
    colour = rng.normal(size=num)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    blob = np.exp(-0.5 * (x**2 + y**2) / (1.5 + 0.5 * np.tanh(colour[:, None, None])) ** 2)
    image = np.stack([20 * blob, 20 * np.exp(0.5 * colour[:, None, None]) * blob], axis=1)
    ivar = np.ones(image.shape, np.float32)
    ivar[rng.random(ivar.shape) < 0.02] = 0.0
    names = np.where(colour < -0.5, "BLUE", np.where(colour < 0.5, "FLAT", "RED")).astype(object)
    names[::7] = ""
    columns = {
        "ivar": ivar,
        "bands": np.array(BANDS, dtype="S1"),
        "target_id": np.arange(1000, 1000 + num),
        "colour": names,
        "size": np.where(np.arange(num) % 5 == 1, np.nan, colour),
        "size_err": np.full(num, 0.05),
        "angle": np.degrees(np.pi * np.tanh(colour)) % 360,
        "redshift": (0.5 + 0.4 * np.tanh(colour)).astype(np.float32),
    }
    return write_file(path, (image + rng.normal(size=image.shape)).astype(np.float32), **columns)


def write_file(path: Path, image: np.ndarray, layout: dict[str, Any] | None = None, **columns: Any) -> Path:
    """Write images (N, ...) with other columns; `layout` is how h5py stores arrays of the shape of the images."""
    with h5py.File(path, "w") as file:
        for name, values in {"image": image, **columns}.items():
            is_pixels = np.shape(values) == image.shape
            file.create_dataset(name, data=values, **(layout or {} if is_pixels else {}))
    return path
