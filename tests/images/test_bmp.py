"""BMP files, built byte by byte: headers, palettes, bit fields, run lengths, colour tags; and what is written."""

from __future__ import annotations

import functools
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import reading
from support.reading import noise

from gsrcli.errors import LimitError, PictureError
from gsrcli.images import Chromaticities, Colour, Metadata, Picture, icc, read_picture, write_picture
from gsrcli.size import Size

read = functools.partial(reading.read, form="BMP")

RGB, RLE8, RLE4, BITFIELDS, JPEG, PNG, ALPHA_BITFIELDS = range(7)
SRGB, LINKED, EMBEDDED = 0x73524742, 0x4C494E4B, 0x4D424544


def bmp(
    pixels: bytes,
    width: int,
    height: int,
    bits: int,
    compression: int = RGB,
    *,
    header: int = 40,
    palette: bytes = b"",
    masks: tuple[int, ...] = (),
    per_metre: tuple[int, int] = (0, 0),
    space: int = SRGB,
    calibration: tuple[int, ...] = (),
    profile: bytes = b"",
    colours: int = 0,
    gap: int = 0,
) -> bytes:
    """Build a file with any header; masks follow the oldest one."""
    if header == 12:
        dib = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        dib = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, compression, 0, *per_metre, colours, 0)
        dib += struct.pack(f"<{len(masks)}I", *masks)
        if header >= 108:
            dib = dib.ljust(56, b"\0") + struct.pack("<I12I", space, *(calibration or [0] * 12))
            at = header + len(palette) + gap + len(pixels)
            dib += struct.pack("<4I", 4, at, len(profile), 0) if header == 124 else b""
        elif header > 40:
            dib = dib.ljust(header, b"\0")[:header]
        elif header < 40:
            dib = dib[:header]
    start = 14 + len(dib) + len(palette) + gap
    whole = dib + palette + bytes(gap) + pixels + profile
    return struct.pack("<2sIHHI", b"BM", 14 + len(whole), 0, 0, start) + whole


def padded(rows: np.ndarray) -> bytes:
    """Return (H, bytes) rows, bottom first, each padded to 4 bytes."""
    return b"".join(row.tobytes() + bytes(-row.size % 4) for row in np.ascontiguousarray(rows[::-1]).view(np.uint8))


def said(picture: Picture) -> list[str]:
    return [f"{entry.fate} {entry}" for entry in picture.ledger]


@pytest.mark.parametrize("header", [12, 16, 40, 52, 56, 64, 108, 124])
@pytest.mark.parametrize("width", [1, 5, 6])
def test_every_header(tmp_path: Path, header: int, width: int) -> None:
    values = noise(4, width, 3)
    picture = read(tmp_path, bmp(padded(values[..., ::-1].reshape(4, -1)), width, 4, 24, header=header, gap=6))
    np.testing.assert_array_equal(picture.pixels, values)
    assert (picture.alpha, picture.ledger, picture.colour) == (None, (), Colour())


def test_top_first(tmp_path: Path) -> None:
    values = noise(3, 4, 3)
    picture = read(tmp_path, bmp(padded(values[::-1, :, ::-1].reshape(3, -1)), 4, -3, 24))
    np.testing.assert_array_equal(picture.pixels, values)


