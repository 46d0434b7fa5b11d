"""A real web server for the tests: it can forget ranges, break off, stand still, and say which version it serves."""

from __future__ import annotations

import contextlib
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves one content at any path but ``/missing``.

    Attributes
    ----------
    content : bytes
    version : str
        ``ETag`` of the answers.
    knows_ranges : bool
    breaks_after : int or None
        Bytes after which the next answer breaks off, once.
    stands_after : int or None
        Bytes of content after which answers stand still until :meth:`release`.
    trickles : bool
        Whether answers that stand still send 256 KiB a second all the same.
    redirects : dict of str to str
        Where paths are to be found instead.
    claims : str or None
        What it says about its size instead of the truth.
    ranges : list of str or None
        The ``Range`` of each request so far.
    """

    def __init__(self, content: bytes, tls: ssl.SSLContext | None = None) -> None:
        self.content, self.version, self.knows_ranges = content, '"1"', True
        self.breaks_after: int | None = None
        self.stands_after: int | None = None
        self.trickles = False
        self.redirects: dict[str, str] = {}
        self.claims: str | None = None
        self.ranges: list[str | None] = []
        self._go_on = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_port}"

    def release(self) -> None:
        self.stands_after = None
        self._go_on.set()

    def close(self) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        return Handler

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        if request.path.startswith("/missing"):
            request.send_error(404)
            return
        if request.path in self.redirects:
            request.send_response(302)
            request.send_header("Location", self.redirects[request.path])
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        size, first, last = len(self.content), 0, len(self.content) - 1
        if asked and self.knows_ranges:
            begin, _, end = asked.removeprefix("bytes=").partition("-")
            first, last = int(begin), min(int(end or last), last)
            if first >= size:
                request.send_error(416)
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {first}-{last}/{self.claims or size}")
        else:
            request.send_response(200)
        request.send_header("Content-Length", str(last - first + 1))
        request.send_header("ETag", self.version)
        request.end_headers()
        with contextlib.suppress(OSError):  # whoever asked has gone
            # Who only looks at the first byte hangs up: how much of an answer without ranges is sent by then is chance.
            self._send(request, first, last + 1, may_fail=asked != "bytes=0-0")

    def _send(self, request: BaseHTTPRequestHandler, first: int, end: int, may_fail: bool) -> None:
        for at in range(first, end, 2**18):
            piece = self.content[at : min(end, at + 2**18)]
            if may_fail and self.breaks_after is not None and at >= self.breaks_after:
                self.breaks_after = None
                request.close_connection = True
                return
            if may_fail and self.stands_after is not None and at >= self.stands_after:
                while not self._go_on.wait(1.0) and not self.trickles:
                    pass
            request.wfile.write(piece)
