"""Nights of a survey that drifts: galaxies with three magnitudes and a redshift, further away each week."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

DRIFT = 0.05
"""Increase of the mean redshift in a week; the scatter is 0.1."""


def galaxies(week: float, num: int, seed: int, drift: float = DRIFT) -> dict[str, np.ndarray]:
    """Return magnitudes (num,) in g, r and i, and the redshift, of one week."""
    rng = np.random.default_rng([seed, num])
    z = np.clip(rng.normal(0.3 + drift * week, 0.1, num), 0.01, None)
    r = 17 + 5 * np.log10(z / 0.1) + rng.normal(0, 0.3, num)
    magnitudes = {"g": r + 2.4 * z, "r": r, "i": r - 0.3 - 0.5 * z}
    return {**{band: each + rng.normal(0, 0.05, num) for band, each in magnitudes.items()}, "z": z}


def write_night(path: Path, columns: dict[str, np.ndarray], first_id: int) -> Path:
    """Write a file of objects with identifiers from `first_id` on."""
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file[name] = values.astype(np.float32)
        file["target_id"] = first_id + np.arange(len(columns["z"]))
    return path
