"""Write the same spectra in every format of the comparison."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpctrain.kinds.spectra.section import SimulateSection
from hpctrain.kinds.spectra.simulate import simulate


def _bitshuffle() -> dict[str, Any] | None:
    if importlib.util.find_spec("hdf5plugin") is None:
        return None
    import hdf5plugin

    return {"chunks": 64, **hdf5plugin.Bitshuffle()}


FORMATS: dict[str, dict[str, Any] | None] = {
    "contiguous": {},
    "chunks of 64 rows": {"chunks": 64},
    "chunks of 1 row": {"chunks": 1},
    "bitshuffle-lz4": _bitshuffle(),
    "gzip-4": {"chunks": 64, "compression": "gzip", "compression_opts": 4, "shuffle": True},
}
"""Options of the flux and ivar datasets; None if this machine cannot write the format."""


def make_files(folder: Path, num_spectra: int) -> dict[str, Path]:
    """Write the files that do not exist yet, and return the paths by format."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / f"contiguous-{num_spectra}.h5"
    if not source.exists():
        simulate(source, SimulateSection(num_spectra=num_spectra))
    files = {"contiguous": source}
    for name, options in FORMATS.items():
        if options is None or name == "contiguous":
            continue
        path = folder / f"{name.replace(' ', '-')}-{num_spectra}.h5"
        if not path.exists():
            _rewrite(source, path, options)
        files[name] = path
    return files


def _rewrite(source: Path, path: Path, options: dict[str, Any]) -> None:
    with h5py.File(source) as old, h5py.File(path, "w") as new:
        for name, dataset in old.items():
            values = dataset[...]
            if values.ndim == 2:
                chunks = (options["chunks"], values.shape[1])
                new.create_dataset(name, data=np.ascontiguousarray(values), **{**options, "chunks": chunks})
            else:
                new[name] = values
