"""One HDF5 file of images: find its datasets, and check that they fit together. N images, B bands, H × W pixels."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from hpctrain.errors import DataError
from hpctrain.kinds.images.layout import OTHER_NAMES
from hpctrain.profile.near import nearest
from hpctrain.samples.chunks import BandCache
from hpctrain.samples.columns import AS_THEY_ARE, RowReader
from hpctrain.samples.labels import read_whole_column
from hpctrain.samples.library import LibraryFile, damage_named, open_library_file
from hpctrain.samples.mapped import MappedFile
from hpctrain.samples.target_id import read_target_id

if TYPE_CHECKING:
    from hpctrain.kinds.images.section import ImageColumnsSection

_TYPES = (*AS_THEY_ARE, np.dtype("u1"))
"""Types of pixels that are copied to a batch without conversion."""


@dataclass
class ImageFile:
    """An opened HDF5 file: identifiers in memory, readers for the pixels.

    Attributes
    ----------
    shape : tuple of int
        (B, H, W).
    bands_last : bool
        Whether the file holds (H, W, B).
    bands : tuple of str
        Names of the bands.
    target_id : ndarray, shape (N,), int64, or None
        None if the file has no identifiers.
    readers : dict of RowReader
        ``image``, and if the file has them ``ivar`` and ``mask``.
    """

    path: Path
    library_file: LibraryFile
    readers: dict[str, RowReader]
    shape: tuple[int, int, int]
    bands_last: bool
    bands: tuple[str, ...]
    target_id: np.ndarray | None
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return self.readers["image"].shape[0]

    @property
    def names(self) -> frozenset[str]:
        """Which of ``image``, ``ivar`` and ``mask`` the file has."""
        return frozenset(self.readers)

    def dtype(self, name: str) -> np.dtype:
        """Return the type of the pixels that :meth:`take` writes."""
        return np.dtype(bool) if name == "mask" else self.readers[name].out_dtype

    def row_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a row as the file has it."""
        return self.readers[name].shape[1:]

    @property
    def decoded_bytes(self) -> int:
        """Memory for each image that is kept decoded [byte]."""
        return sum(reader.decoded_bytes for reader in self.readers.values())

    @property
    def band_rows(self) -> int:
        """Number of images that are decoded together."""
        return max(reader.band_rows for reader in self.readers.values())

    def is_in_memory(self, rows: np.ndarray) -> bool:
        """Return whether rows that are copied from the file are in the page cache; False if that is unknown."""
        return all(reader.is_in_memory(rows) for reader in self.readers.values())

    def share(self, cache: BandCache) -> None:
        """Keep decoded images in a cache that several files share."""
        for reader in self.readers.values():
            reader.share(cache)

    def prepare(self, rows: np.ndarray, pool: Executor | None, is_cold: bool) -> None:
        """Begin to decode or to prefetch rows before they are read."""
        for reader in self.readers.values():
            reader.prepare(rows, pool, is_cold)

    def addresses(self, name: str, rows: np.ndarray) -> np.ndarray | None:
        """Return the addresses of rows that are in memory as :meth:`take` would write them; otherwise None."""
        reader = self.readers[name]
        reader.check()
        return reader.addresses(rows)

    def take(self, name: str, rows: np.ndarray, out: np.ndarray, pool: Executor | None) -> None:
        """Write rows (n,) of one of `names` to `out`, shape (n, L), of :meth:`dtype`, or float32."""
        if name == "mask":
            np.not_equal(self.readers[name].take_stored(rows, pool), 0, out=out)
        else:
            self.readers[name].take(rows, out, pool)

    def column(self, name: str) -> np.ndarray:
        """Return a column of one number or text per image (N,)."""
        return read_whole_column([(self.path, len(self))], name)

    def fingerprint(self) -> dict[str, Any]:
        """Return name, size and modification time."""
        status = self.path.stat()
        return {
            "path": str(self.path.resolve()),
            "bytes": status.st_size,
            "modified_ns": status.st_mtime_ns,
            "num_images": len(self),
        }

    def close(self) -> None:
        """Close the handle of libhdf5, if there is one."""
        self.library_file.close()


def open_file(path: Path, columns: ImageColumnsSection) -> ImageFile:
    """Open one file and check that its datasets are images.

    Raises
    ------
    DataError
        The file has faults; the message names all of them with their datasets.
    """
    with damage_named(path):
        return _open_file(path, columns)


