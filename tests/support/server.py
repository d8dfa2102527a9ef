"""A real HTTP server on this machine, whose answers the test chooses and which records requests."""

from __future__ import annotations

import hashlib
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Server:
    """Answers by path, the last of which is repeated, and the path and headers of every request."""

    port: int
    scheme: str = "http"
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def give(self, path: str, *answers: Answer) -> str:
        """Set the answers at a path; return its URL."""
        self.answers[path] = list(answers)
        return f"{self.scheme}://127.0.0.1:{self.port}{path}"

    def asked(self, path: str) -> list[dict[str, str]]:
        return [headers for asked, headers in self.requests if asked == path]

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append((handler.path, dict(handler.headers)))
        answers = self.answers.get(handler.path, [status(404)])
        (answers.pop(0) if len(answers) > 1 else answers[0])(handler)


@contextmanager
def serving(encrypted: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(0, "https" if encrypted else "http")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.handle(self)

        def do_CONNECT(self) -> None:  # the first request to a proxy for an encrypted address
            server.handle(self)

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # some tests hang up

    with Quiet(("127.0.0.1", 0), Handler) as http:
        if encrypted:
            http.socket = encrypted.wrap_socket(http.socket, server_side=True)
        server.port = http.server_port
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            http.shutdown()


def tag(content: bytes) -> str:
    """Return a strong entity tag."""
    return f'"{hashlib.md5(content).hexdigest()}"'


def whole(
    content: bytes,
    *,
    etag: str | None = "",
    ranges: bool = True,
    kind: str = "application/octet-stream",
    length: bool | str = True,
    until: int | None = None,
    pace: float = 0.0,
    ignore_if_range: bool = False,
    unasked: int = 0,
) -> Answer:
    """Answer with the file, or with the requested range if its tag still matches.

    Args:
        content: the file.
        etag: its entity tag; by default derived from the content, None for none.
        ranges: whether ranges are served.
        kind: its Content-Type.
        length: whether to send its length, or the text to send instead.
        until: index of the byte before which to hang up.
        pace: seconds to wait before every 64 KiB.
        ignore_if_range: whether to serve the range whatever the client's tag.
        unasked: first byte of the range to serve if none is requested.
    """
    etag = tag(content) if etag == "" else etag

    def answer(handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        fits = ignore_if_range or handler.headers.get("If-Range") == etag
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and ranges and fits else unasked
        handler.send_response(206 if begin else 200)
        handler.send_header("Content-Type", kind)
        if etag:
            handler.send_header("ETag", etag)
        if length:
            handler.send_header("Content-Length", str(len(content) - begin) if length is True else length)
        if begin:
            handler.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        handler.end_headers()
        body = content[begin:until]
        for i in range(0, len(body), 2**16):
            time.sleep(pace)
            handler.wfile.write(body[i : i + 2**16])

    return answer


def status(code: int, **headers: str) -> Answer:
    """Answer with an error or a redirect."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for key, value in headers.items():
            handler.send_header(key.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def silent(seconds: float) -> Answer:
    """Answer nothing for a while."""
    return lambda _: time.sleep(seconds)
