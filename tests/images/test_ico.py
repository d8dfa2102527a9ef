"""Icons and cursors: bitmaps built byte by byte, PNG by Pillow."""

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
from gsrcli.images import icc
from gsrcli.size import Size

read = functools.partial(reading.read, form="ICO")


def ico(*pictures: bytes, kind: int = 1, sizes: int | None = None) -> bytes:
    at, listed = 6 + 16 * len(pictures), b""
    for picture in pictures:
        listed += struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(picture) if sizes is None else sizes, at)
        at += len(picture)
    return struct.pack("<HHH", 0, kind, len(pictures)) + listed + b"".join(pictures)


def dib(width: int, height: int, bits: int, pixels: bytes, mask: bytes = b"", palette: bytes = b"") -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, 2 * height, 1, bits, 0, 0, 0, 0, len(palette) // 4, 0)
    return header + palette + pixels + mask


def png(values: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG", **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", [1, 2])
def test_the_largest_picture_is_read_and_the_others_are_named(tmp_path: Path, kind: int) -> None:
    values = noise(40, 50, 4)
    profile = icc.adobe_rgb_profile(grey=False)
    small = dib(4, 4, 32, bytes(64), bytes(16))
    picture = read(tmp_path, ico(small, png(values, icc_profile=profile), small, kind=kind))
    np.testing.assert_array_equal(picture.pixels, values[..., :3])
    np.testing.assert_array_equal(picture.alpha, values[..., 3])
    assert picture.colour.icc == profile
    hot_spot = ["hot spot"] if kind == 2 else []
    assert [str(entry) for entry in picture.ledger] == ["2 smaller pictures", *hot_spot]
    assert [str(entry) for entry in read(tmp_path, ico(small, small)).ledger] == ["a smaller picture"]


def test_of_equal_sizes_the_one_with_most_bits(tmp_path: Path) -> None:
    coarse = dib(8, 8, 8, bytes(64), bytes(32), palette=bytes(1024))
    fine = dib(8, 8, 32, noise(256).tobytes(), bytes(32))
    for pictures in ((coarse, fine), (fine, coarse)):
        assert not read(tmp_path, ico(*pictures)).grey


def test_alpha_of_thirty_two_bits(tmp_path: Path) -> None:
    values = noise(8, 8, 4)
    picture = read(tmp_path, ico(dib(8, 8, 32, values[::-1, :, [2, 1, 0, 3]].tobytes(), b"\xff" * 32)))
    np.testing.assert_array_equal(picture.pixels, values[..., :3])
    np.testing.assert_array_equal(picture.alpha, values[..., 3])


@pytest.mark.parametrize("bits", [8, 24, 32])
def test_the_mask_hides_pixels(tmp_path: Path, bits: int) -> None:
    hidden = noise(8, 8) > 127
    mask = np.packbits(hidden[::-1], axis=1)
    rows = np.zeros((8, 8 * bits // 8), np.uint8)
    stored = dib(8, 8, bits, rows.tobytes(), np.pad(mask, ((0, 0), (0, 3))).tobytes(), bytes(1024 if bits == 8 else 0))
    picture = read(tmp_path, ico(stored))
    np.testing.assert_array_equal(picture.alpha, np.where(hidden, 0, 255))
    bare = dib(8, 8, bits, rows.tobytes(), palette=bytes(1024 if bits == 8 else 0))
    assert read(tmp_path, ico(bare)).alpha is None


@pytest.mark.parametrize("mask", [b"", b"\1" * 32])
def test_the_profile_of_a_bitmap_is_no_mask(tmp_path: Path, mask: bytes) -> None:
    profile = icc.adobe_rgb_profile(grey=False)
    header = struct.pack("<IiiHHIIiiII", 124, 8, 16, 1, 24, 0, 0, 0, 0, 0, 0).ljust(56, b"\0") + b"DEBM"
    header = header.ljust(108, b"\0") + struct.pack("<4I", 4, 124 + 192 + len(mask), len(profile), 0)
    picture = read(tmp_path, ico(header + bytes(192) + mask + profile))
    assert picture.colour.icc == profile
    assert picture.ledger == ()
    assert (picture.alpha is None) == (not mask)


def test_wrong_sizes_in_the_list_do_no_harm(tmp_path: Path) -> None:
    assert read(tmp_path, ico(dib(8, 8, 24, noise(192).tobytes(), bytes(32)), sizes=9)).size == Size(8, 8)


def test_damage(tmp_path: Path) -> None:
    whole = ico(dib(8, 8, 24, bytes(192), bytes(32)))
    for data in (whole[:70], whole[:40], whole[:22], ico(b"", b""), ico(png(noise(9, 9)))[:60]):
        with pytest.raises(PictureError, match="damaged or cut short"):
            read(tmp_path, data)
    assert [str(entry) for entry in read(tmp_path, whole[:150]).ledger] == ["pixels (some are missing)"]
    with pytest.raises(PictureError, match="not a picture"):
        read(tmp_path, struct.pack("<HHH", 0, 1, 0) + bytes(40))
    with pytest.raises(LimitError):
        read(tmp_path, ico(dib(65535, 65535, 24, b"")))


@pytest.mark.parametrize("sizes", [None, 0, 7])
def test_what_follows_the_pictures_is_named_whatever_their_stated_sizes(tmp_path: Path, sizes: int | None) -> None:
    bitmap, drawn = dib(8, 8, 32, bytes(255) + b"\xff", b"\1" * 32), png(noise(40, 50, 4))
    for pictures in ((bitmap, drawn), (drawn, bitmap)):
        data = ico(*pictures, sizes=sizes)
        for more, named in ((b"", []), (bytes(9), []), (b"more", ["4 bytes after the picture"])):
            assert reading.lost(read(tmp_path, data + more)) == ["a smaller picture", *named]
