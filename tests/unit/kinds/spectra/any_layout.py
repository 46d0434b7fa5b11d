"""HDF5 files of spectra in whatever layout the format allows, and what plain h5py reads from them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

SHUFFLE, GZIP, FLETCHER, LZF = 2, 1, 3, 32000
LZ4, BLOSC, BITSHUFFLE, ZSTD, BLOSC2, BZIP2 = 32004, 32001, 32008, 32015, 32026, 307
OWN_FILTERS = (SHUFFLE, GZIP, FLETCHER, LZF)
PLUGIN_FILTERS = (LZ4, BLOSC, BITSHUFFLE, ZSTD, BLOSC2, BZIP2)

DTYPES = ("<f4", ">f4", "<f2", ">f2", "<f8", ">f8", "<i2", ">i2", "<i4", "u1", "<u2")


@dataclass(frozen=True)
class Layout:
    """How a dataset of pixels lies in its file.

    Parameters
    ----------
    dtype : str
    chunks : tuple of int, or None for one block
    filters : list of (number, parameters)
        In the order in which they are applied.
    unlimited : tuple of bool
        Directions in which the dataset may grow, so that chunks may be larger than it is.
    skips : float
        Share of the chunks which some filters are left out of.
    holes : float
        Share of the chunks that are never written.
    scale, zero, blank : float
        Attributes, if any, of integers.
    """

    dtype: str = "<f4"
    chunks: tuple[int, int] | None = None
    filters: tuple[tuple[int, tuple[int, ...]], ...] = ()
    unlimited: tuple[bool, bool] = (False, False)
    skips: float = 0.0
    holes: float = 0.0
    scaling: tuple[float, float, int] | None = None


def draw_layout(draw: random.Random, num_rows: int, num_pixels: int, plugins: bool) -> Layout:
    """Draw a layout; every kind of it comes up."""
    dtype = draw.choice(DTYPES)
    scaling = (0.5, 3.0, 7) if np.dtype(dtype).kind in "iu" and draw.random() < 0.7 else None
    if draw.random() < 0.15:
        return Layout(dtype, scaling=scaling)
    unlimited = draw.choice([(False, False), (False, False), (True, False), (False, True), (True, True)])
    largest = (num_rows + 3 * unlimited[0], num_pixels + 5 * unlimited[1])
    rows = draw.choice([1, largest[0], draw.randint(1, largest[0])])
    columns = draw.choice([num_pixels, num_pixels, draw.randint(1, largest[1])])
    known = [number for number in _numbers(plugins, unlimited) if _is_known(number)]
    numbers = draw.sample(known, draw.choice([0, 1, 1, 2, 2, 3]))
    if {BLOSC, BLOSC2} <= set(numbers):
        numbers.remove(BLOSC)
    # Blosc's encoder writes beyond its buffer when it is given something larger than a chunk, as gzip may make it.
    numbers.sort(key=lambda number: number not in (BLOSC, BLOSC2))
    return Layout(
        dtype,
        (rows, columns),
        tuple((number, _parameters(draw, number)) for number in numbers),
        unlimited,
        skips=draw.choice([0.0, 0.0, 0.5]) if numbers else 0.0,
        holes=draw.choice([0.0, 0.0, 0.4]),
        scaling=scaling,
    )


def _numbers(plugins: bool, unlimited: tuple[bool, bool]) -> tuple[int, ...]:
    if unlimited == (False, True):  # refused together with plugins
        return (SHUFFLE, GZIP, FLETCHER)
    return (*OWN_FILTERS, *(PLUGIN_FILTERS if plugins else ()))


def _is_known(number: int) -> bool:
    return h5py.h5z.filter_avail(number)


def _parameters(draw: random.Random, number: int) -> tuple[int, ...]:
    if number == GZIP:
        return (draw.choice([0, 1, 9]),)
    if number == LZ4:
        return (draw.choice([0, 16, 100]),)
    if number == BITSHUFFLE:
        return (0, draw.choice([0, 2, 3]))
    if number == BLOSC:  # 4 are its own; level, shuffle, codec
        return (0, 0, 0, 0, draw.choice([0, 5]), draw.choice([0, 1, 2]), draw.choice([0, 1, 3, 5]))
    if number == BLOSC2:
        return (0, 0, 0, 0, draw.choice([0, 5]), draw.choice([0, 1, 2]), draw.choice([0, 1, 4, 5]))
    if number == BZIP2:
        return (9,)
    return ()


def _properties(layout: Layout, without: frozenset[int] = frozenset()) -> h5py.h5p.PropDCID:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if layout.chunks is None:
        return properties
    properties.set_chunk(layout.chunks)
    for place, (number, parameters) in enumerate(layout.filters):
        if place in without:
            continue
        if number == SHUFFLE:
            properties.set_shuffle()
        elif number == FLETCHER:
            properties.set_fletcher32()
        elif number == GZIP:
            properties.set_deflate(*parameters)
        else:
            properties.set_filter(number, h5py.h5z.FLAG_OPTIONAL, parameters)
    return properties


def add_dataset(file: h5py.File, name: str, values: np.ndarray, layout: Layout, draw: random.Random) -> None:
    """Write `values`, shape (N, L), in that layout; never-written chunks will read as the fill value 5."""
    properties = _properties(layout)
    dtype = np.dtype(layout.dtype)
    properties.set_fill_value(np.array(5, dtype))
    may_grow = layout.unlimited if layout.chunks else (False, False)
    limits = tuple(h5py.h5s.UNLIMITED if grows else size for grows, size in zip(may_grow, values.shape, strict=True))
    space = h5py.h5s.create_simple(values.shape, limits)
    dataset = h5py.Dataset(h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(dtype), space, properties))
    if layout.scaling is not None:
        dataset.attrs.update(dict(zip(("scale_factor", "add_offset", "_FillValue"), layout.scaling, strict=True)))
    if layout.chunks is None:
        dataset[...] = values
        return
    height, width = layout.chunks
    for top in range(0, values.shape[0], height):
        for left in range(0, values.shape[1], width):
            if draw.random() < layout.holes:
                continue
            piece = values[top : top + height, left : left + width]
            if draw.random() < layout.skips:
                skipped = frozenset(place for place in range(len(layout.filters)) if draw.random() < 0.5)
                stored = _stored_without(layout, skipped, piece)
                if stored is not None:
                    dataset.id.write_direct_chunk((top, left), stored, sum(1 << place for place in skipped))
                    continue
            dataset[top : top + height, left : left + width] = piece


def _stored_without(layout: Layout, skipped: frozenset[int], piece: np.ndarray) -> bytes | None:
    """Return a chunk as it lies in a file whose pipeline lacks some filters; None where others were left out too."""
    with h5py.File.in_memory() as file:
        space = h5py.h5s.create_simple(layout.chunks)
        made = h5py.h5d.create(
            file.id, b"x", h5py.h5t.py_create(np.dtype(layout.dtype)), space, _properties(layout, skipped)
        )
        dataset = h5py.Dataset(made)
        dataset[: piece.shape[0], : piece.shape[1]] = piece
        mask, stored = made.read_direct_chunk((0, 0))
        return bytes(stored) if mask == 0 else None


def draw_pixels(draw: random.Random, dtype: str, shape: tuple[int, int]) -> np.ndarray:
    """Draw pixels of that type: smooth ones, so that they compress, any bits, or all the same."""
    numbers = np.random.default_rng(draw.randrange(2**32))
    kind = draw.choice(["smooth", "any bits", "constant"])
    item = np.dtype(dtype)
    if kind == "any bits":
        return numbers.integers(0, 256, (*shape, item.itemsize), dtype=np.uint8).view(item)[..., 0]
    smooth = 50 + 40 * np.sin(np.arange(shape[1]) / 9 + np.arange(shape[0])[:, None])
    return (np.round(smooth) if kind == "smooth" else np.full(shape, 7.0)).astype(item)


def draw_file(draw: random.Random, path: Path, num_pixels: int, plugins: bool = True) -> None:
    """Write a file of 1 to 30 spectra whose flux, ivar and perhaps mask have layouts of their own."""
    num_rows = draw.randint(1, 30)
    with h5py.File(path, "w", libver=draw.choice(["earliest", "latest"])) as file:
        for name in draw.choice([["flux", "ivar"], ["flux", "ivar", "mask"]]):
            layout = draw_layout(draw, num_rows, num_pixels, plugins)
            if name == "mask":
                layout = Layout("u1", layout.chunks, layout.filters, layout.unlimited, layout.skips, layout.holes)
            add_dataset(file, name, draw_pixels(draw, layout.dtype, (num_rows, num_pixels)), layout, draw)
        file["wavelength"] = np.linspace(3600, 9824, num_pixels)
        file["target_id"] = np.arange(num_rows) + draw.randrange(2**40)
        file["redshift"] = np.linspace(0.1, 3, num_rows)


OWN_NAMES = {name: name for name in ("flux", "ivar", "mask", "wavelength", "target_id", "redshift")}


def read_plainly(path: Path, columns: dict[str, str] = OWN_NAMES) -> dict[str, np.ndarray]:
    """Return flux and ivar as h5py reads them, float16 kept, other numbers in float32 once they are unscaled."""
    with h5py.File(path, "r") as file:
        found = {name: _unscaled(file[columns[name]]) for name in ("flux", "ivar")}
        if columns["mask"] in file:
            found["ivar"][file[columns["mask"]][:] != 0] = 0
        with np.errstate(over="ignore"):
            wavelength = file[columns["wavelength"]][:]
        found["ivar"][np.broadcast_to(~(np.isfinite(wavelength) & (wavelength > 0)), found["ivar"].shape)] = 0
        for name in ("target_id", "redshift"):
            found[name] = file[columns[name]][:]
    return found


def _unscaled(dataset: h5py.Dataset) -> np.ndarray:
    stored = dataset[:]
    if stored.dtype == np.float16 and stored.dtype.isnative:
        return stored
    scale, zero = (float(dataset.attrs.get(name, none)) for name, none in (("scale_factor", 1), ("add_offset", 0)))
    with np.errstate(over="ignore", invalid="ignore"):
        values = (stored if (scale, zero) == (1, 0) else stored * scale + zero).astype(np.float32)
    if stored.dtype.kind in "iu" and "_FillValue" in dataset.attrs:
        values[stored == dataset.attrs["_FillValue"]] = np.nan
    return values
