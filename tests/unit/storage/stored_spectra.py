"""Small files of spectra in every layout that people have."""

from __future__ import annotations

from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

NUM_SPECTRA, NUM_PIXELS = 90, 130

LAYOUTS = {
    "contiguous": {},
    "chunked": {"chunks": (7, 50)},
    "whole-rows": {"chunks": (16, NUM_PIXELS)},
    "gzip-shuffle": {"chunks": (16, NUM_PIXELS), "compression": "gzip", "shuffle": True},
    "bitshuffle": {"chunks": (16, NUM_PIXELS), **hdf5plugin.Bitshuffle(cname="lz4")},
    "scale-offset": {"chunks": (16, NUM_PIXELS), "scaleoffset": 4},
    "big-endian": {"dtype": ">f4"},
    "float64": {"dtype": "<f8"},
    "float16": {"dtype": "<f2"},
}
"""By name, what ``create_dataset`` is called with for flux and ivar."""


def columns(num_spectra: int = NUM_SPECTRA, num_pixels: int = NUM_PIXELS, seed: int = 0) -> dict[str, np.ndarray]:
    """Return spectra with noise as their ivar says, masked pixels, and some columns that training does not read."""
    random = np.random.default_rng(seed)
    sigma = 10 ** random.uniform(-2, 1, size=(num_spectra, num_pixels))
    ivar = sigma**-2
    ivar[random.random(ivar.shape) < 0.05] = 0
    flux = 10 * np.sin(np.arange(num_pixels) / 9) + sigma * random.normal(size=ivar.shape)
    return {
        "flux": flux.astype("f4"),
        "ivar": ivar.astype("f4"),
        "wavelength": np.linspace(3600, 9824, num_pixels),
        "target_id": np.arange(num_spectra, dtype="i8") + 1000 * seed,
        "redshift": random.uniform(0.1, 3, num_spectra),
        "spectype": np.where(random.random(num_spectra) < 0.5, b"QSO", b"GALAXY"),
        "photometry/magnitudes": random.normal(size=(num_spectra, 3)).astype(">f4"),
        "note": np.array([f"spectrum é {row}" for row in range(num_spectra)], object),
    }


def write(path: Path, layout: str = "contiguous", **changes: object) -> Path:
    """Write a file; `changes` replace columns, or leave them out where they are None."""
    arrays = {name: values for name, values in (columns() | changes).items() if values is not None}
    with h5py.File(path, "w") as file:
        file.attrs["survey"] = "made up"
        for name, values in arrays.items():
            options = LAYOUTS[layout] if name in ("flux", "ivar") else {}
            if values.dtype == object:
                options = {"dtype": h5py.string_dtype()}
            dataset = file.create_dataset(name, data=values, **options)
            dataset.attrs["unit"] = "AA" if name == "wavelength" else f"unit of {name}"
        if "photometry" in file:
            file["photometry"].attrs["bands"] = ["g", "r", "z"]
    return path


def write_scaled_integers(path: Path) -> Path:
    """Write flux and ivar as integers with scale, zero point and a value for none."""
    arrays = columns()
    write(path)
    with h5py.File(path, "r+") as file:
        for name, scale, zero in (("flux", 0.01, 3.0), ("ivar", 0.5, 0.0)):
            del file[name]
            stored = np.clip(np.rint((arrays[name] - zero) / scale), -30000, 30000).astype("<i2")
            stored[3, 4] = -32768
            file[name] = stored
            file[name].attrs.update({"scale_factor": scale, "add_offset": zero, "_FillValue": np.int16(-32768)})
            file[name].attrs["unit"] = f"unit of {name}"
    return path
