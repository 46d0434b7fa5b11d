"""Images in files of their own, which a table lists: JPEG, PNG and FITS. B bands, H × W pixels.

Each image is decoded when it is read; the first ones stay in memory as far as `KEPT_BYTES` allow.
"""

from __future__ import annotations

import os
import string
import threading
import warnings
from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.kinds.catalogue.tables import Table
from hpctrain.samples.chunks import BandCache
from hpctrain.samples.target_id import ids_of

if TYPE_CHECKING:
    from hpctrain.kinds.images.section import ImageColumnsSection

KEPT_BYTES = 256 * 2**20
"""Memory for decoded images of one table, in each rank [byte]."""

_FITS = b"SIMPLE"
_COLOURS = {1: ("L",), 3: ("R", "G", "B")}


class ImageList:
    """The images that a table lists, with the methods of :class:`~hpctrain.kinds.images.files.ImageFile`.

    Parameters
    ----------
    table : Table
    columns : ImageColumnsSection

    Raises
    ------
    DataError
        The table has no such column, image files are absent, or the first image cannot be read.
    """

    decoded_bytes = 0
    band_rows = 1

    def __init__(self, table: Table, columns: ImageColumnsSection) -> None:
        self.path, self._table, self._columns = table.path, table, columns
        self._files = _files(table, columns.file)
        self._status = _status_of(table.path, self._files)
        self.target_id, self.notes = None, []
        if columns.target_id is not None and (
            columns.target_id in table.names or "target_id" in columns.model_fields_set
        ):
            column = table.column(columns.target_id)
            self.target_id, self.notes = ids_of(column, f"{table.path}: {columns.target_id}")
        first = self._decode(0)
        self.names = frozenset(first)
        self._shapes = {name: values.shape for name, values in first.items()}
        self._dtypes = {name: values.dtype for name, values in first.items()}
        shape = first["image"].shape
        self.bands_last = not _is_fits(self._files[0])
        self.shape: tuple[int, int, int] = (shape[2], *shape[:2]) if self.bands_last else shape
        colours = _COLOURS.get(self.shape[0]) if self.bands_last else None
        self.bands = colours or tuple(map(str, range(self.shape[0])))
        self._kept: dict[int, dict[str, np.ndarray]] = {}
        self._lock = threading.Lock()
        self._most_kept = KEPT_BYTES // max(1, sum(values.nbytes for values in first.values()))

    def __len__(self) -> int:
        return len(self._files)

    def dtype(self, name: str) -> np.dtype:
        """Return the type of the pixels that :meth:`take` writes."""
        return self._dtypes[name]

    def row_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an image as it is decoded."""
        return self._shapes[name]

    def is_in_memory(self, rows: np.ndarray) -> bool:
        """Return True: decoding takes longer than a disk."""
        return True

    def share(self, cache: BandCache) -> None:
        """Do nothing."""

    def prepare(self, rows: np.ndarray, pool: Executor | None, is_cold: bool) -> None:
        """Do nothing."""

    def addresses(self, name: str, rows: np.ndarray) -> None:
        """Return None: images are decoded."""

    def take(self, name: str, rows: np.ndarray, out: np.ndarray, pool: Executor | None) -> None:
        """Write the pixels of some images to `out`, shape (n, L).

        Raises
        ------
        DataError
            An image cannot be read, or has another size than the first one.
        """
        for place, row in enumerate(rows.tolist()):
            out[place] = self._image(row)[name].reshape(-1)

    def _image(self, row: int) -> Mapping[str, np.ndarray]:
        kept = self._kept.get(row)
        if kept is not None:
            return kept
        found = self._decode(row)
        for name, shape in self._shapes.items():
            values = found.get(name)
            if values is None or values.shape != shape or values.dtype != self._dtypes[name]:
                has = "no" if values is None else f"{_size(values.shape)} of type {values.dtype} as"
                raise DataError(
                    f"{self._files[row]}: has {has} {name}, but {self._files[0]} has {_size(shape)} of type "
                    f"{self._dtypes[name]}; all images need one size, one type and the same bands"
                )
        with self._lock:
            if len(self._kept) < self._most_kept:
                self._kept[row] = found
        return found

    def _decode(self, row: int) -> dict[str, np.ndarray]:
        path = self._files[row]
        try:
            return _decode_fits(path, self._columns) if _is_fits(path) else {"image": _decode_picture(path)}
        except DataError:
            raise
        except Exception as error:  # decoders raise errors of many kinds about damaged files
            raise DataError(f"{path}: cannot be read as an image ({error})") from error

    def column(self, name: str) -> np.ndarray:
        """Return a column of the table (N,)."""
        return self._table.column(name)

    def fingerprint(self) -> dict[str, Any]:
        """Return name, size and modification time of the table, and of its images together."""
        return self._status

    def close(self) -> None:
        """Do nothing: no file is open."""


def _files(table: Table, pattern: str) -> list[Path]:
    """Return the name of each image file; `pattern` is a column, or a text with columns in braces."""
    if not table.num_rows:
        raise DataError(f"{table.path}: lists no images")
    if "{" not in pattern:
        texts = [str(value) for value in table.column(pattern).tolist()]
    else:
        try:
            names = [name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None]
        except ValueError as error:
            raise DataError(f"data.columns.file: '{pattern}' cannot be understood ({error})") from error
        columns = [table.column(name).tolist() for name in names]
        texts = [pattern.format(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]
    files = [table.path.parent / text for text in texts]
    absent = [(row, file) for row, file in enumerate(files) if not file.is_file()]
    if absent:
        named = "; ".join(f"row {row}: {file}" for row, file in absent[:5])
        raise DataError(
            f"{table.path}: {len(absent):,} of {len(files):,} image files do not exist ({named}); names are relative "
            "to the folder of the table (data.columns.file)"
        )
    return files


def _status_of(table: Path, files: list[Path]) -> dict[str, Any]:
    status, every = table.stat(), [os.stat(file) for file in files]
    return {
        "path": str(table.resolve()),
        "bytes": status.st_size,
        "modified_ns": status.st_mtime_ns,
        "num_images": len(files),
        "image_bytes": sum(one.st_size for one in every),
        "image_modified_ns": max(one.st_mtime_ns for one in every),
    }


def _is_fits(path: Path) -> bool:
    try:
        with open(path, "rb") as stream:
            return stream.read(len(_FITS)) == _FITS
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _decode_picture(path: Path) -> np.ndarray:
    """Return the pixels of a JPEG or PNG, (H, W, 1) or (H, W, 3), uint8; or float32 if it has more than 8 bits."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(f"{path}: JPEG and PNG need Pillow; pip install 'hpctrain[images]'") from error
    with Image.open(path) as picture:
        if picture.mode.startswith(("I", "F")):
            return np.asarray(picture).astype(np.float32)[..., None]
        if picture.mode not in ("L", "RGB"):
            picture = picture.convert("RGB")
        pixels = np.array(picture)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _decode_fits(path: Path, columns: ImageColumnsSection) -> dict[str, np.ndarray]:
    """Return image (B, H, W), and ivar and mask if the file has extensions with their names."""
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning

    with warnings.catch_warnings(), fits.open(path, memmap=False) as hdus:
        warnings.filterwarnings("error", "File may have been truncated", AstropyWarning)
        planes = [hdu for hdu in hdus if hdu.is_image and hdu.data is not None]
        if not planes:
            raise DataError(f"{path}: has no image")
        found = {"image": _planes(path, planes[0].data)}
        named = {hdu.name.lower(): hdu for hdu in planes[1:]}
        for role, name in (("ivar", columns.ivar), ("mask", columns.mask)):
            if name is not None and name.lower() in named:
                found[role] = _planes(path, named[name.lower()].data)
        if "mask" in found:
            found["mask"] = found["mask"] != 0
    return found


def _planes(path: Path, values: np.ndarray) -> np.ndarray:
    if values.ndim not in (2, 3):
        raise DataError(
            f"{path}: has an image of shape {values.shape}; (height, width) or (bands, height, width) are read"
        )
    return np.ascontiguousarray(values if values.ndim == 3 else values[None], dtype=np.float32)


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
