"""Downloads over HTTPS that resume after interruptions, retry temporary failures, and verify what they receive.

A file grows under a temporary name, beside a note on the source of its bytes. Bytes are only appended from the same URL
and under the same strong entity tag (RFC 9110, sections 13.1.5 and 14.2); otherwise the download starts over.

This uses requests, as pooch does. pooch itself is no alternative: it restarts interrupted downloads, and does not
support git's blob IDs.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import socket
import ssl
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from requests import PreparedRequest, Response, Session
from requests.exceptions import InvalidSchema, RequestException, TooManyRedirects
from requests.utils import get_environ_proxies, select_proxy
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util import Retry

from gsrcli._version import __version__
from gsrcli.errors import DownloadError
from gsrcli.runtime.files import write_whole

__all__ = ["ByteCount", "Check", "Progress", "download", "forget", "is_offline"]

Check = Callable[[Path], None]
"""Function that raises DownloadError if a complete file is not the expected one."""

ByteCount = Callable[[int, "int | None"], None]
"""Function that receives the bytes so far, and the total bytes or None."""

Progress = Callable[[str, int, "int | None"], None]
"""Function that receives a file's name, its bytes so far, and its total bytes or None."""

TIMEOUT = 30.0
"""Seconds without data after which a connection is dropped."""

PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds to wait before each retry; after the last retry, a URL is given up."""

LONGEST_PAUSE = 60.0
"""Longest pause that a server can ask for, in seconds."""

_PROGRESS = 2**20
"""Bytes that must have arrived for the retries to start over."""

_CHUNK = 2**18
_STRONG_TAG = re.compile(r'"[!#-~]*"')
_TOKEN_ORIGIN = "https://huggingface.co"
_TOKEN_HINT = "set HF_TOKEN to an access token of a huggingface.co account that may read the file"
_PROXY_LOGIN = "HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT"


class _InterruptionError(DownloadError):
    """A failure that may be temporary."""

    def __init__(self, message: str, pause: float | None = None) -> None:
        super().__init__(message)
        self.pause = pause


def is_offline() -> bool:
    """Return whether the user has forbidden network access."""
    return os.environ.get("GSRCLI_OFFLINE", "0") not in ("", "0")


def download(urls: Sequence[str], part: Path, check: Check, report: ByteCount) -> str:
    """Download a file completely and check it.

    HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY are respected. HF_TOKEN is sent to huggingface.co only, and only
    over HTTPS.

    Args:
        urls: alternative addresses, tried in turn until one serves a file that passes the check.
        part: path to write to; a part that an earlier call left there is resumed if that is safe.
        check: accepts or refuses the complete file.
        report: called with the progress.

    Returns:
        The URL that served the file.

    Raises:
        DownloadError: no URL served it; ``part`` is kept only if a later call can resume it.
        OSError: the file cannot be written; nothing of it is kept.
    """
    if is_offline():
        raise DownloadError(f"GSRCLI_OFFLINE is set, so {urls[0]} was not downloaded")
    failures = []
    for url in urls:
        try:
            _fetch(url, part, report)
            _examine(url, part, check)
        except DownloadError as failure:
            failures.append(failure)
        except OSError:
            forget(part)
            raise
        else:
            return url
    hints = [failure.hint for failure in failures if failure.hint]
    raise DownloadError("\n".join(map(str, failures)), hint=hints[0] if hints else None) from failures[-1]


def forget(part: Path) -> None:
    """Delete a partly downloaded file and its note."""
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


def _fetch(url: str, part: Path, report: ByteCount) -> None:
    """Complete a part; retry after temporary failures as long as it grows."""
    pauses = iter(PAUSES)
    most = _size_of(part)
    while True:
        try:
            return _try(url, part, report)
        except _InterruptionError as interruption:
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
    warnings.warn(f"{because}; trying again in {seconds:.3g} s", stacklevel=2)
    time.sleep(seconds)


def _examine(url: str, part: Path, check: Check) -> None:
    """Check a complete file, and delete it if it is not the expected one."""
    try:
        _refuse_pages(url, part)
        check(part)
    except DownloadError:
        forget(part)
        raise


@dataclass(frozen=True)
class _Origin:
    """The source of a part's bytes."""

    url: str
    etag: str | None
    total: int | None

    @classmethod
    def of(cls, part: Path) -> _Origin | None:
        """Return the origin of a part that is complete or can be resumed, else None."""
        try:
            origin = cls(**json.loads(_note_of(part).read_bytes()))
            size = part.stat().st_size
            complete = origin.total == size
            resumable = origin.etag is not None and origin.total is not None and 0 < size < origin.total
            well_formed = origin.etag is None or _STRONG_TAG.fullmatch(origin.etag)
        except (OSError, ValueError, TypeError):
            return None
        return origin if well_formed and (complete or resumable) else None

    @classmethod
    def from_answer(cls, url: str, response: Response) -> _Origin:
        etag = response.headers.get("ETag", "")
        # A weak tag (W/) does not promise equal bytes.
        return cls(url, etag if _STRONG_TAG.fullmatch(etag) else None, response.raw.length_remaining)

    def note(self, part: Path) -> None:
        write_whole(_note_of(part), json.dumps(dataclasses.asdict(self)).encode())


