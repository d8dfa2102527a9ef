"""Reading and writing pictures: every kind of file, what is kept, and failures.

Files to read are made by Pillow, by OpenCV or byte by byte, never by the encoders under test; written files are read
back by Pillow and OpenCV too.
"""

from __future__ import annotations

import errno
import functools
import io
import os
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps, PngImagePlugin, features
from support.profiles import cmyk_profile
from support.reading import SRGB, noise, png_chunk, read
from support.seeds import READERS, seeds
from support.writing import write_to

from gsrcli import images
from gsrcli.errors import GsrError, LimitError, PictureError, UsageError
from gsrcli.images import (
    Colour,
    Fate,
    Metadata,
    Picture,
    PictureFile,
    exif,
    fit,
    output_format,
    probe,
    read_picture,
    with_fate,
    write_picture,
)
from gsrcli.images.ledger import damage_of_pixels
from gsrcli.size import Size

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="Pillow has no AVIF")

XMP = b"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" tiff:Orientation="1"
 exif:PixelXDimension="7" exif:PixelYDimension="5" dc:creator="\xc3\x85sa"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""


def pillow_file(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png_file(
    width: int, height: int, bits: int, kind: int, rows: list[bytes], before: bytes = b"", after: bytes = b""
) -> bytes:
    """Build a PNG file byte by byte; kind is 0 for grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + before + data + after + png_chunk(b"IEND", b"")


def deep_png(values: np.ndarray, before: bytes = b"", after: bytes = b"") -> bytes:
    """Build a PNG file of 16 bits per channel from (H, W, 1 to 4)."""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]]
    rows = [row.astype(">u2").tobytes() for row in values]
    return png_file(values.shape[1], values.shape[0], 16, kind, rows, before, after)


def cv2_file(values: np.ndarray, suffix: str) -> bytes:
    """Encode (H, W, 3 or 4) with OpenCV."""
    order = [2, 1, 0, 3][: values.shape[2]]
    return cv2.imencode(suffix, np.ascontiguousarray(values[..., order]))[1].tobytes()


def assert_picture(picture: Picture, pixels: np.ndarray, alpha: np.ndarray | None = None) -> None:
    assert picture.pixels.dtype == pixels.dtype
    assert picture.pixels.flags.c_contiguous
    assert picture.pixels.flags.writeable
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert (picture.alpha is None) == (alpha is None)
    if alpha is not None:
        np.testing.assert_array_equal(picture.alpha, alpha)


# Reading: modes


@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP", "WEBP"])
def test_eight_bit_rgb(tmp_path: Path, form: str) -> None:
    values = noise(5, 7, 3)
    options = {"lossless": True} if form == "WEBP" else {}
    assert_picture(read(tmp_path, pillow_file(Image.fromarray(values), form, **options)), values)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_eight_bit_rgba(tmp_path: Path, form: str) -> None:
    values = noise(5, 7, 4)
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    picture = read(tmp_path, pillow_file(Image.fromarray(values), form, **options))
    assert_picture(picture, values[..., :3], values[..., 3])


@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP"])
def test_grey_stays_grey(tmp_path: Path, form: str) -> None:
    values = noise(5, 7)
    assert_picture(read(tmp_path, pillow_file(Image.fromarray(values), form)), values[..., None])


def test_grey_jpeg_stays_grey(tmp_path: Path) -> None:
    values = noise(16, 16)
    picture = read(tmp_path, pillow_file(Image.fromarray(values), "JPEG", quality=100))
    assert picture.grey
    assert np.abs(picture.pixels[..., 0].astype(int) - values).max() < 8


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_grey_and_alpha(tmp_path: Path, form: str) -> None:
    values = noise(5, 7, 2)
    picture = read(tmp_path, pillow_file(Image.fromarray(values, "LA"), form))
    assert_picture(picture, values[..., :1], values[..., 1])


@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP"])
def test_one_bit(tmp_path: Path, form: str) -> None:
    values = noise(5, 7) > 127
    picture = read(tmp_path, pillow_file(Image.fromarray(values), form))
    assert_picture(picture, (values * np.uint8(255))[..., None])


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_png_with_one_transparent_value(tmp_path: Path, bits: int) -> None:
    levels = np.arange(8) % 2**bits
    row = int("".join(f"{level:0{bits}b}" for level in levels), 2).to_bytes(bits, "big")
    picture = read(tmp_path, png_file(8, 1, bits, 0, [row], png_chunk(b"tRNS", struct.pack(">H", 1))))
    dtype = np.uint16 if bits == 16 else np.uint8
    top = np.iinfo(dtype).max
    pixels = (levels * (top // (2**bits - 1))).astype(dtype)
    assert_picture(picture, pixels[None, :, None], np.where(levels == 1, 0, top).astype(dtype)[None])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_rgb_png_with_one_transparent_colour(tmp_path: Path, dtype: Any) -> None:
    values = noise(5, 7, 3, dtype=dtype)
    size = values.itemsize
    key = png_chunk(b"tRNS", values[2, 3].astype(">u2").tobytes())
    rows = [row.astype(f">u{size}").tobytes() for row in values]
    picture = read(tmp_path, png_file(7, 5, 8 * size, 2, rows, key))
    alpha = np.full((5, 7), np.iinfo(dtype).max, dtype)
    alpha[2, 3] = 0
    assert_picture(picture, values, alpha)


def test_palette(tmp_path: Path) -> None:
    palette, indices = noise(16, 3), noise(5, 7, seed=1) % 16
    rows = [row.tobytes() for row in indices]
    plte = png_chunk(b"PLTE", palette.tobytes())
    assert_picture(read(tmp_path, png_file(7, 5, 8, 3, rows, plte)), palette[indices])
    opacity = noise(16, seed=2)
    picture = read(tmp_path, png_file(7, 5, 8, 3, rows, plte + png_chunk(b"tRNS", opacity.tobytes())))
    assert_picture(picture, palette[indices], opacity[indices])


def test_gif_with_a_transparent_index(tmp_path: Path) -> None:
    image = Image.fromarray(noise(5, 7) % 4, "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    picture = read(tmp_path, pillow_file(image, "GIF", transparency=3))
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha == 0, np.asarray(image) == 3)
    visible = picture.alpha > 0
    np.testing.assert_array_equal(picture.pixels[visible], np.asarray(image.convert("RGB"))[visible])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bit_png_is_exact(tmp_path: Path, channels: int) -> None:
    values = noise(5, 7, channels, dtype=np.uint16)
    alpha = values[..., -1] if channels in (2, 4) else None
    colours = values[..., : 1 if channels < 3 else 3]
    assert_picture(read(tmp_path, deep_png(values)), colours, alpha)


def test_dark_sixteen_bit_png_stays_sixteen_bit(tmp_path: Path) -> None:
    values = noise(5, 7, 3).astype(np.uint16)
    assert_picture(read(tmp_path, deep_png(values)), values)


def test_sixteen_bit_tiff_is_exact(tmp_path: Path) -> None:
    rgb, rgba = noise(5, 7, 3, dtype=np.uint16), noise(5, 7, 4, dtype=np.uint16)
    assert_picture(read(tmp_path, cv2_file(rgb, ".tiff")), rgb)
    tifffile = pytest.importorskip("tifffile")
    for layout in ({}, {"byteorder": ">"}, {"tile": (16, 16)}, {"compression": "zlib", "predictor": True}):
        file = io.BytesIO()
        tifffile.imwrite(file, rgba, photometric="rgb", extrasamples=["unassalpha"], **layout)
        assert_picture(read(tmp_path, file.getvalue()), rgba[..., :3], rgba[..., 3])


def test_sixteen_bit_grey_tiff(tmp_path: Path) -> None:
    values = noise(5, 7, dtype=np.uint16)
    assert_picture(read(tmp_path, pillow_file(Image.fromarray(values), "TIFF")), values[..., None])
    tifffile = pytest.importorskip("tifffile")
    file = io.BytesIO()
    tifffile.imwrite(file, values, photometric="miniswhite")
    assert_picture(read(tmp_path, file.getvalue()), 65535 - values[..., None])


def test_premultiplied_sixteen_bit_tiff(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    colours, alpha = noise(5, 7, 3, dtype=np.uint16), noise(5, 7, dtype=np.uint16, seed=1) | 0x8000
    multiplied = np.rint(colours * (alpha[..., None] / 65535)).astype(np.uint16)
    file = io.BytesIO()
    tifffile.imwrite(file, np.dstack([multiplied, alpha]), photometric="rgb", extrasamples=["assocalpha"])
    picture = read(tmp_path, file.getvalue())
    np.testing.assert_array_equal(picture.alpha, alpha)
    assert np.abs(picture.pixels.astype(int) - colours).max() <= 1


def test_cmyk_goes_through_its_profile(tmp_path: Path) -> None:
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[..., 0], inks[:, 8:, 3] = 200, 255  # cyan, which this profile ignores, and half of it black
    image = Image.fromarray(inks, "CMYK")
    for form in ("JPEG", "TIFF"):
        plain = read(tmp_path, pillow_file(image, form))
        assert plain.pixels[0, 0, 0] < 80 < 200 < plain.pixels[0, 0, 2]
        picture = read(tmp_path, pillow_file(image, form, icc_profile=cmyk_profile()))
        assert picture.colour.icc is None
        assert picture.pixels[:, :8].min() > 250
        assert picture.pixels[:, 8:].max() < 5
    broken = read(tmp_path, pillow_file(image, "TIFF", icc_profile=b"not a profile"))
    np.testing.assert_array_equal(broken.pixels, plain.pixels)


def test_lab_and_ycbcr_tiff(tmp_path: Path) -> None:
    lab = np.zeros((4, 4, 3), np.uint8)
    lab[..., 0] = 255
    assert read(tmp_path, pillow_file(Image.fromarray(lab, "LAB"), "TIFF")).pixels.min() > 250
    image = Image.new("RGB", (32, 32), (200, 100, 50))
    picture = read(tmp_path, pillow_file(image, "TIFF", compression="jpeg", quality=95))
    assert np.abs(picture.pixels.astype(int) - (200, 100, 50)).max() < 6


@needs_avif
def test_avif(tmp_path: Path) -> None:
    image = Image.new("RGBA", (32, 24), (200, 100, 50, 128))
    picture = read(tmp_path, pillow_file(image, "AVIF", quality=95))
    assert np.abs(picture.pixels.astype(int) - (200, 100, 50)).max() < 6
    assert picture.alpha is not None
    assert np.abs(picture.alpha.astype(int) - 128).max() < 3


def test_several_pictures_in_a_photo_from_a_phone(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (32, 24), "red"), Image.new("RGB", (8, 6), "blue")
    data = pillow_file(first, "MPO", save_all=True, append_images=[second])
    picture = read(tmp_path, data, "photo.jpg")
    assert picture.size == Size(24, 32)
    assert picture.pixels[..., 0].min() > 250


# Reading: orientation and metadata


def exif_block(orientation: int = 1, endian: str = "<") -> bytes:
    exif = Image.Exif()
    exif.endian = endian
    exif[ExifTags.Base.Make] = "Maker of cameras"
    exif[ExifTags.Base.Copyright] = "\u00c5sa".encode("latin-1")
    exif[ExifTags.Base.Orientation] = orientation
    directory = exif.get_ifd(ExifTags.IFD.Exif)
    directory[ExifTags.Base.ExposureTime] = 1 / 8
    directory[ExifTags.Base.DateTimeOriginal] = "2026:01:02 03:04:05"
    directory[ExifTags.Base.MakerNote] = b"notes of the maker" * 4
    directory[ExifTags.Base.ExifImageWidth], directory[ExifTags.Base.ExifImageHeight] = 7, 5
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (52.0, 30.0, 15.5)
    return exif.tobytes().removeprefix(b"Exif\0\0")


def assert_exif_survived(block: bytes | None, size: tuple[int, int]) -> None:
    assert block is not None
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + block)
    assert exif[ExifTags.Base.Make] == "Maker of cameras"
    assert exif.get(ExifTags.Base.Orientation, 1) == 1
    directory = exif.get_ifd(ExifTags.IFD.Exif)
    assert directory[ExifTags.Base.ExposureTime] == 1 / 8
    assert directory[ExifTags.Base.DateTimeOriginal] == "2026:01:02 03:04:05"
    assert directory[ExifTags.Base.MakerNote] == b"notes of the maker" * 4
    assert (directory[ExifTags.Base.ExifImageWidth], directory[ExifTags.Base.ExifImageHeight]) == size
    assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] == (52.0, 30.0, 15.5)


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (H, W) upright with Pillow."""
    image = Image.fromarray(values)
    image.getexif()[ExifTags.Base.Orientation] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once_and_reset(tmp_path: Path, orientation: int) -> None:
    grey = np.arange(35, dtype=np.uint8).reshape(5, 7)
    expected = turned(grey, orientation)
    colour, deep = np.dstack([grey] * 3), np.dstack([grey.astype(np.uint16) * 257] * 3)
    block = exif_block(orientation)
    chunk = png_chunk(b"eXIf", block)
    tiff = pillow_file(Image.fromarray(grey), "TIFF", tiffinfo={ExifTags.Base.Orientation: orientation})
    files = {
        "png": pillow_file(Image.fromarray(grey), "PNG", exif=b"Exif\0\0" + block),
        "png, late": deep_png(deep, after=chunk),
        "png, 8 bit, late": png_file(7, 5, 8, 0, [row.tobytes() for row in grey], after=chunk),
        "png, big-endian": deep_png(deep, before=png_chunk(b"eXIf", exif_block(orientation, ">"))),
        "webp": pillow_file(Image.fromarray(colour), "WEBP", lossless=True, exif=block),
        "tiff": tiff,
        "tiff, compressed": pillow_file(
            Image.fromarray(grey), "TIFF", compression="tiff_lzw", tiffinfo={ExifTags.Base.Orientation: orientation}
        ),
        "tiff, 16 bit": turned_deep_tiff(deep, orientation),
    }
    for kind, data in files.items():
        picture = read(tmp_path, data)
        seen = picture.pixels[..., 0] if picture.bits == 8 else picture.pixels[..., 0] // 257
        np.testing.assert_array_equal(seen, expected, err_msg=kind)
        if picture.metadata.exif is not None:
            assert exif.exif_orientation(picture.metadata.exif) in (None, 1), kind
        write_picture(picture, tmp_path / "out.png")
        again = Image.open(tmp_path / "out.png")
        assert again.getexif().get(ExifTags.Base.Orientation, 1) == 1, kind
        assert again.size == picture.size.for_pillow


def turned_deep_tiff(values: np.ndarray, orientation: int) -> bytes:
    """Build an uncompressed 16-bit RGB TIFF file byte by byte."""
    data = values.astype("<u2").tobytes()
    height, width, _ = values.shape
    entries = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, 3, 8 + len(data)),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
        (274, 3, 1, orientation),
        (277, 3, 1, 3),
        (278, 3, 1, height),
        (279, 4, 1, len(data)),
    ]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    header = struct.pack("<2sHI", b"II", 42, 8 + len(data) + 6)
    return header + data + struct.pack("<3H", 16, 16, 16) + struct.pack("<H", len(entries)) + directory + b"\0" * 4


