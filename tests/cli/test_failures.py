"""Failures: a message naming the file, a hint, an exit code, no incomplete files, and the rest of the batch done."""

from __future__ import annotations

import errno
import io
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.checkpoints import tiny_model
from typer.testing import Result

from gsrcli.errors import LimitError, ModelError
from gsrcli.gaussians import Gaussians
from gsrcli.images import Picture
from gsrcli.models.lite import Lite
from gsrcli.size import Size
from gsrcli.upscaling.tiling import Box
from gsrcli.upscaling.upscaler import Upscaler, _Enlargement

Upscale = Callable[..., Result]
Photo = Callable[..., Path]
Process = Callable[..., "subprocess.Popen[str]"]

TMPFS_BYTES = 64 * 1024


def failed(result: Result, exit_code: int, *texts: object) -> None:
    """Assert that the command failed with a message that contains all these texts."""
    assert result.exit_code == exit_code, result.output
    assert result.stderr.startswith("error: "), result.stderr
    assert "Traceback" not in result.output
    for text in texts:
        assert str(text) in result.stderr


def names(folder: Path) -> set[str]:
    """Return everything below a folder, hidden files too."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*")}


def encoded(form: str, size: tuple[int, int] = (60, 40)) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, form)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """Return a PNG file that claims a size but contains next to nothing."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


# Pictures that cannot be read

