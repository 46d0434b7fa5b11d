"""A new file that libhdf5 writes through Python, because it cannot handle a full disk.

When a write fails, libhdf5 (2.0 and before) keeps the data that it could not flush, fails again when the file is
closed, and can crash the process. So this class records a failed write and reports success to libhdf5. The writer calls
:meth:`Sink.check` regularly, which raises the error; then the file is closed and removed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.errors import DataError

if TYPE_CHECKING:
    import h5py


class Sink:
    """A new file object for h5py, open for reading and writing.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self._place = self._end = 0
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the first error of the disk, if there was one."""
        if self._error is not None:
            raise self._error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Seek; the length of the file includes bytes that could not be written."""
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._end}[whence]
        return self._place

    def tell(self) -> int:
        """Return the position."""
        return self._place

    def write(self, data: Any) -> int:
        """Write all bytes, or record the error."""
        view = memoryview(data).cast("B")
        done = 0
        with self._noted():
            while done < len(view) and self._error is None:
                done += os.pwrite(self._descriptor, view[done:], self._place + done)
        self._place += len(view)
        self._end = max(self._end, self._place)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer`, with zeros where nothing was written."""
        view = memoryview(buffer).cast("B")
        done = 0
        with self._noted():
            while done < len(view):
                count = os.preadv(self._descriptor, [view[done:]], self._place + done)
                if count == 0:
                    break
                done += count
        view[done:] = bytes(len(view) - done)
        self._place += len(view)
        return len(view)

    def read(self, size: int) -> bytes:
        """Return `size` bytes; h5py recognises a file object by this method."""
        data = bytearray(size)
        self.readinto(data)
        return bytes(data)

    def truncate(self, size: int | None = None) -> int:
        """Set the length."""
        self._end = self._place if size is None else size
        with self._noted():
            os.ftruncate(self._descriptor, self._end)
        return self._end

    def flush(self) -> None:
        """Do nothing: there is no buffer here."""

    def close(self) -> None:
        """Close the file after everything is durable on disk.

        Raises
        ------
        OSError
            The first error of the disk.
        """
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        try:
            self.check()
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._error = self._error or error


@contextlib.contextmanager
def new_hdf5_file(path: Path, **options: Any) -> Iterator[tuple[h5py.File, Sink]]:
    """Open a new HDF5 file for writing; at the end of the block it is durable on disk.

    Parameters
    ----------
    path : Path
    **options
        Options of ``h5py.File``.

    Yields
    ------
    file : h5py.File
    sink : Sink
        The file object, whose :meth:`Sink.check` raises errors of the disk.

    Raises
    ------
    OSError
        The disk is full, or fails in another way.
    """
    import h5py

    sink = Sink(path)
    try:
        with h5py.File(sink, "w", **options) as file:
            yield file, sink
        sink.close()
    finally:
        with contextlib.suppress(OSError):
            sink.close()


def require_free(out: Path, overwrite: bool) -> None:
    """Refuse to replace an existing file without `overwrite`.

    Raises
    ------
    DataError
        `out` is a folder, or a file while `overwrite` is false.
    """
    if out.is_dir():
        raise DataError(f"{out}: is a folder; --out names a file such as {out / 'spectra.h5'}")
    if out.exists() and not overwrite:
        raise DataError(f"{out}: exists already; give another name or --overwrite")
