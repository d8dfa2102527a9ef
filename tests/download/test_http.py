"""Downloads from a real server: the complete file arrives; anything else is refused and leaves nothing behind."""

from __future__ import annotations

import importlib.util
import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest
from requests import Request
from support.server import Answer, Server, serving, silent, status, tag, whole

from gsrcli.download import http as module
from gsrcli.download.http import download
from gsrcli.errors import DownloadError

FILE = np.random.default_rng(0).bytes(300_000)
OTHER = np.random.default_rng(1).bytes(300_000)
PAGE = b"  <!DOCTYPE html><html><body>Please log in</body></html>"

pytestmark = pytest.mark.filterwarnings("ignore:.*trying again")


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow the network, which other tests do without, and shorten all pauses."""
    monkeypatch.delenv("GSRCLI_OFFLINE")
    monkeypatch.setattr(module, "PAUSES", (0.01, 0.01))
    monkeypatch.setattr(module, "TIMEOUT", 0.5)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "file.part"


def is_file(path: Path) -> None:
    if path.read_bytes() != FILE:
        raise DownloadError("this is not the file")


def get(part: Path, *urls: str) -> list[tuple[int, int | None]]:
    """Download, and return the reported progress."""
    told: list[tuple[int, int | None]] = []
    assert download(urls, part, is_file, lambda done, total: told.append((done, total))) in urls
    assert part.read_bytes() == FILE
    return told


def fails(part: Path, *urls: str, match: str) -> DownloadError:
    """Check that a download fails for a reason."""
    with pytest.raises(DownloadError, match=match) as caught:
        download(urls, part, is_file, lambda *_: None)
    return caught.value


def leave(part: Path, url: str, content: bytes, etag: str | None = "", total: int = len(FILE)) -> None:
    """Leave a part as an earlier process would."""
    part.write_bytes(content)
    note = {"url": url, "etag": tag(FILE) if etag == "" else etag, "total": total}
    part.with_name(f"{part.name}.json").write_text(json.dumps(note))


def names(part: Path) -> set[str]:
    return {path.name for path in part.parent.iterdir()}


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


# Successful downloads


@pytest.mark.parametrize("length", [True, False, "²"])
@pytest.mark.parametrize("etag", ["", None, 'W/"weak"'])
def test_a_complete_file_arrives(server: Server, part: Path, etag: str | None, length: bool | str) -> None:
    told = get(part, server.give("/file", whole(FILE, etag=etag, length=length)))
    assert told[-1] == (len(FILE), len(FILE) if length is True else None)
    assert told == sorted(told)
    assert server.asked("/file")[0]["User-Agent"].startswith("gsrcli/")


def test_a_complete_file_is_not_downloaded_again(server: Server, part: Path) -> None:
    url = server.give("/file", whole(FILE, etag=None))
    get(part, url)
    assert get(part, url) == [(len(FILE), len(FILE))]
    assert len(server.requests) == 1


def test_redirects_are_followed(server: Server, part: Path) -> None:
    server.give("/there", whole(FILE))
    get(part, server.give("/file", status(302, Location="/there")))


def test_an_interrupted_download_resumes(server: Server, part: Path) -> None:
    told = get(part, server.give("/file", whole(FILE, until=100_000), whole(FILE)))
    assert server.asked("/file")[1]["Range"] == "bytes=100000-"
    assert server.asked("/file")[1]["If-Range"] == tag(FILE)
    assert told == sorted(told)  # never back to the beginning


def test_a_part_from_another_process_is_resumed(server: Server, part: Path) -> None:
    url = server.give("/file", whole(FILE))
    leave(part, url, FILE[:12_345])
    assert get(part, url)[0][0] > 12_345
    assert server.asked("/file")[0]["Range"] == "bytes=12345-"


# Parts that cannot be resumed


@pytest.mark.parametrize("answer", [whole(FILE, ranges=False), whole(FILE)], ids=["no ranges", "ranges"])
@pytest.mark.parametrize(
    ("content", "etag", "total"),
    [
        (OTHER[:1000], tag(OTHER), len(FILE)),
        (OTHER[:1000], None, len(FILE)),
        (OTHER + OTHER, "", len(FILE)),
        (b"", "", len(FILE)),
    ],
    ids=["another version", "without a tag", "too long", "empty"],
)
def test_a_part_that_does_not_fit_is_downloaded_again(
    server: Server, part: Path, answer: Answer, content: bytes, etag: str | None, total: int
) -> None:
    url = server.give("/file", answer)
    leave(part, url, content, etag, total)
    get(part, url)


def test_a_part_from_another_address_is_downloaded_again(server: Server, part: Path) -> None:
    leave(part, server.give("/other", whole(OTHER)), OTHER[:1000])
    get(part, server.give("/file", whole(FILE)))
    assert "Range" not in server.asked("/file")[0]


@pytest.mark.parametrize(
    "note",
    [
        "",
        "{",
        "[]",
        '{"url": 1}',
        '{"etag": "x", "total": 5, "url": "x", "more": 1}',
        '{"etag": "\\"x\\"", "total": "5", "url": "URL"}',
        '{"etag": 5, "total": 300000, "url": "URL"}',
        '{"etag": "\\"\\n\\"", "total": 300000, "url": "URL"}',
    ],
)
def test_a_damaged_note_is_ignored(server: Server, part: Path, note: str) -> None:
    part.write_bytes(OTHER[:1000])
    url = server.give("/file", whole(FILE))
    part.with_name(f"{part.name}.json").write_text(note.replace("URL", url))
    get(part, url)
    assert "Range" not in server.asked("/file")[0]


def test_a_range_of_another_version_is_not_appended(server: Server, part: Path) -> None:
    """A server may serve ranges whatever the tag: the response's own tag shows it, and the download starts over."""
    url = server.give("/file", whole(FILE, ignore_if_range=True))
    leave(part, url, OTHER[:1000], tag(OTHER))
    get(part, url)
    assert ["Range" in headers for headers in server.asked("/file")] == [True, False]


