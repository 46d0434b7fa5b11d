"""Layout of a column of pixels in its file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import h5py

from hpctrain.kinds.spectra.files import SpectraFile
from hpctrain.samples.columns import RowReader
from hpctrain.samples.filters import Pipeline
from hpctrain.samples.library import open_library_file
from hpctrain.samples.scaling import Scaling

_NAMES = {
    1: "gzip",
    2: "shuffle",
    3: "fletcher32",
    4: "szip",
    5: "n-bit",
    6: "scale-offset",
    32000: "lzf",
    32001: "blosc",
    32008: "bitshuffle",
    32015: "zstd",
    32026: "blosc2",
}


@dataclass(frozen=True)
class ColumnLayout:
    """One dataset.

    Parameters
    ----------
    role, name : str
        Our name of the column and its name in the file.
    dtype : str
        Type of the numbers, such as ``<f4``.
    shape : tuple of int
    chunks : tuple of int, optional
    filters : tuple of str
        Filters in the order of application.
    missing_filter : str, optional
        A filter that only libhdf5 can decode, under its lock, if at all.
    offset : int, optional
        Position of the first byte in the file, if the dataset is one block.
    stored_bytes : int
        Bytes on disk.
    way : str
        The way of reading: ``block``, ``chunks``, ``decoded`` or ``libhdf5``.
    scaled : bool
        Whether the values are integers with a scale and a zero point.
    special : str, optional
        ``virtual``, ``external``, ``compact`` or ``never written``.
    """

    role: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...] | None
    filters: tuple[str, ...]
    missing_filter: str | None
    offset: int | None
    stored_bytes: int
    way: str
    scaled: bool
    special: str | None

    @property
    def item_bytes(self) -> int:
        """Bytes of a decoded pixel."""
        return int("".join(letter for letter in self.dtype if letter.isdigit()) or 1)

    @property
    def is_plain(self) -> bool:
        """Whether the reader can copy the bytes into a batch without conversion."""
        return self.dtype in ("<f4", "<f2") and not self.scaled

    def __str__(self) -> str:
        if self.special:
            place = self.special
        elif self.chunks is None:
            place = "contiguous"
        else:
            packed = f", {'+'.join(self.filters)}" if self.filters else ""
            place = f"chunks of {' x '.join(map(str, self.chunks))}{packed}"
        scaled = " scaled" if self.scaled else ""
        return f"{readable_dtype(self.dtype)}{scaled}, {place}"


def readable_dtype(dtype: str) -> str:
    """Return ``float32`` for ``<f4``, and name the byte order if it is not little-endian."""
    kinds = {"f": "float", "i": "int", "u": "uint", "b": "bool"}
    order, kind, size = dtype[0], dtype[1], dtype[2:]
    bits = "" if kind == "b" else str(8 * int(size))
    return f"{kinds.get(kind, kind)}{bits}{' big-endian' if order == '>' else ''}"


def pixel_layouts(file: SpectraFile, names: dict[str, str]) -> list[ColumnLayout]:
    """Return the layout of flux and ivar, and of mask and wavelength if they have a row for each spectrum.

    Parameters
    ----------
    file : SpectraFile
    names : dict
        Role to name of the dataset.
    """
    readers: dict[str, RowReader | None] = {
        "flux": file.flux,
        "ivar": file.ivar,
        "mask": file.mask,
        "wavelength": file.wavelength_rows,
    }
    with open_library_file(file.path) as library:
        return [
            _layout(role, names[role], library[names[role]], reader)
            for role, reader in readers.items()
            if reader is not None
        ]


def _layout(role: str, name: str, dataset: h5py.Dataset, reader: RowReader) -> ColumnLayout:
    properties = dataset.id.get_create_plist()
    numbers = [properties.get_filter(place) for place in range(properties.get_nfilters())]
    filters = tuple(_NAMES.get(number, text.decode(errors="replace")) for number, _, _, text in numbers)
    missing = None
    try:
        Pipeline.of(dataset)
    except LookupError as error:
        missing = _NAMES.get(error.args[0], f"filter {error.args[0]}")
    return ColumnLayout(
        role=role,
        name=name,
        dtype=dataset.dtype.str,
        shape=dataset.shape,
        chunks=dataset.chunks,
        filters=filters,
        missing_filter=missing,
        offset=dataset.id.get_offset() if dataset.chunks is None and not dataset.is_virtual else None,
        stored_bytes=dataset.id.get_storage_size(),
        way=reader.way,
        scaled=Scaling.of(dataset) != Scaling(),
        special=_special(dataset, properties),
    )


def _special(dataset: h5py.Dataset, properties: Any) -> str | None:
    if dataset.is_virtual:
        return "virtual"
    if dataset.external:
        return "external"
    if properties.get_layout() == h5py.h5d.COMPACT:
        return "compact"
    if dataset.size and dataset.id.get_storage_size() == 0:
        return "never written"
    return None
