"""libhdf5's own handle on a file, for single requests and for layouts that only libhdf5 can read."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import stat
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import h5py

from hpctrain.errors import DataError

with contextlib.suppress(ImportError):
    import hdf5plugin  # noqa: F401  (registers its filters with libhdf5)

CHUNK_CACHE_BYTES = 16 * 2**20
"""Size of libhdf5's cache of chunks per dataset: a few chunks of 64 DESI spectra (2 MB each). With its default of 1 MiB
libhdf5 decodes a chunk for each row."""


class LibraryFile:
    """An HDF5 file that libhdf5 opens on first use, in any process.

    A handle that crosses a fork gives wrong data or "bad object header" (pytorch #11929). So all handles are closed
    just before a fork and opened again on the next read, in parent and child alike.
    """

    # Attributes of the class on purpose: a fork concerns all files of the process.
    _all: ClassVar[weakref.WeakSet[LibraryFile]] = weakref.WeakSet()
    _held: ClassVar[list[LibraryFile]] = []

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._file: h5py.File | None = None
        self._all.add(self)

    @contextlib.contextmanager
    def dataset(self, name: str) -> Iterator[h5py.Dataset]:
        """Lend the open dataset to one thread at a time."""
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
        The file is missing, cannot be read, is damaged, or is no HDF5 file.
    """
    with contextlib.suppress(OSError):
        if stat.S_ISFIFO(path.stat().st_mode):  # opening a pipe waits for its writer
            raise DataError(f"{path}: is a pipe, not a file")
    try:
        if _has_no_name(path):
            stream = io.FileIO(path)
            file = h5py.File(stream, "r", locking=False, rdcc_nbytes=CHUNK_CACHE_BYTES)
            weakref.finalize(file, stream.close)  # h5py does not close a stream that it did not open
            return file
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


def _has_no_name(path: Path) -> bool:
    """Return whether a file is only in memory (``/proc/self/fd/7``): libhdf5 cannot open the target of its link."""
    return path.is_symlink() and path.exists() and not Path(os.readlink(path)).exists()


def allow_many_files() -> None:
    """Raise the limit of open files to the system's maximum: a set keeps all its files open; a common limit is 1024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


DAMAGE = (ArithmeticError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)
"""Exceptions that libhdf5 and h5py raise for a damaged structure."""


@contextlib.contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn what a damaged file makes libhdf5 and NumPy raise into an error that names the file.

    Raises
    ------
    DataError
        The structure of the file cannot be read.
    """
    try:
        yield
    except DAMAGE as error:
        raise DataError(
            f"{path}: its structure cannot be read; it is damaged, or was written while it was being opened "
            f"({type(error).__name__}: {' '.join(str(error).split())})"
        ) from error
