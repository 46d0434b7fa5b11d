"""Tiny files of spectra."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    names = np.where(slope < -0.3, "RED", np.where(slope < 0.3, "FLAT", "BLUE")).astype(object)
    names[::7] = ""
    columns = {
        "ivar": ivar.astype(np.float32),
        "wavelength": wavelength,
        "target_id": np.arange(1000, 1000 + num),
        "redshift": redshift.astype(np.float32),
        "colour": names,
        "slope": np.where(np.arange(num) % 5 == 1, np.nan, slope),
        "slope_err": np.full(num, 0.05, np.float32),
        "angle": np.degrees(np.pi * slope) % 360,
    }
    return write_file(path, flux.astype(np.float32), **columns)


def write_file(path: Path, flux: np.ndarray, layout: Mapping[str, Any] | None = None, **columns: np.ndarray) -> Path:
    """Write spectra of our choosing; what is not given is there all the same, and plain.

    Parameters
    ----------
    path : Path
    flux : ndarray, shape (N, L)
    layout : mapping, optional
        How h5py stores the columns of pixels, such as ``{"chunks": (16, L), "compression": "gzip"}``.
    **columns
        Other columns; by default every ivar and redshift is 1, the grid is that of DESI, and ids count from 0.
    """
    num, num_pixels = flux.shape
    plain = {
        "flux": flux,
        "ivar": np.ones(flux.shape, np.float32),
        "wavelength": np.linspace(3600.0, 9824.0, num_pixels),
        "target_id": np.arange(num),
        "redshift": np.ones(num),
    }
    with h5py.File(path, "w") as file:
        for name, values in {**plain, **columns}.items():
            is_pixels = np.shape(values) == flux.shape
            file.create_dataset(name, data=values, **(layout or {} if is_pixels else {}))
    return path
