"""``gsr upscale`` as people use it: its outputs, their names, and its messages."""

from __future__ import annotations

import ast
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms
from typer.testing import Result

import gsrcli
from gsrcli.images import read_picture

Upscale = Callable[..., Result]
Photo = Callable[..., Path]
Process = Callable[..., "subprocess.Popen[str]"]

PACKAGE = Path(gsrcli.__file__).parent


def said(result: Result) -> None:
    """Assert that the command succeeded without errors."""
    assert result.exit_code == 0, result.output
    assert "error" not in result.stderr


def names(folder: Path) -> set[str]:
    """Return all files below a folder."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def psnr(a: Path, b: Path) -> float:
    first, second = (np.asarray(Image.open(path), dtype=np.float64) for path in (a, b))
    error = float(np.mean((first - second) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


# Quick to start, and tidy


def _modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules, file=sys.__stderr__)"
    env = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env)
    return set(done.stderr.split())


def _modules_after_gsr(*arguments: object, exit_code: int = 0) -> set[str]:
    argv = ["gsr", *map(str, arguments)]
    run = f"sys.argv = {argv}\ntry:\n    runpy.run_module('gsrcli', run_name='__main__')\n"
    return _modules_after(
        f"import runpy\n{run}except SystemExit as e:\n    assert (e.code or 0) == {exit_code}, e.code"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["upscale", "--help"],
        ["train", "--help"],
        ["eval", "--help"],
        ["--version"],
        ["weights", "list"],
        ["weights", "path"],
    ],
)
def test_help_and_lists_need_no_torch(arguments: list[str]) -> None:
    modules = _modules_after_gsr(*arguments)
    assert "gsrcli.cli.upscale" in modules
    assert not modules & {"torch", "numpy", "cv2", "PIL"}


def test_the_package_needs_no_torch_until_it_is_used() -> None:
    modules = _modules_after("import gsrcli\nassert 'upscale' in dir(gsrcli)\ngsrcli.__version__")
    assert not modules & {"torch", "numpy", "cv2", "PIL", "typer"}


def test_all_public_names_can_be_imported() -> None:
    assert callable(gsrcli.upscale)
    assert callable(gsrcli.load_model)
    assert callable(gsrcli.rasterize)
    assert gsrcli.Gaussians.__name__ == "Gaussians"
    with pytest.raises(AttributeError, match="nothing"):
        gsrcli.nothing  # noqa: B018


def test_help_appears_at_once(gsr_process: Process) -> None:
    took = []
    for _ in range(5):
        began = time.perf_counter()
        assert gsr_process("--help").wait() == 0
        took.append(time.perf_counter() - began)
    print(f"gsr --help: {min(took):.2f} s")  # noqa: T201
    assert min(took) < 1.0  # 0.3 s on an idle machine


def test_upscaling_imports_no_compiler(photo: Photo, tiny_path: Path) -> None:
    """``torch._dynamo`` and sympy would cost a second and 70 MiB."""
    modules = _modules_after_gsr("upscale", photo(), "--scale", 2, "--model", tiny_path, "--device", "cpu")
    assert "torch" in modules
    assert not modules & {"torch._dynamo", "torch._inductor", "sympy"}


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (["gone.png", "--scale", 2], 1),
        (["text.png", "--scale", 2], 1),
        (["text.png", "gone.png", "--scale", 2], 1),
        (["empty/", "--scale", 2], 2),
        (["*.tif", "--scale", 2], 2),
        (["photo.png", "--scale", 0.5], 2),
        (["photo.png", "--size", "9x9"], 1),
        (["photo.png", "--scale", 2, "--format", "doc"], 2),
        (["photo.png", "--scale", 2, "-o", "text.png/folder"], 1),
        (["photo.png", "--scale", 2, "-o", "empty/report.doc"], 2),
        (["photo.png", "--scale", 1000, "-o", "large.webp"], 1),
        (["photo.png", "--scale", 2, "--model", "gsasr-light"], 1),
        (["photo.png", "--scale", 2, "--model", "gone.safetensors"], 1),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_errors_are_found_before_torch_is_imported(
    photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[object], exit_code: int
) -> None:
    photo()
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    modules = _modules_after_gsr("upscale", *arguments, exit_code=exit_code)
    assert "gsrcli.cli.jobs" in modules
    assert "torch" not in modules


_IMPORTS_SHOWN = """
import runpy, sys

