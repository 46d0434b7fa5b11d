"""Look for passwords, tokens and keys in folders, files, and the members of archives."""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any

from hpctrain.credentials.scan import Found, Sought, scan_stream
from hpctrain.files import open_regular

_MOST_PER_FILE = 20
"""Credentials of one file that are listed."""
_MOST_EXPANDED = 1 << 32
"""Bytes of an archive that are unpacked, in memory and a block at a time; a longer one is not read to its end."""
_DAMAGED = (EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile)
_UNREADABLE = (OSError, RuntimeError, ValueError, *_DAMAGED)
"""What reading a file or an archive raises; ``RuntimeError`` if an archive is encrypted."""


@dataclass(frozen=True)
class FoundInFile:
    """One credential in a file.

    Parameters
    ----------
    path : str
    member : str or None
        Name within an archive.
    found : Found
    """

    path: str
    member: str | None
    found: Found

    def describe(self) -> str:
        """Return the place and the kind in one line, without the credential."""
        name = self.path if self.member is None else f"{self.path} ({self.member})"
        place = f"byte {self.found.offset}" if self.found.line is None else f"line {self.found.line}"
        return f"{name}: {place}: {self.found.kind}, {self.found.length} characters"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"path": self.path, "member": self.member, **asdict(self.found)}


class Scanner:
    """Look through files, and count what was read.

    Parameters
    ----------
    sought : Sought
    skip : sequence of str
        Patterns of names of files and folders that are left out.

    Attributes
    ----------
    num_files, num_bytes : int
        What was read.
    unread : list of str
        Files that could not be read to their end, with the reason.
    """

    def __init__(self, sought: Sought, skip: Sequence[str] = ()) -> None:
        self._sought, self._skip = sought, skip
        self.num_files = self.num_bytes = 0
        self.unread: list[str] = []

    def scan(self, path: Path) -> Iterator[FoundInFile]:
        """Yield the credentials in a file, or in all files below a folder; links are not followed."""
        if not path.is_dir():
            yield from self._scan_file(path)
            return
        for folder, names, files in os.walk(path, onerror=self._cannot_list):
            names[:] = sorted(name for name in names if not self._is_skipped(name))
            for name in sorted(files):
                if not self._is_skipped(name):
                    yield from self._scan_file(Path(folder) / name)

    def _is_skipped(self, name: str) -> bool:
        return any(fnmatch(name, pattern) for pattern in self._skip)

    def _cannot_list(self, error: OSError) -> None:
        self.unread.append(f"{error.filename}: {error.strerror}")

    def _scan_file(self, path: Path) -> Iterator[FoundInFile]:
        try:
            if not stat.S_ISREG(os.lstat(path).st_mode):
                return  # a link leads to a file that is looked at in its own place; pipes and sockets hold nothing
            with os.fdopen(open_regular(path), "rb") as stream:
                self.num_files += 1
                yield from self._scan_members(path, stream)
                self.num_bytes += os.fstat(stream.fileno()).st_size
        except _UNREADABLE as error:
            self.unread.append(f"{path}: {getattr(error, 'strerror', None) or error}")

    def _scan_members(self, path: Path, stream: IO[bytes]) -> Iterator[FoundInFile]:
        left = _MOST_EXPANDED
        for member, content in _members(stream):
            limited = _Limited(content, left) if member is not None else content
            for number, found in enumerate(scan_stream(limited, self._sought)):
                if number == _MOST_PER_FILE:
                    break
                yield FoundInFile(str(path), member, found)
            if isinstance(limited, _Limited):
                left = limited.left
                if left <= 0:
                    raise ValueError(f"is not read further than {_MOST_EXPANDED >> 30} GiB unpacked")


class _Limited(io.RawIOBase):
    """A stream that ends after a number of bytes."""

    def __init__(self, stream: IO[bytes], left: int) -> None:
        self._stream, self.left = stream, left

    def read(self, size: int = -1) -> bytes:
        block = self._stream.read(min(size, self.left) if size >= 0 else self.left)
        self.left -= len(block)
        return block


def _members(stream: IO[bytes]) -> Iterator[tuple[str | None, IO[bytes]]]:
    """Yield the streams in a file: those of its members if it is an archive, and its own bytes if it is not."""
    start = stream.read(512)
    stream.seek(0)
    if start.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(stream) as archive:
            for name in archive.namelist():
                with archive.open(name) as member:
                    yield name, member
    elif _is_tar(start) or (start.startswith(b"\x1f\x8b") and _is_tar(_unpacked_start(stream))):
        with tarfile.open(fileobj=stream, mode="r|*") as archive:
            for facts in archive:
                if (content := archive.extractfile(facts)) is not None:
                    yield facts.name, content
    elif start.startswith(b"\x1f\x8b"):
        with gzip.open(stream) as content:
            yield "unpacked", content
    else:
        yield None, stream


def _is_tar(start: bytes) -> bool:
    return start[257:262] == b"ustar"


def _unpacked_start(stream: IO[bytes]) -> bytes:
    try:
        with contextlib.suppress(EOFError, zlib.error, OSError):
            return zlib.decompressobj(wbits=31).decompress(stream.read(65536), 512)
        return b""
    finally:
        stream.seek(0)
