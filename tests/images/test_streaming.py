"""Pictures that are written while their rows come."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.writing import once, write_to, written

from gsrcli.errors import PictureError
from gsrcli.images import (
    Cicp,
    Colour,
    Format,
    Metadata,
    Picture,
    fit,
    memory_to_write,
    output_format,
    output_formats,
    to_eight_bits,
    write_picture,
    write_pictures,
)
from gsrcli.images.description import Raster
from gsrcli.images.strips import Strip, Strips, in_memory
from gsrcli.images.writers import ANIMATIONS, ENCODERS, PAGES, Encoding, blocks
from gsrcli.runtime.threads import usable_processors
from gsrcli.size import Size

FORMATS = [pytest.param(form, id=form.name) for form in output_formats()]
STREAMED = ("PNG", "TIFF", "BMP", "JPEG")


def smooth(height: int, width: int, channels: int, dtype: Any) -> Any:
    """Return waves with some noise."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([(np.sin(x / 7 + k) + np.cos(y / 5 - k)) / 4 + 0.5 for k in range(channels)], axis=-1)
    waves = (waves + np.random.default_rng(0).normal(0, 0.02, waves.shape)).clip(0, 1)
    return waves.astype(np.float32) if dtype == np.float32 else (waves * np.iinfo(dtype).max).astype(dtype)


def picture(height: int, channels: int, dtype: Any, alpha: bool) -> Picture:
    mask = smooth(height, 31, 1, dtype)[..., 0] if alpha else None
    return Picture(smooth(height, 31, channels, dtype), mask, metadata=Metadata(dpi=(300, 300)))


PICTURES = st.builds(
    picture,
    st.integers(1, 40),
    st.sampled_from([1, 3]),
    st.sampled_from([np.uint8, np.uint16, np.float32]),
    st.booleans(),
)


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=30, deadline=None)
@given(data=st.data(), whole=PICTURES, block=st.integers(1, 4000))
def test_a_file_does_not_depend_on_the_strips(form: Any, data: st.DataObject, whole: Picture, block: int) -> None:
    cuts = data.draw(st.lists(st.integers(0, whole.size.height)))
    fitted, ledger = fit(whole, form, (255, 9, 0))
    in_parts, again = fit(once(whole, cuts), form, (255, 9, 0))
    assert ledger == again
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_BLOCK_BYTES", block)
        files = [written(ENCODERS[form.name], each, Encoding()) for each in (fitted, in_parts)]
    assert files[0] == files[1]


class SourceError(Exception):
    """What a source of strips raises in place of its next one."""


def endless(raster: Raster, asked: list[int], closed: list[bool]) -> Strips:
    """Return strips of a row each of noise, which note that they are asked for, and when no more will be."""

    def source() -> Iterator[Strip]:
        generator = np.random.default_rng(0)
        try:
            for row in range(raster.size.height):
                asked.append(row)
                yield Strip(generator.integers(0, 256, (1, raster.size.width, raster.channels), np.uint8))
        finally:
            closed.append(True)

    return Strips(raster, source, True)


