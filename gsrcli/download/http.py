"""Files over HTTPS: resumed where they broke off, tried again where that may help, never taken for what they are not.

A file grows under a name of its own, beside a note on where its bytes come from. Bytes are only ever added to it from
the same URL and under the same strong entity tag (RFC 9110, sections 13.1.5 and 14.2); whatever else it holds is
thrown away.

This stands on requests, as pooch does. pooch itself does not serve: it begins anew where a download broke off, and
does not know git's blob ids.
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
"""Raises DownloadError where a complete file is not the one that was meant."""

ByteCount = Callable[[int, "int | None"], None]
"""Is told how many bytes are there, and how many there will be, where that is known."""

Progress = Callable[[str, int, "int | None"], None]
"""Is told the same of several files: a file's name, its bytes so far, and its bytes in all, where that is known."""

TIMEOUT = 30.0
"""Seconds of silence after which a connection is given up."""

PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds to wait before trying again; after the last, a URL is given up."""

LONGEST_PAUSE = 60.0
"""Seconds to wait at most where a server asks for a pause."""

_PROGRESS = 2**20
"""Bytes that a try must have added to earn a new round of tries."""

_CHUNK = 2**18
_STRONG_TAG = re.compile(r'"[!#-~]*"')
_TOKEN_ORIGIN = "https://huggingface.co"
_TOKEN_HINT = "set HF_TOKEN to an access token of an account at huggingface.co that may read it"
_PROXY_LOGIN = "HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT"


class _InterruptionError(DownloadError):
    """A failure that may pass."""

    def __init__(self, message: str, pause: float | None = None) -> None:
        super().__init__(message)
        self.pause = pause


def is_offline() -> bool:
    """Whether the user forbids the network."""
    return os.environ.get("GSRCLI_OFFLINE", "0") not in ("", "0")


def download(urls: Sequence[str], part: Path, check: Check, report: ByteCount) -> str:
    """Bring a file here, whole and checked.

    HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY are honoured. HF_TOKEN goes to huggingface.co alone, and only
    encrypted.

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
    """Remove what there is of a file."""
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


def _fetch(url: str, part: Path, report: ByteCount) -> None:
    """Complete a part, trying again after failures that may pass for as long as it grows."""
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
            complete = origin.total == size
            resumable = origin.etag is not None and origin.total is not None and 0 < size < origin.total
            well_formed = origin.etag is None or _STRONG_TAG.fullmatch(origin.etag)
        except (OSError, ValueError, TypeError):
            return None
        return origin if well_formed and (complete or resumable) else None

    @classmethod
    def from_answer(cls, url: str, response: Response) -> _Origin:
        etag = response.headers.get("ETag", "")
        # A weak tag (W/) promises no equal bytes.
        return cls(url, etag if _STRONG_TAG.fullmatch(etag) else None, response.raw.length_remaining)

    def note(self, part: Path) -> None:
        write_whole(_note_of(part), json.dumps(dataclasses.asdict(self)).encode())


def _try(url: str, part: Path, report: ByteCount) -> None:
    """One request for what a part lacks."""
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
        raise _InterruptionError(f"{url}: the connection broke off after {size} of {total} bytes")
    if total is None and origin:
        dataclasses.replace(origin, total=size).note(part)


def _start(origin: _Origin, response: Response, part: Path) -> None:
    """Begin a part anew. It is emptied first: its note must never vouch for other bytes."""
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise _page(origin.url)
    part.write_bytes(b"")
    origin.note(part)


def _require_continuation(response: Response, origin: _Origin | None, size: int, part: Path) -> None:
    """See that a partial answer begins where the part ends, and is of the same file."""
    if origin is None:
        raise DownloadError(f"{response.url}: the server sent a part of the file where all of it was asked for")
    expected = origin.etag, f"bytes {size}-{(origin.total or 0) - 1}/{origin.total}"
    if (response.headers.get("ETag"), response.headers.get("Content-Range")) != expected:
        forget(part)
        raise _InterruptionError("the file changed while it was fetched", pause=0)


def _answer(url: str, headers: dict[str, str], part: Path) -> Response:
    """The answer to a request: the file, or a part of it."""
    place = _place(url)
    try:
        with _Session() as session:
            response = session.get(url, headers=headers, auth=_show_token, timeout=TIMEOUT, stream=True)
    except (RequestException, HTTPError, ValueError) as error:  # the last of addresses that are none
        raise _failure(place, error) from error
    response.raw.enforce_content_length = False  # what is missing is counted here
    if response.status_code in (200, 206):
        return response
    with response:
        if response.status_code == 416:  # there is no such range: what we have is not of this file
            forget(part)
        raise _refusal(url, response)