@pytest.mark.parametrize("orientation", [3, 6])
def test_orientation_of_photos(tmp_path: Path, orientation: int) -> None:
    values = np.zeros((48, 64, 3), np.uint8)
    values[:24, :32], values[:24, 32:], values[24:, :32] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    data = pillow_file(Image.fromarray(values), "JPEG", quality=95, exif=b"Exif\0\0" + exif_block(orientation))
    picture = read(tmp_path, data)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(picture.pixels, expected)
    assert exif.exif_orientation(picture.metadata.exif or b"") == 1


def test_orientation_of_xmp_alone(tmp_path: Path) -> None:
    values = noise(5, 7, 3)
    packet = XMP.replace(b'tiff:Orientation="1"', b'tiff:Orientation="6"')
    text = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)
    for where in ("before", "after"):
        data = png_file(7, 5, 8, 2, [row.tobytes() for row in values], **{where: text})
        picture = read(tmp_path, data)
        np.testing.assert_array_equal(picture.pixels, np.rot90(values, -1))
        assert picture.metadata.xmp == XMP


def test_dpi_turns_with_the_picture(tmp_path: Path) -> None:
    tags = {ExifTags.Base.Orientation: 6}
    data = pillow_file(Image.fromarray(noise(5, 7)), "TIFF", dpi=(300, 150), tiffinfo=tags)
    assert read(tmp_path, data).metadata.dpi == (150, 300)


