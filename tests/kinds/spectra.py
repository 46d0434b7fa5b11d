"""Tiny files of spectra."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np


def tiny_file(path: Path, num: int = 60, seed: int = 1, num_pixels: int = 64) -> Path:
    """Write smooth spectra with honest noise and some masked pixels, and labels, some of which are missing."""
    rng = np.random.default_rng(seed)
    wavelength = np.linspace(3600.0, 9824.0, num_pixels)
    redshift = rng.uniform(0.1, 0.5, num)
    slope = rng.uniform(-1, 1, num)
    sigma = 0.5
    flux = 10.0 * (wavelength / (1 + redshift[:, None]) / 5500.0) ** slope[:, None]
    flux += sigma * rng.normal(size=flux.shape)
    ivar = np.full_like(flux, sigma**-2)
    ivar[rng.random(ivar.shape) < 0.02] = 0.0
    with h5py.File(path, "w") as file:
        file["flux"] = flux.astype(np.float32)
        file["ivar"] = ivar.astype(np.float32)
        file["wavelength"] = wavelength
        file["target_id"] = np.arange(1000, 1000 + num)
        file["redshift"] = redshift.astype(np.float32)
        names = np.where(slope < -0.3, "RED", np.where(slope < 0.3, "FLAT", "BLUE")).astype(object)
        names[::7] = ""
        file["colour"] = names
        file["slope"] = np.where(np.arange(num) % 5 == 1, np.nan, slope)
        file["slope_err"] = np.full(num, 0.05, np.float32)
        file["angle"] = np.degrees(np.pi * slope) % 360
    return path
