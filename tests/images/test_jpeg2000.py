"""JPEG 2000, encoded by Pillow and OpenCV, with boxes built byte by byte."""

from __future__ import annotations

import io
import struct
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, features
from support.reading import lost, noise, read

from gsrcli.errors import LimitError, PictureError
from gsrcli.images import icc

pytestmark = pytest.mark.skipif(not features.check("jpg_2000"), reason="Pillow has no JPEG 2000")

XMP_UUID = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")
IPTC_UUID = bytes.fromhex("33C7A4D2B81D4723A0BAF1A3E097AD38")
GEO_UUID = bytes.fromhex("B14BF8BD083D4B43A5AE8CD7D5A6CE03")


def encoded(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG2000", **options)
    return file.getvalue()


def deep(values: np.ndarray) -> bytes:
    """Encode 16-bit colour with OpenCV, without loss."""
    order = [2, 1, 0, 3][: values.shape[2]]
    options = [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000]
    return cv2.imencode(".jp2", np.ascontiguousarray(values[..., order]), options)[1].tobytes()


def box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + name + body


def with_boxes(data: bytes, *boxes: bytes, inside: bytes = b"", colour: bytes | None = None) -> bytes:
    """Add boxes before the codestream, and others inside the header box, or another colour there."""
    at = data.index(b"jp2h") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    header = data[at + 8 : at + size]
    if colour is not None:
        start = header.index(b"colr") - 4
        header = header[:start] + header[start + int.from_bytes(header[start : start + 4], "big") :]
        header += box(b"colr", colour)
    return data[:at] + box(b"jp2h", header + inside) + b"".join(boxes) + data[at + size :]


@pytest.mark.parametrize("no_jp2", [False, True])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_eight_bits(tmp_path: Path, mode: str, no_jp2: bool) -> None:
    channels = len(mode) if mode != "L" else 1
    values = noise(40, 50, channels)
    image = Image.fromarray(values[..., 0] if channels == 1 else values, mode)
    picture = read(tmp_path, encoded(image, no_jp2=no_jp2))
    np.testing.assert_array_equal(picture.pixels, values[..., : 1 if channels < 3 else 3])
    assert (picture.alpha is not None) == mode.endswith("A")
    if picture.alpha is not None:
        np.testing.assert_array_equal(picture.alpha, values[..., -1])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits(tmp_path: Path, channels: int) -> None:
    values = noise(40, 50, channels, dtype=np.uint16)
    data = encoded(Image.fromarray(values[..., 0])) if channels == 1 else deep(values)
    picture = read(tmp_path, data)
    np.testing.assert_array_equal(picture.pixels, values[..., :3])
    if channels == 4:
        np.testing.assert_array_equal(picture.alpha, values[..., 3])


def test_profile_and_metadata(tmp_path: Path) -> None:
    profile = icc.adobe_rgb_profile(grey=False)
    data = encoded(Image.fromarray(noise(8, 9, 3)))
    exif = b"MM\0*\0\0\0\x08\0\1" + struct.pack(">HHIHHI", 0x0112, 3, 1, 6, 0, 0)
    packet = b"<x:xmpmeta tiff:Orientation='1'/>"
    resolution = box(b"res ", box(b"resc", struct.pack(">4H2b", 5906, 1, 11811, 1, 0, 0)))
    tagged = with_boxes(
        data,
        box(b"uuid", XMP_UUID + packet),
        box(b"uuid", b"JpgTiffExif->JP2" + exif),
        box(b"uuid", IPTC_UUID + b"\x1c\2\5\0\1x"),
        box(b"uuid", GEO_UUID + b"II*\0"),
        inside=resolution,
        colour=b"\2\0\0" + profile,
    )
    picture, plain = read(tmp_path, tagged), read(tmp_path, data)
    np.testing.assert_array_equal(picture.pixels, np.rot90(plain.pixels, -1))
    assert picture.colour.icc == profile
    assert picture.metadata.xmp == packet
    assert picture.metadata.iptc == b"\x1c\2\5\0\1x"
    assert picture.metadata.exif == exif.replace(b"\0\1\0\6", b"\0\1\0\1")
    assert picture.metadata.dpi == pytest.approx((150, 300), abs=0.02)
    assert [str(entry) for entry in picture.ledger] == ["GeoJP2 tags"]


def test_multiplied_alpha(tmp_path: Path) -> None:
    values = np.full((8, 8, 4), (60, 30, 15, 128), np.uint8)
    data = encoded(Image.fromarray(values, "RGBA"))
    at = data.index(b"cdef") + 4
    definitions = bytearray(data[at : at + 26])
    definitions[2 + 6 * 3 + 3] = 2
    multiplied = data[:at] + bytes(definitions) + data[at + 26 :]
    picture = read(tmp_path, multiplied)
    assert picture.pixels[0, 0].tolist() == [120, 60, 30]


@pytest.mark.parametrize("length", [0, 2, 7, 8, 100, 2**32 - 1])
def test_wrong_lengths_of_the_codestream_do_no_harm(tmp_path: Path, length: int) -> None:
    data = encoded(Image.fromarray(noise(8, 9, 3)))
    at = data.index(b"jp2c") - 4
    wrong = data[:at] + struct.pack(">I", length) + data[at + 4 :]
    np.testing.assert_array_equal(read(tmp_path, wrong).pixels, np.asarray(Image.open(io.BytesIO(wrong))))


def test_claims_are_not_believed(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(noise(8, 9, 3)), no_jp2=True)
    at = data.index(b"\xff\x51") + 6

    def claiming(width: int, height: int, tile: int) -> bytes:
        sizes = struct.pack(">8I", width, height, 0, 0, tile, tile, 0, 0)
        return data[:at] + sizes + data[at + 32 :]

    began = time.perf_counter()
    with pytest.raises(PictureError, match="20000x20000 is far more than a file of"):
        read(tmp_path, claiming(20_000, 20_000, 20_000))
    with pytest.raises(PictureError, match="damaged"):
        read(tmp_path, claiming(4000, 4000, 1))
    with pytest.raises(LimitError):
        read(tmp_path, claiming(2**31, 2**31, 2**31))
    with pytest.raises(PictureError, match="damaged"):
        read(tmp_path, claiming(0, 5, 5))
    assert time.perf_counter() - began < 2


def test_cut_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for data in (encoded(Image.fromarray(noise(64, 64, 3))), deep(noise(64, 64, 3, dtype=np.uint16))):
        for share in (0.01, 0.1, 0.5, 0.95):
            with pytest.raises(PictureError, match="damaged or cut short"):
                read(tmp_path, data[: int(share * len(data))])
    assert capfd.readouterr().err == ""


def test_many_channels_are_refused(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(noise(8, 9, 3)), no_jp2=True)
    at = data.index(b"\xff\x51")
    siz = struct.pack(">HH", 38 + 15, 0) + data[at + 6 : at + 38] + struct.pack(">H", 5) + b"\7\1\1" * 5
    with pytest.raises(PictureError, match=r"5 channels|damaged"):
        read(tmp_path, data[: at + 2] + siz + data[at + 2 + 47 :])


@pytest.mark.parametrize("no_jp2", [False, True])
@pytest.mark.parametrize("tiles", [None, (16, 16)])
def test_what_follows_the_picture_is_named(tmp_path: Path, no_jp2: bool, tiles: tuple[int, int] | None) -> None:
    data = encoded(Image.fromarray(noise(40, 50, 3)), no_jp2=no_jp2, tile_size=tiles)
    files = [data]
    if not no_jp2:  # a box that extends to the end of the file
        at = data.index(b"jp2c") - 4
        files.append(data[:at] + bytes(4) + data[at + 4 :])
    for file in files:
        assert lost(read(tmp_path, file + bytes(9))) == []
        assert lost(read(tmp_path, file + b"something that follows")) == ["22 bytes after the picture"]


def test_other_codestreams_and_boxes_are_named(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(noise(40, 50, 3)))
    more = data[data.index(b"jp2c") - 4 :]
    assert lost(read(tmp_path, data + more)) == ["1 other codestream"]
    assert lost(read(tmp_path, data + 2 * more + box(b"free", b"") + box(b"jplh", b"x"))) == [
        "jplh box",
        "2 other codestreams",
    ]