def test_a_range_that_the_server_does_not_have(server: Server, part: Path) -> None:
    url = server.give("/file", status(416), whole(FILE))
    leave(part, url, FILE[:1000])
    get(part, url)
    assert "Range" not in server.asked("/file")[1]


# Temporary failures


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_a_server_that_recovers(server: Server, part: Path, code: int) -> None:
    url = server.give("/file", status(code), status(code), whole(FILE))
    with pytest.warns(UserWarning, match=f"answered {code} .*; trying again in 0.01 s"):
        get(part, url)


def test_a_server_says_how_long_to_wait(server: Server, part: Path) -> None:
    url = server.give("/file", status(503, Retry_After="1"), whole(FILE))
    began = time.monotonic()
    with pytest.warns(UserWarning, match="trying again in 1 s"):
        get(part, url)
    assert 1 <= time.monotonic() - began < 5


def test_a_server_says_when_to_ask_again(server: Server, part: Path) -> None:
    date = formatdate(time.time() + 3, usegmt=True)
    began = time.monotonic()
    with pytest.warns(UserWarning, match=r"trying again in [123]"):
        get(part, server.give("/file", status(503, Retry_After=date), whole(FILE)))
    assert 1 <= time.monotonic() - began < 8


@pytest.mark.parametrize("pause", ["²", "soon", "-1", "", "9" * 5000, "Wed, 21 Oct 99999 07:28:00 GMT"])
def test_an_invalid_retry_after_is_ignored(server: Server, part: Path, pause: str) -> None:
    with pytest.warns(UserWarning, match=r"trying again in 0\.01 s"):
        get(part, server.give("/file", status(503, Retry_After=pause), whole(FILE)))


def test_a_server_that_falls_silent(server: Server, part: Path) -> None:
    get(part, server.give("/file", silent(1), whole(FILE)))


def test_a_server_that_falls_silent_within_the_file(server: Server, part: Path) -> None:
    get(part, server.give("/file", whole(FILE, pace=0.8), whole(FILE)))