def _try(url: str, part: Path, report: ByteCount) -> None:
    """Request what a part lacks, once."""
    origin = _Origin.of(part)
    if origin and origin.url != url:
        origin = None
    size = _size_of(part) if origin else 0
    if origin and size == origin.total:
        report(size, origin.total)
        return
    headers = {"User-Agent": f"gsrcli/{__version__}", "Accept-Encoding": "identity"}
    if origin and origin.etag:
        headers |= {"Range": f"bytes={size}-", "If-Range": origin.etag}
    with _answer(url, headers, part) as response:
        if response.status_code == 206:
            _require_continuation(response, origin, size, part)
        else:
            size, origin = 0, _Origin.from_answer(url, response)
            _start(origin, response, part)
        total = origin.total if origin else None
        with part.open("ab") as file:
            for chunk in _chunks(url, response, None if total is None else total - size):
                file.write(chunk)
                size += len(chunk)
                report(size, total)
    if total is not None and size < total:
        raise _InterruptionError(f"{url}: the connection was closed after {size} of {total} bytes")
    if total is None and origin:
        dataclasses.replace(origin, total=size).note(part)


def _start(origin: _Origin, response: Response, part: Path) -> None:
    """Start a part over. It is emptied first, so that its note never describes other bytes."""
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise _page(origin.url)
    part.write_bytes(b"")
    origin.note(part)


def _require_continuation(response: Response, origin: _Origin | None, size: int, part: Path) -> None:
    """Check that a partial response begins where the part ends and belongs to the same file."""
    if origin is None:
        raise DownloadError(f"{response.url}: the server sent a part of the file although all of it was requested")
    expected = origin.etag, f"bytes {size}-{(origin.total or 0) - 1}/{origin.total}"
    if (response.headers.get("ETag"), response.headers.get("Content-Range")) != expected:
        forget(part)
        raise _InterruptionError("the file changed during the download", pause=0)


def _answer(url: str, headers: dict[str, str], part: Path) -> Response:
    """Send a request, and return the response: the file, or a part of it."""
    place = _place(url)
    try:
        with _Session() as session:
            response = session.get(url, headers=headers, auth=_show_token, timeout=TIMEOUT, stream=True)
    except (RequestException, HTTPError, ValueError) as error:  # ValueError: an invalid address
        raise _failure(place, error) from error
    response.raw.enforce_content_length = False  # missing bytes are counted here
    if response.status_code in (200, 206):
        return response
    with response:
        if response.status_code == 416:  # no such range: our part belongs to another file
            forget(part)
        raise _refusal(url, response)


def _chunks(url: str, response: Response, wanted: int | None) -> Iterator[bytes]:
    """Yield the body as it arrives, up to ``wanted`` bytes."""
    while wanted is None or wanted > 0:
        try:
            chunk = response.raw.read1(_CHUNK if wanted is None else min(_CHUNK, wanted))
        except HTTPError as error:
            raise _failure(_place(url), error) from error
        if not chunk:
            return
        wanted = None if wanted is None else wanted - len(chunk)
        yield chunk


def _refusal(url: str, response: Response) -> DownloadError:
    """Translate a status other than success into an error."""
    code = response.status_code
    if code in (408, 416, 425, 429) or code >= 500:
        return _InterruptionError(f"{url}: the server answered {code} ({response.reason})", _pause_of(response))
    if code in (401, 403):
        hint = _TOKEN_HINT if url.startswith(f"{_TOKEN_ORIGIN}/") else None
        return DownloadError(f"{url}: access is denied ({code})", hint=hint)
    if code in (404, 410):
        return DownloadError(f"{url}: there is no such file ({code})")
    if code == 407:
        return DownloadError(f"{_place(url)}: the proxy requires a login", hint=_PROXY_LOGIN)
    return DownloadError(f"{url}: the server answered {code} ({response.reason})")


