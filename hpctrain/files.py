"""Open files that others may have planted without following links, and write files whole or not at all.

A run directory may belong to somebody else, or be writable by a group. Therefore a file in it is read and appended to
only if it is a regular file under its own name. To replace a file, these functions write a new file with a random name,
which nobody else can have prepared, and rename it at the end. A *folder* of a run may be a link (``checkpoints`` on a
larger disk) if the link belongs to the user who follows it, or to root.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

LARGEST_BYTES = 1 << 26
"""Largest size of a file to read as a whole; our own files are far smaller."""
LONGEST_LINE_BYTES = 1 << 20
"""Longest line to read, so that memory remains bounded; our own records are far shorter."""


SOURCE_DATE = "SOURCE_DATE_EPOCH"
"""Variable by which whoever builds something says which date its files shall hold (reproducible-builds.org)."""


def creation_time() -> float:
    """Return the time to write into a new file, in seconds since 1970: now, or what ``SOURCE_DATE_EPOCH`` says.

    A stage of a pipeline sets that variable, so that the same inputs give the same bytes whenever it runs.
    """
    given = os.environ.get(SOURCE_DATE, "")
    return float(given) if given.isascii() and given.isdecimal() else time.time()


def creation_stamp() -> str:
    """Return the time to write into a new file as text: ``2026-11-26T21:00:00+0000``."""
    moment = creation_time()
    known = time.gmtime(moment) if os.environ.get(SOURCE_DATE) else time.localtime(moment)
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", known)


def open_regular(path: Path, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
    """Open a regular file under its own name and return the descriptor.

    Parameters
    ----------
    path : Path
    flags : int
        Flags of ``os.open``; links are never followed, even without ``O_NOFOLLOW``.
    mode : int
        Permissions of a file that ``O_CREAT`` makes, before the umask.

    Raises
    ------
    OSError
        ``os.open`` fails; the name belongs to a link, a folder, a pipe or a device; or the folder is a link that
        belongs to another user.
    """
    folder = _open_folder(path.parent)
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # without NONBLOCK a planted pipe would block forever
    try:
        descriptor = os.open(path.name, flags, mode, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "is a symbolic link, which is not followed", str(path)) from None
        error.filename = str(path)
        raise
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    return descriptor


def _open_folder(path: Path) -> int:
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_NOFOLLOW)
    except NotADirectoryError:
        owner = os.lstat(path).st_uid
        if path.is_symlink() and owner not in (0, os.geteuid()):
            message = "is a symbolic link of another user, which is not followed"
            raise OSError(errno.ELOOP, message, str(path)) from None
        return os.open(path, flags)


def open_append(path: Path) -> int:
    """Open a file to append to, and return the descriptor; make the file if it does not exist.

    An entry with this name that is not a regular file, such as a link, is renamed.

    Raises
    ------
    OSError
        The file cannot be opened or made.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
    try:
        return open_regular(path, flags)
    except OSError:
        if not is_in_the_way(path):
            raise
    put_aside(path)
    return open_regular(path, flags)


def is_in_the_way(path: Path) -> bool:
    """Return whether the entry with this name is unusable: not a regular file, or our own file, but not accessible."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    is_locked = found.st_uid == os.geteuid() and not os.access(path, os.R_OK | os.W_OK)
    return not stat.S_ISREG(found.st_mode) or is_locked


def put_aside(path: Path) -> Path:
    """Rename the entry with this name to ``<name>.damaged-1`` (2, 3 ...), and return the new path."""
    for number in itertools.count(1):
        target = path.with_name(f"{path.name}.damaged-{number}")
        if not os.path.lexists(target):
            os.rename(path, target)
            return target
    raise AssertionError("unreachable")


def read_text(path: Path, largest_bytes: int = LARGEST_BYTES) -> str:
    """Return the text of a regular file; bytes that are not UTF-8 become U+FFFD.

    Raises
    ------
    OSError
        The file is unreadable, is not a regular file, or is larger than `largest_bytes`.
    """
    with os.fdopen(open_regular(path), "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > largest_bytes:
            raise OSError(errno.EFBIG, f"has {size} bytes; at most {largest_bytes} are read", str(path))
        return stream.read(largest_bytes).decode("utf-8", "replace")


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a regular file with their line breaks, as a stream; skip very long lines.

    Raises
    ------
    OSError
        As :func:`open_regular`, at the first line.
    """
    with os.fdopen(open_regular(path), "rb") as stream:
        while line := stream.readline(LONGEST_LINE_BYTES):
            if line.endswith(b"\n") or len(line) < LONGEST_LINE_BYTES:
                yield line
                continue
            while line and not line.endswith(b"\n"):
                line = stream.readline(LONGEST_LINE_BYTES)