def test_progress_resets_the_retries(server: Server, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PROGRESS", 10_000)
    cuts = [whole(FILE, until=10_000 * i) for i in range(1, 20)]
    get(part, server.give("/file", *cuts, whole(FILE)))
    assert len(server.requests) == 20


# Permanent failures, and what they leave behind


def test_a_part_of_a_file_that_never_completes_is_kept_for_resuming(server: Server, part: Path) -> None:
    url = server.give("/file", whole(FILE, until=1000))
    fails(part, url, match=f"closed after 1000 of {len(FILE)} bytes")
    assert len(server.requests) == 1 + len(module.PAUSES)
    assert part.read_bytes() == FILE[:1000]
    server.give("/file", whole(FILE))
    get(part, url)
    assert server.requests[-1][1]["Range"] == "bytes=1000-"


def test_without_a_tag_nothing_is_kept(server: Server, part: Path) -> None:
    fails(part, server.give("/file", whole(FILE, until=1000, etag=None)), match="connection was closed")
    assert names(part) == set()


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (status(404), r"/file: there is no such file \(404\)"),
        (status(401), r"access is denied \(401\)"),
        (status(403), r"access is denied \(403\)"),
        (status(407), "the proxy requires a login"),
        (status(418), "the server answered 418"),
        (whole(OTHER), "this is not the file"),
        (whole(FILE[:-1] + b"\0"), "this is not the file"),
        (whole(PAGE, kind="text/html; charset=utf-8"), "sent a web page instead of the file"),
        (whole(PAGE), "sent a web page instead of the file"),
        (whole(b"version https://git-lfs.github.com/spec/v1\noid sha256:00"), "Git LFS pointer"),
        (whole(b""), "an empty file"),
        (whole(b"", length=False), "an empty file"),
        (whole(FILE, unasked=1000), "a part of the file although all of it was requested"),
        (status(204), "the server answered 204"),
        (status(304), "the server answered 304"),
        (status(302, Location="ftp://127.0.0.1/file"), "redirects to ftp:.*, which is not encrypted"),
        (status(302, Location="file:///etc/passwd"), "redirects to file:.*, which is not encrypted"),
        (status(302, Location="http://[::1"), "/file: Invalid IPv6 URL"),
    ],
)
def test_permanent_failures_are_not_retried(server: Server, part: Path, answer: Answer, match: str) -> None:
    fails(part, server.give("/file", answer), match=match)
    assert len(server.requests) == 1
    assert names(part) == set()


def test_a_redirect_loop(server: Server, part: Path) -> None:
    fails(part, server.give("/file", status(302, Location="/file")), match="too many redirects")
    assert names(part) == set()


@pytest.mark.parametrize(("answer", "match"), [(status(503), "503"), (silent(1), "no response for 0.5 s")])
def test_a_server_that_does_not_recover(server: Server, part: Path, answer: Answer, match: str) -> None:
    fails(part, server.give("/file", answer), match=match)
    assert len(server.requests) == 1 + len(module.PAUSES)
    assert names(part) == set()


def test_nobody_listens(part: Path) -> None:
    fails(part, f"http://127.0.0.1:{free_port()}/file", match="Connection refused")
    assert names(part) == set()


def test_a_host_that_does_not_exist(part: Path) -> None:
    fails(part, "https://nowhere.invalid/file", match=r"nowhere\.invalid/file: host not found")