def _pause_of(response: Response) -> float | None:
    """Return the seconds that a server asks to wait, at most LONGEST_PAUSE; None if it does not ask."""
    try:
        seconds = Retry().get_retry_after(response.raw)
    except (InvalidHeader, ValueError, OverflowError):  # neither a number nor a valid date
        return None
    return None if seconds is None else min(seconds, LONGEST_PAUSE)


def _failure(place: str, error: Exception) -> DownloadError:
    """Translate a transport error into a DownloadError."""
    reason = _innermost(error)
    if isinstance(error, TooManyRedirects):
        return DownloadError(f"{place}: too many redirects")
    if isinstance(error, InvalidSchema) and "SOCKS" in str(error):
        return DownloadError(f"{place}: SOCKS proxies need another package", hint="pip install 'requests[socks]'")
    if isinstance(error, ValueError):
        return DownloadError(f"{place}: {error}")
    if isinstance(reason, ssl.SSLCertVerificationError):
        hint = "if a proxy or firewall inspects traffic, set REQUESTS_CA_BUNDLE to its certificate"
        return DownloadError(f"{place}: its certificate is not trusted: {reason.verify_message}", hint=hint)
    if "Tunnel connection failed: 407" in str(reason):
        return DownloadError(f"{place}: the proxy requires a login", hint=_PROXY_LOGIN)
    if isinstance(reason, TimeoutError):
        return _InterruptionError(f"{place}: no response for {TIMEOUT:g} s")
    if isinstance(reason, socket.gaierror):
        return _InterruptionError(f"{place}: host not found")
    return _InterruptionError(f"{place}: {getattr(reason, 'strerror', None) or reason or type(reason).__name__}")


def _place(url: str) -> str:
    """Return an address with the proxy in front of it, without the proxy's password."""
    proxy = select_proxy(url, get_environ_proxies(url))
    if not proxy:
        return url
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host:
        raise DownloadError(f"{url}: the proxy address in the environment is invalid", hint=_PROXY_LOGIN)
    return f"{url}, through the proxy {host}:{port}" if port else f"{url}, through the proxy {host}"


def _innermost(error: BaseException) -> BaseException:
    """Return the original error inside those that requests and urllib3 wrap around it."""
    wrapped = [error.__cause__, error.__context__, *error.args]
    inner = next((each for each in wrapped if isinstance(each, BaseException)), None)
    return _innermost(inner) if inner else error


def _refuse_pages(url: str, part: Path) -> None:
    """Refuse pages and pointers that servers send in place of a file with a success status."""
    with part.open("rb") as file:
        head = file.read(512).lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise _page(url)
    if head.startswith(b"version https://git-lfs"):
        raise DownloadError(f"{url}: the server sent a Git LFS pointer instead of the file")
    if not head:
        raise DownloadError(f"{url}: the server sent an empty file")


def _page(url: str) -> DownloadError:
    hint = "open the address in a browser: a login page of the site or of your network may be in the way"
    return DownloadError(f"{url}: the server sent a web page instead of the file", hint=hint)


class _Session(Session):
    """A session that does not follow redirects from HTTPS to HTTP, and takes no login from ~/.netrc."""

    def rebuild_auth(self, prepared_request: PreparedRequest, response: Response) -> None:
        before, after = str(response.request.url), str(prepared_request.url)
        if urlsplit(after).scheme not in ("https", urlsplit(before).scheme):
            raise DownloadError(f"{before}: redirects to {after}, which is not encrypted")
        if self.should_strip_auth(before, after):
            prepared_request.headers.pop("Authorization", None)

    def rebuild_proxies(self, prepared_request: PreparedRequest, proxies: object) -> dict[str, str]:
        return super().rebuild_proxies(prepared_request, {})  # the new address's proxies, from the environment


def _show_token(request: PreparedRequest) -> PreparedRequest:
    """Send the user's token to the one host that it is for; redirects to other hosts do not receive it."""
    token = os.environ.get("HF_TOKEN", "").strip()
    if token and str(request.url).startswith(f"{_TOKEN_ORIGIN}/"):
        if not re.fullmatch("[!-~]+", token):
            raise DownloadError("HF_TOKEN is not an access token: it contains spaces or line breaks", hint=_TOKEN_HINT)
        request.headers["Authorization"] = f"Bearer {token}"
    return request


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size_of(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