def _open_file(path: Path, columns: ImageColumnsSection) -> ImageFile:
    with open_library_file(path) as library:
        found = _find_columns(library, columns)
        shape, bands_last = _check_shapes(path, found)
        target_id, notes = read_target_id(found["target_id"]) if "target_id" in found else (None, [])
        bands = _band_names(path, found.get("bands"), shape[0])
        library_file, mapped = LibraryFile(path), MappedFile(path)
        readers = {}
        for name in ("image", "ivar", "mask"):
            if name in found:
                readers[name] = RowReader(library_file, mapped, found[name], _TYPES)
        if any(reader.way == "libhdf5" for reader in readers.values()):
            notes.append("libhdf5 reads these pixels, one thread at a time; `h5repack -l CONTI IN OUT` makes that fast")
        return ImageFile(path, library_file, readers, shape, bands_last, bands, target_id, notes)


def _find_columns(library: h5py.File, columns: ImageColumnsSection) -> dict[str, h5py.Dataset]:
    """Return the datasets by their role; those of ``columns.optional`` may be missing, and those whose name is None."""
    found: dict[str, h5py.Dataset] = {}
    lines = []
    names: list[str] = []
    library.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    for role, name in columns:
        if name is None or role == "file":
            continue
        if name in names:
            found[role] = library[name]
        elif role not in columns.optional or role in columns.model_fields_set:
            known = [other for other in OTHER_NAMES[role] if other in names]
            near = known[0] if known else nearest(name, names)
            advice = f"; set data.columns.{role}: {near}" if near else ""
            lines.append(f"{library.filename}: {name}: is not in the file{advice}")
    if lines:
        listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise DataError("\n".join([*lines, f"  the file has: {listed or 'no datasets'}"]))
    return found


def _check_shapes(path: Path, found: dict[str, h5py.Dataset]) -> tuple[tuple[int, int, int], bool]:
    """Return (B, H, W), and whether the bands are on the last axis."""
    image = found["image"]
    where = f"{path}: {image.name.lstrip('/')}"
    if image.ndim not in (3, 4) or 0 in image.shape[1:]:
        raise DataError(f"{where}: has shape {image.shape}; (images, bands, height, width) is needed")
    bands_last = image.ndim == 4 and image.shape[3] < image.shape[1]
    if image.ndim == 3:
        shape = (1, *image.shape[1:])
    else:
        shape = (image.shape[3], *image.shape[1:3]) if bands_last else image.shape[1:]
    plane = (len(image), *shape[1:])
    allowed = {"image": [image.shape], "ivar": [image.shape], "mask": [image.shape, plane]}
    problems = []
    for role, dataset in found.items():
        where = f"{path}: {dataset.name.lstrip('/')}"
        if role in allowed and dataset.shape not in allowed[role]:
            wanted = " or ".join(map(str, dict.fromkeys(allowed[role])))
            problems.append(f"{where}: has shape {dataset.shape}, but the images {image.shape} ask for {wanted}")
        elif role in allowed and dataset.dtype.kind not in "fiub":
            problems.append(f"{where}: holds {dataset.dtype}, not numbers")
        elif role == "target_id" and dataset.shape != image.shape[:1]:
            problems.append(f"{where}: has shape {dataset.shape}; one per image {image.shape[:1]} is needed")
    if problems:
        raise DataError("\n".join(problems))
    return shape, bands_last


def _band_names(path: Path, dataset: h5py.Dataset | None, num_bands: int) -> tuple[str, ...]:
    if dataset is None:
        return tuple(map(str, range(num_bands)))
    where = f"{path}: {dataset.name.lstrip('/')}"
    if dataset.shape[-1:] != (num_bands,) or dataset.ndim > 2:
        raise DataError(f"{where}: has shape {dataset.shape}; a name for each of the {num_bands} bands is needed")
    names = np.asarray(dataset[...]).reshape(-1, num_bands)
    if len(names) and not (names == names[0]).all():
        row = int(np.flatnonzero((names != names[0]).any(axis=1))[0])
        raise DataError(f"{where}: row {row} has other bands than row 0; sort the images by their bands into files")
    first = names[0].tolist() if len(names) else range(num_bands)
    return tuple((name.decode() if isinstance(name, bytes) else str(name)).strip() for name in first)