@pytest.fixture
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """Start an HTTPS server, and return it with its self-signed certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("certificate")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    files = ["-out", str(certificate), "-keyout", str(key)]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(context) as server:
        yield server, certificate


def test_an_untrusted_certificate(encrypted: tuple[Server, Path], part: Path) -> None:
    server, _ = encrypted
    error = fails(part, server.give("/file", whole(FILE)), match="its certificate is not trusted: self.signed")
    assert "REQUESTS_CA_BUNDLE" in (error.hint or "")
    assert server.requests == []
    assert names(part) == set()


def test_an_encrypted_address_does_not_lead_to_a_plain_one(
    server: Server, encrypted: tuple[Server, Path], part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    safe, certificate = encrypted
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    get(part, safe.give("/file", whole(FILE)))
    moved = safe.give("/moved", status(302, Location=server.give("/file", whole(FILE))))
    fails(part, moved, match=f"redirects to http://127.0.0.1:{server.port}/file, which is not encrypted")
    assert server.requests == []


def test_mirrors_are_tried_in_turn(server: Server, part: Path) -> None:
    urls = [
        server.give("/gone", status(404)),
        server.give("/wrong", whole(OTHER)),
        server.give("/right", whole(FILE)),
        server.give("/spare", whole(FILE)),
    ]
    get(part, *urls)
    assert [path for path, _ in server.requests] == ["/gone", "/wrong", "/right"]


def test_a_missing_mirror_does_not_cost_the_part(server: Server, part: Path) -> None:
    gone, url = server.give("/gone", status(404)), server.give("/file", whole(FILE))
    leave(part, url, FILE[:1000])
    get(part, gone, url)
    assert server.asked("/file")[0]["Range"] == "bytes=1000-"


def test_every_mirror_s_failure_is_reported(server: Server, part: Path) -> None:
    error = fails(part, server.give("/a", status(404)), server.give("/b", whole(PAGE)), match="/a: there is no such")
    assert "/b: the server sent a web page" in str(error)
    assert error.hint is not None
    assert "browser" in error.hint


def test_a_full_disk(server: Server, part: Path, full_disk: Callable[[int], AbstractContextManager[None]]) -> None:
    with full_disk(100_000), pytest.raises(OSError, match="File too large"):
        get(part, server.give("/file", whole(FILE)))
    assert names(part) == set()


@pytest.mark.parametrize("etag", ["", None])
def test_an_interruption_keeps_only_what_can_be_resumed(server: Server, part: Path, etag: str | None) -> None:
    def interrupt(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download([server.give("/file", whole(FILE, etag=etag))], part, is_file, interrupt)
    assert names(part) == (set() if etag is None else {part.name, f"{part.name}.json"})


def test_a_killed_download_resumes(server: Server, part: Path) -> None:
    url = server.give("/file", whole(FILE, pace=0.2), whole(FILE))
    code = (
        f"import pathlib; from gsrcli.download.http import download; download([{url!r}], pathlib.Path({str(part)!r}), "
    )
    process = subprocess.Popen([sys.executable, "-c", f"{code}lambda path: None, lambda *_: None)"])
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    size = part.stat().st_size
    assert 0 < size < len(FILE)
    get(part, url)
    assert server.asked("/file")[-1]["Range"] == f"bytes={size}-"


# Offline


def test_commands_without_network_do_not_import_it() -> None:
    ours = "gsrcli.cli.app, gsrcli.cli.weights, gsrcli.weights.load, gsrcli.evaluation.datasets"
    code = f"import sys, {ours}; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "gsrcli.weights.store" in modules
    assert not {"requests", "urllib3"} & set(modules)


def test_offline_nothing_is_requested(server: Server, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GSRCLI_OFFLINE", "1")
    monkeypatch.setattr(socket, "socket", None)
    fails(part, server.give("/file", whole(FILE)), match="GSRCLI_OFFLINE is set")
    assert server.requests == []


@pytest.mark.parametrize("value", ["", "0"])
def test_offline_can_be_switched_off(server: Server, part: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("GSRCLI_OFFLINE", value)
    get(part, server.give("/file", whole(FILE)))


def test_proxies_are_used(server: Server, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    server.give("http://a.example/file", whole(FILE))  # a proxy is asked for full addresses
    get(part, "http://a.example/file")


def test_a_proxy_s_password_goes_to_the_proxy_only(server: Server, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://ann:secret@127.0.0.1:{server.port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as elsewhere:
        moved = elsewhere.give("/file", whole(FILE))
        server.give("http://a.example/file", status(302, Location=moved))
        get(part, "http://a.example/file")
        assert "Proxy-Authorization" in server.requests[0][1]
        assert len(elsewhere.requests) == 1
        assert not {"Proxy-Authorization", "Authorization"} & elsewhere.requests[0][1].keys()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_cannot_be_reached_is_named(part: Path, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    port = free_port()
    monkeypatch.setenv(f"{scheme}_proxy", f"http://ann:secret@127.0.0.1:{port}")
    error = fails(part, f"{scheme}://a.example/file", match=f"a.example/file, through the proxy 127.0.0.1:{port}: Conn")
    assert "secret" not in str(error)


@pytest.mark.parametrize("address", ["", "[::1", "host:port", "127.0.0.1:99999"])
@pytest.mark.parametrize("login", ["ann:secret", "ann:se/cret", "ann:se#cret"])
def test_an_invalid_proxy_address(part: Path, monkeypatch: pytest.MonkeyPatch, login: str, address: str) -> None:
    monkeypatch.setenv("https_proxy", f"http://{login}@{address}")
    error = fails(part, "https://a.example/file", match="the proxy address in the environment is invalid")
    assert "cret" not in str(error)


def test_a_proxy_that_requires_a_login(server: Server, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.port}")
    server.give("a.example:443", status(407))
    error = fails(part, "https://a.example/file", match="the proxy requires a login")
    assert "USER:PASSWORD" in (error.hint or "")
    assert len(server.requests) == 1


@pytest.mark.skipif(importlib.util.find_spec("socks") is not None, reason="PySocks is installed")
def test_a_socks_proxy_without_its_package(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", f"socks5://ann:secret@127.0.0.1:{free_port()}")
    error = fails(part, "http://a.example/file", match="SOCKS proxies need another package")
    assert error.hint == "pip install 'requests[socks]'"
    assert "secret" not in str(error)


def test_logins_in_netrc_are_not_sent(server: Server, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = part.with_name("netrc")
    netrc.write_text("default login ann password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server.give("/there", whole(FILE))
    get(part, server.give("/file", status(302, Location="/there")))
    assert [headers.get("Authorization") for _, headers in server.requests] == [None, None]


# The token


def test_the_token_goes_to_its_host_and_nowhere_else(
    server: Server, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(module, "_TOKEN_ORIGIN", f"http://127.0.0.1:{server.port}")
    with serving() as elsewhere:
        moved = server.give("/moved", status(302, Location=elsewhere.give("/file", whole(FILE))))
        get(part, server.give("/file", status(307, Location=moved)))
        assert [headers.get("Authorization") for _, headers in server.requests] == ["Bearer hf_secret"] * 2
        assert len(elsewhere.requests) == 1
        assert not any("hf_secret" in value for value in elsewhere.requests[0][1].values())


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://huggingface.co/a/resolve/main/b", True),
        ("http://huggingface.co/a", False),
        ("https://huggingface.co.example/a", False),
        ("https://huggingface.co@example/a", False),
        ("https://cdn.huggingface.co/a", False),
        ("https://github.com/huggingface.co", False),
    ],
)
def test_which_host_is_the_token_s(monkeypatch: pytest.MonkeyPatch, url: str, shown: bool) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    request = module._show_token(Request("GET", url).prepare())
    assert request.headers.get("Authorization") == ("Bearer hf_secret" if shown else None)


@pytest.mark.parametrize("token", ["hf_sec\nret", "hf_sec ret", "hf_secrét", "hf_sec\u2028ret"])
def test_an_invalid_token_is_reported_but_not_shown(
    server: Server, part: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    get(part, server.give("/file", whole(FILE)))  # which is not sent to that host
    part.unlink()
    monkeypatch.setattr(module, "_TOKEN_ORIGIN", f"http://127.0.0.1:{server.port}")
    error = fails(part, server.give("/file", whole(FILE)), match="HF_TOKEN is not an access token")
    assert "hf_sec" not in f"{error} {error.hint}"
    assert len(server.requests) == 1


@pytest.mark.parametrize("own", [True, False])
def test_a_denial_says_how_to_set_a_token(
    server: Server, part: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    if own:
        monkeypatch.setattr(module, "_TOKEN_ORIGIN", f"http://127.0.0.1:{server.port}")
    error = fails(part, server.give("/file", status(401)), match="access is denied")
    assert ("HF_TOKEN" in (error.hint or "")) == own
