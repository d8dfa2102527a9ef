"""WebP files: containers are built chunk by chunk around what Pillow encodes."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms
from support.reading import read
from support.writing import written

from gsrcli.errors import LimitError, PictureError
from gsrcli.images import Fate, Metadata, Origin, Picture, PictureFile, read_picture, with_fate, write_picture
from gsrcli.images.exif import exif_resolution, exif_with_resolution
from gsrcli.images.writers import Encoding
from gsrcli.images.writers.webp import encode_webp_animation
from gsrcli.size import Size

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="8"/></rdf:RDF></x:xmpmeta>'


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def header(width: int, height: int, flags: int = 0) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return chunk(b"VP8X", bytes([flags, 0, 0, 0]) + sides)


def coded(values: np.ndarray, **options: Any) -> list[bytes]:
    """Return the chunks of pixels as Pillow writes them."""
    file = io.BytesIO()
    Image.fromarray(values).save(file, "WEBP", **(options or {"lossless": True, "exact": True}))
    data, at, found = file.getvalue(), 12, []
    while at < len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + length + length % 2
        if data[at : at + 4] in (b"VP8 ", b"VP8L", b"ALPH"):
            found.append(data[at:end])
        at = end
    return found


def frame(values: np.ndarray, x: int, y: int, duration: int, flags: int = 0) -> bytes:
    height, width = values.shape[:2]
    fields = (x // 2, y // 2, width - 1, height - 1, duration)
    head = b"".join(value.to_bytes(3, "little") for value in fields) + bytes([flags])
    return chunk(b"ANMF", head + b"".join(coded(values)))


def exif_block(orientation: int | None = None, dpi: int | None = None) -> bytes:
    tags = Image.Exif()
    tags[ExifTags.Base.Make] = "Maker"
    if orientation:
        tags[ExifTags.Base.Orientation] = orientation
    if dpi:
        tags[ExifTags.Base.XResolution] = tags[ExifTags.Base.YResolution] = dpi
    return tags.tobytes().removeprefix(b"Exif\0\0")


@pytest.mark.parametrize("channels", [3, 4])
def test_lossless(tmp_path: Path, channels: int) -> None:
    values = noise(20, 30, channels)
    for data in (riff(*coded(values)), riff(header(30, 20, 0x10), *coded(values))):
        picture = read(tmp_path, data)
        np.testing.assert_array_equal(picture.pixels, values[..., :3])
        assert (picture.alpha is not None) == (channels == 4)
        if picture.alpha is not None:
            np.testing.assert_array_equal(picture.alpha, values[..., 3])
        assert picture.origin == Origin("WEBP", lossless=True)


def test_lossy_with_alpha(tmp_path: Path) -> None:
    values = np.full((20, 30, 4), (200, 100, 50, 128), np.uint8)
    values[:10, :, 3] = 255
    picture = read(tmp_path, riff(header(30, 20, 0x10), *coded(values, quality=90)))
    assert np.abs(picture.pixels.astype(int) - values[..., :3]).max() < 6
    np.testing.assert_array_equal(picture.alpha, values[..., 3])
    assert picture.origin == Origin("WEBP", lossless=False)


def test_metadata(tmp_path: Path) -> None:
    values = noise(20, 30, 3)
    blocks = chunk(b"EXIF", exif_block(dpi=240)), chunk(b"XMP ", XMP.replace(b'"8"', b'"1"'))
    picture = read(tmp_path, riff(header(30, 20, 0x2C), chunk(b"ICCP", SRGB), *coded(values), *blocks))
    assert picture.colour.icc == SRGB
    assert picture.metadata.dpi == (240, 240)
    assert picture.metadata.xmp == XMP.replace(b'"8"', b'"1"')
    assert picture.ledger == ()


@pytest.mark.parametrize(("in_exif", "expected"), [(6, 6), (1, 1), (None, 8)])
def test_exif_rules_over_xmp(tmp_path: Path, in_exif: int | None, expected: int) -> None:
    values = noise(20, 30, 3)
    blocks = chunk(b"EXIF", b"Exif\0\0" + exif_block(in_exif)), chunk(b"XMP ", XMP)
    picture = read(tmp_path, riff(header(30, 20, 0x0C), *coded(values), *blocks))
    np.testing.assert_array_equal(picture.pixels, {6: np.rot90(values, -1), 1: values, 8: np.rot90(values)}[expected])
    assert picture.metadata.xmp == XMP.replace(b'"8"', b'"1"')


def test_bad_chunks_cost_themselves_alone(tmp_path: Path) -> None:
    values = noise(20, 30, 3)
    bad = chunk(b"EXIF", b"nothing"), chunk(b"JUNK", b"\xff" * 9)
    cut = chunk(b"XMP ", XMP)[:-9]
    picture = read(tmp_path, riff(header(30, 20, 0x2C), chunk(b"ICCP", b"nothing"), *bad, *coded(values), cut))
    np.testing.assert_array_equal(picture.pixels, values)
    assert with_fate(Fate.DAMAGED, picture.ledger) == ["XMP", "colour profile", "EXIF"]


def test_a_canvas_other_than_the_picture(tmp_path: Path) -> None:
    values = noise(20, 30, 3)
    np.testing.assert_array_equal(read(tmp_path, riff(header(4000, 4000), *coded(values))).pixels, values)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_cut_pixels_are_damage(tmp_path: Path, share: float) -> None:
    data = riff(*coded(noise(64, 64, 3), quality=90))
    path = tmp_path / "cut.webp"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(PictureError, match="damaged"):
        read_picture(path)


def test_an_animation(tmp_path: Path) -> None:
    first = np.full((20, 30, 4), (255, 0, 0, 255), np.uint8)
    patch = np.full((6, 8, 4), (0, 255, 0, 255), np.uint8)
    patch[:3] = (0, 0, 0, 0)
    background = chunk(b"ANIM", b"\1\2\3\4" + struct.pack("<H", 5))
    moving = (
        frame(first, 0, 0, 40),
        frame(patch, 4, 2, 0, flags=1),  # blended; then its area is cleared
        frame(patch, 20, 10, 250, flags=2),  # replaces
    )
    path = tmp_path / "moving.webp"
    path.write_bytes(riff(header(30, 20, 0x12), background, *moving))
    file = PictureFile(path)
    assert (file.count, file.animated, file.loops, file.size) == (3, True, 5, Size(20, 30))
    one, two, three = (file.picture(index) for index in range(3))
    assert [picture.duration for picture in (one, two, three)] == [0.04, 0.1, 0.25]
    expected = first.copy()
    np.testing.assert_array_equal(np.dstack([one.pixels, one.alpha]), expected)
    expected[5:8, 4:12] = (0, 255, 0, 255)
    np.testing.assert_array_equal(np.dstack([two.pixels, two.alpha]), expected)
    expected[2:8, 4:12, 3] = 0
    expected[10:16, 20:28, 3] = patch[..., 3]
    np.testing.assert_array_equal(three.alpha, expected[..., 3])
    np.testing.assert_array_equal(file.picture(0).pixels, one.pixels)


def test_one_frame_is_a_still_picture(tmp_path: Path) -> None:
    values = noise(20, 30, 4)
    values[..., 3] |= 1
    picture = read(tmp_path, riff(header(30, 20, 0x12), chunk(b"ANIM", bytes(6)), frame(values, 0, 0, 40)))
    np.testing.assert_array_equal(picture.pixels, values[..., :3])
    assert picture.duration is None


def test_claimed_sizes(tmp_path: Path) -> None:
    path = tmp_path / "large.webp"
    canvas = riff(header(1 << 24, 1 << 24, 2), chunk(b"ANIM", bytes(6)), frame(noise(4, 4, 3), 0, 0, 40))
    path.write_bytes(canvas)
    with pytest.raises(LimitError, match="16777216x16777216"):
        read_picture(path)
    blank = struct.pack("<I", 16383 | 16383 << 14)  # a few bytes are a whole lossless picture of one colour
    path.write_bytes(riff(chunk(b"VP8L", b"\x2f" + blank + bytes(20))))
    with pytest.raises(LimitError, match="too large to be believed"):
        read_picture(path)


# Writing


def test_resolution_is_kept_in_exif(tmp_path: Path) -> None:
    path = tmp_path / "out.webp"
    for block in (None, exif_block(), exif_block(dpi=72)):
        write_picture(Picture(noise(20, 30, 3), metadata=Metadata(exif=block, dpi=(300, 150.5))), path)
        tags = Image.open(path).getexif()
        assert (tags[ExifTags.Base.XResolution], tags[ExifTags.Base.YResolution]) == (300, 150.5)
        assert tags[ExifTags.Base.ResolutionUnit] == 2
        assert tags.get(ExifTags.Base.Make) == ("Maker" if block else None)
        assert read_picture(path).metadata.dpi == (300, 150.5)


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("has_resolution", [False, True])
def test_resolution_moves_nothing_else(endian: str, has_resolution: bool) -> None:
    tags = Image.Exif()
    tags.endian = endian
    tags[ExifTags.Base.Make] = "Maker of cameras"
    if has_resolution:
        tags[ExifTags.Base.XResolution] = 72
    tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = b"notes of the maker" * 4
    block = tags.tobytes().removeprefix(b"Exif\0\0")
    changed = exif_with_resolution(block, (300, 72.5))
    assert changed is not None
    assert exif_resolution(changed) == (300, 72.5)
    assert changed.index(b"notes of the maker") == block.index(b"notes of the maker")  # whose offsets count from there
    again = Image.Exif()
    again.load(b"Exif\0\0" + changed)
    assert again[ExifTags.Base.Make] == "Maker of cameras"
    assert again.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] == b"notes of the maker" * 4
    assert exif_with_resolution(changed, (300, 72.5)) is changed
    assert exif_with_resolution(b"broken", (300, 300)) == b"broken"
    assert exif_with_resolution(None, None) is None


def test_what_came_lossless_stays_lossless(tmp_path: Path) -> None:
    values, path = noise(20, 30, 4), tmp_path / "out.webp"
    plain = Picture(values[..., :3].copy(), values[..., 3].copy())
    origin = Picture(plain.pixels, plain.alpha, origin=Origin("WEBP", lossless=True))
    for picture, lossless, exact in ((plain, False, False), (plain, True, True), (origin, False, True)):
        write_picture(picture, path, lossless=lossless)
        assert read_picture(path).origin == Origin("WEBP", lossless=exact)
        if exact:  # with the colours of transparent pixels
            np.testing.assert_array_equal(np.asarray(Image.open(path)), values)


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("loops", [0, 1, 7])
def test_writing_an_animation(tmp_path: Path, transparent: bool, loops: int) -> None:
    frames = []
    for index in range(4):
        values = noise(21, 31, 3)
        values[index * 3 : index * 3 + 5, index * 5 + 1 : index * 5 + 4] = 255 - 50 * index
        alpha = np.where(np.arange(31) < 8 * index, 0, 255).astype(np.uint8) * np.ones((21, 1), np.uint8)
        metadata = Metadata(xmp=b"<x/>", dpi=(300, 300))
        frames.append(Picture(values, alpha if transparent else None, metadata=metadata, duration=0.05 * (index + 1)))
    frames.append(frames[-1])  # nothing changes
    asked: list[int] = []
    one_by_one = (asked.append(index) or picture for index, picture in enumerate(frames))
    path = tmp_path / "moving.webp"
    path.write_bytes(written(encode_webp_animation, one_by_one, loops, Encoding(lossless=True)))
    assert asked == [0, 1, 2, 3, 4]
    file, image = PictureFile(path), Image.open(path)
    assert (file.count, file.loops, image.n_frames, image.info["loop"]) == (5, loops, 5, loops)
    for index, expected in enumerate(frames):
        image.seek(index)
        seen = np.asarray(image.convert("RGBA"))
        opaque = np.full((21, 31), 255, np.uint8) if expected.alpha is None else expected.alpha
        np.testing.assert_array_equal(seen[..., 3], opaque)
        np.testing.assert_array_equal(seen[opaque > 0][:, :3], expected.pixels[opaque > 0])
        assert file.picture(index).duration == pytest.approx(expected.duration)
    assert file.picture().metadata.dpi == (300, 300)
    assert file.picture().origin == Origin("WEBP", lossless=True)


def test_lossy_animations_and_their_size(tmp_path: Path) -> None:
    still = Picture(np.asarray(Image.linear_gradient("L").convert("RGB")).copy(), duration=0.1)
    once = len(written(encode_webp_animation, [still], 0, Encoding()))
    assert len(written(encode_webp_animation, [still] * 10, 0, Encoding())) < once + 9 * 150
    assert len(written(encode_webp_animation, [still], 0, Encoding(quality=20))) < once


def test_an_animation_without_frames() -> None:
    with pytest.raises(ValueError, match="no frames"):
        written(encode_webp_animation, [], 0, Encoding())


@pytest.mark.skipif(not shutil.which("webpinfo"), reason="webpinfo is not installed")
def test_webpinfo_finds_no_error(tmp_path: Path) -> None:
    path = tmp_path / "moving.webp"
    frames = [Picture(noise(21, 31, 3, seed=seed), duration=0.1, metadata=Metadata(dpi=(300, 300))) for seed in (1, 2)]
    path.write_bytes(written(encode_webp_animation, frames, 2, Encoding()))
    said = subprocess.run(["webpinfo", path], capture_output=True, text=True, check=True).stdout
    assert "No error detected" in said