def _chunks(url: str, response: Response, wanted: int | None) -> Iterator[bytes]:
    """The body as it comes in, up to so many bytes."""
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
    """What a status other than success means."""
    code = response.status_code
    if code in (408, 416, 425, 429) or code >= 500:
        return _InterruptionError(f"{url}: the server answers {code} ({response.reason})", _pause_of(response))
    if code in (401, 403):
        hint = _TOKEN_HINT if url.startswith(f"{_TOKEN_ORIGIN}/") else None
        return DownloadError(f"{url}: access is denied ({code})", hint=hint)
    if code in (404, 410):
        return DownloadError(f"{url}: there is no such file ({code})")
    if code == 407:
        return DownloadError(f"{_place(url)}: the proxy wants a login", hint=_PROXY_LOGIN)
    return DownloadError(f"{url}: the server answers {code} ({response.reason})")


def _pause_of(response: Response) -> float | None:
    """Seconds that a server asks to wait, within reason; None where it does not say."""
    try:
        seconds = Retry().get_retry_after(response.raw)
    except (InvalidHeader, ValueError, OverflowError):  # no number and no date, or none that there is
        return None
    return None if seconds is None else min(seconds, LONGEST_PAUSE)


def _failure(place: str, error: Exception) -> DownloadError:
    """What it means that there is no answer, or no more of it."""
    reason = _innermost(error)
    if isinstance(error, TooManyRedirects):
        return DownloadError(f"{place}: redirects in a circle")
    if isinstance(error, InvalidSchema) and "SOCKS" in str(error):
        return DownloadError(f"{place}: SOCKS needs one more package", hint="pip install 'requests[socks]'")
    if isinstance(error, ValueError):
        return DownloadError(f"{place}: {error}")
    if isinstance(reason, ssl.SSLCertVerificationError):
        hint = "where a proxy or firewall reads along, REQUESTS_CA_BUNDLE must name its certificate"
        return DownloadError(f"{place}: its certificate is not trusted: {reason.verify_message}", hint=hint)
    if "Tunnel connection failed: 407" in str(reason):
        return DownloadError(f"{place}: the proxy wants a login", hint=_PROXY_LOGIN)
    if isinstance(reason, TimeoutError):
        return _InterruptionError(f"{place}: no answer for {TIMEOUT:g} s")
    if isinstance(reason, socket.gaierror):
        return _InterruptionError(f"{place}: its host cannot be found")
    return _InterruptionError(f"{place}: {getattr(reason, 'strerror', None) or reason or type(reason).__name__}")


def _place(url: str) -> str:
    """An address, and the proxy that stands before it, without its password."""
    proxy = select_proxy(url, get_environ_proxies(url))
    if not proxy:
        return url
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host:
        raise DownloadError(f"{url}: the environment names a proxy at an address that is none", hint=_PROXY_LOGIN)
    return f"{url}, through the proxy {host}:{port}" if port else f"{url}, through the proxy {host}"


def _innermost(error: BaseException) -> BaseException:
    """What went wrong, out of all that requests and urllib3 wrap it in."""
    wrapped = [error.__cause__, error.__context__, *error.args]
    inner = next((each for each in wrapped if isinstance(each, BaseException)), None)
    return _innermost(inner) if inner else error


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


class _Session(Session):
    """Follows redirects, but not from an encrypted address to one that is not, and takes no login from ~/.netrc."""

    def rebuild_auth(self, prepared_request: PreparedRequest, response: Response) -> None:
        before, after = str(response.request.url), str(prepared_request.url)
        if urlsplit(after).scheme not in ("https", urlsplit(before).scheme):
            raise DownloadError(f"{before}: redirects to {after}, which is not encrypted")
        if self.should_strip_auth(before, after):
            prepared_request.headers.pop("Authorization", None)

    def rebuild_proxies(self, prepared_request: PreparedRequest, proxies: object) -> dict[str, str]:
        return super().rebuild_proxies(prepared_request, {})  # as the environment says of the new address, not the old


def _show_token(request: PreparedRequest) -> PreparedRequest:
    """Show the user's token to the one host that it is for; a redirect elsewhere does not take it along."""
    token = os.environ.get("HF_TOKEN", "").strip()
    if token and str(request.url).startswith(f"{_TOKEN_ORIGIN}/"):
        if not re.fullmatch("[!-~]+", token):
            raise DownloadError("HF_TOKEN is no access token: it holds spaces, line breaks or such", hint=_TOKEN_HINT)
        request.headers["Authorization"] = f"Bearer {token}"
    return request


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size_of(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