@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "TIFF", pytest.param("AVIF", marks=needs_avif)])
@pytest.mark.parametrize("target", [".jpg", ".png", ".webp", ".tif", pytest.param(".avif", marks=needs_avif)])
def test_metadata_survive(tmp_path: Path, source: str, target: str) -> None:
    image = Image.fromarray(noise(5, 7, 3))
    options: dict[str, Any] = {"exif": b"Exif\0\0" + exif_block(), "icc_profile": SRGB, "dpi": (300, 300)}
    if source == "TIFF":
        options["exif"] = Image.Exif()
        options["exif"].load(b"Exif\0\0" + exif_block())
        options["exif"][700] = XMP
    elif source == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    else:
        options["xmp"] = XMP
    picture = read(tmp_path, pillow_file(image, source, **options))
    assert picture.colour.icc == SRGB
    assert picture.metadata.xmp == XMP
    assert_exif_survived(picture.metadata.exif, (7, 5))

    larger = Picture(noise(11, 13, 3), colour=picture.colour, metadata=picture.metadata)
    path = tmp_path / f"out{target}"
    write_picture(larger, path)
    written = Image.open(path)
    written.load()
    assert written.info["icc_profile"] == SRGB
    xmp = written.info["xmp"].replace(b'"13"', b'"7"').replace(b'"11"', b'"5"')
    assert xmp == XMP
    assert xmp != written.info["xmp"]
    if target == ".tif":
        assert written.getexif()[ExifTags.Base.Make] == "Maker of cameras"
    again = read_picture(path)
    assert_exif_survived(again.metadata.exif, (13, 11))
    if target in (".jpg", ".png", ".tif") and source in ("JPEG", "PNG", "TIFF"):
        assert again.metadata.dpi == pytest.approx((300, 300), abs=0.01)

    write_picture(larger.without_metadata(), path)
    stripped = read_picture(path)
    assert not exif.exif_tags(stripped.metadata.exif or b"")  # at most the resolution
    assert (stripped.metadata.xmp, stripped.colour.icc) == (None, SRGB)