class NewFile:
    """A file that is written under a random name and takes its final name at the end, or never.

    Use it as a context manager, which publishes at the end of the block and discards on an exception.

    Parameters
    ----------
    path : Path
        Final path. An existing file or link is replaced; the target of a link is never changed.
    durable : bool
        Wait until the bytes are on the disk before the rename, and until the new name is on the disk after it.
    mode : int
        Permissions, before the umask.
    replace_folders : bool
        Rename a folder that has the final path; if False, such a folder is an error.

    Attributes
    ----------
    stream : BinaryIO
        The file, open for writing and reading.

    Raises
    ------
    OSError
        The file cannot be made.
    """

    def __init__(self, path: Path, *, durable: bool = True, mode: int = 0o666, replace_folders: bool = False) -> None:
        self._path, self._durable, self._replace_folders = path, durable, replace_folders
        self._temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self.stream: BinaryIO = os.fdopen(os.open(self._temporary, flags, mode), "w+b")

    @property
    def name_for_libraries(self) -> str:
        """Name by which a library can open exactly this file, even if somebody renames entries of the folder."""
        return f"/proc/self/fd/{self.stream.fileno()}"

    def publish(self) -> None:
        """Close the file and give it its final name.

        Raises
        ------
        OSError
            The disk is full, or the file cannot be renamed; it is discarded.
        """
        try:
            with self.stream:
                self.stream.flush()
                if self._durable:
                    os.fsync(self.stream.fileno())
            try:
                os.replace(self._temporary, self._path)
            except IsADirectoryError:
                if not self._replace_folders:
                    raise
                put_aside(self._path)
                os.replace(self._temporary, self._path)
        except BaseException:
            self.discard()
            raise
        if self._durable:
            fsync_directory(self._path.parent)

    def discard(self) -> None:
        """Remove the file; harmless after :meth:`publish`."""
        with contextlib.suppress(OSError):
            self.stream.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink()

    def __enter__(self) -> NewFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.publish()
        else:
            self.discard()


def clear_leftovers(path: Path) -> None:
    """Remove temporary files that killed writers of this file left; only its single writer may call this."""
    leftover = re.compile(re.escape(f".{path.name}.") + r"[0-9a-f]{16}\.tmp")
    with contextlib.suppress(OSError):
        for entry in os.scandir(path.parent):
            if leftover.fullmatch(entry.name):
                os.unlink(entry.path)


def clear_old_leftovers(folder: Path, older_than_s: float = 3600.0) -> None:
    """Remove what killed writers left long ago in a folder with a file of each rank; a young one may be in use.

    One rank does this for all: if each looked for its own, N ranks would list N² names.
    """
    leftover = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if leftover.fullmatch(entry.name) and time.time() - entry.stat().st_mtime > older_than_s:
                os.unlink(entry.path)


def fsync_directory(path: Path) -> None:
    """Make the names in a directory durable, not only the bytes of its files."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish_once(path: Path, content: bytes, mode: int = 0o666) -> bool:
    """Give a new file its name, whole, unless there is a file with this name; needs no lock.

    A hard link is made only if the name is free, on NFS too, so of several writers at once exactly one succeeds.

    Parameters
    ----------
    path : Path
    content : bytes
    mode : int
        Permissions of the file, whatever the umask.

    Returns
    -------
    bool
        False if there is a file with this name; it is unchanged.

    Raises
    ------
    OSError
        The disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, 0o600), "wb") as stream:
        try:
            stream.write(content)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
            try:
                os.link(temporary, path)
            except FileExistsError:
                # A server of NFS may have made the link and lost its answer; then the file has two names.
                if os.fstat(stream.fileno()).st_nlink != 2:
                    return False
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
    fsync_directory(path.parent)
    return True