@pytest.mark.parametrize("name", STREAMED)
def test_a_full_disk_is_noticed_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The rest is not computed, and what computes it is let go."""
    monkeypatch.setattr(blocks, "_BLOCK_BYTES", 3000)
    form = next(form for form in output_formats() if form.name == name)

    class Small(io.FileIO):
        def write(self, data: Any) -> int:
            if self.tell() + len(data) > room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    room = 100_000 if name != "BMP" else 1_000_000  # whose last rows come first
    write_to(monkeypatch, Small)
    asked: list[int] = []
    closed: list[bool] = []
    strips = endless(Raster(Size(4000, 100), 3, np.dtype(np.uint8), alpha=False), asked, closed)
    with pytest.raises(PictureError, match=r"cannot write .*out.*: no space left") as caught:
        write_picture(strips, tmp_path / f"out{form.suffixes[0]}")
    assert "free some space" in (caught.value.hint or "")
    assert len(asked) < 1000
    assert closed == [True]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [SourceError(), OSError(errno.ENOSPC, "mine"), ValueError("x"), KeyboardInterrupt()])
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("several", [False, True])
def test_what_computing_strips_raises_is_raised(
    tmp_path: Path, form: Format, error: BaseException, several: bool
) -> None:
    def source() -> Iterator[Strip]:
        yield Strip(np.zeros((30, 40, 3), np.uint8))
        raise error

    path = tmp_path / f"out{form.suffixes[0]}"
    path.write_bytes(b"old")
    strips = Strips(Raster(Size(60, 40), 3, np.dtype(np.uint8), alpha=False), source, True, duration=0.1)
    if several and form.name not in (*ANIMATIONS, *PAGES):
        return
    first = Picture(np.ones((60, 40, 3), np.uint8), duration=0.1)
    write = partial(write_pictures, [first, strips]) if several else partial(write_picture, strips)
    with pytest.raises(type(error)) as caught:
        write(path)
    assert caught.value is error
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("several", [False, True])
def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path, several: bool) -> None:
    path = tmp_path / "out.tif"

    def source() -> Iterator[Strip]:
        path.write_bytes(b"another's")
        yield Strip(np.zeros((60, 40, 3), np.uint8))

    strips = Strips(Raster(Size(60, 40), 3, np.dtype(np.uint8), alpha=False), source, True)
    write = partial(write_pictures, [strips]) if several else partial(write_picture, strips)
    with pytest.raises(PictureError, match=r"^cannot write [^:]*: the file exists$"):
        write(path, overwrite=False)
    assert path.read_bytes() == b"another's"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("rows", [59, 61])
def test_strips_of_another_number_of_rows_are_refused(tmp_path: Path, rows: int) -> None:
    strip = Strip(np.zeros((rows, 40, 3), np.uint8))
    strips = Strips(Raster(Size(60, 40), 3, np.dtype(np.uint8), alpha=False), lambda: iter([strip]), True)
    for form in output_formats():
        with pytest.raises(ValueError, match=f"expected 60 rows, got {rows}"):
            write_picture(strips, tmp_path / f"out{form.suffixes[0]}")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".jpg"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_other_programs_read_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, channels: int, alpha: bool, dtype: Any
) -> None:
    if alpha and suffix == ".jpg":
        return
    monkeypatch.setattr(blocks, "_BLOCK_BYTES", 1000)
    whole = picture(100, channels, dtype, alpha)
    path = tmp_path / f"out{suffix}"
    write_picture(once(whole, range(0, 100, 7)), path)
    expected = whole.pixels
    if alpha:
        assert whole.alpha is not None
        expected = np.dstack([expected if suffix == ".tif" else np.broadcast_to(expected, (100, 31, 3)), whole.alpha])
    expected = expected.squeeze()
    if suffix in (".bmp", ".jpg"):
        expected = to_eight_bits(expected)
    if suffix == ".tif":
        np.testing.assert_array_equal(tifffile.imread(path), expected)
        if alpha:
            return  # of which OpenCV has none for grey, and multiplies colours with it
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if found.ndim == 3:
        found = cv2.cvtColor(found, cv2.COLOR_BGRA2RGBA if found.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    if suffix == ".jpg":
        assert np.abs(found.astype(int) - expected).mean() < 3
        with Image.open(path) as image:
            assert np.abs(np.asarray(image).astype(int) - expected).mean() < 3
        return
    np.testing.assert_array_equal(found, expected)
    if dtype == np.uint8:
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.asarray(image.convert("RGBA") if alpha else image), found)


_WRITE = """
import sys
from types import SimpleNamespace

import numpy as np
from gsrcli.images import write_picture
from gsrcli.images.description import Raster
from gsrcli.images.strips import Strip, Strips, in_memory
from gsrcli.runtime.memory import keep_freed_memory, peak_memory
from gsrcli.size import Size