def thumbnailed_block(endian: str) -> tuple[bytes, bytes]:
    """Return an EXIF block with orientation 6 and a thumbnail at its end, and the thumbnail."""
    thumbnail = b"\xff\xd8thumbnail\xff\xd9"
    entry = struct.Struct(endian + "HHI4s")
    short, long = (lambda v: struct.pack(endian + "HH", v, 0)), (lambda v: struct.pack(endian + "I", v))
    second_at = 8 + 2 + 2 * 12 + 4
    thumbnail_at = second_at + 2 + 2 * 12 + 4
    return (
        (b"II*\0" if endian == "<" else b"MM\0*")
        + struct.pack(endian + "I", 8)
        + struct.pack(endian + "H", 2)
        + entry.pack(0x0100, 3, 1, short(7))
        + entry.pack(0x0112, 3, 1, short(6))
        + struct.pack(endian + "I", second_at)
        + struct.pack(endian + "H", 2)
        + entry.pack(0x0201, 4, 1, long(thumbnail_at))
        + entry.pack(0x0202, 4, 1, long(len(thumbnail)))
        + struct.pack(endian + "I", 0)
        + thumbnail
    ), thumbnail


@pytest.mark.parametrize("endian", ["<", ">"])
def test_exif_is_patched_in_place(endian: str) -> None:
    block, thumbnail = thumbnailed_block(endian)
    assert exif.exif_orientation(block) == 6
    upright = exif.exif_upright(block)
    assert upright is not None
    assert exif.exif_orientation(upright) == 1
    assert thumbnail not in upright
    assert len(upright) == len(block) - len(thumbnail)
    resized = Image.Exif()
    resized.load(b"Exif\0\0" + exif.exif_resized(upright, Size(9, 70_000)))
    assert resized[0x0100] == 70_000
    assert not resized.get_ifd(ExifTags.IFD.IFD1)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_no_exif_block_is_too_broken(data: st.DataObject) -> None:
    block = bytearray(data.draw(st.sampled_from([exif_block(6), exif_block(8, ">"), thumbnailed_block(">")[0]])))
    for _ in range(data.draw(st.integers(0, 8))):
        block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(block[: data.draw(st.integers(0, len(block)))])
    exif.exif_orientation(cut)
    exif.exif_upright(cut)
    exif.pack_directory(exif.exif_tags(cut), 8)
    assert len(exif.exif_resized(cut, Size(9, 9))) == len(cut)


