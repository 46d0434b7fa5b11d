"""The layout of a repacked file."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hpctrain.errors import Problem, ProfileError
from hpctrain.storage.quantise import MANTISSA_BITS, STEP_RULE, STEPS_PER_SIGMA

NEED_PLUGIN = ("bitshuffle-lz4", "bitshuffle-zstd")
COMPRESSIONS = ("none", "gzip", *NEED_PLUGIN)
LAYOUTS = ("contiguous", "chunked")
DTYPES = ("float32", "float16")

_CHUNK_BYTES = 2 * 2**20
"""Bytes of a chunk: one read of a parallel file system, and small enough to decode many chunks at once."""


@dataclass(frozen=True)
class Target:
    """Layout of the pixel columns; all other datasets are contiguous.

    Parameters
    ----------
    layout, compression : str, optional
        One of `LAYOUTS` and one of `COMPRESSIONS`. By default the columns are contiguous and uncompressed; with
        `quantise` they are chunked and compressed by bitshuffle-lz4. A compression implies chunks.
    chunk_rows : int, optional
        Spectra of a chunk, which always holds whole spectra; about 2 MiB by default.
    dtype : str, optional
        One of `DTYPES`; by default float32, or float16 if the input is float16.
    quantise : bool
        Round the spectra far below the noise first.

    Raises
    ------
    ProfileError
        Some options exclude each other; the message lists all conflicts.
    """

    layout: str | None = None
    compression: str | None = None
    chunk_rows: int | None = None
    dtype: str | None = None
    quantise: bool = False

    def __post_init__(self) -> None:
        problems = []
        if self.layout == "contiguous" and self.compression not in (None, "none"):
            problems.append(Problem("--compression", f"{self.compression} needs chunks: leave out --layout contiguous"))
        if self.layout == "contiguous" and self.chunk_rows is not None:
            problems.append(Problem("--chunk-rows", "--layout contiguous has no chunks"))
        if self.chunk_rows is not None and self.chunk_rows < 1:
            problems.append(Problem("--chunk-rows", f"found {self.chunk_rows}; a chunk holds at least one spectrum"))
        if self.quantise and self.dtype == "float16":
            problems.append(Problem("--quantise", "is for float32; --dtype float16 already rounds"))
        if self.packing in NEED_PLUGIN and importlib.util.find_spec("hdf5plugin") is None:
            advice = "pip install 'hpctrain[filters]', or use --compression gzip"
            problems.append(Problem("--compression", f"{self.packing} needs hdf5plugin: {advice}"))
        if problems:
            raise ProfileError("command line", problems)

    @property
    def packing(self) -> str:
        """The compression; the default in place of None."""
        if self.compression is not None:
            return self.compression
        return "bitshuffle-lz4" if self.quantise and self.layout != "contiguous" else "none"

    @property
    def is_chunked(self) -> bool:
        """Whether pixel columns have chunks."""
        return self.layout == "chunked" or self.packing != "none" or self.chunk_rows is not None

    @property
    def is_compressed(self) -> bool:
        """Whether pixel columns are compressed, so that the size of the file is known only after writing."""
        return self.packing != "none"

    def creation(self, shape: tuple[int, ...], dtype: np.dtype) -> dict[str, Any]:
        """Return the arguments of ``create_dataset`` for a column of pixels."""
        if not self.is_chunked or not shape[0]:
            return {"fill_time": "never"}
        row_bytes = max(1, int(np.prod(shape[1:])) * dtype.itemsize)
        rows = self.chunk_rows or max(1, _CHUNK_BYTES // row_bytes)
        options: dict[str, Any] = {"chunks": (min(rows, shape[0]), *shape[1:]), "fill_time": "never"}
        if self.packing == "gzip":
            options |= {"compression": "gzip", "compression_opts": 4, "shuffle": True}
        elif self.packing in NEED_PLUGIN:
            import hdf5plugin

            name = self.packing.removeprefix("bitshuffle-")
            options |= hdf5plugin.Bitshuffle(cname=name, **({"clevel": 3} if name == "zstd" else {}))
        return options

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes that describe the layout in the file."""
        facts = asdict(self) | {"compression": self.packing, "layout": "chunked" if self.is_chunked else "contiguous"}
        if self.quantise:
            facts["quantise"] = {
                "rule": STEP_RULE,
                "steps_per_sigma": STEPS_PER_SIGMA,
                "ivar_mantissa_bits": MANTISSA_BITS,
            }
        return facts
