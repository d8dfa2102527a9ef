"""Netpbm's formats, built byte by byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.reading import read

from gsrcli.errors import LimitError, PictureError
from gsrcli.images import Picture, Text


def said(picture: Picture) -> list[str]:
    return [f"{entry.fate} {entry}" for entry in picture.ledger]


def scaled(values: np.ndarray, most: int) -> np.ndarray:
    top = 255 if most < 256 else 65535
    return ((2 * values * top + most) // (2 * most)).astype(np.uint8 if most < 256 else np.uint16)


@pytest.mark.parametrize("most", [1, 3, 15, 100, 254, 255, 256, 1000, 1023, 4095, 32768, 65534, 65535])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_any_value_of_white_is_scaled_exactly(tmp_path: Path, most: int, channels: int) -> None:
    values = np.random.default_rng(0).integers(0, most + 1, (40, 50, channels))
    values[0, 0], values[0, 1] = most, 0
    stored = values.astype("u1" if most < 256 else ">u2").tobytes()
    plain = " ".join(map(str, values.ravel())).encode()
    files = [b"P7\n# note\nWIDTH 50\nHEIGHT 40\nDEPTH %d\nMAXVAL %d\nENDHDR\n" % (channels, most) + stored]
    if channels in (1, 3):
        kind = b"5" if channels == 1 else b"6"
        files.append(b"P%s\n#note\n50 # width\n40\r\n%d\n" % (kind, most) + stored)
        files.append(b"P%d 50 40 %d\n" % (int(kind) - 3, most) + plain)
    for data in files:
        picture = read(tmp_path, data)
        colours = channels - (channels in (2, 4))
        np.testing.assert_array_equal(picture.pixels, scaled(values[..., :colours], most))
        if channels in (2, 4):
            np.testing.assert_array_equal(picture.alpha, scaled(values[..., -1], most))
        assert picture.ledger == ()


def test_bitmaps(tmp_path: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 2, (5, 11), dtype=np.uint8)
    expected = (255 * (1 - bits))[..., None]
    np.testing.assert_array_equal(read(tmp_path, b"P4 11 5\n" + np.packbits(bits, axis=1).tobytes()).pixels, expected)
    digits = "\n".join("".join(map(str, row)) for row in bits).encode()
    np.testing.assert_array_equal(read(tmp_path, b"P1\n11 5\n# a note\n" + digits).pixels, expected)
    words = b"TUPLTYPE BLACKANDWHITE\n"
    data = b"P7\nWIDTH 11\nHEIGHT 5\nDEPTH 1\nMAXVAL 1\n%sENDHDR\n" % words + (1 - bits).tobytes()
    np.testing.assert_array_equal(read(tmp_path, data).pixels, expected)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["Pf", "PF"])
def test_floating_point(tmp_path: Path, kind: str, order: str) -> None:
    values = np.random.default_rng(0).normal(0, 100, (4, 6, 3 if kind == "PF" else 1)).astype(np.float32)
    scale = -1.0 if order == "<" else 1.0
    header = f"{kind}\n6 4\n{scale}\n".encode()
    picture = read(tmp_path, header + values[::-1].astype(f"{order}f4").tobytes())
    np.testing.assert_array_equal(picture.pixels, values)
    assert picture.pixels.dtype == np.float32
    one_row = read(tmp_path, f"{kind}\n24 1\n{scale}\n".encode() + values.astype(f"{order}f4").tobytes())
    np.testing.assert_array_equal(one_row.pixels.ravel(), values.ravel())
    values[0, 0], values[1, 1] = np.nan, np.inf
    picture = read(tmp_path, header + values[::-1].astype(f"{order}f4").tobytes())
    assert said(picture) == ["lost values that are not finite (0 is written)"]
    assert (picture.pixels[0, 0] == 0).all()
    assert (picture.pixels[1, 1] == 0).all()


def test_what_else_a_file_says(tmp_path: Path) -> None:
    first = read(tmp_path, b"P5\n# by hand\n2 1\n255\nab")
    assert first.metadata.texts == (Text("Comment", "by hand"),)
    assert said(read(tmp_path, b"P5 2 1 255\nabP5 2 1 255\ncd")) == ["lost pictures after the first"]
    assert said(read(tmp_path, b"P5 2 1 7\n\x07\x09")) == ["damaged pixels (some are brighter than white)"]


@pytest.mark.parametrize(
    "data",
    [
        b"P5 2",
        b"P5 x y 255\nab",
        b"P5 0 1 255\n",
        b"P5 -2 1 255\nab",
        b"P5 2 1 0\nab",
        b"P5 2 1 65536\nabcd",
        b"P5 20 1 255\na",
        b"P5 20 1 256\nabc",
        b"P4 99 1\na",
        b"P1 30 1\n01",
        b"P1 3 1\n012",
        b"P2 30 1 9\n1 2",
        b"P2 3 1 9\n1 2 -3",
        b"P2 3 1 9\n1 2 z",
        b"P2 3 1 9\n1 2 " + b"9" * 99,
        b"PF 1 1 0\n" + bytes(12),
        b"PF 1 1 nan",
        b"P6 20000 20000 255\n",
        b"P7\nWIDTH 2\n",
        b"P7\nWIDTH 2\nHEIGHT 1\nENDHDR\nab",
    ],
)
def test_damage(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(PictureError, match=r"damaged or cut short"):
        read(tmp_path, data)


@pytest.mark.parametrize(
    "data", [b"P5 1 3 2\n\1\1", b"P2 1 3 2\n1 1", b"P5 1 3 512\n\1\0\1\0\1", b"P1 1 3\n0 0", b"P4 1 3\n\0\0"]
)
def test_files_cut_short_are_read_as_far_as_they_go(tmp_path: Path, data: bytes) -> None:
    picture = read(tmp_path, data)
    assert picture.pixels[0, 0, 0] == picture.pixels[1, 0, 0] > 0
    assert said(picture) == ["damaged pixels (some are missing)"]


def test_other_kinds(tmp_path: Path) -> None:
    header = b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH %d\nMAXVAL 255\nTUPLTYPE %s\nENDHDR\nabcde"
    with pytest.raises(PictureError, match="PAM of 4 channels of type CMYK is not supported"):
        read(tmp_path, header % (4, b"CMYK"))
    with pytest.raises(PictureError, match="PAM of 5 channels"):
        read(tmp_path, header % (5, b""))
    with pytest.raises(LimitError):
        read(tmp_path, b"P6 30000 30000 255\n")
    with pytest.raises(PictureError, match="not a picture"):
        read(tmp_path, b"P8 1 1 255\na")
    with pytest.raises(PictureError, match="not a picture"):  # a thumbnail of XV
        read(tmp_path, b"P7 332\n#END_OF_COMMENTS\n1 1 255\na")


@pytest.mark.parametrize("plain", [b"P1 2 1 01", b"P1 2 1 0 1", b"P2 2 1 9 7 8", b"P3 1 1 9 7 8 9"])
def test_what_follows_plain_numbers_is_named(tmp_path: Path, plain: bytes) -> None:
    assert said(read(tmp_path, plain + b" \n # a note\n")) == []
    assert said(read(tmp_path, plain + b"\nmore")) == ["lost 4 bytes after the picture"]


@pytest.mark.parametrize("kind", [b"P5 1 1 9\n\7", b"P2 1 1 9 7", b"P4 1 1\n\0", b"Pf 1 1 1\n\0\0\0\0"])
def test_pictures_after_the_first_are_named(tmp_path: Path, kind: bytes) -> None:
    assert said(read(tmp_path, kind + b"\n" + kind)) == ["lost pictures after the first"]
