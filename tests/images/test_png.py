"""PNG: kinds of pixels, damage, colour tags, metadata and animations.

Files to read are made byte by byte or by Pillow; written files are read back by Pillow, ExifTool and ImageMagick too.
"""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, PngImagePlugin
from support.reading import damaged, lost, read
from support.writing import written

from gsrcli.errors import LimitError, PictureError
from gsrcli.images import (
    Chromaticities,
    Cicp,
    Colour,
    Fate,
    Feature,
    Metadata,
    Picture,
    PictureFile,
    Text,
    exif,
    fit,
    output_format,
    read_picture,
    with_fate,
    write_picture,
)
from gsrcli.images.metadata import MODIFIED
from gsrcli.images.writers import Encoding
from gsrcli.images.writers.png import encode_png_animation

SIGNATURE = b"\x89PNG\r\n\x1a\n"
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8)]
KINDS += [(4, 8), (4, 16), (6, 8), (6, 16)]
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
DATASETS = b"\x1c\x02\x50\x00\x03\xc3\x85s\x1c\x02\x5a\x00\x05Ystad"


def chunk(name: str, body: bytes = b"", *, sound: bool = True) -> bytes:
    checksum = zlib.crc32(name.encode() + body) ^ (not sound)
    return struct.pack(">I", len(body)) + name.encode() + body + struct.pack(">I", checksum)


