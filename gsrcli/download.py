"""Files over HTTPS: resumed where they broke off, tried again where that may help, never taken for what they are not.

A file grows under a name of its own, beside a note on where its bytes come from. Bytes are only ever added to it from
the same URL and under the same strong entity tag (RFC 9110, sections 13.1.5 and 14.2); whatever else it holds is
thrown away.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import socket
import ssl
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request

from gsrcli._version import __version__
from gsrcli.errors import DownloadError
from gsrcli.files import write_whole

__all__ = ["Check", "Report", "download", "forget", "is_offline"]

Check = Callable[[Path], None]
"""Raises DownloadError where a complete file is not the one that was meant."""

Report = Callable[[int, "int | None"], None]
"""Is told how many bytes are there, and how many there will be, where that is known."""

TIMEOUT = 30.0
"""Seconds of silence after which a connection is given up."""

PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds to wait before trying again; after the last, a URL is given up."""

LONGEST_PAUSE = 60.0
"""Seconds to wait at most where a server asks for a pause."""

_PROGRESS = 2**20
"""Bytes that a try must have added to earn a new round of tries."""

_CHUNK = 2**18
_TOKEN_ORIGIN = "https://huggingface.co"
_TOKEN_HINT = "set HF_TOKEN to an access token of an account at huggingface.co that may read it"


class _InterruptionError(DownloadError):
    """A failure that may pass."""

    def __init__(self, message: str, pause: float | None = None) -> None:
        super().__init__(message)
        self.pause = pause


def is_offline() -> bool:
    """Whether the user forbids the network."""
    return os.environ.get("GSRCLI_OFFLINE", "0") not in ("", "0")


def download(urls: Sequence[str], part: Path, check: Check, report: Report) -> str:
    """Bring a file here, whole and checked.

    HTTP_PROXY, HTTPS_PROXY and NO_PROXY are honoured. HF_TOKEN goes to huggingface.co alone, and only encrypted.

    Args:
        urls: where it is; each is tried in turn until one gives a file that passes.
        part: where to put it; what an earlier call left there is gone on with, where that is safe.
        check: passes or refuses the complete file.
        report: is told of progress.

    Returns:
        The URL that gave it.

    Raises:
        DownloadError: no URL gave it; ``part`` remains only if a later call can go on with it.
        OSError: it cannot be written; nothing of it remains.
    """
    if is_offline():
        raise DownloadError(f"GSRCLI_OFFLINE is set, so {urls[0]} is not fetched")
    failures = []
    for url in urls:
        try:
            _fetch(url, part, report)
            _examine(url, part, check)
        except DownloadError as failure:  # noqa: PERF203 (of a few)
            failures.append(failure)
        except OSError:
            forget(part)
            raise
        else:
            return url
    hints = [failure.hint for failure in failures if failure.hint]
    raise DownloadError("\n".join(map(str, failures)), hint=hints[0] if hints else None) from failures[-1]


def forget(part: Path) -> None:
    """Remove what there is of a file."""
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


def _fetch(url: str, part: Path, report: Report) -> None:
    """Complete a part, trying again after failures that may pass for as long as it grows."""
    pauses = iter(PAUSES)
    most = _size_of(part)
    while True:
        try:
            return _try(url, part, report)
        except _InterruptionError as interruption:  # noqa: PERF203 (of a few)
            if _size_of(part) >= most + _PROGRESS:
                pauses = iter(PAUSES)
            most = max(most, _size_of(part))
            pause = next(pauses, None)
            if pause is None:
                raise
            _wait(pause if interruption.pause is None else interruption.pause, interruption)
        finally:
            if _Origin.of(part) is None:
                forget(part)


def _wait(seconds: float, because: _InterruptionError) -> None:
    warnings.warn(f"{because}; trying again in {seconds:g} s", stacklevel=2)
    time.sleep(seconds)


def _examine(url: str, part: Path, check: Check) -> None:
    """Refuse a complete file that is not the one that was meant, and remove it."""
    try:
        _refuse_pages(url, part)
        check(part)
    except DownloadError:
        forget(part)
        raise


@dataclass(frozen=True)
class _Origin:
    """Where the bytes of a part come from."""

    url: str
    etag: str | None
    total: int | None

    @classmethod
    def of(cls, part: Path) -> _Origin | None:
        """The origin of a part that is complete or can be gone on with, else None."""
        try:
            origin = cls(**json.loads(_note_of(part).read_bytes()))
            size = part.stat().st_size
        except (OSError, ValueError, TypeError):
            return None
        complete = origin.total == size
        resumable = origin.etag is not None and origin.total is not None and 0 < size < origin.total
        return origin if complete or resumable else None

    @classmethod
    def from_answer(cls, url: str, headers: Message) -> _Origin:
        etag = headers.get("ETag", "")
        length = headers.get("Content-Length", "")
        # A weak tag (W/) promises no equal bytes.
        return cls(url, etag if etag.startswith('"') else None, int(length) if length.isdigit() else None)

    def note(self, part: Path) -> None:
        write_whole(_note_of(part), json.dumps(dataclasses.asdict(self)).encode())


