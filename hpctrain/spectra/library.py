"""libhdf5's own handle on a file: for what is asked once, and for layouts nothing else can read."""

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
    import hdf5plugin  # noqa: F401  (tells libhdf5 of its filters)

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

    @contextlib.contextmanager
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
    with contextlib.suppress(OSError):
        if stat.S_ISFIFO(path.stat().st_mode):  # to open one waits for who writes to it
            raise DataError(f"{path}: is a pipe, not a file")
    try:
        if _has_no_name(path):
            stream = io.FileIO(path)
            file = h5py.File(stream, "r", locking=False, rdcc_nbytes=CHUNK_CACHE_BYTES)
            weakref.finalize(file, stream.close)  # h5py leaves that to whoever opened it
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
    """Tell a file that is only in memory (``/proc/self/fd/7``): libhdf5 follows the link, which leads nowhere."""
    return path.is_symlink() and path.exists() and not Path(os.readlink(path)).exists()


def allow_many_files() -> None:
    """Open as many files as the system allows at all: a set holds each of its files open, and many sites allow 1024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
