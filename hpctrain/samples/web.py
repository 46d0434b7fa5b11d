"""Files of web servers, through fsspec's HTTP file system, which uses aiohttp."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import socket
import ssl
import string
import time
from collections.abc import Mapping
from typing import Any, BinaryIO, cast
from urllib.parse import quote, unquote, urljoin, urlsplit

from hpctrain.credentials.urls import without_secrets
from hpctrain.errors import DataError
from hpctrain.profile.remote import is_http, scheme_of
from hpctrain.terminal import printable

_TIMEOUT_S = 60.0
_PIECE_BYTES = 2**20
_VERSION = ("ETag", "Last-Modified", "Content-MD5")
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 10


class HttpSource:
    """A file of a web server.

    Size and version come from a request for the first byte, because a signed address often allows GET and not HEAD.
    The file is read as one stream. If the server does not know byte ranges, the stream starts at byte 0, and the bytes
    before the wanted one are read and dropped.

    Parameters
    ----------
    url : str
        ``http://`` or ``https://``. No message shows its query or its user, which may hold credentials.

    Raises
    ------
    DataError
        The file does not exist, cannot be fetched, or the server does not report its size.
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
        return unquote(self.name.removesuffix("?...")).rstrip("/").rpartition("/")[2]

    def open_at(self, offset: int) -> BinaryIO:
        body = self._get({"Range": f"bytes={offset}-"} if offset else {})
        length = body.headers.get("Content-Length", "")
        expected = self.num_bytes - (offset if body.status == 206 else 0)
        if length.isdecimal() and int(length) != expected:
            body.close()
            raise DataError(f"{self.name}: the server reports {expected} bytes and sends {length}")
        if offset and body.status != 206:  # a server that does not know byte ranges starts from byte 0
            _skip(body, offset)
        return cast(BinaryIO, body)

    def current_version(self) -> str:
        return self._look()[1]

    def _look(self) -> tuple[int, str]:
        try:
            with self._get({"Range": "bytes=0-0"}) as body:
                headers = body.headers
                length = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "")
        except _AnswerError as error:
            if error.status != 416:  # there is no first byte
                raise DataError(f"{self.name}: {error}") from None
            length, headers = "0", error.headers
        except OSError as error:
            raise DataError(f"{self.name}: cannot be fetched: {error}") from None
        if not length.isdecimal():
            raise DataError(f"{self.name}: the server does not report the size of the file")
        found = [printable(headers[key]) for key in _VERSION if headers.get(key)]
        return int(length), ", ".join([f"{length} bytes", *found])

    def _get(self, headers: Mapping[str, str]) -> _Body:
        """Send a request, follow redirects, and return the body of the last answer; errors are without secrets."""
        url = self._url
        for _ in range(_MAX_REDIRECTS + 1):
            body = _Body(_open(url, headers))
            target = body.headers.get("Location") if body.status in _REDIRECTS else None
            if target is None and 200 <= body.status < 300:
                return body
            body.close()
            if target is None:
                raise _AnswerError(body.status, body.reason, body.headers)
            url = _follow(url, target)
        reason = f"{body.reason} after {_MAX_REDIRECTS} redirects, perhaps in an infinite loop"
        raise _AnswerError(body.status, reason, body.headers)


class _AnswerError(OSError):
    """The server has answered, but not with the file."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str]) -> None:
        super().__init__(f"the server answers {status} {printable(reason)}")
        self.status, self.headers = status, headers


class _Body(io.RawIOBase):
    """The body of an answer as bytes; every error is an OSError without the address."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._rest = stream, memoryview(b"")
        answer = stream.r  # aiohttp's response
        self.status, self.reason, self.headers = answer.status, answer.reason or "", answer.headers

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        from fsspec.asyn import sync

        try:
            if not self._rest:
                self._rest = memoryview(sync(self._stream.loop, _receive, self._stream.r.content))
        except Exception as error:
            raise OSError(_reason(error)) from None
        num_bytes = min(len(buffer), len(self._rest))
        buffer[:num_bytes], self._rest = self._rest[:num_bytes], self._rest[num_bytes:]
        return num_bytes

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