UNREADABLE: dict[str, tuple[bytes, str]] = {
    "empty.png": (b"", "the file is empty"),
    "cut.png": (encoded("PNG")[:100], "the file is damaged or cut short"),
    "cut.jpg": (encoded("JPEG")[:-2000], "the file is damaged or cut short"),
    "cut.webp": (encoded("WEBP")[:-2000], "the file is damaged or cut short"),
    "head.png": (encoded("PNG")[:20], "the file is damaged or cut short"),
    "text.jpg": (b"Dear reader,\n" * 100, "not a picture in a supported format"),
    "noise.png": (np.random.default_rng(1).bytes(5000), "not a picture in a supported format"),
    "bomb.png": (png_header(100_000, 100_000), "100000x100000 is more than 500 megapixels"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_bad_picture_is_reported_and_the_rest_are_done(
    upscale: Upscale, photo: Photo, tmp_path: Path, name: str
) -> None:
    content, reason = UNREADABLE[name]
    photo("a.png")
    photo("z.png")
    (tmp_path / name).write_bytes(content)
    result = upscale(tmp_path, "--scale", 2)
    failed(result, 1, tmp_path / name, reason)
    assert "2 done, 1 failed" in result.stdout
    assert names(tmp_path) == {"a.png", "z.png", name, "a_x2.png", "z_x2.png"}


def test_a_missing_picture_is_reported_and_the_rest_are_done(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    result = upscale(tmp_path / "gone.png", photo("a.png"), "--scale", 2)
    failed(result, 1, tmp_path / "gone.png", "no such file")
    assert names(tmp_path) == {"a.png", "a_x2.png"}


def test_a_link_to_nothing_in_a_folder_is_reported(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    photo("a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    result = upscale(tmp_path, "--scale", 2)
    failed(result, 1, f"cannot read {tmp_path / 'b.png'}: it is a link to a file that does not exist")
    assert "1 done, 1 failed" in result.stdout


@pytest.mark.parametrize("length", [255, 300])
def test_a_name_too_long_for_its_output_is_reported_and_the_rest_are_done(
    upscale: Upscale, photo: Photo, tmp_path: Path, length: int
) -> None:
    """File systems allow 255 bytes: the input may be just short enough, or may itself be impossible."""
    long = photo("a.png").with_name("long" * 100)
    long = long.with_name(long.name[: length - 4] + ".png")
    if length <= 255:
        long.write_bytes((tmp_path / "a.png").read_bytes())
    result = upscale(long, tmp_path / "a.png", "--scale", 2)
    failed(result, 1, long, "name too long")
    assert "bug in gsr" not in result.stderr
    assert "1 done, 1 failed" in result.stdout
    assert names(tmp_path) == {"a.png", "a_x2.png", *([long.name] if length <= 255 else [])}


def test_several_failures_are_all_reported(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    for name in ("b.png", "c.png", "d.png"):
        (tmp_path / name).write_bytes(b"")
    photo("a.png")
    result = upscale(tmp_path, "--scale", 2)
    failed(result, 1, *(tmp_path / name for name in ("b.png", "c.png", "d.png")))
    assert result.stderr.count("error: ") == 3
    assert "1 done, 3 failed" in result.stdout


def test_the_hint_for_a_picture_over_the_limit_works(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    source = photo(size=(40, 30))
    result = upscale(source, "--scale", 2, "--max-pixels", 1000)
    failed(result, 1, source, "40x30 is more than 1000 pixels", "--max-pixels 1200")
    assert names(tmp_path) == {"photo.png"}
    assert upscale(source, "--scale", 2, "--max-pixels", 1200).exit_code == 0


# Invalid requests


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--scale", "0"], "invalid scale 0"),
        (["--scale", "-2"], "invalid scale -2"),
        (["--scale", "nan"], "invalid scale nan"),
        (["--scale", "inf"], "invalid scale inf"),
        (["--scale", "0.5"], "gsr only enlarges"),
        (["--size", "wide"], "WIDTHxHEIGHT"),
        (["--size", "0x0"], "at least 1 pixel"),
        (["--width", "0"], "at least 1 pixel"),
        (["--height", "-5"], "at least 1 pixel"),
        ([], "for example, add --scale 4"),
        (["--scale", "2", "--size", "99x99"], "give only one of"),
        (["--width", "99", "--height", "99"], "give only one of"),
        (["--scale", "2", "--format", "doc"], "use one of png, jpg"),
        (["--scale", "2", "--device", "abacus"], "--device cpu"),
        (["--scale", "2", "--device", "cuda:99"], "--device cpu"),
        (["--scale", "2", "--device", "meta"], "--device cpu"),  # torch has such a device, which computes nothing
        (["--scale", "2", "--output", "report.txt"], "report.txt: unsupported format .txt"),
        (["--scale", "2", "--background", "whitish"], "unknown colour: whitish"),
        (["--scale", "2", "--background", "#ffffff80"], "unknown colour: #ffffff80"),
        (["--scale", "2", "--format", "jpg", "--lossless"], "JPEG cannot be written without loss"),
        (["--scale", "2", "--lossless", "--quality", "90"], "give only one of them"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_invalid_options(
    upscale: Upscale, photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], text: str
) -> None:
    source = photo()
    monkeypatch.chdir(tmp_path)
    result = upscale(source, *options)
    failed(result, 2, text)
    assert result.stdout == ""
    assert names(tmp_path) == {"photo.png"}


@pytest.mark.parametrize(
    "options",
    [
        ["--scale", "two"],
        ["--quality", "0"],
        ["--tile", "0"],
        ["--max-pixels", "0"],
        ["--frame", "0"],
        ["--precision", "float16"],
        ["-x"],
    ],
)
def test_options_that_do_not_parse(upscale: Upscale, photo: Photo, tmp_path: Path, options: list[str]) -> None:
    result = upscale(photo(), "--scale", 2, *options)
    assert result.exit_code == 2
    assert options[0] in result.stderr
    assert names(tmp_path) == {"photo.png"}


@pytest.mark.parametrize("options", [["--size", "23x100"], ["--width", "23"], ["--height", "17"]], ids=" ".join)
def test_a_size_below_the_pictures_fails_for_that_picture(
    upscale: Upscale, photo: Photo, tmp_path: Path, options: list[str]
) -> None:
    small = photo("a.png", size=(8, 6))
    source = photo("photo.png", size=(24, 18))
    result = upscale(source, small, *options)
    failed(result, 1, source, "24x18", "gsr only enlarges")
    assert len(names(tmp_path)) == 3
    assert "1 done, 1 failed" in result.stdout


@pytest.fixture
def _nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def infer(*_: object) -> None:
        pytest.fail("the network ran")

    monkeypatch.setattr(_Enlargement, "_infer", infer)


@pytest.mark.usefixtures("_nothing_is_computed")
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "opaque"])
@pytest.mark.parametrize("scale", [1e6, 8e7, 1e9])
def test_sizes_beyond_all_memory_are_refused_at_once(
    upscale: Upscale, photo: Photo, tmp_path: Path, scale: float, mode: str
) -> None:
    """Whichever limit they exceed first: that of memory, of arrays or of the format."""
    source = photo(size=(24, 24), mode=mode.replace("opaque", "RGBA"))
    if mode == "opaque":
        image = Image.open(source)
        image.putalpha(255)
        image.save(source)
    began = time.perf_counter()
    result = upscale(source, "--scale", scale)
    assert time.perf_counter() - began < 20
    failed(result, 1, source, f"{scale * 24:.0f}")
    assert "bug in gsr" not in result.stderr
    assert names(tmp_path) == {"photo.png"}


@pytest.mark.parametrize(
    "options", [["--scale", "1e308"], ["--width", "9" * 400], ["--size", "9" * 30 + "x" + "9" * 30]]
)
def test_huge_numbers_are_not_reported_as_a_bug(
    upscale: Upscale, photo: Photo, tmp_path: Path, options: list[str]
) -> None:
    result = upscale(photo(), *options)
    failed(result, result.exit_code)
    assert result.exit_code in (1, 2)
    assert "bug in gsr" not in result.stderr
    assert names(tmp_path) == {"photo.png"}


@pytest.mark.usefixtures("_nothing_is_computed")
@pytest.mark.parametrize(
    ("mode", "scale", "output", "text"),
    [
        ("RGB", 700, "large.webp", "16800x12600 is too large; WEBP allows at most 16383 pixels per side"),
        ("RGB", 3000, "large.jpg", "JPEG allows at most 65500 pixels per side"),
        ("RGBA", 2, "large.jpg", "JPEG cannot keep the transparency"),
        ("LA", 2, "large.jpg", "JPEG cannot keep the transparency"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_before_computing(
    upscale: Upscale, photo: Photo, tmp_path: Path, mode: str, scale: float, output: str, text: str
) -> None:
    result = upscale(photo(mode=mode), "--scale", scale, "-o", tmp_path / output)
    failed(result, 1, tmp_path / "photo.png", tmp_path / output, text, "a .png")
    assert names(tmp_path) == {"photo.png"}


@pytest.mark.parametrize(("module", "extra"), [("pillow_heif", "heic"), ("pillow_jxl", "jxl")])
@pytest.mark.parametrize("option", ["--format", "--output"])
def test_output_formats_whose_extra_is_missing_name_it(photo: Photo, module: str, extra: str, option: str) -> None:
    blocked = f"import sys; sys.modules[{module!r}] = None; from gsrcli.__main__ import main; main()"
    given = [option, extra if option == "--format" else f"large.{extra}"]
    command = [sys.executable, "-c", blocked, "upscale", str(photo()), "--scale", "2", *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith(f"\n  pip install 'gsrcli[{extra}]'\n")


def test_a_folder_without_pictures(upscale: Upscale, tmp_path: Path) -> None:
    failed(upscale(tmp_path, "--scale", 2), 2, f"there are no pictures in {tmp_path}", "--recursive")


def test_a_folder_of_pictures_that_cannot_be_read(upscale: Upscale, tmp_path: Path) -> None:
    (tmp_path / "a.nef").touch()
    result = upscale(tmp_path, "--scale", 2, "-r")
    failed(result, 2, f"there are no pictures in {tmp_path} that can be read, but 1 .nef (camera raw; ")


def test_several_inputs_and_one_output(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    result = upscale(photo("a.png"), photo("b.png"), "--scale", 2, "-o", tmp_path / "one.png")
    failed(result, 2, f"cannot write several pictures to one file: {tmp_path / 'one.png'}", "choose a folder")


def test_memory_that_runs_out_while_reading(
    upscale: Upscale, photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A smaller tile would not help."""

    def picture(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("gsrcli.images.readers.png.PngSource.picture", picture)
    result = upscale(photo(), "--scale", 2)
    failed(result, 1, tmp_path / "photo.png", "there is no memory for a picture of 24x18 pixels")
    assert "--tile" not in result.stderr


def test_a_pattern_that_matches_nothing(upscale: Upscale, tmp_path: Path) -> None:
    failed(upscale(tmp_path / "*.png", "--scale", 2), 2, f"nothing matches {tmp_path}/*.png")


def test_a_folder_as_the_output_file(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    """The hint works."""
    (tmp_path / "large.png").mkdir()
    result = upscale(photo(), "--scale", 2, "-o", tmp_path / "large.png")
    failed(result, 2, tmp_path / "large.png", "is a folder")
    if "add a slash" in result.stderr:
        assert upscale(photo(), "--scale", 2, "-o", f"{tmp_path}/large.png/").exit_code == 0
        assert (tmp_path / "large.png" / "photo_x2.png").is_file()


# Models


def test_an_unknown_model_gets_the_closest_name_as_a_hint(gsr: Upscale, photo: Photo) -> None:
    result = gsr("upscale", photo(), "--scale", 2, "--model", "gsasr-light")
    failed(result, 1, "there is no model called 'gsasr-light'", "try gsasr-lite")


def test_offline_the_hint_is_to_import_weights(gsr: Upscale, photo: Photo) -> None:
    result = gsr("upscale", photo(), "--scale", 2, "--model", "gsasr-edsr")
    failed(result, 1, "GSRCLI_OFFLINE is set", "gsr weights import encoder.pth decoder.pth --name gsasr-edsr")


def _damaged(kind: str, good: Path, folder: Path) -> Path:
    """Write a damaged copy of a checkpoint; return its path."""
    path = folder / ("weights.pth" if kind == "a pickle" else "weights.safetensors")
    content = good.read_bytes()
    tensors = load_file(good)
    with safe_open(good, framework="pt") as file:
        metadata = file.metadata()
    first = next(iter(tensors))
    if kind == "a pickle":
        torch.save(tensors, path)
    elif kind == "missing keys":
        save_file({first: tensors[first]}, path, metadata)
    elif kind == "other shapes":
        save_file({key: value.flatten() for key, value in tensors.items()}, path, metadata)
    elif kind == "not finite":
        tensors[first].view(-1)[3] = torch.nan
        save_file(tensors, path, metadata)
    elif kind == "another program's":
        save_file(tensors, path)
    elif kind == "an unknown architecture":
        save_file(tensors, path, {**metadata, "model": "gsasr-2040"})
    elif kind == "a config of nonsense":
        save_file(tensors, path, {**metadata, "config": '{"depth": "deep"}'})
    elif kind == "a config that is none":
        save_file(tensors, path, {**metadata, "config": "{"})
    else:
        cut = {"empty": b"", "truncated": content[:-100], "cut in its header": content[:50]}
        path.write_bytes(cut.get(kind) if kind in cut else np.random.default_rng(0).bytes(len(content)))  # type: ignore[arg-type]
    return path


@pytest.mark.usefixtures("_nothing_is_computed")
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("empty", "damaged"),
        ("truncated", "damaged"),
        ("cut in its header", "damaged"),
        ("random bytes", "damaged"),
        ("missing keys", "does not fit gsasr-lite"),
        ("other shapes", "does not fit gsasr-lite"),
        ("not finite", "infinite or NaN weights"),
        ("another program's", "not a checkpoint of gsrcli"),
        ("an unknown architecture", "not a checkpoint of gsrcli"),
        ("a config of nonsense", "does not fit gsasr-lite"),
        ("a config that is none", "does not fit gsasr-lite"),
        ("a pickle", "a pickle, which could run arbitrary code"),
    ],
)
def test_damaged_checkpoints(
    gsr: Upscale, photo: Photo, tiny_path: Path, tmp_path: Path, kind: str, reason: str
) -> None:
    path = _damaged(kind, tiny_path, tmp_path)
    failed(gsr("upscale", photo(), "--scale", 2, "--model", path), 1, path, reason)
    assert names(tmp_path) == {"photo.png", path.name}


def test_a_missing_checkpoint(gsr: Upscale, photo: Photo, tmp_path: Path) -> None:
    path = tmp_path / "gone.safetensors"
    failed(gsr("upscale", photo(), "--scale", 2, "--model", path), 1, f"no such checkpoint: {path}")


# Outputs that cannot be written


def test_a_folder_without_permission(
    upscale: Upscale, photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulate it, because root may write anywhere."""
    locked = tmp_path / "locked"
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **more: Path(path) != locked and access(path, mode, **more))
    result = upscale(photo(), "--scale", 2, "-o", locked)
    failed(result, 1, tmp_path / "photo.png", f"cannot write to {locked}: permission denied", "--output")
    assert names(tmp_path) == {"photo.png", "locked"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    source = photo("locked/photo.png")
    source.parent.chmod(0o555)
    try:
        failed(upscale(source, "--scale", 2), 1, source, "permission denied", "--output")
    finally:
        source.parent.chmod(0o755)


def test_a_file_where_a_folder_should_be_made(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = upscale(photo(), "--scale", 2, "-o", tmp_path / "file" / "sub")
    failed(result, 1, tmp_path / "photo.png", f"{tmp_path / 'file'} is a file", "--output")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode != 0:
        pytest.skip("only root may mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full(upscale: Upscale, photo: Photo, tmp_path: Path, small_disk: Path) -> None:
    """The picture that does not fit is reported, and a smaller one after it is done."""
    large, small = photo("large.png", size=(150, 150)), photo("small.png")
    result = upscale(large, small, "--scale", 2, "-o", small_disk)
    failed(result, 1, large, small_disk / "large_x2.png", "no space left", "free some space")
    assert names(small_disk) == {"small_x2.png"}
    assert Image.open(small_disk / "small_x2.png").size == (48, 36)


def test_a_disk_that_fills_up_while_a_file_is_replaced(
    upscale: Upscale, photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Space runs out after half of the data is written; the old content of the file stays."""
    there = tmp_path / "photo_x2.png"
    there.write_bytes(b"the one from yesterday")
    real_open = Path.open

    class Filling:
        """A file whose disk is full after half of the data."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> Filling:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, data: bytes) -> int:
            self.file.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def open_filling(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        file = real_open(path, mode, *arguments, **options)
        return Filling(file) if "b" in mode and ("w" in mode or "x" in mode) else file

    source = photo()
    monkeypatch.setattr(Path, "open", open_filling)
    result = upscale(source, "--scale", 2, "--overwrite")
    failed(result, 1, source, there, "no space left", "free some space")
    assert there.read_bytes() == b"the one from yesterday"
    assert names(tmp_path) == {"photo.png", "photo_x2.png"}


# Bugs in gsr


@pytest.fixture
def _broken_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(*_: object) -> None:
        raise RuntimeError("shapes do not match, as it were")

    monkeypatch.setattr(Lite, "forward", forward)


@pytest.mark.usefixtures("_broken_model")
def test_a_bug_is_reported_as_a_bug(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    source = photo()
    result = upscale(source, "--scale", 2)
    failed(result, 1, source, "unexpected RuntimeError: shapes do not match", "a bug in gsr; add --debug to see where")
    assert names(tmp_path) == {"photo.png"}


@pytest.mark.usefixtures("_broken_model")
def test_debug_shows_where(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    result = upscale(photo(), "--scale", 2, "--debug")
    assert isinstance(result.exception, RuntimeError)
    assert result.exit_code == 1
    assert names(tmp_path) == {"photo.png"}


@pytest.mark.parametrize("debug", [False, True])
def test_only_debug_shows_tracebacks(gsr_process: Process, tiny_path: Path, tmp_path: Path, debug: bool) -> None:
    process = gsr_process("upscale", tmp_path / "gone.png", "-s", 2, "-m", tiny_path, *(["--debug"] if debug else []))
    _, err = process.communicate()
    assert process.returncode == 1
    assert ("Traceback" in err) == debug
    assert str(tmp_path / "gone.png") in err


# Interrupts


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGINT to send")
def test_ctrl_c_leaves_whole_files_and_can_be_resumed(
    gsr_process: Process, upscale: Upscale, photo: Photo, tmp_path: Path, tiny_path: Path
) -> None:
    content = photo("in/0.png", size=(64, 64)).read_bytes()
    count = 60
    for i in range(1, count):
        (tmp_path / "in" / f"{i}.png").write_bytes(content)
    out = tmp_path / "out"
    arguments = ("upscale", tmp_path / "in", "--scale", 4, "-o", out)
    process = gsr_process(*arguments, "--model", tiny_path)
    while process.poll() is None and len(list(out.glob("*.png"))) < 2:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)

    assert process.returncode == 130
    assert err.startswith("error: interrupted\n")
    assert (err.count("error: "), err.count("\n")) == (1, 2)
    assert "again" in err
    made = sorted(out.iterdir())
    assert 2 <= len(made) < count
    assert all(path.suffix == ".png" and not path.name.startswith(".") for path in made)
    for path in made:
        with Image.open(path) as image:
            image.load()
            assert image.size == (256, 256)

    before = {path: path.stat().st_mtime_ns for path in made}
    result = upscale(*arguments[1:])
    assert result.exit_code == 0
    assert f"{count - len(made)} done, {len(made)} skipped" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in made} == before
    assert len(list(out.iterdir())) == count


def test_the_hint_after_an_interrupt_is_true(upscale: Upscale, photo: Photo, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --overwrite, the same command would do everything again."""

    def forward(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Lite, "forward", forward)
    failed(upscale(photo(), "--scale", 2), 130, "interrupted", "pictures already done are skipped")
    result = upscale(photo(), "--scale", 2, "--overwrite")
    failed(result, 130, "interrupted")
    assert "skipped" not in result.stderr


# Results that are not finite


def _spoil(monkeypatch: pytest.MonkeyPatch, always: bool) -> None:
    """Let the network return one infinite number, in bfloat16 only or always."""
    forward = Lite.forward

    def spoiled(self: Lite, image: torch.Tensor, scale: torch.Tensor) -> Gaussians:
        lowered = torch.is_autocast_enabled(image.device.type)
        field = forward(self, image, scale)
        if always or lowered:
            field.value[0, -1, 0] = torch.inf
        return field

    monkeypatch.setattr(Lite, "forward", spoiled)


def test_what_bfloat16_cannot_compute_float32_does(
    upscale: Upscale, photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(monkeypatch, always=False)
    for precision in ("float32", "bfloat16"):
        options = ("--scale", 2, "--precision", precision, "-o", tmp_path / f"{precision}.png")
        assert upscale(photo(), *options).exit_code == 0
    assert (tmp_path / "bfloat16.png").read_bytes() == (tmp_path / "float32.png").read_bytes()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_network_that_is_not_finite_at_all_is_refused(
    upscale: Upscale, photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    _spoil(monkeypatch, always=True)
    result = upscale(photo(), "--scale", 2, "--precision", precision)
    failed(result, 1, tmp_path / "photo.png", "not finite")
    assert names(tmp_path) == {"photo.png"}
    with pytest.raises(ModelError, match="not finite"):
        Upscaler(tiny_model()).enlarge(Picture(np.zeros((5, 5, 3), np.uint8)), Size(10, 10))


# Memory that runs out

CPU_ALLOCATOR = (
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "1099511627776 bytes. Error code 12 (Cannot allocate memory)"
)


class CUDAError(Exception):
    """Like that of cuda.core, which is not a RuntimeError."""


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError(CPU_ALLOCATOR),
    MemoryError(),
    CUDAError("CUDA_ERROR_OUT_OF_MEMORY: The API call failed because it was unable to allocate enough memory"),
    RuntimeError("could not create a primitive"),  # oneDNN
    cv2.error("error: (-4:Insufficient memory) Failed to allocate 108000000 bytes in function 'OutOfMemoryError'"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    ValueError("encoding error 1"),  # libwebp's, through Pillow
    RuntimeError("std::bad_alloc"),
]


def _limit_tiles(monkeypatch: pytest.MonkeyPatch, side: int, error: BaseException) -> list[int]:
    """Let tiles larger than a square of this side fail; return a list that collects the areas of the others."""
    predict = _Enlargement._predict
    passed: list[int] = []

    def limited(self: _Enlargement, core: Box) -> Gaussians:
        if core.size.area > side**2:
            raise error
        passed.append(core.size.area)
        return predict(self, core)

    monkeypatch.setattr(_Enlargement, "_predict", limited)
    return passed


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda e: type(e).__name__)
def test_tiles_are_split_until_they_fit(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    upscaler = Upscaler(tiny_model())
    picture = Picture(np.random.default_rng(0).integers(0, 256, (230, 250, 3), np.uint8))
    whole = upscaler.enlarge(picture, Size(345, 375)).pixels
    passed = _limit_tiles(monkeypatch, 70, error)
    reported: list[int] = []
    split = upscaler.enlarge(picture, Size(345, 375), reported.append).pixels
    assert len(passed) == 16
    assert sum(passed) == sum(reported) == 230 * 250
    # Convolutions of other shapes sum in another order, which may change a rounding.
    assert np.abs(split.astype(int) - whole).max() <= 1
    assert np.mean(split != whole) < 1e-3


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda e: type(e).__name__)
def test_no_memory_for_the_smallest_tile(
    upscale: Upscale, photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    _limit_tiles(monkeypatch, 0, error)
    source = photo(size=(110, 110))
    result = upscale(source, "--scale", 2, "--device", "cpu")
    failed(result, 1, source, "too little memory for the smallest tile")
    assert "--device cpu" not in result.stderr  # it is already used
    assert names(tmp_path) == {"photo.png"}
    with pytest.raises(LimitError):
        Upscaler(tiny_model()).enlarge(Picture(np.zeros((5, 5, 3), np.uint8)), Size(10, 10))


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda e: type(e).__name__)
def test_no_memory_for_drawing_is_not_reported_as_a_bug(
    upscale: Upscale, photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def draw(*_: object) -> None:
        raise error

    monkeypatch.setattr("gsrcli.models.base.rasterize", draw)
    result = upscale(photo(), "--scale", 2)
    failed(result, 1, tmp_path / "photo.png", "memory")
    assert "bug" not in result.stderr


def test_other_errors_are_not_mistaken_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    message = "could not create a primitive descriptor for a convolution forward propagation primitive"
    passed = _limit_tiles(monkeypatch, 0, RuntimeError(message))
    with pytest.raises(RuntimeError, match="descriptor"):
        Upscaler(tiny_model()).enlarge(Picture(np.zeros((110, 110, 3), np.uint8)), Size(220, 220))
    assert passed == []


# Around the command


_INTERRUPTED_IMPORT = """
import runpy, sys

class Interrupter:
    @staticmethod
    def find_spec(name, *_):
        if name == "typer":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupter)
runpy.run_module("gsrcli", run_name="__main__")
"""


def test_ctrl_c_while_the_command_starts_is_quiet() -> None:
    done = subprocess.run([sys.executable, "-c", _INTERRUPTED_IMPORT, "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize("fault", ["ImportError", "OSError"])
def test_broken_libraries_get_the_doctor_as_a_hint(
    gsr_process: Callable[..., subprocess.Popen[str]], photo: Photo, tmp_path: Path, fault: str
) -> None:
    broken = tmp_path / "site" / "torch"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text(f"raise {fault}('libcudart.so.12: cannot open shared object file')")
    path = os.pathsep.join((str(broken.parent), os.environ["PYTHONPATH"]))
    process = gsr_process("upscale", photo(), "--scale", 2, PYTHONPATH=path)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors == (
        "error: an installed library does not work: libcudart.so.12: cannot open shared object file\n"
        "  run gsr doctor to find out what to do\n"
    )
