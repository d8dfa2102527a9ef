"""TGA files, built byte by byte."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from support.reading import noise, read

from gsrcli.errors import LimitError, PictureError
from gsrcli.images import Fate, Text, with_fate

PALETTE, COLOUR, GREY, RUNS = 1, 2, 3, 8
FOOTER = b"TRUEVISION-XFILE.\0"


def tga(
    pixels: bytes,
    width: int,
    height: int,
    kind: int,
    depth: int,
    flags: int = 0,
    *,
    palette: bytes = b"",
    palette_depth: int = 0,
    palette_start: int = 0,
    extension: bytes | None = None,
    name: bytes = b"",
) -> bytes:
    count = len(palette) // ((palette_depth + 7) // 8) if palette else 0
    fields = (len(name), bool(palette), kind, palette_start, count, palette_depth, 0, 0, width, height, depth, flags)
    data = struct.pack("<BBBHHBHHHHBB", *fields) + name + palette + pixels
    if extension is not None:
        data += extension + struct.pack("<II", len(data), 0) + FOOTER
    return data


def extension(alpha: int = 3, **texts: bytes) -> bytes:
    area = bytearray(struct.pack("<H", 495).ljust(495, b"\0"))
    for at, text in ((2, texts.get("author")), (43, texts.get("comment")), (124, texts.get("more"))):
        area[at : at + len(text or b"")] = text or b""
    area[426:433] = b"painter"
    area[474:478] = struct.pack("<HH", 3, 2)
    area[494] = alpha
    return bytes(area)


def runs(values: np.ndarray) -> bytes:
    """Encode (N, bytes) pixels as packets, runs where two or more are equal."""
    out, at = b"", 0
    while at < len(values):
        same = 1
        while at + same < len(values) and same < 128 and (values[at + same] == values[at]).all():
            same += 1
        out += bytes([127 + same if same > 1 else 0]) + values[at].tobytes()
        at += same
    return out


@pytest.mark.parametrize("flags", [0x00, 0x10, 0x20, 0x30])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_kind_and_direction(tmp_path: Path, channels: int, compressed: bool, flags: int) -> None:
    values = noise(5, 7, channels, top=3) * np.uint8(100)
    stored = values if flags & 0x20 else values[::-1]
    stored = stored[:, ::-1] if flags & 0x10 else stored
    stored = stored[..., [2, 1, 0, 3][:channels]] if channels > 2 else stored
    pixels = np.ascontiguousarray(stored).reshape(-1, channels)
    kind = GREY if channels < 3 else COLOUR
    flags |= 8 if channels in (2, 4) else 0
    data = tga(
        runs(pixels) if compressed else pixels.tobytes(),
        7,
        5,
        kind | (RUNS if compressed else 0),
        8 * channels,
        flags,
        name=b"a name",
    )
    picture = read(tmp_path, data)
    colours = channels - (channels in (2, 4))
    np.testing.assert_array_equal(picture.pixels, values[..., :colours])
    if channels in (2, 4):
        np.testing.assert_array_equal(picture.alpha, values[..., -1])
    assert picture.origin is not None
    assert picture.origin.format == "TGA"


@pytest.mark.parametrize("depth", [15, 16, 24, 32])
def test_palettes(tmp_path: Path, depth: int) -> None:
    palette = noise(20, (depth + 7) // 8)
    indices = noise(5, 7, top=20, seed=1)
    data = tga((indices[::-1] + 3).tobytes(), 7, 5, PALETTE, 8, palette=palette.tobytes(), palette_depth=depth,
               palette_start=3)  # fmt: skip
    picture = read(tmp_path, data)
    if depth > 16:
        expected = palette[:, 2::-1]
    else:
        words = palette.view("<u2")[:, 0]
        expected = np.stack([np.rint((words >> shift & 31) * (255 / 31)) for shift in (10, 5, 0)], axis=-1)
    np.testing.assert_array_equal(picture.pixels, expected[indices])
    assert (picture.alpha is not None) == (depth in (16, 32))
    outside = read(tmp_path, tga(bytes([30]), 1, 1, PALETTE, 8, palette=palette.tobytes(), palette_depth=depth))
    assert [str(entry) for entry in outside.ledger] == ["pixels (some are not in the palette)"]


def test_alpha_counts_only_where_it_is_meant(tmp_path: Path) -> None:
    pixel = bytes([10, 20, 30, 128])
    assert read(tmp_path, tga(pixel, 1, 1, COLOUR, 32, 8)).alpha is not None
    assert read(tmp_path, tga(pixel, 1, 1, COLOUR, 32, 0)).alpha is None
    assert read(tmp_path, tga(pixel[:3] + b"\0", 1, 1, COLOUR, 32, 8)).alpha is None
    assert read(tmp_path, tga(pixel, 1, 1, COLOUR, 32, 8, extension=extension(alpha=2))).alpha is None
    multiplied = read(tmp_path, tga(pixel, 1, 1, COLOUR, 32, 8, extension=extension(alpha=4)))
    assert multiplied.pixels.tolist() == [[[60, 40, 20]]]
    assert read(tmp_path, tga(b"\x00\x80", 1, 1, COLOUR, 16, 1)).alpha is not None


def test_what_else_a_file_says(tmp_path: Path) -> None:
    area = extension(author=b"Asa", comment=b"one", more=b"two")
    metadata = read(tmp_path, tga(bytes(3), 1, 1, COLOUR, 24, extension=area)).metadata
    assert metadata.texts == (Text("Author", "Asa"), Text("Comment", "one\ntwo"), Text("Software", "painter"))
    assert metadata.aspect == 1.5


@pytest.mark.parametrize(
    ("left", "top", "flags", "lost"),
    [(0, 0, 0, False), (0, 2, 0x20, False), (1, 0, 0, True), (0, 1, 0x20, True)],
)
def test_where_it_lies(tmp_path: Path, left: int, top: int, flags: int, lost: bool) -> None:
    data = tga(bytes(12), 2, 2, COLOUR, 24, flags)
    picture = read(tmp_path, data[:8] + struct.pack("<HH", left, top) + data[12:])
    assert with_fate(Fate.LOST, picture.ledger) == ["offset on the page"] * lost


@pytest.mark.parametrize(
    "data",
    [
        tga(bytes(8), 30, 1, COLOUR, 24),
        tga(b"\x82abc\x00", 40, 1, COLOUR | RUNS, 24),
        tga(b"\x02abcabc", 40, 1, COLOUR | RUNS, 24),
        tga(b"", 20_000, 20_000, GREY | RUNS, 8),
        tga(b"", 3, 3, PALETTE, 8, palette=bytes(30), palette_depth=24)[:25],
        b"\xff" * 18 + FOOTER,
    ],
)
def test_damage(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(PictureError, match="damaged or cut short"):
        read(tmp_path, data)


@pytest.mark.parametrize(
    ("body", "kind"), [(b"abcabcab", COLOUR), (b"\x81abc\x00", COLOUR | RUNS), (b"\x02abcabcab", COLOUR | RUNS)]
)
def test_files_cut_short_are_read_as_far_as_they_go(tmp_path: Path, body: bytes, kind: int) -> None:
    picture = read(tmp_path, tga(body, 3, 1, kind, 24))
    np.testing.assert_array_equal(picture.pixels[0, :2], [[99, 98, 97]] * 2)
    assert [str(entry) for entry in picture.ledger] == ["pixels (some are missing)"]


def test_a_header_must_make_sense(tmp_path: Path) -> None:
    good = tga(bytes(3), 1, 1, COLOUR, 24)
    for at, value in ((1, 2), (1, 1), (2, 4), (2, 0), (12, 0), (16, 23), (17, 0x80), (17, 5)):
        bad = bytearray(good)
        bad[at] = value
        with pytest.raises(PictureError, match="not a picture in a supported format"):
            read(tmp_path, bytes(bad))
    with pytest.raises(LimitError):
        read(tmp_path, tga(b"", 65535, 65535, COLOUR, 24))


@pytest.mark.parametrize("kind", [COLOUR, COLOUR | RUNS])
@pytest.mark.parametrize("area", [None, extension(author=b"me")])
def test_what_follows_the_picture_is_named(tmp_path: Path, kind: int, area: bytes | None) -> None:
    values = noise(4, 3)
    data = tga(runs(values) if kind & RUNS else values.tobytes(), 2, 2, kind, 24, extension=area)
    for more, named in ((b"", []), (bytes(26), []), (b"more", ["4 bytes after the picture"])):
        picture = read(tmp_path, data + more)
        assert with_fate(Fate.LOST, picture.ledger) == named
        assert picture.metadata.texts[:1] == ((Text("Author", "me"),) if area else ())
