"""Where files are copied from: a file system, a web server, or an object store that fsspec knows.

A source reports its size and its version, and can be read from any byte on.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import http.client
import io
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from hpctrain.errors import DataError
from hpctrain.profile.remote import is_http, is_remote, missing_package, scheme_of, without_secrets
from hpctrain.spectra.files import find_files
from hpctrain.terminal import printable

_TIMEOUT_S = 60.0
_HTTP_VERSION = ("ETag", "Last-Modified", "Content-MD5")
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


class HttpSource:
    """A file of a web server.

    Size and version come with the first byte: a signed address often allows GET and not HEAD. Python's own client does
    it. It also resumes on servers that know no ranges, which fsspec cannot, and reports why a request failed.
    """

    is_remote = True
    modified_ns = None

    def __init__(self, url: str) -> None:
        self._url = url
        self.name = without_secrets(url)
        self.origin = f"{self.name} {hashlib.sha256(url.encode()).hexdigest()[:16]}"
        self.num_bytes, self.version = self._look()

    @property
    def file_name(self) -> str:
        return Path(urllib.request.url2pathname(self.name.removesuffix("?..."))).name

    def open_at(self, offset: int) -> BinaryIO:
        response = self._get({"Range": f"bytes={offset}-"} if offset else {})
        length = response.headers.get("Content-Length", "")
        expected = self.num_bytes - (offset if response.status == 206 else 0)
        if length.isdecimal() and int(length) != expected:
            response.close()
            raise DataError(f"{self.name}: the server reports {expected} bytes and sends {length}")
        if offset and response.status != 206:  # a server that knows no ranges starts from the beginning
            _skip(response, offset)
        return response

    def current_version(self) -> str:
        return self._look()[1]

    def _look(self) -> tuple[int, str]:
        try:
            with self._get({"Range": "bytes=0-0"}) as response:
                headers = response.headers
                length = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "")
        except urllib.error.HTTPError as error:
            if error.code != 416:  # there is no first byte
                raise DataError(f"{self.name}: the server answers {error.code} {printable(error.reason)}") from None
            length, headers = "0", error.headers
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DataError(f"{self.name}: cannot be fetched: {getattr(error, 'reason', None) or error}") from None
        if not length.isdecimal():
            raise DataError(f"{self.name}: the server does not report the size of the file")
        found = [printable(headers[key]) for key in _HTTP_VERSION if headers.get(key)]
        return int(length), ", ".join([f"{length} bytes", *found])

    def _get(self, headers: dict[str, str]) -> Any:
        # A range of bytes that are compressed in transit would be meaningless.
        request = urllib.request.Request(self._url, headers={"Accept-Encoding": "identity", **headers})
        return _client().open(request, timeout=_TIMEOUT_S)


@functools.cache
def _client() -> urllib.request.OpenerDirector:
    """Return a client that speaks HTTP and HTTPS and nothing else, wherever a server may redirect it."""
    client = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        _Redirects(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        client.add_handler(handler)
    return client


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to other web addresses, but never out of HTTPS."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not is_http(newurl) or (scheme_of(req.full_url) == "https" and scheme_of(newurl) != "https"):
            raise urllib.error.URLError(f"the server redirects to {without_secrets(newurl)}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _skip(stream: BinaryIO, num_bytes: int) -> None:
    while num_bytes:
        read = len(stream.read(min(num_bytes, 2**20)))
        if not read:
            raise OSError(f"ends {num_bytes} bytes early")
        num_bytes -= read


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
            if is_http(pattern):
                sources: list[Source] = [HttpSource(pattern)]
            elif is_remote(pattern):
                sources = list(_store_sources(pattern))
            else:
                sources = [LocalSource(path) for path in find_files([pattern], base or Path())]
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
    if (package := missing_package(url)) is not None:
        raise DataError(f"{shown}: fetching it needs the package {package}: pip install {package}")
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