# Writing


def assert_written(path: Path, values: np.ndarray, tolerance: int) -> None:
    """Assert that the file, read by Pillow (8 bits) or OpenCV (16 bits), contains (H, W, C) with alpha last."""
    if values.dtype == np.uint16:
        if path.suffix == ".tif" and values.shape[2] == 2:
            return  # OpenCV drops this alpha
        found = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
        assert found is not None
        found = found.reshape(*found.shape[:2], -1)
        assert found.dtype == np.uint16
        if found.shape[2] >= 3:
            found = found[..., [2, 1, 0, 3][: found.shape[2]]]
    else:
        found = np.asarray(Image.open(path))
        found = found.reshape(*found.shape[:2], -1)
    if found.shape[2] >= 3 > values.shape[2]:  # grey where the format, or OpenCV, has only RGB
        values = values[..., [0, 0, 0, 1][: 3 + (values.shape[2] == 2)]]
    assert found.shape == values.shape
    assert np.abs(found.astype(int) - values).max() <= tolerance


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".jpg", ".webp", pytest.param(".avif", marks=needs_avif)])
def test_round_trip(tmp_path: Path, suffix: str, channels: int, dtype: Any) -> None:
    y, x, c = np.mgrid[:40, :48, :channels]
    values = ((3 * x + 2 * y + 7 * c + 20) * (np.iinfo(dtype).max // 255)).astype(dtype)
    has_alpha = channels in (2, 4)
    alpha = values[..., -1] if has_alpha else None
    picture = Picture(values[..., : channels - has_alpha], alpha)
    path = tmp_path / f"out{suffix}"
    if has_alpha and suffix == ".jpg":
        with pytest.raises(PictureError, match="transparency") as failure:
            write_picture(picture, path)
        assert ".png" in (failure.value.hint or "")
        assert list(tmp_path.iterdir()) == []
        return
    write_picture(picture, path)
    if suffix not in (".png", ".tif") and dtype == np.uint16:
        values = np.rint(values / 257).astype(np.uint8)
    assert_written(path, values, tolerance=0 if suffix in (".png", ".tif", ".bmp") else 12)

    again = read_picture(path)
    assert again.size == probe(path) == Size(40, 48)
    assert (again.alpha is not None) == has_alpha
    if suffix in (".png", ".tif"):
        assert_picture(again, picture.pixels, alpha)
    elif suffix != ".webp" and not has_alpha:
        assert again.grey == picture.grey


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([1, 3]),
    st.booleans(),
    st.sampled_from([np.uint8, np.uint16]),
    st.integers(0, 99),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lossless_formats_are_lossless(
    tmp_path: Path, width: int, height: int, channels: int, has_alpha: bool, dtype: Any, seed: int
) -> None:
    pixels = noise(height, width, channels, dtype=dtype, seed=seed)
    alpha = noise(height, width, dtype=dtype, seed=seed + 1) if has_alpha else None
    for suffix in (".png", ".tif"):
        write_picture(Picture(pixels, alpha), tmp_path / f"out{suffix}")
        again = read_picture(tmp_path / f"out{suffix}")
        assert_picture(again, pixels, alpha)


def test_many_blocks_and_the_same_bytes_on_any_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    y, x, c = np.mgrid[:1500, :1000, :3]
    pixels = (x + y * (c + 1)).astype(np.uint8)
    for suffix in (".png", ".tif"):
        path = tmp_path / f"out{suffix}"
        write_picture(Picture(pixels), path)
        np.testing.assert_array_equal(np.asarray(Image.open(path)), pixels)
        threaded = path.read_bytes()
        monkeypatch.setattr("gsrcli.images.writers.blocks._MOST_THREADS", 1)
        write_picture(Picture(pixels), path)
        monkeypatch.undo()
        assert path.read_bytes() == threaded


def test_opaque_alpha_can_be_written_to_any_format(tmp_path: Path) -> None:
    picture = Picture(noise(5, 7, 3), np.full((5, 7), 255, np.uint8))
    assert picture.opaque
    write_picture(picture, tmp_path / "out.jpg")
    assert read_picture(tmp_path / "out.jpg").alpha is None


def test_quality_matters(tmp_path: Path) -> None:
    for suffix in (".jpg", ".webp"):
        sizes = []
        for quality in (10, 60, None, 100):
            write_picture(Picture(noise(64, 64, 3)), tmp_path / f"out{suffix}", quality=quality)
            sizes.append((tmp_path / f"out{suffix}").stat().st_size)
        assert sizes == sorted(set(sizes))
    for wrong in (0, 101):
        with pytest.raises(UsageError):
            write_picture(Picture(noise(5, 7, 3)), tmp_path / "out.jpg", quality=wrong)


def test_jpeg_keeps_full_colour_resolution(tmp_path: Path) -> None:
    write_picture(Picture(noise(16, 16, 3)), tmp_path / "out.jpg")
    assert all(component[1:3] == (1, 1) for component in Image.open(tmp_path / "out.jpg").layer)


def test_losses() -> None:
    colour, metadata = Colour(icc=SRGB), Metadata(exif=b"II")
    deep = Picture(noise(5, 7, 3, dtype=np.uint16), noise(5, 7, dtype=np.uint16), colour=colour, metadata=metadata)
    for name, lost in (("a.png", 0), ("a.webp", 1), ("a.bmp", 2)):
        fitted, ledger = fit(deep, output_format(name), background=(255, 255, 255))
        assert len(with_fate(Fate.LOST, ledger)) == lost
        assert len(ledger) == 4
        again, kept = fit(fitted, output_format(name))
        assert again.features() == fitted.features()
        assert with_fate(Fate.KEPT, kept) == with_fate(Fate.KEPT, ledger)
    with pytest.raises(PictureError, match="JPEG cannot keep the transparency"):
        fit(deep, output_format("a.jpg"))


# Failing


def test_names_of_any_alphabet(tmp_path: Path) -> None:
    folder = tmp_path / "фото 图片 \u00e9"
    folder.mkdir()
    deep = noise(5, 7, 3, dtype=np.uint16)
    picture = read(folder, deep_png(deep), "åäö 🙂.png")
    for name in ("ő.tif", "画像.png", "צילום.jpg"):
        write_picture(picture, folder / name)
        assert read_picture(folder / name).size == Size(5, 7)
    write_picture(picture, str(folder / "UPPER.PNG"))
    assert read_picture(str(folder / "UPPER.PNG")).bits == 16


@functools.cache
def valid_files() -> dict[str, bytes]:
    image = Image.fromarray(noise(64, 64, 3))
    files = {form: pillow_file(image, form) for form in ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")}
    files["PNG, 16 bit"] = deep_png(noise(32, 32, 3, dtype=np.uint16))
    files["TIFF, 16 bit"] = cv2_file(noise(32, 32, 3, dtype=np.uint16), ".tiff")
    if features.check("avif"):
        files["AVIF"] = pillow_file(image, "AVIF")
    return files


@pytest.mark.parametrize("share", [0.001, 0.02, 0.5, 0.9])
def test_truncated_files(tmp_path: Path, share: float, capfd: pytest.CaptureFixture[str]) -> None:
    for kind, data in valid_files().items():
        if kind == "JPEG" and share >= 0.1:
            continue  # what there is of it is read, with a warning
        path = tmp_path / "short.jpg"
        path.write_bytes(data[: max(1, int(len(data) * share))])
        try:
            picture = read_picture(path)
        except PictureError as error:
            message = str(error)
        else:
            assert with_fate(Fate.DAMAGED, picture.ledger), f"{kind} cut to {share} was read without a word"
            continue
        assert message.startswith(f"cannot read {path}: "), kind
        assert "Error" not in message, kind
        assert "PIL" not in message, kind
    assert capfd.readouterr().err == ""


def test_files_that_are_not_pictures(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("dear diary")
    (tmp_path / "folder.png").mkdir()
    for name, words in (
        ("empty.png", "empty"),
        ("text.jpg", "not a picture in a supported format"),
        ("folder.png", "directory"),
        ("missing.png", "no such file"),
    ):
        for function in (read_picture, probe):
            with pytest.raises(PictureError, match=words) as failure:
                function(tmp_path / name)
            assert name in str(failure.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read and write anything")
def test_permissions(tmp_path: Path) -> None:
    path = tmp_path / "closed.png"
    write_picture(Picture(noise(5, 7, 3)), path)
    path.chmod(0)
    with pytest.raises(PictureError, match="permission denied"):
        read_picture(path)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PictureError, match="permission denied"):
            write_picture(Picture(noise(5, 7, 3)), tmp_path / "new.png")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF"])
def test_animations_are_refused(tmp_path: Path, form: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    path = tmp_path / "moving"
    path.write_bytes(pillow_file(frames[0], form, save_all=True, append_images=frames[1:]))
    for function in (read_picture, probe):
        with pytest.raises(PictureError, match="animated"):
            function(path)


def test_tiff_pages(tmp_path: Path) -> None:
    page, second = Image.fromarray(noise(5, 7, 3)), Image.new("RGB", (3, 2))
    path = tmp_path / "pages.tif"
    page.save(path, save_all=True, append_images=[second])
    with pytest.raises(PictureError, match="2 pages"):
        read_picture(path)
    second.encoderinfo = {"tiffinfo": {254: 1}}  # a thumbnail
    page.save(path, save_all=True, append_images=[second])
    np.testing.assert_array_equal(read_picture(path).pixels, np.asarray(page))


def test_a_tiny_file_that_claims_to_be_huge(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_file(60_000, 60_000, 8, 2, [b"\0" * 10]))
    for function in (read_picture, probe):
        with pytest.raises(LimitError, match="60000x60000") as failure:
            function(path)
        assert "--max-pixels 3600000000" in (failure.value.hint or "")
    with pytest.raises(PictureError, match="cannot hold so many"):
        probe(path, max_pixels=None)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif", "bmp", "tga", "ppm"])
def test_of_a_cut_file_only_a_picture_file_reads_what_is_left(tmp_path: Path, suffix: str) -> None:
    """Who asks for one picture, to score it or to learn from it, does not get half of one."""
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(noise(200, 50, 3)).save(path)
    whole = read_picture(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    left = PictureFile(path).picture()
    assert left.size == whole.size
    assert damage_of_pixels(left.ledger)
    with pytest.raises(PictureError, match=r"picture\.\w+: damaged pixels"):
        read_picture(path)


def test_a_picture_whose_metadata_alone_are_damaged_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    Image.fromarray(noise(20, 30, 3)).save(path, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    picture = read_picture(path)
    assert with_fate(Fate.DAMAGED, picture.ledger) == ["EXIF"]


def test_only_our_limit_applies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "picture.tif"
    Image.fromarray(noise(50, 50, 3)).save(path, compression="tiff_lzw")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow alone would refuse it
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(10):
                assert read_picture(path).size == (50, 50)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(LimitError):
        read_picture(path, max_pixels=2499)


@pytest.mark.parametrize(
    ("name", "size", "fits"),
    [
        ("a.jpg", Size(1, 65500), True),
        ("a.jpg", Size(65501, 1), False),
        ("a.webp", Size(16383, 16383), True),
        ("a.webp", Size(1, 16384), False),
        ("a.png", Size(100_000, 100_000), True),
        ("a.tif", Size(100_000, 100_000), True),
        ("a.bmp", Size(38_000, 38_000), False),
        pytest.param("a.avif", Size(16384, 16384), True, marks=needs_avif),
        pytest.param("a.avif", Size(16384, 16385), False, marks=needs_avif),
        pytest.param("a.avif", Size(1, 32769), False, marks=needs_avif),
    ],
)
def test_limits_of_formats(name: str, size: Size, fits: bool) -> None:
    if fits:
        images.check_limits(size, name)
        images.check_output(name, size)
    else:
        with pytest.raises(LimitError, match=f"{size} is too large") as failure:
            images.check_limits(size, name)
        assert "png" in (failure.value.hint or "")


def test_the_longest_side_that_is_allowed_can_be_written(tmp_path: Path) -> None:
    for name, side in (("a.jpg", 65500), ("a.webp", 16383)):
        write_picture(Picture(noise(1, side, 3)), tmp_path / name)
        assert read_picture(tmp_path / name).size == Size(1, side)
    with pytest.raises(LimitError):
        write_picture(Picture(noise(1, 16384, 3)), tmp_path / "b.webp")


def test_outputs_are_checked_beforehand(tmp_path: Path) -> None:
    for name in ("a", "a.xyz"):
        with pytest.raises(UsageError) as failure:
            images.check_output(tmp_path / name, Size(1, 1))
        assert ".png" in (failure.value.hint or "")
        assert failure.value.exit_code == 2
    with pytest.raises(PictureError, match="folder does not exist"):
        images.check_output(tmp_path / "missing" / "a.png", Size(1, 1))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_bytes(b"old")

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            super().write(bytes(data)[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_to(monkeypatch, Full)
    with pytest.raises(PictureError, match=r"cannot write .*out.*: no space left"):
        write_picture(Picture(noise(5, 7, 3)), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError(errno.EACCES, "Permission denied")])
def test_an_interruption_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interruption: BaseException
) -> None:
    def interrupt(*_: Any) -> None:
        raise interruption

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises((KeyboardInterrupt, PictureError)):
        write_picture(Picture(noise(5, 7, 3)), tmp_path / "out.png")
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.webp"
    path.write_bytes(b"old")

    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("encoding error 6")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(PictureError, match="encoding error 6"):
        write_picture(Picture(noise(5, 7, 3)), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_existing_files_and_links(tmp_path: Path) -> None:
    path, link = tmp_path / "out.png", tmp_path / "link.png"
    path.write_bytes(b"old")
    with pytest.raises(PictureError, match="the file exists"):
        write_picture(Picture(noise(5, 7, 3)), path, overwrite=False)
    assert path.read_bytes() == b"old"
    link.symlink_to(path)
    write_picture(Picture(noise(5, 7, 3)), link)
    assert link.is_symlink()
    assert read_picture(path).size == Size(5, 7)
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_opencv_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    deep = tmp_path / "deep.jp2"
    deep.write_bytes(cv2_file(noise(64, 64, 3, dtype=np.uint16), ".jp2"))
    with pytest.raises(GsrError) as failure:
        read_picture(deep)
    assert failure.value.hint == "pip install opencv-python-headless"
    picture = Picture(noise(5, 7, 3), noise(5, 7))
    for suffix in images.OUTPUT_SUFFIXES:
        if suffix not in (".jpg", ".jpeg"):
            write_picture(picture, tmp_path / f"out{suffix}")
            read_picture(tmp_path / f"out{suffix}")


def test_neither_torch_nor_opencv_is_imported() -> None:
    code = "import sys, gsrcli.images; assert not {'torch', 'cv2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("reader", READERS)
def test_formats_are_told_by_content(reader: str, tmp_path: Path) -> None:
    path = tmp_path / "no-suffix"
    for data in seeds(reader):
        path.write_bytes(data)
        assert PictureFile(path).format == {"PNM": "PPM"}.get(reader, reader)


def test_readers_are_imported_when_a_file_needs_them(tmp_path: Path) -> None:
    path = tmp_path / "picture.bmp"
    path.write_bytes(pillow_file(Image.new("RGB", (7, 5)), "BMP"))
    code = f"""if True:
        from gsrcli.images import read_picture
        from gsrcli.images.readers import Source

        assert Source.__subclasses__() == []
        read_picture({str(path)!r})
        assert [reader.format for reader in Source.__subclasses__()] == ["BMP"]
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_reader_that_cannot_be_imported_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gsrcli.images.readers.bmp", None)
    path = tmp_path / "picture.bmp"
    path.write_bytes(pillow_file(Image.new("RGB", (7, 5)), "BMP"))
    with pytest.raises(ImportError):
        read_picture(path)


# Arithmetic


def test_unit_range() -> None:
    for dtype in (np.uint8, np.uint16):
        every = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
        unit = images.to_unit(every)
        assert unit.dtype == np.float32
        assert unit.min() == 0
        assert unit.max() == 1
        assert (np.diff(unit) > 0).all()
        np.testing.assert_array_equal(images.from_unit(unit, dtype), every)
    values = np.array([-1, -0.001, 0.5 / 255, 1.5 / 255, 2.49 / 255, 1.001, 9], np.float64)
    np.testing.assert_array_equal(images.from_unit(values, np.uint8), [0, 0, 0, 2, 2, 255, 255])


def test_sixteen_to_eight_bits_rounds_to_the_nearest(tmp_path: Path) -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    write_picture(Picture(every), tmp_path / "out.bmp")
    np.testing.assert_array_equal(read_picture(tmp_path / "out.bmp").pixels, np.rint(every / 257))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_bleeding_takes_the_nearest_visible_colour(dtype: Any) -> None:
    pixels, alpha = noise(40, 50, 3, dtype=dtype), np.zeros((40, 50), dtype)
    rng = np.random.default_rng(3)
    alpha[rng.integers(0, 40, 12), rng.integers(0, 50, 12)] = rng.integers(1, 255, 12)
    before = pixels.copy()
    filled = images.bleed_alpha(pixels, alpha)
    np.testing.assert_array_equal(pixels, before)
    visible = np.argwhere(alpha > 0)
    np.testing.assert_array_equal(filled[alpha > 0], pixels[alpha > 0])
    for y, x in np.ndindex(alpha.shape):
        source = [d for d in visible if (filled[y, x] == pixels[tuple(d)]).all()]
        nearest = np.hypot(*(visible - (y, x)).T).min()
        assert source
        assert min(np.hypot(*(d - (y, x))) for d in source) <= 1.03 * nearest + 0.01


def test_bleeding_leaves_no_dark_fringe() -> None:
    y, x = np.mgrid[:64, :64]
    alpha = np.where((x - 32) ** 2 + (y - 32) ** 2 < 400, 255, 0).astype(np.uint8)
    pixels = np.where(alpha[..., None] > 0, np.uint8([250, 200, 150]), np.uint8(0))
    np.testing.assert_array_equal(images.bleed_alpha(pixels, alpha), np.broadcast_to([250, 200, 150], (64, 64, 3)))


def test_bleeding_nothing() -> None:
    pixels = noise(5, 7, 3)
    for alpha in (np.zeros((5, 7), np.uint8), np.full((5, 7), 9, np.uint8)):
        assert images.bleed_alpha(pixels, alpha) is pixels
    grey = noise(5, 7, 1)
    assert images.bleed_alpha(grey, noise(5, 7) & 1).shape == grey.shape


@pytest.mark.parametrize(
    ("pixels", "alpha"),
    [
        (np.zeros((4, 4), np.uint8), None),
        (np.zeros((4, 4, 2), np.uint8), None),
        (np.zeros((0, 4, 3), np.uint8), None),
        (np.zeros((4, 4, 3), np.float64), None),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8)),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint16)),
    ],
)
def test_invalid_pictures_are_refused(pixels: np.ndarray, alpha: np.ndarray | None) -> None:
    with pytest.raises(ValueError, match="expected"):
        Picture(pixels, alpha)
