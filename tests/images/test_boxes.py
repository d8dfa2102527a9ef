"""Boxes of AVIF, HEIC and JPEG XL files that nobody reads, and what follows the last one, are named."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features
from support.heif import box
from support.reading import lost, ramp, read

from gsrcli.images import PictureFile
from gsrcli.images.readers.heif import boxes_left_out

C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")  # C2PA specification, embedding into BMFF
CREDENTIALS, VIDEO = "content credentials (C2PA)", "video of the motion photo"
MOVIE = box(b"ftyp", b"mp42\0\0\0\0isom") + box(b"moov", box(b"mvhd", bytes(100))) + box(b"mdat", bytes(50))
STRANGE = b"".join(box(b"b%03d" % number) for number in range(100))


def avif(**options: Any) -> bytes:
    if not features.check("avif"):
        pytest.skip("Pillow has no AVIF")
    file = io.BytesIO()
    Image.fromarray(ramp()).save(file, "AVIF", **options)
    return file.getvalue()


def avif_sequence() -> bytes:
    return avif(save_all=True, append_images=[Image.new("RGB", (48, 40))], duration=100)


def heic() -> bytes:
    file = io.BytesIO()
    pytest.importorskip("pillow_heif").from_pillow(Image.fromarray(ramp())).save(file)
    return file.getvalue()


def jxl() -> bytes:
    encoder = pytest.importorskip("pillow_jxl").Encoder(mode="RGB", lossless=True, quality=100, use_container=True)
    data: bytes = encoder(ramp().tobytes(), 48, 40, jpeg_encode=False, exif=None, jumb=None, xmp=None, compress=False)
    return data


@pytest.mark.parametrize("seed", [avif, avif_sequence, heic, jxl])
@pytest.mark.parametrize(
    ("added", "names"),
    [
        (b"", []),
        (bytes(20), []),
        (b"\r\n", []),
        (box(b"free", b"nothing"), []),
        (box(b"uuid", C2PA, b"\0\0\0\0manifest\0", bytes(8)), [CREDENTIALS]),
        (2 * box(b"uuid", C2PA, b"\0\0\0\0merkle\0"), [CREDENTIALS]),
        (box(b"uuid", bytes(range(16)), b"content"), ["uuid box (00010203-0405-0607-0809-0a0b0c0d0e0f)"]),
        (box(b"uuid", b"short"), ["uuid box"]),
        (box(b"jumb", box(b"jumd", b"c2pa")), [CREDENTIALS]),
        (box(b"mpvd", MOVIE), [VIDEO]),
        (struct.pack(">I4sQ", 1, b"mpvd", 16 + len(MOVIE)) + MOVIE, [VIDEO]),
        (struct.pack(">I4s", 0, b"mpvd") + MOVIE, [VIDEO]),
        (MOVIE, [VIDEO]),
        (bytes(8) + MOVIE, [VIDEO]),
        (box(b"abcd", b"content") + b"and more", ["abcd box", "8 bytes after the picture"]),
        (b"\xa9 text", ["6 bytes after the picture"]),
        (b"a text of some length", ["21 bytes after the picture"]),
        (b"\0\0\0\3abcdefgh", ["9 bytes after the picture"]),
        (b"\0\0\0\1abcdefgh", ["9 bytes after the picture"]),
        (struct.pack(">I", 20) + b"\xff\xfe\0\0" + b"content", ["12 bytes after the picture"]),
        (STRANGE, [*(f"b{number:03} box" for number in range(16)), "84 other boxes"]),
    ],
)
def test_what_nobody_reads_is_named(tmp_path: Path, seed: Any, added: bytes, names: list[str]) -> None:
    plain, more = (read_first(tmp_path, seed() + end) for end in (b"", added))
    assert lost(plain) == []
    assert lost(more) == names
    np.testing.assert_array_equal(more.pixels, plain.pixels)


def read_first(tmp_path: Path, data: bytes) -> Any:
    path = tmp_path / "picture"
    path.write_bytes(data)
    return PictureFile(path).picture(0)


@pytest.mark.parametrize("seed", [avif_sequence, heic])
def test_a_sequence_beside_the_picture_is_named(tmp_path: Path, seed: Any) -> None:
    data = seed()
    if seed is avif_sequence:
        data = data[:8] + b"avif" + data[12:]  # which asks for the still picture of both
    else:
        data += box(b"moov", box(b"mvhd", bytes(100)))
    picture = read(tmp_path, data)
    assert lost(picture) == ["image sequence"]
    assert np.abs(picture.pixels.astype(int) - ramp()).max() < 30


def test_boxes_among_the_items_are_named() -> None:
    items = [box(kind, bytes(8)) for kind in (b"hdlr", b"pitm", b"iinf", b"iloc", b"iprp", b"idat")]
    meta = box(b"meta", bytes(4), *items, box(b"uuid", C2PA), box(b"xml ", b"<x/>"))
    data = box(b"ftyp", b"avif\0\0\0\0") + meta + meta + box(b"mdat")
    assert [entry.what for entry in boxes_left_out(data)] == ["meta box", CREDENTIALS, "xml box"]
