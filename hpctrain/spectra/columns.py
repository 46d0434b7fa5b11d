"""One dataset of an HDF5 file, read a few rows at a time by many threads.

Two ways lead to the bytes. Where the dataset lies in the file as one plain block (contiguous layout), libhdf5 is asked
once for its offset and never again: rows are copied out of a memory map, with no lock held and any number of threads.
Everything else (chunks, filters, compact or virtual datasets) goes through libhdf5, which serves one thread at a time.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np

from hpctrain.errors import DataError

CHUNK_CACHE_BYTES = 16 * 2**20
"""Per dataset: a few chunks of 64 DESI spectra (2 MB each); libhdf5's own 1 MiB decodes one for each row."""


class LibraryFile:
    """An HDF5 file that libhdf5 opens on first use, in whatever process that is.

    A handle that crosses a fork gives wrong data or "bad object header" (pytorch #11929), so all of them are closed
    just before one and opened again on the next read, in parent and child alike.
    """

    # Of the class on purpose: a fork concerns all files of the process.
    _all: ClassVar[weakref.WeakSet[LibraryFile]] = weakref.WeakSet()
    _held: ClassVar[list[LibraryFile]] = []

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._file: h5py.File | None = None
        self._all.add(self)

    @contextmanager
    def dataset(self, name: str) -> Iterator[h5py.Dataset]:
        """Give one thread at a time the open dataset."""
        with self._lock:
            if self._file is None:
                self._file = open_library_file(self.path)
            yield self._file[name]

    def close(self) -> None:
        """Close the handle; the next read opens it again."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    @classmethod
    def _before_fork(cls) -> None:
        cls._held = list(cls._all)
        for file in cls._held:
            file._lock.acquire()
            file.close()

    @classmethod
    def _after_fork(cls) -> None:
        for file in cls._held:
            file._lock.release()
        cls._held = []


os.register_at_fork(
    before=LibraryFile._before_fork,
    after_in_parent=LibraryFile._after_fork,
    after_in_child=LibraryFile._after_fork,
)


def open_library_file(path: Path) -> h5py.File:
    """Open an HDF5 file for reading, without a file lock: NFS and Lustre often have none (h5py #1101).

    Raises
    ------
    DataError
        The file is missing, may not be read, is damaged or no HDF5.
    """
    try:
        return h5py.File(path, "r", locking=False, rdcc_nbytes=CHUNK_CACHE_BYTES)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except PermissionError:
        raise DataError(f"{path}: permission denied; ask its owner, or see `ls -l`") from None
    except OSError as error:
        if path.is_dir():
            raise DataError(f"{path}: is a directory; name its files, such as {path}/*.h5") from None
        reason = "truncated or still being written" if "truncated" in str(error) else "not an HDF5 file, or damaged"
        raise DataError(f"{path}: {reason} ({error})") from None


@dataclass(frozen=True)
class Scaling:
    """What an integer dataset says about its values: ``value * scale + zero``, and `blank` for none.

    The attributes are those of the CF conventions (``scale_factor``, ``add_offset``, ``_FillValue``) or of FITS
    (``BSCALE``, ``BZERO``, ``BLANK``).
    """

    scale: float = 1.0
    zero: float = 0.0
    blank: float | None = None

    @classmethod
    def of(cls, dataset: h5py.Dataset) -> Scaling:
        """Read the attributes."""
        attributes = {name.lower(): value for name, value in dataset.attrs.items()}

        def number(*names: str) -> float | None:
            found = [attributes[name] for name in names if name in attributes]
            return float(np.asarray(found[0]).reshape(-1)[0]) if found else None

        scale, zero = number("scale_factor", "bscale"), number("add_offset", "bzero")
        blank = number("_fillvalue", "blank") if dataset.dtype.kind in "iu" else None
        return cls(1.0 if scale is None else scale, zero or 0.0, blank)

    def apply(self, stored: np.ndarray, out: np.ndarray) -> None:
        """Write the values of `stored` to `out` (float32); blanks become NaN, overflows infinite: both get masked."""
        with np.errstate(over="ignore", invalid="ignore"):
            if self == Scaling():
                np.copyto(out, stored, casting="unsafe")
                return
            np.copyto(out, stored * self.scale + self.zero, casting="unsafe")
        if self.blank is not None:
            out[stored == self.blank] = np.nan


class RowReader:
    """Rows of one (N, L) dataset.

    Parameters
    ----------
    file : LibraryFile
        Where it is.
    dataset : h5py.Dataset
        The same, open; not kept.
    """

    def __init__(self, file: LibraryFile, dataset: h5py.Dataset) -> None:
        self._file = file
        self._name = dataset.name
        self.dtype = dataset.dtype
        self.shape = dataset.shape
        self._scaling = Scaling.of(dataset)
        self._is_plain = self.dtype == np.dtype("=f4") and self._scaling == Scaling()
        offset = contiguous_offset(dataset)
        self._bytes = None if offset is None else self._map(offset)

    @property
    def is_mapped(self) -> bool:
        """Whether rows come out of a memory map, without libhdf5."""
        return self._bytes is not None

    def _map(self, offset: int) -> np.ndarray:
        # As bytes: numpy copies rows of another byte order or of an odd offset only after converting the whole array.
        row_bytes = self.shape[1] * self.dtype.itemsize
        try:
            mapped = np.memmap(self._file.path, np.uint8, "r", offset=offset, shape=(self.shape[0], row_bytes))
        except (ValueError, OSError) as error:
            raise DataError(f"{self._file.path}: {self._name}: cannot be mapped to memory ({error})") from error
        return mapped.view(np.ndarray)

    def take(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Write rows of the dataset to `out`.

        Parameters
        ----------
        rows : ndarray, shape (n,), int64
            In any order, also repeated.
        out : ndarray, shape (n, L), float32
            C-contiguous.
        """
        if self._is_plain:
            self._take_stored(rows, out)
        else:
            self._scaling.apply(self.take_stored(rows), out)

    def take_stored(self, rows: np.ndarray) -> np.ndarray:
        """Return rows as they are in the file, shape (n, L), dtype of the file."""
        stored = np.empty((len(rows), self.shape[1]), dtype=self.dtype)
        self._take_stored(rows, stored)
        return stored

    def _take_stored(self, rows: np.ndarray, out: np.ndarray) -> None:
        if self._bytes is not None:
            # "clip" lets numpy write to `out` directly; the rows are known to be inside.
            np.take(self._bytes, rows, axis=0, out=out.view(np.uint8), mode="clip")
            return
        unique, back = np.unique(rows, return_inverse=True)
        try:
            with self._file.dataset(self._name) as dataset:
                found = dataset[unique]
        except OSError as error:
            raise DataError(
                f"{self._file.path}: {self._name}: rows {unique[0]} to {unique[-1]} cannot be read ({error}); the file "
                "is damaged, or packed with a filter this machine lacks (pip install hdf5plugin)"
            ) from error
        np.take(found, back, axis=0, out=out)


def contiguous_offset(dataset: h5py.Dataset) -> int | None:
    """Return where in the file the bytes of a dataset begin, or None where they are not one plain block."""
    if dataset.chunks is not None or dataset.is_virtual or dataset.external:
        return None
    if h5py.h5t.py_create(dataset.dtype, logical=True) != dataset.id.get_type():
        return None  # a type numpy has no equal of, which libhdf5 converts
    offset = dataset.id.get_offset()
    if offset is None:
        return None  # compact, or never written
    if offset + dataset.size * dataset.dtype.itemsize > os.path.getsize(dataset.file.filename):
        raise DataError(f"{dataset.file.filename}: {dataset.name}: ends beyond the end of the file; it is truncated")
    return offset
