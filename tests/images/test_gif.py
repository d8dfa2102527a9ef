"""GIF files, built block by block."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.reading import read
from support.writing import written

from gsrcli.errors import LimitError, PictureError
from gsrcli.images import (
    Fate,
    Metadata,
    Origin,
    Picture,
    PictureFile,
    Text,
    fit,
    output_format,
    read_picture,
    with_fate,
    write_picture,
)
from gsrcli.images.writers import Encoding
from gsrcli.images.writers.gif import encode_gif, encode_gif_animation
from gsrcli.size import Size

PALETTE = bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
XMP_EXTENSION = b"\x21\xff\x0bXMP DataXMP" + XMP + b"\x01" + bytes(range(255, -1, -1)) + b"\0"


def blocks(body: bytes) -> bytes:
    parts = (body[at : at + 255] for at in range(0, len(body), 255))
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def pixels(indices: np.ndarray) -> bytes:
    """Compress indices 0 to 3 without a dictionary: 3-bit codes, cleared before they would grow."""
    bits, count = 0, 0
    codes: list[int] = []
    for index, value in enumerate(indices.ravel()):
        codes += [4, int(value)] if index % 2 == 0 else [int(value)]
    for code in [*codes, 5]:
        bits |= code << count
        count += 3
    return b"\2" + blocks(bits.to_bytes((count + 7) // 8, "little"))


def frame(
    indices: np.ndarray,
    x: int = 0,
    y: int = 0,
    delay: int = 5,
    disposal: int = 0,
    transparent: int | None = None,
    palette: bytes = b"",
) -> bytes:
    flags = disposal << 2 | (transparent is not None)
    control = b"\x21\xf9\x04" + struct.pack("<BHB", flags, delay, transparent or 0) + b"\0"
    height, width = indices.shape
    place = struct.pack("<HHHHB", x, y, width, height, 0x81 if palette else 0)
    return control + b"\x2c" + place + palette + pixels(indices)


def gif(
    width: int, height: int, *parts: bytes, palette: bytes = PALETTE, aspect: int = 0, end: bytes = b"\x3b"
) -> bytes:
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", width, height, 0x81 if palette else 0, 0, aspect)
        + palette
        + b"".join(parts)
        + end
    )


def loops(count: int) -> bytes:
    return b"\x21\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<H", count) + b"\0"


def indices(height: int = 5, width: int = 7, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, (height, width), dtype=np.uint8)


def colours(values: np.ndarray, palette: bytes = PALETTE) -> np.ndarray:
    return np.frombuffer(palette, np.uint8).reshape(-1, 3)[values]


def opened(tmp_path: Path, data: bytes) -> PictureFile:
    path = tmp_path / "moving.gif"
    path.write_bytes(data)
    return PictureFile(path)


def test_a_still_picture(tmp_path: Path) -> None:
    values = indices()
    picture = read(tmp_path, gif(7, 5, frame(values)))
    np.testing.assert_array_equal(picture.pixels, colours(values))
    assert picture.alpha is None
    assert picture.duration is None
    local = bytes(range(12))
    picture = read(tmp_path, gif(7, 5, frame(values, palette=local, transparent=2)))
    np.testing.assert_array_equal(picture.pixels[values != 2], colours(values, local)[values != 2])
    np.testing.assert_array_equal(picture.alpha, np.where(values == 2, 0, 255))


def test_a_grey_palette_is_grey(tmp_path: Path) -> None:
    values = indices()
    grey = bytes(level for level in (0, 80, 160, 255) for _ in range(3))
    picture = read(tmp_path, gif(7, 5, frame(values), palette=grey))
    np.testing.assert_array_equal(picture.pixels, colours(values, grey)[..., :1])


def test_frames_are_drawn_as_browsers_do(tmp_path: Path) -> None:
    whole, patch = np.zeros((5, 7), np.uint8), np.array([[1, 1], [1, 2]], np.uint8)
    parts = [
        frame(whole, delay=0),
        frame(patch, 1, 1, delay=1, disposal=3, transparent=2),  # then what was there before returns
        frame(patch, 4, 2, delay=2, disposal=2),  # then its area is cleared
        frame(patch, 5, 3, delay=7),
        frame(patch, 6, 4, delay=300),  # half outside
    ]
    file = opened(tmp_path, gif(7, 5, loops(0), *parts))
    assert (file.count, file.animated, file.loops) == (5, True, 0)
    red, green, blue, nothing = (255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 255, 255), (0, 0, 0, 0)
    canvas = np.full((5, 7, 4), red, np.uint8)
    expected = [canvas.copy()]
    drawn = canvas.copy()
    drawn[1, 1:3], drawn[2, 1] = green, green
    expected.append(drawn)
    drawn = canvas.copy()
    drawn[2, 4:6], drawn[3, 4], drawn[3, 5] = green, green, blue
    expected.append(drawn)
    canvas[2:4, 4:6] = nothing
    canvas[3, 5:7], canvas[4, 5], canvas[4, 6] = green, green, blue
    expected.append(canvas.copy())
    canvas[4, 6] = green
    expected.append(canvas)
    for index in (0, 1, 2, 3, 4, 2, 0):
        picture = file.picture(index)
        np.testing.assert_array_equal(np.dstack([picture.pixels, picture.alpha]), expected[index], err_msg=str(index))
    assert [file.picture(index).duration for index in range(5)] == [0.1, 0.1, 0.02, 0.07, 3.0]


@pytest.mark.parametrize(("stored", "shown"), [(None, 1), (0, 0), (1, 2), (9, 10)])
def test_loops(tmp_path: Path, stored: int | None, shown: int) -> None:
    extension = b"" if stored is None else loops(stored)
    assert opened(tmp_path, gif(7, 5, extension, frame(indices()), frame(indices(seed=1)))).loops == shown


def test_comments_and_xmp(tmp_path: Path) -> None:
    comment = "Åsa " * 100
    extensions = b"\x21\xfe" + blocks(comment.encode()), b"\x21\xfe" + blocks(b"caf\xe9"), XMP_EXTENSION
    picture = read(tmp_path, gif(7, 5, *extensions, frame(indices()), aspect=113))
    assert picture.metadata.texts == (Text("Comment", comment), Text("Comment", "café"))
    assert picture.metadata.xmp == XMP
    assert picture.metadata.aspect == 2


def test_a_cut_animation_keeps_its_whole_frames(tmp_path: Path) -> None:
    data = gif(7, 5, frame(indices()), frame(indices(seed=1)), frame(indices(seed=2)))
    file = opened(tmp_path, data[:-20])
    assert file.count == 2
    assert with_fate(Fate.DAMAGED, file.picture(1).ledger) == ["end of the file"]


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_cut_first_frame_is_read_as_far_as_it_goes(tmp_path: Path, share: float, interlaced: bool) -> None:
    values = indices(100, 70)
    order = [*range(0, 100, 8), *range(4, 100, 8), *range(2, 100, 4), *range(1, 100, 2)] if interlaced else range(100)
    stored = frame(values[list(order)])
    place = 8 + 1 + 8  # of the flags: after the control extension and the place of the frame
    stored = stored[:place] + bytes([stored[place] | 0x40 * interlaced]) + stored[place + 1 :]
    data = gif(70, 100, stored)
    whole = opened(tmp_path, data).picture()
    np.testing.assert_array_equal(whole.pixels, colours(values))
    picture = opened(tmp_path, data[: len(data) - int((1 - share) * len(stored)) - 3]).picture()
    where = "in places" if interlaced else "in the lower part"
    assert with_fate(Fate.DAMAGED, picture.ledger) == [f"pixels {where}", "end of the file"]
    rows = list(order)[: int(share * 99) - 1]
    np.testing.assert_array_equal(picture.pixels[rows], whole.pixels[rows])


def test_a_cut_blank_frame_is_there(tmp_path: Path) -> None:
    """Missing pixels are told from those of the first colour."""
    data = gif(70, 100, frame(np.zeros((100, 70), np.uint8)))
    picture = opened(tmp_path, data[: len(data) // 2]).picture()
    assert with_fate(Fate.DAMAGED, picture.ledger) == ["pixels in the lower part", "end of the file"]


def test_a_file_cut_before_its_pixels_is_damaged(tmp_path: Path) -> None:
    data = gif(70, 100, frame(indices(100, 70)))
    for length in range(13, len(data) // 12, 5):
        with pytest.raises(PictureError, match="damaged"):
            opened(tmp_path, data[:length]).picture()


def test_pixels_that_end_early_are_damage(tmp_path: Path) -> None:
    short = gif(70, 50, frame(indices()).replace(struct.pack("<HH", 7, 5), struct.pack("<HH", 70, 50)))
    with pytest.raises(PictureError, match="damaged"):
        opened(tmp_path, short).picture()


def test_many_frames_open_at_once(tmp_path: Path) -> None:
    data = gif(7, 5, frame(np.zeros((1, 1), np.uint8)) * 35_000)
    assert len(data) < 1_000_000
    start = time.perf_counter()
    file = opened(tmp_path, data)
    file.picture(0)
    assert time.perf_counter() - start < 5
    assert file.count == 35_000


def test_claimed_sizes(tmp_path: Path) -> None:
    with pytest.raises(LimitError, match="65535x65535"):
        opened(tmp_path, gif(65535, 65535, frame(indices())))
    with pytest.raises(LimitError, match="believed"):
        opened(tmp_path, gif(20000, 20000, frame(indices())))
    large = frame(indices()).replace(struct.pack("<HH", 7, 5), struct.pack("<HH", 65535, 65535))
    with pytest.raises(LimitError, match="65535x65535"):
        opened(tmp_path, gif(7, 5, large))


# Writing


def shown(data: bytes, index: int = 0) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    image.seek(index)
    return np.asarray(image.convert("RGBA"))


def gradient() -> np.ndarray:
    y, x = np.mgrid[:90, :120]
    return np.stack([x * 2, y * 2, 255 - x - y], axis=2).astype(np.uint8)


def test_few_colours_are_exact() -> None:
    rng = np.random.default_rng(1)
    table = rng.integers(0, 256, (255, 3), dtype=np.uint8)
    values = table[rng.integers(0, 255, (40, 50))]
    np.testing.assert_array_equal(shown(written(encode_gif, Picture(values), Encoding()))[..., :3], values)
    alpha = np.where(rng.random((40, 50)) < 0.5, 0, 255).astype(np.uint8)
    seen = shown(written(encode_gif, Picture(values, alpha), Encoding()))
    np.testing.assert_array_equal(seen[..., 3], alpha)
    np.testing.assert_array_equal(seen[alpha > 0][:, :3], values[alpha > 0])
    grey = rng.integers(0, 256, (40, 50, 1), dtype=np.uint8)
    np.testing.assert_array_equal(shown(written(encode_gif, Picture(grey), Encoding()))[..., :1], grey)


def test_many_colours_are_dithered() -> None:
    values = gradient()
    seen = shown(written(encode_gif, Picture(values), Encoding()))[..., :3].astype(float)
    blurred = seen - values
    assert np.sqrt((blurred**2).mean()) < 8
    assert np.abs(blurred.mean(axis=(0, 1))).max() < 1  # dithered colours are right on average


def test_partial_transparency_is_cut_at_half(tmp_path: Path) -> None:
    alpha = np.broadcast_to(np.linspace(0, 255, 120).astype(np.uint8), (90, 120)).copy()
    picture = Picture(gradient(), alpha)
    np.testing.assert_array_equal(shown(written(encode_gif, picture, Encoding()))[..., 3] > 0, alpha >= 128)
    _, ledger = fit(picture, output_format("a.gif"))
    assert with_fate(Fate.LOST, ledger) == ["more than 256 colours", "partial transparency"]
    opaque_or_not = Picture(gradient(), np.where(alpha < 128, 0, 255).astype(np.uint8))
    for quiet in (
        Picture(gradient()[..., :1]),
        Picture(gradient() // 64 * 64),
        replace(picture, origin=Origin("GIF")),
        replace(opaque_or_not, pixels=gradient()[..., :1]),
    ):
        assert with_fate(Fate.LOST, fit(quiet, output_format("a.gif"))[1]) == []
    _, ledger = fit(opaque_or_not, output_format("a.gif"))
    assert with_fate(Fate.LOST, ledger) == ["more than 256 colours"]


def test_hidden_colours_are_not_counted() -> None:
    alpha = np.full((90, 120), 255, np.uint8)
    alpha[:, 1:] = 0
    _, ledger = fit(Picture(gradient(), alpha), output_format("a.gif"))
    assert with_fate(Fate.LOST, ledger) == []
    _, ledger = fit(Picture(gradient(), np.zeros((90, 120), np.uint8)), output_format("a.gif"))
    assert with_fate(Fate.LOST, ledger) == []


def test_sixteen_bits(tmp_path: Path) -> None:
    path = tmp_path / "out.gif"
    write_picture(Picture(gradient()[..., :1].astype(np.uint16) * 257), path)
    np.testing.assert_array_equal(shown(path.read_bytes())[..., :1], gradient()[..., :1])


def test_comments_and_xmp_are_written(tmp_path: Path) -> None:
    path = tmp_path / "out.gif"
    texts = Text("Comment", "Åsa " * 100), Text("Comment", "second")
    write_picture(Picture(gradient(), metadata=Metadata(xmp=XMP, texts=texts)), path)
    image = Image.open(path)
    assert XMP_EXTENSION in path.read_bytes()
    assert image.info["comment"].decode().startswith("Åsa ")
    assert read_picture(path).metadata == Metadata(xmp=XMP, texts=texts)


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("times", [0, 1, 4])
def test_writing_an_animation(tmp_path: Path, transparent: bool, times: int) -> None:
    frames, table = [], np.random.default_rng(0).integers(0, 256, (200, 3), dtype=np.uint8)
    for index, duration in enumerate((0.033, 0.033, 0.034, 0.5)):
        values = table[np.random.default_rng(7).integers(0, 200, (30, 40))]
        values[index * 5 : index * 5 + 7, index * 6 : index * 6 + 4] = table[index]
        alpha = np.where(np.arange(40) < 8 * index, 0, 255).astype(np.uint8) * np.ones((30, 1), np.uint8)
        frames.append(Picture(values, alpha if transparent else None, duration=duration))
    asked: list[int] = []
    one_by_one = (asked.append(index) or picture for index, picture in enumerate(frames))
    data = written(encode_gif_animation, one_by_one, times, Encoding())
    assert asked == [0, 1, 2, 3]
    image = Image.open(io.BytesIO(data))
    assert image.n_frames == 4
    assert image.info.get("loop") == {0: 0, 1: None, 4: 3}[times]
    file = opened(tmp_path, data)
    assert (file.count, file.loops) == (4, times)
    assert [file.picture(index).duration for index in range(4)] == [0.03, 0.04, 0.03, 0.5]  # 0.1 s in all, then 0.5
    for index, expected in enumerate(frames):
        for seen in (shown(data, index), file.picture(index)):
            ours = (
                seen if isinstance(seen, np.ndarray) else np.dstack([seen.pixels, seen.alpha]) if transparent else None
            )
            if ours is None:
                np.testing.assert_array_equal(seen.pixels, expected.pixels)
                continue
            opaque = np.full((30, 40), 255) if expected.alpha is None else expected.alpha
            np.testing.assert_array_equal(ours[..., 3], opaque)
            np.testing.assert_array_equal(ours[opaque > 0][:, :3], expected.pixels[opaque > 0])


def test_what_does_not_change_is_not_stored_again() -> None:
    still = Picture(gradient(), duration=0.1)
    once = len(written(encode_gif_animation, [still], 0, Encoding()))
    assert len(written(encode_gif_animation, [still] * 10, 0, Encoding())) < once + 9 * 100


def test_the_largest_canvas(tmp_path: Path) -> None:
    path = tmp_path / "out.gif"
    write_picture(Picture(np.zeros((1, 65535, 1), np.uint8)), path)
    assert read_picture(path).size == Size(1, 65535)


@pytest.mark.skipif(not shutil.which("gifsicle"), reason="gifsicle is not installed")
def test_gifsicle_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "out.gif"
    frames = [Picture(np.roll(gradient(), shift, axis=1), duration=0.1) for shift in range(3)]
    path.write_bytes(written(encode_gif_animation, frames, 0, Encoding()))
    done = subprocess.run(["gifsicle", "-I", path], capture_output=True, text=True, check=True)
    assert "3 images" in done.stdout
    assert done.stderr == ""
