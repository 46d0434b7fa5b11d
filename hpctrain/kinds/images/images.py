"""Images of one or several files as one set, read by row. N images, B bands, H × W pixels."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import torch
from torch import Tensor

from hpctrain.errors import DataError
from hpctrain.kinds.catalogue.tables import open_table
from hpctrain.kinds.images.batch import ImageBatch
from hpctrain.kinds.images.files import ImageFile, open_file
from hpctrain.kinds.images.listed import ImageList
from hpctrain.samples.buffers import BufferPool
from hpctrain.samples.chunks import BandCache
from hpctrain.samples.cold import FETCH_BATCHES, ColdDisk
from hpctrain.samples.find import find_files
from hpctrain.samples.labels import take_labels
from hpctrain.samples.library import allow_many_files
from hpctrain.samples.mapped import gather
from hpctrain.samples.protocols import PADDING_ROW

if TYPE_CHECKING:
    from hpctrain.kinds.images.section import ImagesSection

Source = Union[ImageFile, ImageList]  # noqa: UP007  (evaluated in Python 3.10)
Part = tuple[Source, np.ndarray, np.ndarray]
"""A file, the places in a batch that it fills, and the rows of the file for these places."""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MOST_PROBLEMS = 20


def open_images(data: ImagesSection, base: Path | None = None) -> ImageSet:
    """Open the files of a ``data`` section as one set.

    Raises
    ------
    DataError
        Files are missing, damaged or do not fit together; the message names all of them.
    """
    allow_many_files()
    files: list[Source] = []
    problems: list[str] = []
    for path in find_files(data.files, base or Path()):
        try:
            files.append(open_file(path, data.columns) if _is_hdf5(path) else ImageList(open_table(path), data.columns))
        except DataError as error:
            problems.append(str(error))
    problems = problems or _misfits(files) or _unfit(files[0], data)
    if not problems and not any(len(file) for file in files):
        problems = [f"{', '.join(str(file.path) for file in files)}: no images in the file"]
    if problems:
        more = [f"... and {len(problems) - _MOST_PROBLEMS} more"] if len(problems) > _MOST_PROBLEMS else []
        raise DataError("\n".join([*problems[:_MOST_PROBLEMS], *more]))
    return ImageSet([file for file in files if len(file)], data)


def _is_hdf5(path: Path) -> bool:
    with contextlib.suppress(OSError), open(path, "rb") as stream:
        for offset in (0, 512, 1024, 2048, 4096):
            stream.seek(offset)
            if stream.read(8) == _SIGNATURE:
                return True
    return path.suffix.lower() in (".h5", ".hdf5", ".hdf")  # damaged; the reader says why


def _misfits(files: list[Source]) -> list[str]:
    """Return a line for each file that does not fit the first one."""
    first, problems = files[0], []
    for file in files[1:]:
        if (file.bands, file.shape) != (first.bands, first.shape):
            has, wanted = _describe(file), _describe(first)
            problems.append(f"{file.path}: has images of {has}, but {first.path} has {wanted}; all need the same")
        elif file.names != first.names:
            has, wanted = ", ".join(sorted(file.names)), ", ".join(sorted(first.names))
            problems.append(f"{file.path}: has {has}, but {first.path} has {wanted}; see data.columns")
        elif any(file.row_shape(name) != first.row_shape(name) for name in file.names):
            problems.append(f"{file.path}: has its axes in another order than {first.path}; all need the same")
    return problems


def _describe(file: Source) -> str:
    return f"{file.shape[1]} × {file.shape[2]} pixels in the bands {', '.join(file.bands)}"


def _unfit(file: Source, data: ImagesSection) -> list[str]:
    """Return what the section asks for and the images do not have."""
    problems = []
    for name in data.bands or ():
        if name not in file.bands:
            problems.append(f"{file.path}: has no band {name} (data.bands); it has {', '.join(file.bands)}")
    height, width = file.shape[1:]
    if data.crop is not None and data.crop > min(height, width):
        problems.append(f"{file.path}: has {height} × {width} pixels, fewer than data.crop: {data.crop}")
    for side in (height, width) if data.crop is None else (data.crop,):
        if side % data.bin:
            problems.append(f"{file.path}: {side} pixels cannot be divided by data.bin: {data.bin}; set data.crop too")
            break
    if data.augment.rotate and data.crop is None and height != width:
        problems.append(
            f"{file.path}: has {height} × {width} pixels; only squares can be rotated by 90°, so set data.crop, or "
            "data.augment.rotate: false"
        )
    return problems


class ImageSet:
    """Images of one or several files; see :class:`~hpctrain.samples.protocols.Samples`.

    Parameters
    ----------
    files : list of ImageFile and ImageList
        At least one; none is empty, and all have the same bands and size.
    data : ImagesSection

    Attributes
    ----------
    bands : tuple of str
        Names of the B bands that a batch has.
    shape : tuple of int
        (B, H, W) of a batch as it is read.
    names : frozenset of str
        Which of ``image``, ``ivar`` and ``mask`` the files have.
    prepared_shape : tuple of int
        Height and width after crop and bin.
    """

    def __init__(self, files: list[Source], data: ImagesSection) -> None:
        self._files = files
        self._starts = np.cumsum([0, *(len(file) for file in files)])
        self.names = files[0].names
        self.bands = tuple(data.bands or files[0].bands)
        order = [files[0].bands.index(name) for name in self.bands]
        self._order = None if order == list(range(len(files[0].bands))) else torch.tensor(order)
        self.shape = (len(order), *files[0].shape[1:])
        sides = self.shape[1:] if data.crop is None else (data.crop, data.crop)
        self.prepared_shape = (sides[0] // data.bin, sides[1] // data.bin)
        self._marks_bad = data.mask_marks == "bad"
        self.notes = [f"{file.path}: {note}" for file in files for note in file.notes]
        self.target_id = self._ids()
        self.labels: Mapping[str, np.ndarray] = {}
        self.copy_of: dict[str, Any] | None = None
        self._dtypes = {name: np.result_type(*{file.dtype(name) for file in files}) for name in self.names}
        self._buffers = BufferPool()
        self._pool: ThreadPoolExecutor | None = None
        self._pool_pid = 0
        self._disk = ColdDisk()
        self._own_window = 0
        self._decoded = BandCache()
        for file in files:
            file.share(self._decoded)

    def _ids(self) -> np.ndarray:
        found = [file.target_id for file in self._files]
        if all(ids is not None for ids in found):
            return np.concatenate(found)
        self.notes.append(
            "the files have no identifiers, so the number of the row stands for the object; an object with two images "
            "may then be trained on and held out (data.columns.target_id names the column)"
        )
        return np.arange(len(self), dtype=np.int64)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def usable(self, rows: np.ndarray) -> np.ndarray:
        """Return that each of these rows can carry weight; the pixels say more."""
        return np.ones(len(rows), dtype=bool)

    @property
    def decoded_bytes(self) -> int:
        """Memory for each image that is kept decoded [byte]; 0 if nothing has to be decoded."""
        return max(file.decoded_bytes for file in self._files)

    @property
    def is_prepared_ahead(self) -> bool:
        """Whether :meth:`prepare` has anything to do at the moment."""
        return self.decoded_bytes > 0 or self._disk.is_cold

    def batches_ahead(self, batch_size: int) -> int:
        """Return how many batches ahead of reading a batch should be prepared."""
        return self._own_window // batch_size if self.decoded_bytes else 2 * FETCH_BATCHES

    @property
    def batches_together(self) -> int:
        """Number of batches to prepare together."""
        return 1 if self.decoded_bytes else FETCH_BATCHES

    def blocks(self, rows: np.ndarray) -> np.ndarray:
        """Return the indices in the sorted `rows` at which the blocks begin that are decoded as a whole; int64."""
        file = np.searchsorted(self._starts, rows, side="right") - 1
        band = (rows - self._starts[file]) // np.array([max(file.band_rows, 1) for file in self._files])[file]
        return np.concatenate([[0], np.flatnonzero(np.diff(file) | np.diff(band)) + 1])

    def keep_window(self, num_rows: int, num_readers: int = 1) -> None:
        """Keep two windows of `num_rows` decoded images, which `num_readers` ranks share."""
        self._own_window = num_rows // num_readers
        self._decoded.max_bytes = max(self._decoded.max_bytes, round(2.1 * num_rows * self.decoded_bytes))

    def prepare(self, rows: np.ndarray) -> None:
        """Begin to decode the chunks of rows, or to prefetch them from a slow disk, before they are read."""
        for file, _, rows_of_file in self._by_file(rows):
            file.prepare(rows_of_file, self._decoders(), self._disk.is_cold)

    def read(self, rows: np.ndarray, pin: bool = False) -> ImageBatch:
        """Return these rows (n,) in their order, as they are in the file; -1 gives a padding row.

        Raises
        ------
        DataError
            A row cannot be read.
        """
        rows = np.ascontiguousarray(rows, dtype=np.int64)
        if rows.size and not (rows.min() >= PADDING_ROW and rows.max() < len(self)):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of a set of {len(self)}")
        parts = list(self._by_file(rows))
        self._ask_for(parts)
        with self._disk.watched() if rows.size else contextlib.nullcontext():
            pixels = {name: self._gather(name, parts, len(rows), pin) for name in self.names}
        padding = rows == PADDING_ROW
        if padding.any():
            for values in pixels.values():
                values[torch.from_numpy(padding)] = 0
        mask = pixels.get("mask")
        return ImageBatch(
            image=pixels["image"],
            ivar=pixels.get("ivar"),
            mask=mask if mask is None or self._marks_bad else ~mask,
            row=torch.from_numpy(rows.copy()),
            target_id=torch.from_numpy(np.where(padding, -1, self.target_id[np.where(padding, 0, rows)])),
            labels=take_labels(self.labels, rows),
        )

    def _ask_for(self, parts: list[Part]) -> None:
        """Request all rows of a batch from a slow disk before waiting for the first of them."""
        self._disk.look(lambda: all(file.is_in_memory(rows[:8]) for file, _, rows in parts))
        if self._disk.is_cold:
            for file, _, rows in parts:
                file.prepare(rows, None, is_cold=True)

    def _gather(self, name: str, parts: list[Part], num_rows: int, pin: bool) -> Tensor:
        """Return the pixels of a batch as (n, B, H, W), without the bands that are not asked for."""
        file, dtype = self._files[0], self._dtypes[name]
        shape = file.row_shape(name)
        out = self._empty((num_rows, int(np.prod(shape))), dtype, pin)
        target = out.numpy()
        if len(parts) == 1 and len(parts[0][1]) == num_rows and parts[0][0].dtype(name) == dtype:
            parts[0][0].take(name, parts[0][2], target, self._decoders())
        else:
            self._gather_from_many(name, parts, target)
        values = out.view(num_rows, *shape)
        if len(shape) == 2:
            return values[:, None]
        values = values.permute(0, 3, 1, 2) if file.bands_last else values
        return values if self._order is None else values[:, self._order]

    def _gather_from_many(self, name: str, parts: list[Part], target: np.ndarray) -> None:
        addresses = np.zeros(len(target), np.int64)
        for file, places, rows in parts:
            found = file.addresses(name, rows) if file.dtype(name) == target.dtype else None
            if found is None:
                values = np.empty((len(rows), target.shape[1]), file.dtype(name))
                file.take(name, rows, values, self._decoders())
                target[places] = values
            else:
                addresses[places] = found
        in_memory = np.flatnonzero(addresses)
        if in_memory.size == len(target):
            gather(addresses, target.view(np.uint8))
        elif in_memory.size:
            values = np.empty((in_memory.size, target.shape[1]), target.dtype)
            gather(addresses[in_memory], values.view(np.uint8))
            target[in_memory] = values

    def _empty(self, shape: tuple[int, int], dtype: np.dtype, pin: bool) -> Tensor:
        if pin:
            # Torch itself keeps a pool of page-locked memory, and knows which copies to the device still read it.
            kind = torch.from_numpy(np.empty(0, dtype)).dtype
            return torch.empty(shape, dtype=kind, pin_memory=True)
        return torch.from_numpy(self._buffers.lend(shape, dtype))

    def _decoders(self) -> ThreadPoolExecutor:
        """Return the threads that decode chunks; a forked process starts its own."""
        if self._pool is None or self._pool_pid != os.getpid():
            self._pool_pid = os.getpid()
            self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="decode-chunks")
        return self._pool

    def _by_file(self, rows: np.ndarray) -> Iterator[Part]:
        if len(self._files) == 1 and (not rows.size or rows.min() >= 0):
            yield self._files[0], np.arange(len(rows)), rows
            return
        number = np.searchsorted(self._starts, rows, side="right") - 1
        for index in np.unique(number[rows != PADDING_ROW]):
            places = np.flatnonzero(number == index)
            yield self._files[index], places, rows[places] - self._starts[index]

    def locate(self, row: int) -> tuple[Path, int]:
        """Return the file that holds a row of the set, and the row in that file."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._files[number].path, row - int(self._starts[number])

    def column(self, name: str) -> np.ndarray:
        """Return a column of one number or text per image (N,); a DataError names the files without it."""
        parts, problems = [], []
        for file in self._files:
            try:
                parts.append(file.column(name))
            except DataError as error:
                problems.append(str(error))
        if problems:
            raise DataError("\n".join(problems[:_MOST_PROBLEMS]))
        if len({part.dtype.kind == "O" for part in parts}) > 1:
            raise DataError(f"{self._files[0].path}: {name}: holds texts in some files and numbers in others")
        return np.concatenate(parts)

    def fingerprint(self) -> dict[str, Any]:
        """Return values that identify these files without reading them; for copies, those of the originals."""
        files = [file.fingerprint() for file in self._files]
        return self.copy_of or {"num_images": len(self), "shape": list(self.shape), "files": files}

    def close(self) -> None:
        """Close the open files; a later read opens them again."""
        for file in self._files:
            file.close()