@pytest.mark.parametrize("header", [12, 40, 64])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes(tmp_path: Path, bits: int, header: int) -> None:
    palette, indices = noise(2**bits, 3), noise(5, 11, top=2**bits, seed=1)
    packed = [
        int("".join(f"{index:0{bits}b}" for index in row).ljust(-(-11 * bits // 8) * 8, "0"), 2).to_bytes(
            -(-11 * bits // 8), "big"
        )
        for row in indices
    ]
    rows = padded(np.frombuffer(b"".join(packed), np.uint8).reshape(5, -1))
    entries = b"".join(bytes(colour[::-1]) + b"\0" * (header > 12) for colour in palette)
    picture = read(tmp_path, bmp(rows, 11, 5, bits, header=header, palette=entries))
    np.testing.assert_array_equal(picture.pixels, palette[indices])
    greys = b"".join(bytes([value] * 3) + b"\0" * (header > 12) for value in palette[:, 0])
    picture = read(tmp_path, bmp(rows, 11, 5, bits, header=header, palette=greys))
    np.testing.assert_array_equal(picture.pixels, palette[indices][..., :1])


def test_a_colour_that_the_palette_lacks_is_damage(tmp_path: Path) -> None:
    indices = np.array([[0, 1, 2, 9]], np.uint8)
    picture = read(tmp_path, bmp(padded(indices), 4, 1, 8, palette=bytes(range(12)), colours=3))
    np.testing.assert_array_equal(picture.pixels[0], [[2, 1, 0], [6, 5, 4], [10, 9, 8], [0, 0, 0]])
    assert said(picture) == ["damaged pixels (colours that the palette lacks are black)"]


MASKS = {
    "565": (16, (0xF800, 0x7E0, 0x1F)),
    "4444": (16, (0xF00, 0xF0, 0xF, 0xF000)),
    "5551": (16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
    "231": (16, (0x30, 0xE, 0x1)),
    "no blue": (16, (0xFF00, 0xFF, 0)),
    "8888": (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
    "BGRA": (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
    "101010": (32, (0x3FF00000, 0xFFC00, 0x3FF)),
    "1010102": (32, (0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000)),
    "7187": (32, (0xFE000000, 0x1FFFF80, 0x7F)),
}


@pytest.mark.parametrize("header", [40, 108])
@pytest.mark.parametrize("name", MASKS)
def test_bit_fields(tmp_path: Path, name: str, header: int) -> None:
    bits, masks = MASKS[name]
    values = np.random.default_rng(3).integers(0, 2**bits, (5, 7), dtype=f"<u{bits // 8}")
    compression = ALPHA_BITFIELDS if header == 40 and len(masks) == 4 else BITFIELDS
    masked = bmp(padded(values.view(np.uint8)), 7, 5, bits, compression, header=header, masks=masks)
    picture = read(tmp_path, masked)
    top = 255 if max(mask.bit_count() for mask in masks) <= 8 else 65535
    assert picture.pixels.dtype == (np.uint8 if top == 255 else np.uint16)
    planes = []
    for mask in masks:
        shift = (mask & -mask).bit_length() - 1 if mask else 0
        planes.append(np.rint(((values & mask) >> shift) * (top / max(mask >> shift, 1))))
    np.testing.assert_array_equal(picture.pixels, np.stack(planes[:3], axis=-1))
    assert (picture.alpha is not None) == (len(planes) == 4)
    if len(planes) == 4:
        np.testing.assert_array_equal(picture.alpha, planes[3])


def test_default_fields_and_unused_alpha(tmp_path: Path) -> None:
    word = struct.pack("<2H", 0b0_11111_00000_10000, 0x8000)
    np.testing.assert_array_equal(read(tmp_path, bmp(word, 2, 1, 16)).pixels, [[[255, 0, 132], [0, 0, 0]]])
    picture = read(tmp_path, bmp(bytes([1, 2, 3, 9]), 1, 1, 32))
    assert (picture.pixels.tolist(), picture.alpha) == ([[[3, 2, 1]]], None)
    transparent = bmp(bytes([1, 2, 3, 0]), 1, 1, 32, BITFIELDS, header=56, masks=MASKS["8888"][1])
    assert read(tmp_path, transparent).alpha is None


RUNS = [
    (RLE8, 8, [5, 7, 0, 3, 1, 2, 3, 0, 0, 0, 0, 2, 6, 0, 2, 9, 0, 1], [[7] * 5 + [1, 2, 3], [0] * 6 + [9, 9]]),
    (RLE4, 4, [5, 0x12, 0, 3, 0x34, 0x50, 0, 0, 4, 0x77, 0, 1], [[1, 2, 1, 2, 1, 3, 4, 5], [7] * 4 + [0] * 4]),
    (RLE8, 8, [8, 1, 0, 0, 8, 2], [[1] * 8, [2] * 8]),
    (RLE8, 8, [0, 1], [[0] * 8, [0] * 8]),
    (RLE8, 8, [0, 2, 2, 1, 6, 3], [[0] * 8, [0, 0, 3, 3, 3, 3, 3, 3]]),
]


@pytest.mark.parametrize(("compression", "bits", "stream", "rows"), RUNS)
def test_run_lengths(tmp_path: Path, compression: int, bits: int, stream: list[int], rows: list[list[int]]) -> None:
    palette = noise(16, 4)
    data = bmp(bytes(stream), 8, 2, bits, compression, palette=palette.tobytes(), colours=16)
    picture = read(tmp_path, data)
    np.testing.assert_array_equal(picture.pixels, palette[np.array(rows)[::-1]][..., 2::-1])
    assert picture.ledger == ()


def test_run_lengths_of_colours(tmp_path: Path) -> None:
    stream = bytes([2, 1, 2, 3, 0, 3, *range(9), 0, 0, 0, 1])
    picture = read(tmp_path, bmp(stream, 5, 1, 24, 4, header=64))
    assert picture.pixels.tolist() == [[[3, 2, 1], [3, 2, 1], [2, 1, 0], [5, 4, 3], [8, 7, 6]]]


def test_runs_outside_the_picture_are_damage(tmp_path: Path) -> None:
    palette = noise(256, 4).tobytes()
    for stream in ([9, 7, 0, 0, 8, 1], [0, 2, 255, 0, 8, 1, 0, 0, 8, 1]):
        picture = read(tmp_path, bmp(bytes(stream), 8, 2, 8, RLE8, palette=palette))
        assert said(picture) == ["damaged pixels (runs reach outside the picture)"]


def test_files_cut_short(tmp_path: Path) -> None:
    palette = noise(256, 4).tobytes()
    for data in (
        bmp(padded(noise(9, 90)), 90, 9, 8, palette=palette)[: -9 * 84],
        bmp(bytes([8, 7, 0, 0, 4, 1]), 8, 2, 8, RLE8, palette=palette),
        bmp(bytes([0, 8, 7]), 8, 2, 8, RLE8, palette=palette),
        bmp(b"", 8, 2, 24)[:30],
        bmp(b"", 20_000, 20_000, 24),
        bmp(bytes(9), 20_000, 20_000, 8, RLE8, palette=palette),
    ):
        with pytest.raises(PictureError, match="damaged or cut short"):
            read(tmp_path, data)
    whole = bmp(padded(noise(9, 9)), 9, 9, 8, palette=palette)
    part = read(tmp_path, whole[: -4 * 12])  # stored bottom first
    assert said(part) == ["damaged pixels (some are missing)"]
    np.testing.assert_array_equal(part.pixels[4:], read(tmp_path, whole).pixels[4:])
    assert read(tmp_path, whole[:-3]).ledger == ()
    np.testing.assert_array_equal(read(tmp_path, whole[:-3]).pixels, read(tmp_path, whole).pixels)  # padding alone
    with pytest.raises(LimitError):
        read(tmp_path, bmp(b"", 30_000, 20_000, 24))


@pytest.mark.parametrize(
    ("bits", "compression", "options", "words"),
    [
        (24, JPEG, {}, "JPEG inside BMP is not supported"),
        (24, PNG, {}, "PNG inside BMP is not supported"),
        (32, 11, {}, "CMYK BMP is not supported"),
        (64, RGB, {}, "BMP of 64 bits per pixel is not supported"),
        (1, 3, {"header": 64}, "Huffman-coded BMP is not supported"),
        (7, RGB, {}, "damaged"),
        (24, 99, {}, "damaged"),
        (32, BITFIELDS, {"masks": (0xF0F, 0, 0)}, "damaged"),
        (16, BITFIELDS, {"masks": (0xFF0000, 0, 0)}, "damaged"),
        (32, BITFIELDS, {"masks": (0, 0, 0)}, "damaged"),
    ],
)
def test_kinds_that_are_not_read(tmp_path: Path, bits: int, compression: int, options: dict, words: str) -> None:
    with pytest.raises(PictureError, match=words):
        read(tmp_path, bmp(bytes(64), 2, 2, bits, compression, **options))


def test_resolution(tmp_path: Path) -> None:
    picture = read(tmp_path, bmp(bytes(4), 1, 1, 24, per_metre=(11811, 5906)))
    assert picture.metadata.dpi == pytest.approx((300, 150), abs=0.02)
    assert read(tmp_path, bmp(bytes(4), 1, 1, 24, per_metre=(-5, 0))).metadata.dpi is None


def test_profiles(tmp_path: Path) -> None:
    profile = icc.adobe_rgb_profile(grey=False)
    picture = read(tmp_path, bmp(bytes(4), 1, 1, 24, header=124, space=EMBEDDED, profile=profile))
    assert (picture.colour, picture.ledger) == (Colour(profile), ())
    cut = bmp(bytes(4), 1, 1, 24, header=124, space=EMBEDDED, profile=profile)[:-9]
    assert said(read(tmp_path, cut)) == ["damaged colour profile"]
    linked = bmp(bytes(4), 1, 1, 24, header=124, space=LINKED, profile=b"c:\\profile.icm")
    assert said(read(tmp_path, linked)) == ["lost linked colour profile"]


def test_calibrated_colours(tmp_path: Path) -> None:
    chromaticities = [0.68, 0.32, 0.0, 0.265, 0.69, 0.045, 0.15, 0.06, 0.79]
    points = [round(value * 2**30) for value in chromaticities]
    for gamma, exponent in ((2.2, 1 / 2.2), (0.45, 0.45)):
        calibration = (*points, *[round(gamma * 65536)] * 3)
        colour = read(tmp_path, bmp(bytes(4), 1, 1, 24, header=108, space=0, calibration=calibration)).colour
        assert colour.gamma == pytest.approx(exponent, abs=1e-4)
        expected = Chromaticities((0.3127, 0.329), (0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
        np.testing.assert_allclose(np.array(colour.chromaticities), np.array(expected), atol=1e-6)
    xyz = [0.4124, 0.2126, 0.0193, 0.3576, 0.7152, 0.1192, 0.1805, 0.0722, 0.9505]  # of sRGB
    calibration = (*[round(value * 2**30) for value in xyz], *[65536] * 3)
    colour = read(tmp_path, bmp(bytes(4), 1, 1, 24, header=108, space=0, calibration=calibration)).colour
    assert colour.gamma == 1
    expected = Chromaticities((0.3127, 0.329), (0.64, 0.33), (0.3, 0.6), (0.15, 0.06))
    np.testing.assert_allclose(np.array(colour.chromaticities), np.array(expected), atol=1e-3)
    uneven = (*points, 65536, 2 * 65536, 65536)
    picture = read(tmp_path, bmp(bytes(4), 1, 1, 24, header=108, space=0, calibration=uneven))
    assert said(picture) == ["lost calibrated colours (a gamma for each channel)"]
    assert read(tmp_path, bmp(bytes(4), 1, 1, 24, header=108, space=0)).colour == Colour()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("tagged", [False, True])
def test_written_files(tmp_path: Path, channels: int, tagged: bool) -> None:
    values = noise(5, 7, channels)
    alpha = values[..., -1] if channels in (2, 4) else None
    grey = channels < 3
    colour = Colour(icc.adobe_rgb_profile(grey=grey) if tagged else None)
    picture = Picture(values[..., : 1 if grey else 3], alpha, colour=colour, metadata=Metadata(dpi=(300, 150)))
    write_picture(picture, tmp_path / "out.bmp")
    data = (tmp_path / "out.bmp").read_bytes()
    assert int.from_bytes(data[2:6], "little") == len(data)
    image = Image.open(io.BytesIO(data))
    assert image.info["dpi"] == pytest.approx((300, 150), abs=0.02)
    if alpha is None:
        assert image.mode == ("L" if grey else "RGB")
        np.testing.assert_array_equal(np.asarray(image).reshape(5, 7, -1), picture.pixels)
    else:
        expected = np.dstack([np.broadcast_to(picture.pixels, (5, 7, 3)), alpha])
        np.testing.assert_array_equal(np.asarray(image), expected)
    assert int.from_bytes(data[14:18], "little") == (124 if tagged or alpha is not None else 40)
    again = read_picture(tmp_path / "out.bmp")
    assert again.size == Size(5, 7)
    assert (again.colour.icc is not None) == tagged
    if tagged:
        at, size = struct.unpack_from("<II", data, 14 + 112)
        assert icc.profile_space(data[14 + at : 14 + at + size]) == "RGB"


@pytest.mark.parametrize("end", [b"", b"\0\1", b"\0\0\0\1"])
def test_what_follows_run_lengths_is_named(tmp_path: Path, end: bytes) -> None:
    data = bmp(b"\4\1" + end, 4, 1, 8, RLE8, palette=bytes(1024))
    assert said(read(tmp_path, data + bytes(2))) == []
    assert said(read(tmp_path, data + b"more")) == ["lost 4 bytes after the picture"]
