"""Images of one or several files as one set, read by row. N images, B bands, H × W pixels."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
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
from hpctrain.samples.file_set import FileSet, gather_from_many
from hpctrain.samples.find import find_files
from hpctrain.samples.labels import take_labels
from hpctrain.samples.library import allow_many_files
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


class ImageSet(FileSet[Source]):
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
        super().__init__(files)
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

    def _ids(self) -> np.ndarray:
        found = [file.target_id for file in self._files]
        if all(ids is not None for ids in found):
            return np.concatenate(found)
        self.notes.append(
            "the files have no identifiers, so the number of the row stands for the object; an object with two images "
            "may then be trained on and held out (data.columns.target_id names the column)"
        )
        return np.arange(len(self), dtype=np.int64)

    def usable(self, rows: np.ndarray) -> np.ndarray:
        """Return that each of these rows can carry weight; the pixels say more."""
        return np.ones(len(rows), dtype=bool)

    def read(self, rows: np.ndarray, pin: bool = False) -> ImageBatch:
        """Return these rows (n,) in their order, as they are in the file; -1 gives a padding row.

        Raises
        ------
        DataError
            A row cannot be read.
        """
        rows = self._checked(rows)
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

    def _gather(self, name: str, parts: list[Part], num_rows: int, pin: bool) -> Tensor:
        """Return the pixels of a batch as (n, B, H, W), without the bands that are not asked for."""
        file, dtype = self._files[0], self._dtypes[name]
        shape = file.row_shape(name)
        out = self._lend((num_rows, int(np.prod(shape))), dtype, pin)
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
        found = []
        for file, places, rows in parts:
            has_form = file.dtype(name) == target.dtype
            values = functools.partial(self._values, file, name, rows, target.shape[1])
            found.append((places, file.addresses(name, rows) if has_form else None, values))
        gather_from_many(target, found)

    def _values(self, file: Source, name: str, rows: np.ndarray, length: int) -> np.ndarray:
        values = np.empty((len(rows), length), file.dtype(name))
        file.take(name, rows, values, self._decoders())
        return values

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