def header(width: int, height: int, bits: int, kind: int, *, interlaced: bool = False) -> bytes:
    return chunk("IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlaced))


def packed(samples: np.ndarray, bits: int) -> list[bytes]:
    """Return the rows of (H, W, S) as bytes."""
    rows = samples.reshape(len(samples), -1)
    if bits == 16:
        return [row.astype(">u2").tobytes() for row in rows]
    digits = (rows[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in digits]


def scanlines(samples: np.ndarray, bits: int, *, interlaced: bool = False) -> bytes:
    """Return rows without filters."""
    passes = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7] if interlaced else [samples]
    return b"".join(b"\0" + row for part in passes if part.size for row in packed(part, bits))


def noise(height: int, width: int, kind: int, bits: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1 << bits, (height, width, SAMPLES[kind]), dtype=np.uint16)


def png(*before: bytes, after: bytes = b"", size: tuple[int, int] = (4, 4), end: bytes = chunk("IEND")) -> bytes:
    """Return a small RGB file with chunks before and after the pixels."""
    width, height = size
    rows = scanlines(noise(height, width, 2, 8), 8)
    data = chunk("IDAT", zlib.compress(rows))
    return SIGNATURE + header(width, height, 8, 2) + b"".join(before) + data + after + end


def exif_block(orientation: int = 1) -> bytes:
    block = Image.Exif()
    block[ExifTags.Base.Make] = "Maker of cameras"
    block[ExifTags.Base.Orientation] = orientation
    return block.tobytes().removeprefix(b"Exif\0\0")


def raw_profile(name: str, content: bytes, *, junk: str = "", length: int | None = None) -> bytes:
    digits = content.hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    text = f"\n{name}\n{len(content) if length is None else length:8}\n{lines}\n{junk}"
    return chunk("zTXt", f"Raw profile type {name}".encode() + b"\0\0" + zlib.compress(text.encode()))


def photoshop(datasets: bytes) -> bytes:
    padded = datasets + b"\0" * (len(datasets) % 2)
    return b"8BIM\x04\x04\0\0" + struct.pack(">I", len(datasets)) + padded


# Pixels


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("kind", "bits"), KINDS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 2), (9, 13)])
def test_every_kind_is_exact(
    tmp_path: Path, kind: int, bits: int, height: int, width: int, *, interlaced: bool
) -> None:
    samples = noise(height, width, kind, bits)
    palette = np.random.default_rng(1).integers(0, 256, (1 << min(bits, 8), 3), dtype=np.uint8)
    rows = zlib.compress(scanlines(samples, bits, interlaced=interlaced))
    half = len(rows) // 2
    parts = chunk("IDAT", rows[:half]) + chunk("IDAT") + chunk("IDAT", rows[half:])
    head = header(width, height, bits, kind, interlaced=interlaced)
    plte = chunk("PLTE", palette.tobytes()) if kind == 3 else b""
    picture = read(tmp_path, SIGNATURE + head + plte + parts + chunk("IEND"))
    dtype = np.uint16 if bits == 16 else np.uint8
    if kind == 3:
        pixels, alpha = palette[samples[..., 0]], None
    else:
        values = (samples * (1 if bits == 16 else 255 // ((1 << bits) - 1))).astype(dtype)
        pixels, alpha = (values[..., :-1], values[..., -1]) if kind in (4, 6) else (values, None)
    assert picture.pixels.dtype == dtype
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert (picture.alpha is None) == (alpha is None)
    if alpha is not None:
        np.testing.assert_array_equal(picture.alpha, alpha)
    assert picture.ledger == ()


@pytest.mark.parametrize(("kind", "bits"), [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 4)])
def test_transparent_colours(tmp_path: Path, kind: int, bits: int) -> None:
    samples = noise(6, 9, kind, bits)
    key = samples[2, 3]
    opacities = bytes([7, 0, 255, 90])
    trns = opacities if kind == 3 else key.astype(">u2").tobytes()
    plte = chunk("PLTE", bytes(48)) if kind == 3 else b""
    head = header(9, 6, bits, kind) + plte + chunk("tRNS", trns)
    picture = read(tmp_path, SIGNATURE + head + chunk("IDAT", zlib.compress(scanlines(samples, bits))) + chunk("IEND"))
    top = 65535 if bits == 16 else 255
    if kind == 3:
        expected = np.array([*opacities, *[255] * 12])[samples[..., 0]]
    else:
        expected = np.where((samples == key).all(axis=2), 0, top)
    np.testing.assert_array_equal(picture.alpha, expected)


@pytest.mark.parametrize("kind", [2, 6])
def test_pictures_of_iphone_apps(tmp_path: Path, kind: int) -> None:
    straight = np.array([[[200, 100, 50, 255], [80, 40, 0, 128], [0, 0, 0, 0]]], np.uint8)[..., : SAMPLES[kind]]
    stored = straight[..., [2, 1, 0, 3][: SAMPLES[kind]]].astype(int)
    if kind == 6:
        stored[..., :3] = np.rint(stored[..., :3] * stored[..., 3:] / 255)
    deflater = zlib.compressobj(wbits=-15)
    stream = deflater.compress(scanlines(stored, 8)) + deflater.flush()
    data = SIGNATURE + chunk("CgBI", b"\x50\0\x20\x06") + header(3, 1, 8, kind) + chunk("IDAT", stream) + chunk("IEND")
    picture = read(tmp_path, data)
    np.testing.assert_allclose(picture.pixels, straight[..., :3].astype(int), atol=1)
    assert damaged(picture) == []
    if kind == 6:
        np.testing.assert_array_equal(picture.alpha, straight[..., 3])
        assert with_fate(Fate.CONVERTED, picture.ledger) == ["premultiplied alpha to straight alpha"]


def test_a_stream_that_states_too_small_a_window(tmp_path: Path) -> None:
    samples = np.tile(noise(8, 600, 2, 8), (4, 1, 1))
    stream = zlib.compress(scanlines(samples, 8), 9)
    data = SIGNATURE + header(600, 32, 8, 2) + chunk("IDAT", b"\x08\x1d" + stream[2:]) + chunk("IEND")
    picture = read(tmp_path, data)
    np.testing.assert_array_equal(picture.pixels, samples)
    assert picture.ledger == ()


# Damage


@pytest.mark.parametrize(("kind", "bits"), [(2, 8), (0, 16), (2, 16), (6, 16), (0, 1), (4, 8)])
@pytest.mark.parametrize("how", ["cut", "no end", "garbled", "bad filter", "too short", "bad checksum"])
def test_a_damaged_picture_is_read_as_far_as_it_goes(
    tmp_path: Path, kind: int, bits: int, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    height, width = 40, 61
    samples = noise(height, width, kind, bits)
    rows = scanlines(samples, bits)
    if how == "bad filter":
        stride = len(rows) // height
        rows = rows[: 20 * stride] + b"\7" + rows[20 * stride + 1 :]
    if how == "too short":
        rows = rows[: len(rows) // 2]
    stream = zlib.compress(rows, 6)
    if how == "bad checksum":
        stream = stream[:-1] + bytes([stream[-1] ^ 1])
    whole = SIGNATURE + header(width, height, bits, kind) + chunk("IDAT", stream) + chunk("IEND")
    if how == "cut":
        whole = whole[: len(whole) // 2]
    elif how == "no end":
        whole = whole[:-12]
    elif how == "garbled":
        deflater = zlib.compressobj(6)
        half = deflater.compress(rows[: len(rows) // 2]) + deflater.flush(zlib.Z_FULL_FLUSH)
        whole = SIGNATURE + header(width, height, bits, kind) + chunk("IDAT", half + b"\xff" * 50) + chunk("IEND")
    picture = read(tmp_path, whole)
    assert damaged(picture) != []
    sound = height if how in ("bad checksum", "no end") else 15
    expected = (samples * (1 if bits == 16 else 255 // ((1 << bits) - 1)))[:sound]
    seen = picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
    np.testing.assert_array_equal(seen[:sound], expected)
    if sound < height:
        assert not seen[-10:].any()
        assert any("of 40 on" in line for line in damaged(picture))
    assert capfd.readouterr() == ("", "")


def test_a_cut_interlaced_picture_is_coarser(tmp_path: Path) -> None:
    samples = np.add.outer(np.arange(64) * 2, np.arange(64))[..., None].astype(np.uint16)
    rows = scanlines(samples, 8, interlaced=True)
    stream = zlib.compress(rows[: len(rows) * 3 // 5])
    data = SIGNATURE + header(64, 64, 8, 0, interlaced=True) + chunk("IDAT", stream) + chunk("IEND")
    picture = read(tmp_path, data)
    assert damaged(picture) == ["pixels of which only a coarser picture is left"]
    assert np.abs(picture.pixels.astype(int) - samples).max() <= 2 + 1  # a row above, and a column to the left
    np.testing.assert_array_equal(picture.pixels[::2, ::2], samples[::2, ::2])


@pytest.mark.parametrize(
    "data",
    [
        SIGNATURE,
        SIGNATURE + header(4, 4, 8, 2),
        SIGNATURE + header(4, 4, 8, 2) + chunk("IEND"),
        SIGNATURE + header(4, 4, 3, 2) + chunk("IDAT", zlib.compress(bytes(100))),
        SIGNATURE + header(0, 4, 8, 2) + chunk("IDAT", zlib.compress(bytes(100))),
        SIGNATURE + header(4, 4, 8, 3) + chunk("IDAT", zlib.compress(bytes(100))) + chunk("IEND"),
        SIGNATURE + header(4, 400, 8, 2) + chunk("IDAT", zlib.compress(bytes(100))) + chunk("IEND"),
        SIGNATURE + header(4, 4, 8, 2) + chunk("IDAT", b"\x78\x01no deflate stream") + chunk("IEND"),
        png()[:60],
    ],
)
def test_too_little_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(PictureError, match="damaged or cut short"):
        read(tmp_path, data)


def test_unknown_kinds_are_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="QQQQ chunks, which are not supported") as failure:
        read(tmp_path, png(chunk("QQQQ")))
    assert "damaged" not in str(failure.value)
    methods = chunk("IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 1, 0, 0))
    with pytest.raises(PictureError, match="not supported"):
        read(tmp_path, SIGNATURE + methods + chunk("IDAT", zlib.compress(bytes(52))) + chunk("IEND"))


def test_a_claimed_size_is_believed_as_far_as_the_file_can_hold_it(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    for width, height in ((500_000_000, 1), (1, 500_000_000), (20_000, 20_000)):
        data = chunk("IDAT", zlib.compress(bytes(1000)))
        path.write_bytes(SIGNATURE + header(width, height, 8, 0) + data + chunk("IEND"))
        with pytest.raises(PictureError, match=f"{width}x{height}.*cannot hold so many"):
            PictureFile(path)
    path.write_bytes(SIGNATURE + header(2**31 - 1, 2**31 - 1, 16, 6) + chunk("IDAT", b"x") + chunk("IEND"))
    with pytest.raises(LimitError):
        PictureFile(path)
    path.write_bytes(
        SIGNATURE + header(1, 20_000_000, 1, 0) + chunk("IDAT", zlib.compress(bytes(40_000_000))) + chunk("IEND")
    )
    with pytest.raises(LimitError, match="1x20000000"):
        PictureFile(path).picture()
    wide = np.zeros((1, 1_100_000, 3), np.uint16)  # libpng stops at a million
    path.write_bytes(
        SIGNATURE + header(1_100_000, 1, 16, 2) + chunk("IDAT", zlib.compress(scanlines(wide, 16))) + chunk("IEND")
    )
    assert read_picture(path).size == (1, 1_100_000)


BAD = {
    "checksum": chunk("tEXt", b"a\0c", sound=False),
    "gamma's length": chunk("gAMA", b"\0"),
    "gamma": chunk("gAMA", bytes(4)),
    "profile": chunk("iCCP", b"icc\0\0notzlib"),
    "profile's content": chunk("iCCP", b"icc\0\0" + zlib.compress(bytes(2 << 20))),
    "profile's end": chunk("iCCP", b"icc\0\0" + zlib.compress(SRGB)[:-20]),
    "chromaticities": chunk("cHRM", bytes(32)),
    "code points": chunk("cICP", b"\x01\x0d\x01\x01"),
    "intent": chunk("sRGB", b"\x09"),
    "mastering": chunk("mDCV", b"1"),
    "light": chunk("cLLI", b"1"),
    "no keyword": chunk("tEXt", b"no keyword"),
    "long keyword": chunk("tEXt", b"k" * 80 + b"\0"),
    "text": chunk("zTXt", b"Title\0\0nonsense"),
    "text's end": chunk("zTXt", b"Title\0\0" + zlib.compress(b"x" * 99)[:-4]),
    "UTF-8": chunk("iTXt", b"Title\0\0\0\0\0\xff\xfe"),
    "fields": chunk("iTXt", b"Title\0\0\0"),
    "EXIF": chunk("eXIf", b"nonsense"),
    "raw EXIF": raw_profile("exif", b"nonsense"),
    "raw EXIF's length": raw_profile("exif", exif_block(), length=5000),
    "raw IPTC": raw_profile("iptc", b"nonsense"),
    "Photoshop": raw_profile("8bim", b"8BIM\x04\x04\0\0\0\0\xff\xff"),
    "resolution": chunk("pHYs", bytes(9)),
    "time": chunk("tIME", bytes(7)),
    "transparency": chunk("tRNS", b"\0"),
    "unknown critical": chunk("QQQQ", sound=False),
}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("what", BAD)
def test_a_bad_chunk_costs_itself(tmp_path: Path, what: str, capfd: pytest.CaptureFixture[str], *, late: bool) -> None:
    good = chunk("tEXt", b"Author\0Someone")
    data = png(good, after=BAD[what]) if late else png(BAD[what], good)
    picture = read(tmp_path, data)
    np.testing.assert_array_equal(picture.pixels, noise(4, 4, 2, 8))
    assert picture.metadata == Metadata(texts=(Text("Author", "Someone"),))
    assert picture.colour == Colour()
    name = f"{BAD[what][4:8].decode()} chunk"
    assert damaged(picture) == ["Photoshop image resources" if what == "Photoshop" else name]
    assert lost(picture) == []
    assert capfd.readouterr() == ("", "")


def test_what_inflates_too_far_is_left_out(tmp_path: Path) -> None:
    bomb = zlib.compress(bytes(40 << 20))
    texts = [chunk("zTXt", f"Text {number}\0\0".encode() + bomb) for number in range(20)]
    start = time.perf_counter()
    picture = read(tmp_path, png(*texts, chunk("iCCP", b"icc\0\0" + bomb), chunk("tEXt", b"Author\0Someone")))
    assert time.perf_counter() - start < 5
    assert lost(picture) == ["zTXt chunk because it is too long", "iCCP chunk because it is too long"]
    assert picture.metadata.texts == (Text("Author", "Someone"),)


def test_very_many_chunks(tmp_path: Path) -> None:
    many = [chunk("tEXt", b"a\0")] * 20_000 + [chunk(f"pr{a}{b}") for a in "QXYZ" for b in "abcdef"] * 800
    start = time.process_time()
    picture = read(tmp_path, png(*many))
    assert time.process_time() - start < 5
    assert len(picture.metadata.texts) == 1000
    assert len(picture.ledger) < 30


def test_what_follows_the_picture(tmp_path: Path) -> None:
    assert read(tmp_path, png() + b"\0\0\n").ledger == ()
    assert lost(read(tmp_path, png() + b"appended")) == ["8 bytes after the picture"]
    assert damaged(read(tmp_path, png(end=b""))) == ["file whose end is missing"]
    assert len(damaged(read(tmp_path, png(end=b"\0\0\0\4????")))) == 1


# Colour


def colour_chunks() -> dict[str, bytes]:
    return {
        "cICP": chunk("cICP", bytes([12, 13, 0, 1])),
        "iCCP": chunk("iCCP", b"name\0\0" + zlib.compress(SRGB)),
        "sRGB": chunk("sRGB", b"\1"),
        "gAMA": chunk("gAMA", struct.pack(">I", 45455)),
        "cHRM": chunk("cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)),
    }


def test_file_times_that_imagemagick_writes_are_not_the_pictures(tmp_path: Path) -> None:
    texts = [
        chunk("tEXt", f"date:{of}\0".encode() + b"2026-01-02T03:04:05+00:00")
        for of in ("create", "modify", "timestamp")
    ]
    picture = read(tmp_path, png(chunk("gAMA", struct.pack(">I", 45455)), *texts, chunk("tEXt", b"date:taken\0May")))
    assert picture.metadata.texts == (Text("date:taken", "May"),)
    assert picture.ledger == ()


P3 = Chromaticities((0.3127, 0.329), (0.68, 0.32), (0.265, 0.69), (0.15, 0.06))


def test_which_colour_tags_rule(tmp_path: Path) -> None:
    tags = colour_chunks()
    assert read(tmp_path, png(*tags.values())).colour == Colour(cicp=Cicp(12, 13), icc=SRGB)
    assert read(tmp_path, png(*list(tags.values())[1:])).colour == Colour(icc=SRGB)
    assert read(tmp_path, png(*list(tags.values())[2:])).colour == Colour(intent=1)
    assert read(tmp_path, png(*list(tags.values())[3:])).colour == Colour(gamma=0.45455, chromaticities=P3)
    assert read(tmp_path, png(chunk("sRGB", b"\1"))).features() == []
    grey = SRGB[:16] + b"GRAY" + SRGB[20:]
    picture = read(tmp_path, png(chunk("iCCP", b"name\0\0" + zlib.compress(grey))))
    assert picture.colour.icc is None
    assert lost(picture) == ["colour profile because it is not one for such pixels"]


@pytest.mark.parametrize("bits", [8, 16])
def test_colour_tags_are_kept(tmp_path: Path, bits: int) -> None:
    tags = colour_chunks()
    mastering = chunk("mDCV", bytes(range(24)))
    light = chunk("cLLI", struct.pack(">II", 10_000_000, 4_000_000))
    for chosen in (
        [tags["cICP"], mastering, light],
        [tags["cICP"], tags["iCCP"]],
        [tags["sRGB"]],
        [tags["gAMA"], tags["cHRM"]],
    ):
        rows = zlib.compress(scanlines(noise(4, 4, 2, bits), bits))
        data = SIGNATURE + header(4, 4, bits, 2) + b"".join(chosen) + chunk("IDAT", rows) + chunk("IEND")
        picture = read(tmp_path, data)
        fitted, ledger = fit(picture, output_format("out.png"))
        assert with_fate(Fate.LOST, ledger) == []
        write_picture(fitted, tmp_path / "out.png")
        written = (tmp_path / "out.png").read_bytes()
        assert read_picture(tmp_path / "out.png").colour == picture.colour
        for tag in chosen:
            assert (tag in written) == (tag[4:8] != b"iCCP"), tag  # whose compression may differ


# Metadata


def test_texts_are_read_and_kept(tmp_path: Path) -> None:
    long = "{}" * (1 << 20)
    written = [
        chunk("tEXt", b"Author\0S\xf8ren"),
        chunk("zTXt", b"Copyright\0\0" + zlib.compress(b"(c) me")),
        chunk("iTXt", "Description\0\0\0de\0Beschreibung\0Grüße 🙂".encode()),
        chunk("iTXt", b"Comment\0\1\0\0\0" + zlib.compress("画像".encode())),
        chunk("zTXt", b"workflow\0\0" + zlib.compress(long.encode())),
        chunk("tIME", struct.pack(">H5B", 2026, 1, 2, 3, 4, 5)),
    ]
    picture = read(tmp_path, png(*written[:3], after=b"".join(written[3:])))
    assert picture.metadata.texts == (
        Text("Author", "Søren"),
        Text("Copyright", "(c) me"),
        Text("Description", "Grüße 🙂", "de", "Beschreibung"),
        Text("Comment", "画像"),
        Text("workflow", long),
        Text(MODIFIED, "2026-01-02T03:04:05Z"),
    )
    assert picture.ledger == ()
    write_picture(picture, tmp_path / "out.png")
    assert read_picture(tmp_path / "out.png").metadata == picture.metadata
    assert written[-1] in (tmp_path / "out.png").read_bytes()
    with Image.open(tmp_path / "out.png") as image:
        assert image.info["Author"] == "Søren"
        assert image.info["Description"] == "Grüße 🙂"
        assert image.info["Description"].lang == "de"
        assert image.info["Comment"] == "画像"


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("where", ["eXIf", "eXIf, marked", "exif", "APP1", "xmp", "XMP as APP1", "iTXt"])
def test_orientation_is_found_and_applied_once(tmp_path: Path, where: str, *, late: bool) -> None:
    block = exif_block(6)
    packet = b'<x:xmpmeta tiff:Orientation="6"/>'
    found = {
        "eXIf": chunk("eXIf", block),
        "eXIf, marked": chunk("eXIf", b"Exif\0\0" + block),
        "exif": raw_profile("exif", b"Exif\0\0" + block, junk="zz\n junk"),
        "APP1": raw_profile("APP1", b"Exif\0\0" + block),
        "xmp": raw_profile("xmp", packet),
        "XMP as APP1": raw_profile("APP1", b"http://ns.adobe.com/xap/1.0/\0" + packet),
        "iTXt": chunk("iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet),
    }[where]
    resolution = chunk("pHYs", struct.pack(">IIB", 1000, 2000, 1))
    picture = read(tmp_path, png(resolution, after=found, size=(5, 3)) if late else png(found, resolution, size=(5, 3)))
    assert damaged(picture) == (["Raw profile type exif (junk follows it)"] if where == "exif" else [])
    np.testing.assert_array_equal(picture.pixels, np.rot90(noise(3, 5, 2, 8), -1))
    assert picture.metadata.dpi == pytest.approx((50.8, 25.4))
    if picture.metadata.exif:
        assert exif.exif_orientation(picture.metadata.exif) == 1
    else:
        assert picture.metadata.xmp == packet.replace(b"6", b"1")
    assert picture.metadata.texts == ()
    write_picture(picture, tmp_path / "out.png")
    again = read_picture(tmp_path / "out.png")
    np.testing.assert_array_equal(again.pixels, picture.pixels)
    assert again.metadata.exif == picture.metadata.exif


def test_exif_rules_over_xmp(tmp_path: Path) -> None:
    packet = chunk("iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>')
    picture = read(tmp_path, png(packet, chunk("eXIf", exif_block(3)), size=(5, 3)))
    np.testing.assert_array_equal(picture.pixels, noise(3, 5, 2, 8)[::-1, ::-1])


def test_iptc(tmp_path: Path) -> None:
    for profile in (raw_profile("iptc", photoshop(DATASETS)), raw_profile("8bim", photoshop(DATASETS))):
        assert read(tmp_path, png(profile)).metadata.iptc == DATASETS
    picture = read(tmp_path, png(raw_profile("iptc", DATASETS)))
    assert picture.metadata.iptc == DATASETS
    write_picture(picture, tmp_path / "out.png")
    assert read_picture(tmp_path / "out.png").metadata.iptc == DATASETS


def test_resolution_and_aspect(tmp_path: Path) -> None:
    picture = read(tmp_path, png(chunk("pHYs", struct.pack(">IIB", 3, 4, 0))))
    assert picture.metadata == Metadata(aspect=4 / 3)
    write_picture(picture, tmp_path / "out.png")
    assert chunk("pHYs", struct.pack(">IIB", 3, 4, 0)) in (tmp_path / "out.png").read_bytes()
    assert read(tmp_path, png(chunk("pHYs", struct.pack(">IIB", 7, 7, 0)))).metadata == Metadata()
    picture = read(tmp_path, png(chunk("pHYs", struct.pack(">IIB", 2835, 5906, 1))))
    assert picture.metadata.dpi == pytest.approx((72.009, 150.0124))
    write_picture(picture, tmp_path / "out.png")
    assert chunk("pHYs", struct.pack(">IIB", 2835, 5906, 1)) in (tmp_path / "out.png").read_bytes()


def test_what_has_no_place_is_named(tmp_path: Path) -> None:
    chunks = [chunk(name, b"1") for name in ("bKGD", "sBIT", "caBX", "sTER", "vpAg", "PLTE", "iDOT")]
    assert lost(read(tmp_path, png(*chunks, chunk("eXIf", exif_block()), raw_profile("exif", exif_block(2))))) == [
        "content credentials (C2PA)",
        "stereo layout",
        "vpAg chunk",
        "suggested palette",
        "second EXIF block",
    ]


def full_picture() -> Picture:
    """A picture with everything that PNG keeps."""
    texts = (Text("Author", "Åsa"), Text("Title", "画像", "ja", "題"), Text("Comment", "long " * 999))
    metadata = Metadata(exif=exif_block(), xmp=b"<x:xmpmeta/>", iptc=DATASETS, texts=texts, dpi=(300.0, 150.0))
    colour = Colour(icc=SRGB, cicp=Cicp(1, 13), mastering=bytes(range(24)), light=(1, 2))
    pixels, alpha = noise(5, 7, 2, 16), noise(5, 7, 0, 16)[..., 0]
    return Picture(pixels, alpha, colour=colour, metadata=metadata)


def test_everything_survives(tmp_path: Path) -> None:
    picture = full_picture()
    fitted, ledger = fit(picture, output_format("a.png"))
    assert {entry.fate for entry in ledger} == {Fate.KEPT}
    assert {entry.what for entry in ledger} >= {Feature.IPTC, Feature.HDR, Feature.CICP, Feature.COMMENT}
    write_picture(fitted, tmp_path / "out.png")
    again = read_picture(tmp_path / "out.png")
    assert again.colour == picture.colour
    assert again.metadata.texts == picture.metadata.texts
    assert again.metadata.dpi == pytest.approx(picture.metadata.dpi, abs=0.02)
    assert (again.metadata.exif, again.metadata.xmp, again.metadata.iptc) == (
        picture.metadata.exif,
        picture.metadata.xmp,
        picture.metadata.iptc,
    )
    assert again.ledger == ()


def test_long_texts_are_compressed_as_far_as_pillow_reads_them(tmp_path: Path) -> None:
    texts = tuple(Text(f"Text {length}", "x" * length) for length in (1, 50_000, 3_000_000))
    write_picture(Picture(np.zeros((1, 1, 1), np.uint8), metadata=Metadata(texts=texts)), tmp_path / "out.png")
    assert 3_000_000 < (tmp_path / "out.png").stat().st_size < 3_001_000
    with Image.open(tmp_path / "out.png") as image:
        assert image.info == {text.keyword: text.text for text in texts}


@pytest.mark.skipif(not shutil.which("exiftool"), reason="ExifTool is not installed")
def test_exiftool_reads_what_is_written(tmp_path: Path) -> None:
    write_picture(full_picture(), tmp_path / "out.png")
    run = subprocess.run(
        ["exiftool", "-json", "-validate", "-warning", "-all", tmp_path / "out.png"], capture_output=True, check=True
    )
    tags = json.loads(run.stdout)[0]
    assert "Error" not in tags
    assert (tags["Author"], tags["Title-ja"], tags["City"]) == ("Åsa", "画像", "Ystad")
    assert tags["Make"] == "Maker of cameras"
    assert tags["ProfileFileSignature"] == "acsp"
    assert (tags["PixelsPerUnitX"], tags["PixelUnits"]) == (11811, "meters")


@pytest.mark.skipif(not shutil.which("identify"), reason="ImageMagick is not installed")
def test_imagemagick_reads_what_is_written(tmp_path: Path) -> None:
    write_picture(full_picture(), tmp_path / "out.png")
    words = "%w %h %[bit-depth] %[Author] %[IPTC:2:90]"
    run = subprocess.run(["identify", "-format", words, tmp_path / "out.png"], capture_output=True, check=True)
    assert run.stdout.decode("latin-1") == "7 5 16 Åsa Ystad"
    assert run.stderr == b""


# Animations


def moving(count: int, *, mode: str = "RGBA") -> list[Image.Image]:
    """Frames of random size and place, some half transparent."""
    rng = np.random.default_rng(3)
    canvas = np.zeros((12, 16, 4), np.uint8)
    frames = []
    for _ in range(count):
        top, left = rng.integers(0, 8, 2)
        canvas[top : top + 4, left : left + 5] = rng.integers(0, 256, 4)
        canvas[top : top + 2, left : left + 5, 3] = rng.choice([0, 255])
        frames.append(Image.fromarray(canvas.copy()).convert(mode))
    return frames


@pytest.mark.parametrize("mode", ["RGBA", "RGB", "L", "LA"])
def test_animations_of_pillow(tmp_path: Path, mode: str) -> None:
    frames = moving(6, mode=mode)
    path = tmp_path / "moving.png"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[40, 50, 60, 70, 80, 90], loop=3, blend=0)
    file = PictureFile(path)
    assert (file.count, file.animated, file.loops, file.size) == (6, True, 3, (12, 16))
    for index in (0, 1, 2, 5, 3, 3, 4, 0):
        picture = file.picture(index)
        expected = np.asarray(frames[index]).reshape(12, 16, -1)
        seen = picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
        np.testing.assert_array_equal(seen[..., : expected.shape[2]], expected)
        assert picture.duration == pytest.approx((40 + 10 * index) / 1000)
        assert picture.opaque == frames[index].convert("RGBA").getextrema()[3][0] // 255
        assert damaged(picture) == []


def animated(*chunks: bytes, frames: int, plays: int = 0, default: bool = False, bits: int = 8) -> bytes:
    """A 4x4 RGBA animation, transparent where nothing is drawn."""
    empty = zlib.compress(scanlines(np.zeros((4, 4, 4), np.uint16), bits))
    head = SIGNATURE + header(4, 4, bits, 6) + chunk("acTL", struct.pack(">II", frames, plays))
    first = b"" if default else control(0)
    return head + first + chunk("IDAT", empty) + b"".join(chunks) + chunk("IEND")


def control(
    number: int, place: tuple[int, int, int, int] = (4, 4, 0, 0), disposal: int = 0, blending: int = 0, delay: int = 2
) -> bytes:
    return chunk("fcTL", struct.pack(">5I2H2B", number, *place, delay, 0, disposal, blending))


def drawn(number: int, value: tuple[int, ...], width: int, height: int, bits: int = 8) -> bytes:
    samples = np.broadcast_to(np.array(value, np.uint16), (height, width, 4))
    return chunk("fdAT", struct.pack(">I", number) + zlib.compress(scanlines(samples, bits)))


@pytest.mark.parametrize("bits", [8, 16])
def test_disposal_and_blending(tmp_path: Path, bits: int) -> None:
    top = (1 << bits) - 1
    red, blue, veil = (top, 0, 0, top), (0, 0, top, top), (0, top, 0, top // 2 + 1)
    data = animated(
        control(1, (2, 2, 1, 1)) + drawn(2, red, 2, 2, bits),
        control(3, (2, 2, 1, 1), disposal=2) + drawn(4, blue, 2, 2, bits),
        control(5, (2, 2, 1, 1), disposal=1, blending=1) + drawn(6, veil, 2, 2, bits),
        control(7, (1, 1, 0, 0), blending=1) + drawn(8, veil, 1, 1, bits),
        frames=5,
        bits=bits,
    )
    path = tmp_path / "moving.png"
    path.write_bytes(data)
    file = PictureFile(path)
    assert (file.count, file.loops) == (5, 0)
    pictures = [file.picture(index) for index in range(5)]
    middles = [(*map(int, picture.pixels[1, 1]), int(picture.alpha[1, 1])) for picture in pictures]
    half = (top // 2 + 1) / top
    assert middles[:3] == [(0, 0, 0, 0), red, blue]
    assert middles[3] == pytest.approx((top * (1 - half), top * half, 0, top), abs=1)  # the veil over red, restored
    assert middles[4] == (0, 0, 0, 0)
    assert (*map(int, pictures[4].pixels[0, 0]), int(pictures[4].alpha[0, 0])) == veil
    assert [picture.duration for picture in pictures] == [0.02] * 5
    assert all(picture.ledger == () for picture in pictures)


def test_frames_that_are_too_short_are_shown_as_browsers_show_them(tmp_path: Path) -> None:
    place, value = (1, 1, 0, 0), (9, 9, 9, 255)
    chunks = (control(1 + 2 * i, place, delay=delay) + drawn(2 + 2 * i, value, 1, 1) for i, delay in enumerate((0, 1)))
    path = tmp_path / "short.png"
    path.write_bytes(animated(*chunks, frames=3))
    assert [picture.duration for picture in PictureFile(path)] == [0.02, 0.1, 0.1]


def test_a_picture_for_programs_without_animation(tmp_path: Path) -> None:
    path = tmp_path / "moving.png"
    frames = [control(0) + drawn(1, (9, 9, 9, 255), 4, 4), control(2) + drawn(3, (8, 8, 8, 255), 4, 4)]
    path.write_bytes(animated(*frames, frames=2, default=True))
    file = PictureFile(path)
    assert file.count == 2
    assert lost(file.picture(0)) == ["picture that is not part of the animation"]
    assert int(file.picture(0).pixels[0, 0, 0]) == 9


def test_damaged_animations(tmp_path: Path) -> None:
    path = tmp_path / "moving.png"
    good = control(1) + drawn(2, (9, 9, 9, 255), 4, 4)
    for name, frame in {
        "place": control(3, (4, 4, 1, 0)) + drawn(4, (8, 8, 8, 255), 4, 4),
        "order": control(5) + drawn(4, (8, 8, 8, 255), 4, 4),
        "no pixels": control(3),
        "pixels": control(3) + chunk("fdAT", struct.pack(">I", 4) + b"nonsense"),
        "count": b"",
    }.items():
        path.write_bytes(animated(good, frame, frames=3))
        file = PictureFile(path)
        found = [line for index in range(file.count) for line in damaged(file.picture(index))]
        assert found, name
        assert int(file.picture(1).pixels[0, 0, 0]) == 9, name
    path.write_bytes(animated(good, frames=2).replace(b"acTL", b"acTl"))
    assert read_picture(path).size == (4, 4)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_animations_are_written(tmp_path: Path, channels: int, dtype: Any, *, transparent: bool) -> None:
    rng = np.random.default_rng(0)
    top = np.iinfo(dtype).max
    pixels = rng.integers(0, top + 1, (5, 30, 40, channels), dtype=dtype)
    pixels[1:] = pixels[0]
    pixels[1, 3:9, 7:20] //= 2
    pixels[3] = pixels[2]  # unchanged
    pixels[4, -1, -1] ^= 1
    alpha = rng.integers(0, 2, (5, 30, 40), dtype=dtype) * dtype(top) if transparent else None
    durations = [0.04, 1 / 30, 5.5, 100.0, None]
    asked = []

    def frames() -> Any:
        for index in range(5):
            asked.append(index)
            yield Picture(
                pixels[index],
                None if alpha is None else alpha[index],
                metadata=Metadata(texts=(Text("Author", "Someone"),)),
                duration=durations[index],
            )

    data = written(encode_png_animation, frames(), 2, Encoding())
    assert asked == list(range(5))
    path = tmp_path / "out.png"
    path.write_bytes(data)
    file = PictureFile(path)
    assert (file.count, file.loops) == (5, 2)
    for index in range(5):
        picture = file.picture(index)
        np.testing.assert_array_equal(picture.pixels, pixels[index])
        if alpha is not None:
            np.testing.assert_array_equal(picture.alpha, alpha[index])
        assert picture.duration == pytest.approx(durations[index] or 0.1, abs=1e-4)
        assert picture.metadata.texts == (Text("Author", "Someone"),)
        assert picture.ledger == ()
    if dtype == np.uint8:
        with Image.open(path) as image:
            assert (image.n_frames, image.info["loop"]) == (5, 2)
            for index in range(5):
                image.seek(index)
                mode = ("L" if channels == 1 else "RGB") + ("A" if transparent else "")
                seen = np.asarray(image.convert(mode)).reshape(30, 40, -1)
                np.testing.assert_array_equal(seen[..., :channels], pixels[index])


def test_frames_follow_the_first_one() -> None:
    grey, colour = np.zeros((4, 4, 1), np.uint8), np.ones((4, 4, 3), np.uint8)
    half = np.full((4, 4), 128, np.uint8)

    def encoded(*frames: Picture) -> Image.Image:
        return Image.open(io.BytesIO(written(encode_png_animation, iter(frames), 0, Encoding())))

    image = encoded(Picture(colour, half), Picture(grey))
    image.seek(1)
    assert image.convert("RGBA").getpixel((0, 0)) == (0, 0, 0, 255)
    image = encoded(Picture(colour), Picture(grey, half * 0 + 255))
    assert image.n_frames == 2
    for other in (Picture(colour), Picture(grey, half), Picture(grey[:2]), Picture(grey.astype(np.uint16))):
        with pytest.raises(PictureError, match="frame 2"):
            encoded(Picture(grey), other)
    with pytest.raises(PictureError, match="at least one frame"):
        encoded()


def test_far_more_rows_than_there_are_is_no_damage(tmp_path: Path) -> None:
    data = SIGNATURE + header(4, 4, 8, 2) + chunk("IDAT", zlib.compress(bytes(5 << 20))) + chunk("IEND")
    picture = read(tmp_path, data)
    assert damaged(picture) == []
    assert lost(picture) == ["pixels beyond the last row"]


def test_a_large_picture_of_few_bytes_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "blank.png"

    def write(stream_bytes: int) -> None:
        stream = zlib.compress(b"\5").ljust(stream_bytes, b"\0")  # nothing that could be decoded
        path.write_bytes(SIGNATURE + header(17_000, 17_000, 8, 0) + chunk("IDAT", stream) + chunk("IEND"))

    write(300_000)
    with pytest.raises(LimitError, match="17000x17000 is too large to be believed of 300000 bytes"):
        read_picture(path)
    with pytest.raises(PictureError, match="damaged"):
        read_picture(path, max_pixels=None)
    write(1_200_000)
    with pytest.raises(PictureError, match="damaged"):
        read_picture(path)


def test_a_text_made_by_pillow(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "a title", zip=True)
    info.add_itxt("Source", "källa", lang="sv", tkey="Källa", zip=True)
    path = tmp_path / "in.png"
    Image.new("P", (3, 2)).save(path, pnginfo=info, dpi=(72, 72))
    picture = read_picture(path)
    assert picture.metadata.texts == (Text("Title", "a title"), Text("Source", "källa", "sv", "Källa"))
    assert picture.metadata.dpi == pytest.approx((72, 72), abs=0.02)