async def _receive(content: Any) -> bytes:
    """Return the next bytes of an answer: a mebibyte, or after a second those that have arrived.

    fsspec's own ``read`` changes threads for each packet. It also lets aiohttp hold as many bytes as it asks for, and
    these are lost when the connection breaks.
    """
    pieces: list[bytes] = []
    num_bytes, end_s = 0, time.monotonic() + 1
    while num_bytes < _PIECE_BYTES and time.monotonic() < end_s:
        try:
            piece = await content.readany()
        except Exception:
            if pieces:  # the next call raises it again
                break
            raise
        if not piece:
            break
        pieces.append(piece)
        num_bytes += len(piece)
    return b"".join(pieces)


def _open(url: str, headers: Mapping[str, str]) -> Any:
    """Send one request; return fsspec's stream of the answer, which may be a redirect."""
    import aiohttp

    try:
        # With block_size=0 fsspec streams. It then uses no size, but would send more requests to find one out.
        return _file_system().open(
            _quoted(url),
            block_size=0,
            size=1,
            # A range of bytes that are compressed in transit would be meaningless.
            headers={"Accept-Encoding": "identity", **headers},
            allow_redirects=False,
        )
    except FileNotFoundError:  # fsspec's name for 404, with the full address
        raise _AnswerError(404, "Not Found", {}) from None
    except aiohttp.ClientResponseError as error:
        raise _AnswerError(error.status, error.message, error.headers or {}) from None
    except Exception as error:
        raise OSError(_reason(error)) from None


@functools.cache
def _file_system() -> Any:
    """Return the file system that all sources share; it closes its connections when this process ends."""
    import fsspec

    return fsspec.filesystem("http", encoded=True, get_client=_session, skip_instance_cache=True)


async def _session(**options: Any) -> Any:
    """Return a client with the proxies of the environment, verified certificates, no cookies and our time limits."""
    import aiohttp

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=ssl.create_default_context()),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, connect=_TIMEOUT_S, sock_read=_TIMEOUT_S),
        trust_env=True,
        auto_decompress=False,
        # aiohttp drops the bytes that it holds when a connection breaks. With this limit it receives more only when it
        # holds none, so we resume at the byte where the connection broke. The kernel reads ahead.
        read_bufsize=1,
        **options,
    )


def _quoted(url: str) -> str:
    """Quote spaces, control characters and non-ASCII letters. All else stays as it is, because it may be signed."""
    parts = urlsplit(url)
    quoted = {
        name: quote(getattr(parts, name), safe=string.punctuation, errors="surrogateescape")
        for name in ("path", "query")
    }
    return parts._replace(**quoted, fragment="").geturl()


def _follow(url: str, target: str) -> str:
    """Return where a redirect leads: to a web address, and never from HTTPS to HTTP."""
    try:
        target = urljoin(url, target)
        shown = printable(without_secrets(target))
    except ValueError:
        raise OSError("the server redirects to an address that is not valid") from None
    if not is_http(target) or (scheme_of(url) == "https" and scheme_of(target) != "https"):
        raise OSError(f"the server redirects to {shown}, which is not followed")
    return target


def _reason(error: Exception) -> str:
    """Return why a request failed, without the address: it may be signed, and some texts of aiohttp contain it."""
    import aiohttp
    from fsspec.exceptions import FSTimeoutError

    if isinstance(error, FSTimeoutError):
        return f"no answer for {_TIMEOUT_S:.0f} s"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the connection broke"
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return "the address is not valid"
    cause = getattr(error, "os_error", error)
    if isinstance(cause, OSError) and cause.errno and not isinstance(cause, (ssl.SSLError, socket.gaierror)):
        return os.strerror(cause.errno)
    text = printable(str(error))
    return text if text and "://" not in text else type(error).__name__


def _skip(stream: io.RawIOBase, num_bytes: int) -> None:
    while num_bytes:
        read = len(stream.read(min(num_bytes, _PIECE_BYTES)) or b"")
        if not read:
            raise OSError(f"ends {num_bytes} bytes early")
        num_bytes -= read