class Announcer:
    @staticmethod
    def find_spec(name, *_):
        if name in ("numpy", "torch"):
            print(f"<{name}>", end="", file=sys.stderr, flush=True)

sys.meta_path.insert(0, Announcer)
runpy.run_module("gsrcli", run_name="__main__")
"""


def _shown(*arguments: object) -> str:
    """Return what ``gsr`` writes to a terminal, with "<numpy>" and "<torch>" where it imports them."""
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    command = [sys.executable, "-c", _IMPORTS_SHOWN, *map(str, arguments)]
    written = b""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs):
        os.close(theirs)
        with suppress(OSError):  # at the end, on Linux
            while piece := os.read(ours, 1 << 16):
                written += piece
    os.close(ours)
    return written.decode()


def test_a_terminal_shows_progress_before_anything_slow(photo: Photo, tiny_path: Path, tmp_path: Path) -> None:
    shown = _shown("upscale", photo(), "--scale", 2, "--model", tiny_path)
    at_once, soon, after = re.split("<numpy>|<torch>", shown)
    assert "looking for pictures" in at_once
    assert "loading the model" in soon
    assert "upscaling: " in after
    assert shown.split("\r")[-1] == ""  # the status line is erased
    assert names(tmp_path) == {"photo.png", "photo_x2.png"}


def test_missing_inputs_are_reported_before_torch_is_imported(photo: Photo, tiny_path: Path, tmp_path: Path) -> None:
    """Although it was named last, and there is work to do."""
    shown = _shown("upscale", photo(), tmp_path / "gone.png", "--scale", 2, "--model", tiny_path)
    before, _ = shown.split("<torch>")
    assert "no such file" in before
    assert names(tmp_path) == {"photo.png", "photo_x2.png"}


def test_json_shows_no_progress(photo: Photo, tiny_path: Path) -> None:
    assert _shown("upscale", photo(), "--scale", 2, "--model", tiny_path, "--json") == "<numpy><torch>"


def _calls_and_imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield f"{node.func.id}()"
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_only_the_console_prints_and_nothing_imports_click(path: Path) -> None:
    """Typer includes its own click; the one from PyPI may be missing or of another version."""
    found = set(_calls_and_imports(path))
    assert "print()" not in found or path.name == "console.py"
    assert not {name for name in found if name.split(".")[0] == "click"}


def test_help_shows_options_and_examples(gsr: Upscale, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 200)
    result = gsr("upscale", "--help")
    assert result.exit_code == 0
    for text in ("--scale", "--recursive", "--json", "Examples", "gsr upscale photo.png --scale 6.5"):
        assert text in result.stdout
    assert "[bold]" not in result.stdout


def test_the_version_is_printed(gsr: Upscale) -> None:
    assert gsr("--version").stdout == f"gsr {gsrcli.__version__}\n"


# One picture


def test_a_photo_by_a_fractional_scale_in_its_own_process(gsr_process: Process, tiny_path: Path, photo: Photo) -> None:
    source = photo()
    process = gsr_process("upscale", "photo.png", "--scale", "6.5", "--model", tiny_path, cwd=source.parent)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert re.fullmatch(r"photo_x6\.5\.png: 156x117 in \d+\.\d s\n", out)
    assert names(source.parent) == {"photo.png", "photo_x6.5.png"}
    assert size_of(source.parent / "photo_x6.5.png") == (156, 117)


@pytest.mark.parametrize(
    ("options", "name", "size"),
    [
        (["--scale", "2.5"], "photo_x2.5.png", (60, 45)),
        (["-s", "1.1"], "photo_x1.1.png", (26, 20)),  # 26.4 x 19.8
        (["--size", "50x70"], "photo_50x70.png", (50, 70)),
        (["--width", "37"], "photo_w37.png", (37, 28)),  # 27.75
        (["--height", "37"], "photo_h37.png", (49, 37)),  # 49.33
        (["--scale", "1"], "photo_x1.png", (24, 18)),
        (["--scale", "2", "--format", "webp"], "photo_x2.webp", (48, 36)),
        (["--scale", "2", "--format", ".JPG"], "photo_x2.jpg", (48, 36)),
        (["--scale", "2", "--format", "tiff", "--quality", "50"], "photo_x2.tiff", (48, 36)),
    ],
)
def test_sizes_and_formats(
    upscale: Upscale, photo: Photo, tmp_path: Path, options: list[str], name: str, size: tuple[int, int]
) -> None:
    said(upscale(photo(), *options))
    assert names(tmp_path) == {"photo.png", name}
    assert size_of(tmp_path / name) == size


def test_a_half_pixel_is_rounded_up(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    said(upscale(photo(size=(3, 5)), "--scale", 1.5))
    assert size_of(tmp_path / "photo_x1.5.png") == (5, 8)


@pytest.mark.parametrize("output", ["large.png", "large.jpg", "new/folder/large.png"])
def test_output_as_a_file(upscale: Upscale, photo: Photo, tmp_path: Path, output: str) -> None:
    said(upscale(photo(), "--scale", 2, "-o", tmp_path / output))
    assert names(tmp_path) == {"photo.png", output}


def test_a_format_that_contradicts_the_output_is_not_ignored(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    result = upscale(photo(), "--scale", 2, "-o", tmp_path / "large.jpg", "--format", "png")
    if result.exit_code == 0:
        with Image.open(tmp_path / "large.jpg") as image:
            assert image.format == "PNG"
    else:
        assert result.exit_code == 2
        assert "--format" in result.stderr


def test_an_input_may_be_replaced_by_its_enlargement(upscale: Upscale, photo: Photo) -> None:
    source = photo()
    before = source.read_bytes()
    result = upscale(source, "--scale", 2, "-o", source)
    said(result)
    assert "1 skipped" in result.stdout
    assert source.read_bytes() == before
    said(upscale(source, "--scale", 2, "-o", source, "--overwrite"))
    assert size_of(source) == (48, 36)


@pytest.mark.parametrize("output", ["there", "new", "new/deep", "new/"])
def test_output_as_a_folder(upscale: Upscale, photo: Photo, tmp_path: Path, output: str) -> None:
    (tmp_path / "there").mkdir()
    said(upscale(photo(), "--scale", 2, "-o", f"{tmp_path}/{output}"))
    assert names(tmp_path) == {"photo.png", f"{output.rstrip('/')}/photo_x2.png"}


@pytest.mark.parametrize(
    "name", ["größe 写真 №1.png", "two  spaces .png", "-leading.png", "photo[1].png", "'quoted\".png"]
)
def test_names_of_any_kind(upscale: Upscale, photo: Photo, tmp_path: Path, name: str) -> None:
    result = upscale("--scale", 2, "--", photo(name))
    said(result)
    assert names(tmp_path) == {name, f"{name[:-4]}_x2.png"}
    assert f"{name[:-4]}_x2.png: 48x36 in" in result.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Windows refuses such names")
def test_control_characters_in_names_reach_no_terminal(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    """A name could otherwise clear the screen, or look like lines of gsr's own."""
    name = "a\x1b[2J\nerror: b\x9b\u202e\r.png"
    source = photo(name)
    Image.open(source).convert("I;16").save(source)
    spoilt = photo(name.replace("a", "spoilt", 1))
    spoilt.write_bytes(b"")
    one, more = upscale(source, "--scale", 2, "-o", tmp_path / f"{name}.jpg"), upscale(source, spoilt, "--scale", 2)
    assert (one.exit_code, more.exit_code) == (0, 1)
    escaped = r"a\x1b[2J\nerror: b\x9b\u202e\r.png"
    assert one.stdout.startswith(f"{tmp_path}/{escaped}.jpg: 48x36 in")
    assert one.stderr == f"warning: {tmp_path}/{escaped}.jpg: JPEG does not keep 16 bits per channel (8 are written)\n"
    assert more.stderr.startswith(f"error: cannot read {spoilt.parent}/{escaped.replace('a', 'spoilt', 1)}: ")
    assert more.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_names_that_are_not_unicode(gsr_process: Process, photo: Photo, tiny_path: Path, options: list[str]) -> None:
    """Old archives and memory cards contain names in other encodings; Python reads their bytes as lone surrogates."""
    source = photo()
    odd = source.rename(source.with_name(os.fsdecode(b"caf\xe9.png")))
    encoding = {"PYTHONIOENCODING": "utf-8:strict"}  # as in a locale such as en_US.UTF-8
    process = gsr_process("upscale", odd, "--scale", 2, "--model", tiny_path, *options, **encoding)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert size_of(odd.with_name(os.fsdecode(b"caf\xe9_x2.png"))) == (48, 36)
    assert not options or json.loads(out)["done"] == 1


