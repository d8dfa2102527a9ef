"""Standard streams that take nothing: closed, full, or with a reader that has gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from support.reading import png_chunk

fcntl = pytest.importorskip("fcntl")

Photo = Callable[..., Path]

STREAMS = {"stdout": 1, "stderr": 2}

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs descriptors that take nothing")


@contextmanager
def deaf(kind: str) -> Iterator[int]:
    """Open a descriptor that takes nothing: a pipe whose reader has gone, or a full device."""
    if kind == "gone":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open("/dev/full", os.O_WRONLY)
    try:
        yield writer
    finally:
        os.close(writer)


def gsr(folder: Path, *arguments: object, **streams: str) -> subprocess.CompletedProcess[bytes]:
    """Run ``gsr`` with streams that are "gone", "full" or "closed", and the others captured."""
    given = {name: STREAMS[name] for name, kind in streams.items() if kind == "closed"}

    def close() -> None:
        for descriptor in given.values():
            os.close(descriptor)

    with deaf("gone") as gone, deaf("full") as full:
        opened = {name: {"gone": gone, "full": full}.get(streams.get(name, ""), subprocess.PIPE) for name in STREAMS}
        command = [sys.executable, "-m", "gsrcli", *map(str, arguments)]
        return subprocess.run(command, cwd=folder, preexec_fn=close, check=False, timeout=120, **opened)  # type: ignore[call-overload, no-any-return]


@pytest.fixture
def scratched(photo: Photo) -> Path:
    """A picture with a damaged text, of which there is a warning."""
    path = photo("scratched.png")
    data = path.read_bytes()
    path.write_bytes(data[:33] + png_chunk(b"tEXt", b"a\0b", sound=False) + data[33:])
    return path


def is_upscaled(path: Path) -> bool:
    with Image.open(path.with_stem(path.stem + "_x2")) as image:
        return image.size == (48, 36)


@pytest.mark.parametrize("errors", ["gone", "full", "closed"])
def test_a_warning_that_nobody_hears_changes_nothing(
    scratched: Path, tiny_path: Path, tmp_path: Path, errors: str
) -> None:
    done = gsr(tmp_path, "upscale", scratched, "--scale", 2, "--model", tiny_path, stderr=errors)
    assert done.returncode == 0
    assert done.stdout.startswith(b"%b: 48x36 in " % bytes(scratched.with_stem("scratched_x2")))
    assert is_upscaled(scratched)


def test_failures_that_nobody_hears_are_counted_and_the_rest_is_done(
    scratched: Path, photo: Photo, tiny_path: Path, tmp_path: Path
) -> None:
    for name in ("bad.png", "worse.png"):
        (tmp_path / name).write_bytes(b"no picture")
    last = photo("zebra.png")
    done = gsr(tmp_path, "upscale", tmp_path, "--scale", 2, "--model", tiny_path, "--json", stderr="gone")
    assert done.returncode == 1
    found = {Path(row["input"]).name: row["status"] for row in json.loads(done.stdout)["results"]}
    assert found == {"bad.png": "failed", "scratched.png": "done", "worse.png": "failed", "zebra.png": "done"}
    assert is_upscaled(scratched)
    assert is_upscaled(last)


@pytest.mark.parametrize("errors", ["gone", "full", "closed"])
@pytest.mark.parametrize(("arguments", "exit_code"), [(["a.png", "--scale", 2], 1), (["a.png", "--skale", 2], 2)])
def test_errors_that_nobody_hears_keep_their_exit_codes(
    tmp_path: Path, errors: str, arguments: list[object], exit_code: int
) -> None:
    assert gsr(tmp_path, "upscale", *arguments, stderr=errors).returncode == exit_code


RESULTS = pytest.mark.parametrize(
    ("results", "exit_code", "message"),
    [
        ("gone", 141, b""),
        ("full", 1, b"error: cannot write to standard output: no space left on device\n"),
        ("closed", 0, b""),
    ],
    ids=["gone", "full", "closed"],
)


@RESULTS
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["weights", "list"]], ids=" ".join)
def test_a_result_that_cannot_be_written_ends_the_command(
    tmp_path: Path, arguments: list[str], results: str, exit_code: int, message: bytes
) -> None:
    done = gsr(tmp_path, *arguments, stdout=results)
    assert (done.returncode, done.stderr) == (exit_code, message)


@RESULTS
def test_the_picture_is_written_although_its_result_is_not(
    photo: Photo, tiny_path: Path, tmp_path: Path, results: str, exit_code: int, message: bytes
) -> None:
    path = photo()
    done = gsr(tmp_path, "upscale", path, "--scale", 2, "--model", tiny_path, "--json", stdout=results)
    assert (done.returncode, done.stderr) == (exit_code, message)
    assert is_upscaled(path)


def test_neither_stream_takes_anything(tmp_path: Path) -> None:
    assert gsr(tmp_path, "--version", stdout="full", stderr="gone").returncode == 1
    assert gsr(tmp_path, "--version", stdout="gone", stderr="full").returncode == 141


def test_a_slow_reader_of_a_stream_that_does_not_wait_gets_all(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    command = [sys.executable, "-m", "gsrcli", "upscale", "--help"]
    with subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE) as process, os.fdopen(reader, "rb") as file:
        os.close(writer)
        time.sleep(1)
        shown = file.read()
        assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 0
    assert len(shown) > 4096
    assert shown == gsr(tmp_path, "upscale", "--help").stdout


@pytest.mark.parametrize("closed", ["<&-", "<&- >&- 2>&-"])
def test_closed_streams_leave_their_descriptors_to_nobody(
    photo: Photo, tiny_path: Path, tmp_path: Path, closed: str
) -> None:
    """A file that took the free descriptor would receive what is written to the stream."""
    path = photo()
    command = f"'{sys.executable}' -m gsrcli upscale '{path}' --scale 2 --model '{tiny_path}' {closed}"
    subprocess.run(["sh", "-c", command], capture_output=True, cwd=tmp_path, check=True)
    assert is_upscaled(path)