def _try(url: str, part: Path, report: Report) -> None:
    """One request for what a part lacks."""
    origin = _Origin.of(part)
    if origin and origin.url != url:
        origin = None
    size = _size_of(part) if origin else 0
    if origin and size == origin.total:
        report(size, origin.total)
        return
    request = Request(url, headers={"User-Agent": f"gsrcli/{__version__}", "Accept-Encoding": "identity"})
    if origin and origin.etag:
        request.add_header("Range", f"bytes={size}-")
        request.add_header("If-Range", origin.etag)
    with _answer(request, part) as response:
        if response.status == 206:
            _require_continuation(response.headers, origin, size, part)
        else:
            size, origin = 0, _Origin.from_answer(url, response.headers)
            _start(origin, response, part)
        total = origin.total if origin else None
        with part.open("ab") as file:
            for chunk in _chunks(url, response, None if total is None else total - size):
                file.write(chunk)
                size += len(chunk)
                report(size, total)
    if total is not None and size < total:
        raise _InterruptionError(f"{url}: the connection broke off after {size} of {total} bytes")
    if total is None and origin:
        dataclasses.replace(origin, total=size).note(part)


def _start(origin: _Origin, response: HTTPResponse, part: Path) -> None:
    """Begin a part anew. It is emptied first: its note must never vouch for other bytes."""
    if response.headers.get_content_type() == "text/html":
        raise _page(origin.url)
    part.write_bytes(b"")
    origin.note(part)


def _require_continuation(headers: Message, origin: _Origin | None, size: int, part: Path) -> None:
    """See that a partial answer begins where the part ends, and is of the same file."""
    expected = origin and (origin.etag, f"bytes {size}-{(origin.total or 0) - 1}/{origin.total}")
    if (headers.get("ETag"), headers.get("Content-Range")) != expected:
        forget(part)
        raise _InterruptionError("the file changed while it was fetched", pause=0)


def _answer(request: Request, part: Path) -> HTTPResponse:
    opener = urllib.request.build_opener(_Redirects, _Token)
    try:
        response: HTTPResponse = opener.open(request, timeout=TIMEOUT)
        return response
    except HTTPError as error:
        with error:
            if error.code == 416:  # there is no such range: what we have is not of this file
                forget(part)
            raise _refusal(request.full_url, error) from error
    except (OSError, HTTPException) as error:
        raise _unreachable(request.full_url, error) from error


def _chunks(url: str, response: HTTPResponse, wanted: int | None) -> Iterator[bytes]:
    """The body as it comes in, up to so many bytes."""
    while wanted is None or wanted > 0:
        try:
            chunk = response.read1(_CHUNK if wanted is None else min(_CHUNK, wanted))
        except (OSError, HTTPException) as error:
            raise _unreachable(url, error) from error
        if not chunk:
            return
        wanted = None if wanted is None else wanted - len(chunk)
        yield chunk


def _refusal(url: str, error: HTTPError) -> DownloadError:
    """What an error status means."""
    if error.code in (408, 416, 425, 429) or error.code >= 500:
        pause = error.headers.get("Retry-After", "")
        wait = min(float(pause), LONGEST_PAUSE) if pause.isdigit() else None
        return _InterruptionError(f"{url}: the server answers {error.code} ({error.reason})", wait)
    if error.code in (401, 403):
        hint = _TOKEN_HINT if url.startswith(f"{_TOKEN_ORIGIN}/") else None
        return DownloadError(f"{url}: access is denied ({error.code})", hint=hint)
    if error.code in (404, 410):
        return DownloadError(f"{url}: there is no such file ({error.code})")
    if error.code == 407:
        return DownloadError(f"{url}: the proxy wants a login", hint="HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT")
    return DownloadError(f"{url}: the server answers {error.code} ({error.reason})")


def _unreachable(url: str, error: OSError | HTTPException) -> DownloadError:
    """What a failure of the network means."""
    reason = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        hint = "where a proxy or firewall reads along, SSL_CERT_FILE must name its certificate"
        return DownloadError(f"{url}: its certificate is not trusted: {reason.verify_message}", hint=hint)
    if isinstance(reason, TimeoutError):
        return _InterruptionError(f"{url}: no answer for {TIMEOUT:g} s")
    if isinstance(reason, socket.gaierror):
        return _InterruptionError(f"{url}: its host cannot be found")
    return _InterruptionError(f"{url}: {getattr(reason, 'strerror', None) or reason or type(reason).__name__}")


def _refuse_pages(url: str, part: Path) -> None:
    """Refuse what servers send in place of a file, as a success."""
    with part.open("rb") as file:
        head = file.read(512).lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise _page(url)
    if head.startswith(b"version https://git-lfs"):
        raise DownloadError(f"{url}: the server sent a Git LFS pointer instead of the file")
    if not head:
        raise DownloadError(f"{url}: the server sent an empty file")


def _page(url: str) -> DownloadError:
    hint = "open the address in a browser: a login page, or that of a hotel's or company's network, may be in between"
    return DownloadError(f"{url}: the server sent a web page instead of the file", hint=hint)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from an encrypted address to one that is not."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> Request | None:
        if urlsplit(newurl).scheme not in ("https", req.type):
            raise DownloadError(f"{req.full_url}: redirects to {newurl}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Token(urllib.request.BaseHandler):
    """Shows the user's token to the one host that it is for; a redirect elsewhere does not take it along."""

    def http_request(self, request: Request) -> Request:
        token = os.environ.get("HF_TOKEN", "").strip()
        if token and f"{request.type}://{request.host}" == _TOKEN_ORIGIN:
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        return request

    https_request = http_request


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size_of(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