path, height, width = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
noise = np.random.default_rng(0).integers(100, 104, (50, width, 3), np.uint8)
device = SimpleNamespace(type="cpu")


def write(height):
    raster = Raster(Size(height, width), 3, np.dtype(np.uint8), alpha=False)
    write_picture(Strips(raster, lambda: (Strip(noise) for _ in range(height // 50)), True), path)


keep_freed_memory()
write(50)
before = peak_memory(lambda: None, device)
print(peak_memory(lambda: write(height), device) - before)
"""


def _memory_to_write(path: Path, size: Size) -> int:
    """Return how many bytes a process takes to write strips of 50 rows."""
    command = [sys.executable, "-c", _WRITE, str(path), str(size.height), str(size.width)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory through /proc")
@pytest.mark.parametrize("name", STREAMED)
def test_rows_are_not_kept(tmp_path: Path, name: str) -> None:
    """Beside blocks of a megabyte in work, of which each is copied a few times."""
    form = next(form for form in output_formats() if form.name == name)
    assert form.streamed
    size = Size(4500, 12000)
    raster = Raster(size, 3, np.dtype(np.uint8), alpha=False)
    assert memory_to_write(form, raster) == 0
    assert _memory_to_write(tmp_path / f"out{form.suffixes[0]}", size) < 30e6 + 7e6 * min(
        blocks._MOST_THREADS, usable_processors()
    )
    assert (tmp_path / f"out{form.suffixes[0]}").stat().st_size > 1e6


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory through /proc")
@pytest.mark.parametrize("form", [form for form in FORMATS if form.id not in STREAMED])
def test_memory_is_as_stated(tmp_path: Path, form: Any) -> None:
    size = Size(1000, 1500)
    stated = memory_to_write(form, Raster(size, 3, np.dtype(np.uint8), alpha=False))
    found = _memory_to_write(tmp_path / f"out{form.suffixes[0]}", size)
    assert 0.2 * stated < found < stated + 80e6  # which libraries take for pictures of any size


def test_frames_are_whole() -> None:
    raster = Raster(Size(100, 100), 3, np.dtype(np.uint16), alpha=True)
    for form in output_formats():
        if form.name in ANIMATIONS:
            assert memory_to_write(form.of_frames, raster) > 8 * 100 * 100
        if form.name in PAGES:
            assert memory_to_write(form.of_frames, raster) == memory_to_write(form, raster) == 0


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp"])
def test_an_enlargement_of_what_is_fitted_is_not_computed_to_fit_it_again(name: str) -> None:
    """Nor is it converted again, with all that is converted for a format."""
    form = output_format(name)
    colour = Colour(cicp=Cicp(1, 13, full_range=False))
    whole = Picture(smooth(40, 31, 1, np.float32) * 2, smooth(40, 31, 1, np.float32)[..., 0], colour=colour)
    fitted, _ = fit(once(whole, [13]), form, (9, 99, 9))
    picture = in_memory(fitted)
    asked: list[int] = []
    enlargement = endless(Raster(Size(80, 62), picture.channels, picture.pixels.dtype, fitted.raster.alpha), asked, [])
    enlargement = replace(enlargement, **picture.described(), opaque=fitted.opaque)
    again, _ = fit(enlargement, form, (9, 99, 9))
    assert again.source is enlargement.source
    assert not asked


def test_floating_point_is_rounded_by_its_extremes() -> None:
    whole = Picture(smooth(40, 31, 3, np.float32) * 3 - 1)
    strips = once(whole, [7, 30])
    assert strips.extremes == whole.extremes == (whole.pixels.min(), whole.pixels.max())
    fitted, _ = fit(strips, output_format("a.png"))
    np.testing.assert_array_equal(in_memory(fitted).pixels, fit(whole, output_format("a.png"))[0].pixels)
    with pytest.raises(ValueError, match="extremes"):
        fit(replace(strips, extremes=None), output_format("a.png"))
