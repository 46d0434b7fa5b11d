"""Where files are copied from: a file system, a web server, or an object store that fsspec knows.

A source reports its size and its version, and can be read from any byte on.
"""

from __future__ import annotations

import glob
import io
import os
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from hpctrain.credentials.urls import without_secrets
from hpctrain.errors import DataError
from hpctrain.profile.remote import how_to_install, is_http, is_remote, missing_package, scheme_of
from hpctrain.samples.find import find_files
from hpctrain.samples.web import HttpSource
from hpctrain.terminal import printable

_STORE_VERSION = ("ETag", "etag", "md5Hash", "md5", "content_md5", "generation", "crc32c", "LastModified", "mtime")
_STORE_BLOCK_BYTES = 16 * 2**20


class Source(Protocol):
    """A file somewhere.

    Attributes
    ----------
    name : str
        For messages, without secrets.
    origin : str
        Differs between any two files.
    is_remote : bool
        It has to be fetched, and a read that fails may succeed when it is repeated.
    num_bytes : int
        Its size.
    version : str
        Changes when its content changes.
    modified_ns : int or None
        When it was written, if that is known for certain.
    """

    name: str
    origin: str
    is_remote: bool
    num_bytes: int
    version: str
    modified_ns: int | None

    @property
    def file_name(self) -> str:
        """Last part of its path, as its owner chose it."""

    def open_at(self, offset: int) -> BinaryIO:
        """Open it for reading from a byte on."""

    def current_version(self) -> str:
        """Ask once more which version it is."""


class LocalSource:
    """A file of a file system."""

    is_remote = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name, self.origin = str(path), str(path.resolve())
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        self.num_bytes = status.st_size
        self.version = _version_of(status)
        self.modified_ns: int | None = status.st_mtime_ns

    @property
    def file_name(self) -> str:
        return self.path.name

    def open_at(self, offset: int) -> BinaryIO:
        stream = io.FileIO(self.path)
        stream.seek(offset)
        return stream

    def current_version(self) -> str:
        return _version_of(self.path.stat())


def _version_of(status: os.stat_result) -> str:
    return f"{status.st_size} bytes, {status.st_mtime_ns} ns"


class StoreSource:
    """A file of an object store, through fsspec."""

    is_remote = True
    modified_ns = None

    def __init__(self, url: str, system: Any, path: str) -> None:
        self._system, self._path = system, path
        self.name = self.origin = without_secrets(url)
        self.num_bytes, self.version = self._look()

    @property
    def file_name(self) -> str:
        return self._path.rstrip("/").rpartition("/")[2]

    def open_at(self, offset: int) -> BinaryIO:
        stream = self._system.open(self._path, "rb", block_size=_STORE_BLOCK_BYTES)
        stream.seek(offset)
        return stream

    def current_version(self) -> str:
        self._system.invalidate_cache()
        return self._look()[1]

    def _look(self) -> tuple[int, str]:
        try:
            facts = self._system.info(self._path)
        except FileNotFoundError:
            raise DataError(f"{self.name}: no such file (data.files)") from None
        except Exception as error:  # each store has its own
            raise DataError(f"{self.name}: {_reason(error)}") from None
        if facts.get("size") is None:
            raise DataError(f"{self.name}: is not a file, or the store does not report its size")
        version = [f"{facts['size']} bytes", *(printable(str(facts[key])) for key in _STORE_VERSION if facts.get(key))]
        return int(facts["size"]), ", ".join(version)


def find_sources(patterns: list[str], base: Path | None = None) -> list[Source]:
    """Return the files that names, glob patterns and addresses mean, each once, in order.

    Raises
    ------
    DataError
        A file does not exist, cannot be fetched, or needs a package that is not installed; names all of them.
    """
    found: dict[str, Source] = {}
    problems: list[str] = []
    for pattern in patterns:
        try:
            if not is_remote(pattern):
                sources: list[Source] = [LocalSource(path) for path in find_files([pattern], base or Path())]
            elif (package := missing_package(pattern)) is not None:
                raise DataError(f"{without_secrets(pattern)}: {how_to_install(package)}")
            else:
                sources = [HttpSource(pattern)] if is_http(pattern) else list(_store_sources(pattern))
        except DataError as error:
            problems.append(str(error))
            continue
        for source in sources:
            found.setdefault(source.origin, source)
    if problems:
        raise DataError("\n".join(problems))
    return list(found.values())


def _store_sources(url: str) -> list[StoreSource]:
    shown = without_secrets(url)
    import fsspec.core

    try:
        system, path = fsspec.core.url_to_fs(url)
        paths = sorted(system.glob(path)) if glob.has_magic(path) and not system.exists(path) else [path]
    except ImportError as error:
        raise DataError(f"{shown}: fetching it needs another package: {error}") from None
    except ValueError as error:
        raise DataError(f"{shown}: {error}") from None
    except Exception as error:  # each store has errors of its own: no credentials, no route, no such bucket
        raise DataError(f"{shown}: {_reason(error)}; credentials come from the environment") from None
    if not paths:
        raise DataError(f"{shown}: no file matches (data.files)")
    return [
        StoreSource(url if path == url else f"{scheme_of(url)}://{path.lstrip('/')}", system, path) for path in paths
    ]


def _reason(error: Exception) -> str:
    first = str(error).strip().split("\n", 1)[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