def test_output_in_a_locale_without_unicode(gsr_process: Process, photo: Photo, tiny_path: Path) -> None:
    encoding = {"PYTHONIOENCODING": "ascii:strict"}
    process = gsr_process("upscale", photo("größe.png"), "--scale", 2, "--model", tiny_path, **encoding)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert "48x36" in out


# Many pictures


def test_several_inputs(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    result = upscale(photo("a.png"), photo("sub/b.jpg"), "--scale", 2)
    said(result)
    assert names(tmp_path) == {"a.png", "a_x2.png", "sub/b.jpg", "sub/b_x2.jpg"}
    assert re.fullmatch(r"2 done in \d+\.\d s\n", result.stdout)


@pytest.mark.parametrize(
    ("recursive", "expected"),
    [([], {"a_x2.png"}), (["--recursive"], {"a_x2.png", "sub/b_x2.jpg", "sub/deep/a_x2.png"})],
    ids=["flat", "recursive"],
)
def test_folders(upscale: Upscale, photo: Photo, tmp_path: Path, recursive: list[str], expected: set[str]) -> None:
    for name in ("in/a.png", "in/sub/b.jpg", "in/sub/deep/a.png"):
        photo(name)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    said(upscale(tmp_path / "in", "--scale", 2, "-o", tmp_path / "out", *recursive))
    assert names(tmp_path / "out") == expected


def test_a_quoted_pattern(upscale: Upscale, photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a1.png", "a2.png", "b1.png"):
        photo(name)
    monkeypatch.chdir(tmp_path)
    said(upscale("a*.png", "--scale", 2, "-o", "out"))
    assert names(tmp_path / "out") == {"a1_x2.png", "a2_x2.png"}


def test_existing_outputs_are_skipped_and_counted(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    photo("in/a.png")
    photo("in/b.png")
    there = tmp_path / "in" / "b_x2.png"
    there.write_bytes(b"something of the user's")
    os.utime(there, ns=(1, 1))
    result = upscale(tmp_path / "in", "--scale", 2)
    said(result)
    assert re.fullmatch(
        r"1 done, 1 skipped \(output exists; use --overwrite to replace\) in \d+\.\d s\n", result.stdout
    )
    assert (there.read_bytes(), there.stat().st_mtime_ns) == (b"something of the user's", 1)


@pytest.mark.skipif(os.name == "nt", reason="has no modes")
def test_who_may_read_a_replaced_file_does_not_change(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    target = tmp_path / "photo_x2.png"
    target.touch(0o600)
    said(upscale(photo(), "--scale", 2, "--overwrite"))
    assert target.stat().st_mode & 0o777 == 0o600


def test_overwrite_replaces(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    there = tmp_path / "photo_x2.png"
    there.write_bytes(b"something old")
    said(upscale(photo(), "--scale", 2, "--overwrite"))
    assert size_of(there) == (48, 36)


def test_a_second_run_finds_nothing_to_do(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    for name in ("in/a.png", "in/sub/b.jpg"):
        photo(name)
    first = upscale(tmp_path / "in", "--scale", 2, "-r")
    made = names(tmp_path)
    result = upscale(tmp_path / "in", "--scale", 2, "-r")
    said(first)
    said(result)
    assert result.stdout.startswith("0 done, 2 skipped")
    assert names(tmp_path) == made == {"in/a.png", "in/a_x2.png", "in/sub/b.jpg", "in/sub/b_x2.jpg"}


def test_two_inputs_with_one_output_are_refused_before_any_work(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    before = photo("0.png"), photo("one/a.png"), photo("two/a.png")
    result = upscale(*before, "--scale", 2, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "would both be written to" in result.stderr
    assert result.stdout == ""
    assert names(tmp_path) == {"0.png", "one/a.png", "two/a.png"}


# Output for programs, and --verbose


def test_json_is_one_object_and_nothing_else(gsr_process: Process, photo: Photo, tiny_path: Path) -> None:
    good, done_before = photo("größe.png"), photo("b.png")
    skipped = done_before.with_name("b_x2.png")
    skipped.write_bytes(b"old")
    bad = good.with_name("c.png")
    bad.write_bytes(b"no picture")
    process = gsr_process("upscale", good, done_before, bad, "--scale", 2, "--model", tiny_path, "--json", "--verbose")
    out, _ = process.communicate()
    assert process.returncode == 1
    assert out.count("\n") == 1
    data = json.loads(out)
    first, second, third = data.pop("results")
    assert first.pop("seconds") > 0
    assert first == {
        "input": str(good), "output": str(good.with_name("größe_x2.png")), "status": "done", "width": 48, "height": 36
    }  # fmt: skip
    assert second == {"input": str(done_before), "output": str(skipped), "status": "skipped"}
    assert (third["input"], third["status"]) == (str(bad), "failed")
    assert "not a picture" in third["error"]
    assert set(data.pop("seconds")) == {"network", "rasterizer", "decode", "encode"}
    assert data.pop("elapsed") > 0
    assert data.pop("rasterizer") in ("cpu", "torch")
    assert isinstance(data.pop("rasterizer_note"), str)
    assert re.fullmatch("cpu|cuda", data.pop("device"))
    assert data.pop("precision") in ("float32", "bfloat16")
    assert data == {"done": 1, "skipped": 1, "failed": 1, "model": str(tiny_path)}


def test_json_of_a_run_with_nothing_to_do(upscale: Upscale, photo: Photo) -> None:
    upscale(photo(), "--scale", 2)
    result = upscale(photo(), "--scale", 2, "--json")
    data = json.loads(result.stdout)
    assert (data["done"], data["skipped"], data["failed"]) == (0, 1, 0)
    assert [row["status"] for row in data["results"]] == ["skipped"]
    assert result.stderr == ""


def test_verbose_says_what_ran_where(upscale: Upscale, photo: Photo, tiny_path: Path) -> None:
    options = ["--device", "cpu", "--precision", "float32"]
    result = upscale(photo(), "--scale", 2, "--verbose", *options)
    said(result)
    stages = r"network \d+\.\d\d s, rasterizer \d+\.\d\d s, decode \d+\.\d\d s, encode \d+\.\d\d s"
    where = rf"{re.escape(str(tiny_path))} on cpu in float32"
    assert re.search(rf"{where}, rasterizer \w+ \(.+\): {stages}\n", result.stderr)
    assert "rasterizer" not in upscale(photo("quiet.png"), "--scale", 2, *options).output


# What is kept of a picture


def _decoded(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_grey_stays_grey(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    said(upscale(photo(mode="L"), "--scale", 2))
    assert Image.open(tmp_path / "photo_x2.png").mode == "L"


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_kept(upscale: Upscale, photo: Photo, tmp_path: Path, mode: str) -> None:
    said(upscale(photo(mode=mode), "--scale", 3))
    enlarged = Image.open(tmp_path / "photo_x3.png")
    assert (enlarged.mode, enlarged.size) == (mode, (72, 54))
    alpha = np.asarray(enlarged)[..., -1].astype(float)
    assert (alpha[:, 0].mean(), alpha[:, -1].mean()) == pytest.approx((0, 255), abs=40)


@pytest.mark.parametrize(("alpha", "most"), [("transparency", 3), ("data", 7)])
def test_heights_under_an_alpha_of_0_count_as_data_alone(
    upscale: Upscale, tmp_path: Path, alpha: str, most: int
) -> None:
    values = np.ones((12, 16, 2), np.float32)
    values[:, :8, 0], values[:, 8:, 0] = 3, 7
    values[:, 8:, 1] = 0
    path = tmp_path / "heights.tif"
    tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"])
    result = upscale(path, "--scale", 2, "--format", "png", "--alpha", alpha)
    said(result)
    assert f"3 to {most} as black to white" in result.stderr
    enlarged = read_picture(tmp_path / "heights_x2.png").pixels
    assert enlarged[12, -4, 0] == (65535 if alpha == "data" else 0)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_stay_sixteen(upscale: Upscale, tmp_path: Path, suffix: str, channels: int) -> None:
    ramp = np.linspace(0, 65535, 24 * 18 * channels).reshape(18, 24, channels).astype(np.uint16)
    path = tmp_path / f"deep{suffix}"
    cv2.imwrite(str(path), ramp if channels > 1 else ramp[..., 0])
    said(upscale(path, "--scale", 2))
    enlarged = cv2.imread(str(tmp_path / f"deep_x2{suffix}"), cv2.IMREAD_UNCHANGED)
    assert enlarged.dtype == np.uint16
    assert enlarged.shape == ((36, 48) if channels == 1 else (36, 48, channels))
    assert len(np.unique(enlarged)) > 256


def test_losses_of_the_format_are_reported(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 24 * 18 * 3).reshape(18, 24, 3).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), ramp)
    result = upscale(tmp_path / "deep.png", "--scale", 2, "--format", "jpg")
    assert result.exit_code == 0
    assert "JPEG does not keep 16 bits per channel" in result.stderr
    assert "does not keep" not in upscale(photo(), "--scale", 2, "--format", "jpg").stderr
    for_programs = upscale(tmp_path / "deep.png", "--scale", 2, "--format", "jpg", "--overwrite", "--json")
    assert for_programs.stderr == ""
    (row,) = json.loads(for_programs.stdout)["results"]
    assert row["lost"] == ["16 bits per channel (8 are written)"]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_exif_orientation_is_applied_once(upscale: Upscale, photo: Photo, tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "a camera"
    turned = photo("turned.jpg", exif=exif, quality=95)
    counterclockwise = {1: 0, 3: 180, 6: 270, 8: 90}[orientation]
    with Image.open(turned) as stored:
        stored.rotate(counterclockwise, expand=True).save(tmp_path / "upright.png")
    said(upscale(turned, "--scale", 2, "-o", tmp_path / "turned.png"))
    said(upscale(tmp_path / "upright.png", "--scale", 2))
    enlarged = Image.open(tmp_path / "turned.png")
    assert np.array_equal(np.asarray(enlarged), _decoded(tmp_path / "upright_x2.png"))
    assert enlarged.getexif().get(ExifTags.Base.Orientation, 1) == 1
    assert enlarged.getexif()[ExifTags.Base.Make] == "a camera"


def test_strip_metadata_drops_what_tells_about_people(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    """The colours and the size of a pixel stay, because they are how the picture looks."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "a camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source = photo(
        "photo.jpg", exif=exif, xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>", icc_profile=profile, dpi=(90, 90)
    )
    said(upscale(source, "--scale", 2, "-o", tmp_path / "with.png"))
    said(upscale(source, "--scale", 2, "-o", tmp_path / "without.png", "--strip-metadata"))
    stripped = Image.open(tmp_path / "without.png")
    assert dict(stripped.getexif()) == {}
    assert b"a camera" not in (tmp_path / "without.png").read_bytes()
    assert b"xmpmeta" in (tmp_path / "with.png").read_bytes()
    assert b"xmpmeta" not in (tmp_path / "without.png").read_bytes()
    assert stripped.info["icc_profile"] == profile
    assert stripped.info["dpi"] == pytest.approx((90, 90), abs=0.1)
    assert np.array_equal(_decoded(tmp_path / "with.png"), _decoded(tmp_path / "without.png"))
    assert size_of(tmp_path / "without.png") == (36, 48)


@pytest.mark.parametrize(
    ("colour", "expected"), [("white", (255, 255, 255)), ("#204060", (32, 64, 96)), ("rgb(1, 2, 3)", (1, 2, 3))]
)
def test_a_background_fills_transparency(
    upscale: Upscale, tmp_path: Path, colour: str, expected: tuple[int, int, int]
) -> None:
    source, flat = tmp_path / "photo.png", tmp_path / "flat.png"
    Image.fromarray(np.zeros((18, 24, 4), np.uint8)).save(source)
    Image.new("RGB", (24, 18), expected).save(flat)
    said(upscale(flat, "--scale", 2, "--format", "jpg"))
    result = upscale(source, "--scale", 2, "--format", "jpg", "--background", colour)
    said(result)
    assert result.stderr == f"note: {source}: converted transparency to the background\n"
    assert np.array_equal(_decoded(tmp_path / "photo_x2.jpg"), _decoded(tmp_path / "flat_x2.jpg"))
    for_data = upscale(source, "--scale", 2, "--format", "jpg", "--background", colour, "--alpha", "data")
    assert (for_data.exit_code, "contradicts --alpha data" in for_data.stderr) == (2, True)


def test_no_background_is_suggested_for_alpha_that_is_data(upscale: Upscale, photo: Photo) -> None:
    result = upscale(photo(mode="RGBA"), "--scale", 2, "--format", "jpg", "--alpha", "data")
    assert result.exit_code == 1
    assert "JPEG cannot keep the alpha of this picture\n  write a .png or .webp file\n" in result.stderr


def test_a_background_leaves_transparency_where_it_can_be_kept(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    said(upscale(photo(mode="RGBA"), "--scale", 2, "--background", "white"))
    assert Image.open(tmp_path / "photo_x2.png").mode == "RGBA"


def test_webp_without_loss_on_demand(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    source = photo()
    said(upscale(source, "--scale", 2))
    for name, options in {"lossy": [], "lossless": ["--lossless"]}.items():
        said(upscale(source, "--scale", 2, "-o", tmp_path / f"{name}.webp", *options))
    exact = _decoded(tmp_path / "photo_x2.png")
    assert np.array_equal(_decoded(tmp_path / "lossless.webp"), exact)
    assert not np.array_equal(_decoded(tmp_path / "lossy.webp"), exact)


def test_webp_without_loss_stays_so_unless_a_quality_is_given(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    source = photo("photo.webp", lossless=True)
    said(upscale(source, "--scale", 2))
    said(upscale(source, "--scale", 2, "-o", tmp_path / "lossy.webp", "--quality", 50))
    assert (tmp_path / "photo_x2.webp").read_bytes()[12:16] == b"VP8L"
    assert (tmp_path / "lossy.webp").read_bytes()[12:16] != b"VP8L"


def test_a_quality_that_means_nothing_is_not_silent(upscale: Upscale, photo: Photo) -> None:
    one, two = photo("one.png"), photo("two.tif")
    result = upscale(one, two, photo("three.jpg"), "--scale", 2, "--quality", 60)
    said(result)
    assert result.stderr == "warning: --quality does nothing for PNG and TIFF\n"


def test_times_are_kept_on_demand(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    source = photo()
    os.utime(source, (1_000_000_000, 1_100_000_000))
    said(upscale(source, "--scale", 2, "-o", tmp_path / "new.png"))
    said(upscale(source, "--scale", 2, "-o", tmp_path / "kept.png", "--keep-times"))
    assert (tmp_path / "kept.png").stat().st_mtime == 1_100_000_000
    assert (tmp_path / "new.png").stat().st_mtime > 1_200_000_000
    said(upscale(source, "--scale", 2, "-o", source, "--keep-times", "--overwrite"))
    assert source.stat().st_mtime == 1_100_000_000


# What is said of many pictures


def _deep(path: Path) -> Path:
    cv2.imwrite(str(path), np.linspace(0, 65535, 24 * 18 * 3).reshape(18, 24, 3).astype(np.uint16))
    return path


def test_equal_losses_are_said_once_at_the_end(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    sources = [_deep(tmp_path / f"{letter}.png") for letter in "abcde"]
    result = upscale(*sources, "--scale", 2, "--format", "jpg")
    said(result)
    assert result.stderr == (
        "warning: 5 pictures: JPEG does not keep 16 bits per channel (8 are written)"
        " (a_x2.jpg, b_x2.jpg, c_x2.jpg, …)\n"
    )
    rows = json.loads(upscale(*sources, "--scale", 2, "--format", "jpg", "--overwrite", "--json").stdout)["results"]
    assert [row["lost"] for row in rows] == [["16 bits per channel (8 are written)"]] * 5


def test_what_is_kept_is_said_on_demand(upscale: Upscale, tmp_path: Path) -> None:
    source = _deep(tmp_path / "deep.png")
    assert upscale(source, "--scale", 2).stderr == ""
    result = upscale(source, "--scale", 2, "--overwrite", "--verbose")
    assert f"note: {source}: kept 16 bits per channel\n" in result.stderr


def test_pictures_that_cannot_be_read_are_counted(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    photo("in/a.png")
    for name in ("b.cr2", "c.CR2", "d.psd", "e.nef", "notes.txt", ".hidden.cr2"):
        (tmp_path / "in" / name).write_bytes(b"?")
    result = upscale(tmp_path / "in", "--scale", 2)
    said(result)
    assert result.stderr == (
        "warning: skipped 2 .cr2, 1 .nef (camera raw; save them as TIFF first), "
        "1 .psd (save them as PNG or TIFF first)\n"
    )
    data = json.loads(upscale(tmp_path / "in", "--scale", 2, "--json").stdout)
    assert data["skipped_suffixes"] == {".cr2": 2, ".nef": 1, ".psd": 1}


# How it is computed


def test_precisions_differ_little(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    for precision in ("float32", "bfloat16", "auto"):
        said(upscale(photo(), "--scale", 2, "--precision", precision, "-o", tmp_path / f"{precision}.png"))
    different = psnr(tmp_path / "float32.png", tmp_path / "bfloat16.png")
    assert 40 < different < math.inf
    auto, *others = ((tmp_path / f"{p}.png").read_bytes() for p in ("auto", "float32", "bfloat16"))
    assert auto in others


def test_tiles_do_not_show(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    source = photo(size=(130, 100))
    said(upscale(source, "--scale", 2.3, "-o", tmp_path / "whole.png"))
    said(upscale(source, "--scale", 2.3, "-o", tmp_path / "tiled.png", "--tile", 48))
    assert psnr(tmp_path / "whole.png", tmp_path / "tiled.png") >= 50


def test_the_network_matters(upscale: Upscale, photo: Photo, tmp_path: Path) -> None:
    """With a model that adds nothing, all tests above would pass."""
    source = photo()
    said(upscale(source, "--scale", 2, "-o", tmp_path / "tiny.png"))
    Image.open(source).resize((48, 36), Image.Resampling.BICUBIC).save(tmp_path / "bicubic.png")
    assert psnr(tmp_path / "tiny.png", tmp_path / "bicubic.png") < 35


@pytest.mark.parametrize("name", ["photo.png", "photo.jpg", "photo.webp", "photo.tif"])
def test_two_runs_give_the_same_bytes(upscale: Upscale, photo: Photo, tmp_path: Path, name: str) -> None:
    source = photo(name, size=(70, 50))
    for folder in ("one", "two"):
        said(upscale(source, "--scale", 2.7, "-o", tmp_path / folder))
    first, second = (next((tmp_path / folder).iterdir()).read_bytes() for folder in ("one", "two"))
    assert first == second


def test_one_and_two_threads_give_the_same_bytes(
    gsr_process: Process, photo: Photo, tmp_path: Path, tiny_path: Path
) -> None:
    """The same input, weights and device give the same file, whatever else the machine does."""
    source = photo(size=(70, 50))
    command = ("upscale", source, "--scale", 3.3, "--model", tiny_path)
    processes = [gsr_process(*command, "-o", tmp_path / threads, OMP_NUM_THREADS=threads) for threads in "12"]
    assert [process.wait() for process in processes] == [0, 0]
    first, second = ((tmp_path / n / "photo_x3.3.png").read_bytes() for n in "12")
    assert first == second
