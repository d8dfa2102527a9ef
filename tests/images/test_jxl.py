"""JPEG XL files: made by pillow-jxl-plugin, and by cjxl where it is installed."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps
from support.reading import noise, read
from support.writing import written

from gsrcli.errors import LimitError, PictureError
from gsrcli.images import (
    OPTIONAL_SUFFIXES,
    Cicp,
    Colour,
    Fate,
    Metadata,
    Origin,
    Picture,
    Text,
    output_formats,
    probe,
    read_picture,
    with_fate,
    write_picture,
)
from gsrcli.images.writers import ENCODERS, Encoding
from gsrcli.size import Size

pillow_jxl = pytest.importorskip("pillow_jxl")
needs_cjxl = pytest.mark.skipif(not shutil.which("cjxl"), reason="cjxl is not installed")

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def jxl(values: np.ndarray, mode: str = "", container: bool = False, lossless: bool = True, **metadata: Any) -> bytes:
    """Encode (H, W, C)."""
    encoder = pillow_jxl.Encoder(
        mode=mode or MODES[values.shape[2]],
        lossless=lossless,
        quality=100 if lossless else 90,
        effort=3,
        use_container=container,
        use_original_profile=lossless,
    )
    blocks = {"exif": None, "jumb": None, "xmp": None, "compress": False, **metadata}
    return encoder(values.tobytes(), values.shape[1], values.shape[0], jpeg_encode=False, **blocks)


def from_cjxl(tmp_path: Path, image: Image.Image | bytes, *options: str) -> bytes:
    """Encode a Pillow image, or a PNG file, with cjxl."""
    source, target = tmp_path / "source.png", tmp_path / "target.jxl"
    source.write_bytes(image) if isinstance(image, bytes) else image.save(source)
    subprocess.run(["cjxl", source, target, "-e", "3", *options], check=True, capture_output=True)
    return target.read_bytes()


def exif_block(orientation: int = 1) -> bytes:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    tags[ExifTags.Base.XResolution] = tags[ExifTags.Base.YResolution] = 240
    return tags.tobytes().removeprefix(b"Exif\0\0")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("container", [False, True])
@pytest.mark.parametrize("size", [(20, 30), (24, 32), (300, 400), (64, 64)])
def test_lossless(tmp_path: Path, channels: int, container: bool, size: tuple[int, int]) -> None:
    values = noise(*size, channels)
    picture = read(tmp_path, jxl(values, container=container))
    has_alpha = channels in (2, 4)
    np.testing.assert_array_equal(picture.pixels, values[..., : channels - has_alpha])
    assert (picture.alpha is not None) == has_alpha
    if picture.alpha is not None:
        np.testing.assert_array_equal(picture.alpha, values[..., -1])
    assert picture.origin == Origin("JXL", lossless=True)
    assert picture.colour == Colour()
    assert picture.ledger == ()


def test_lossy(tmp_path: Path) -> None:
    picture = read(tmp_path, jxl(np.full((20, 30, 3), (200, 100, 50), np.uint8), lossless=False))
    assert np.abs(picture.pixels.astype(int) - (200, 100, 50)).max() < 6
    assert picture.origin == Origin("JXL", lossless=False)
    assert picture.colour == Colour()


def test_sixteen_bit_grey(tmp_path: Path) -> None:
    values = noise(20, 30, 1, dtype=np.uint16)
    np.testing.assert_array_equal(read(tmp_path, jxl(values, "I;16")).pixels, values)


def test_floating_point_grey(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30, 1)
    np.testing.assert_array_equal(read(tmp_path, jxl(values, "F")).pixels, values)


def from_jpeg(orientation: int = 1) -> tuple[bytes, bytes]:
    """Return a JPEG file, and the JPEG XL file that is made of it without loss."""
    file = io.BytesIO()
    image = Image.fromarray(noise(20, 30, 3))
    image.save(file, "JPEG", quality=83, exif=b"Exif\0\0" + exif_block(orientation), comment=b"words", dpi=(90, 90))
    encoder = pillow_jxl.Encoder(mode="RGB", lossless=True, quality=100, use_container=True)
    return file.getvalue(), encoder(file.getvalue(), *image.size, jpeg_encode=True)


@pytest.mark.parametrize("orientation", [1, 6])
def test_what_was_a_jpeg_file_is_read_as_that(tmp_path: Path, orientation: int) -> None:
    jpeg, data = from_jpeg(orientation)
    picture = read(tmp_path, data)
    with Image.open(io.BytesIO(jpeg)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_allclose(picture.pixels.astype(int), expected, atol=2)
    assert picture.origin == Origin("JXL", lossless=False, quality=83)
    assert (picture.metadata.texts, picture.metadata.dpi) == ((Text("Comment", "words"),), (90, 90))
    assert picture.ledger == ()


def test_a_jpeg_file_that_cannot_be_made_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _, data = from_jpeg()
    at = data.index(b"jbrd")
    for broken in (data[: at + 4] + bytes(40) + data[at + 44 :], data[: at + 60] + b"\xaa" + data[at + 61 :]):
        picture = read(tmp_path, broken)
        assert picture.size == Size(20, 30)
        assert with_fate(Fate.DAMAGED, picture.ledger) == ["segments of the JPEG file"]
    assert capfd.readouterr() == ("", "")


def test_metadata(tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
    picture = read(tmp_path, jxl(noise(20, 30, 3), container=True, exif=exif_block(6), xmp=xmp))
    assert picture.size == Size(20, 30)  # the codestream alone turns it
    assert picture.metadata.xmp == xmp
    assert picture.metadata.dpi == (240, 240)
    tags = Image.Exif()
    tags.load(b"Exif\0\0" + (picture.metadata.exif or b""))
    assert tags[ExifTags.Base.Orientation] == 1


def test_what_cannot_be_read_of_the_metadata(tmp_path: Path) -> None:
    xmp = b"<x:xmpmeta/>" * 30
    compressed = read(tmp_path, jxl(noise(20, 30, 3), container=True, exif=exif_block(), xmp=xmp, compress=True))
    assert with_fate(Fate.LOST, compressed.ledger) == [
        "EXIF (it is compressed with Brotli)",
        "XMP (it is compressed with Brotli)",
    ]
    data = jxl(noise(20, 30, 3), container=True)
    bad = data + struct.pack(">I4sI", 12 + 7, b"Exif", 0) + b"nothing"
    assert with_fate(Fate.DAMAGED, read(tmp_path, bad).ledger) == ["EXIF"]


@needs_cjxl
def test_sixteen_bit_colour_is_read_as_eight(tmp_path: Path) -> None:
    import cv2

    values = noise(20, 30, 3, dtype=np.uint16)
    data = from_cjxl(tmp_path, cv2.imencode(".png", values[..., ::-1])[1].tobytes(), "-d", "0")
    picture = read(tmp_path, data)
    assert np.abs(picture.pixels.astype(int) - values / 257).max() <= 1
    assert with_fate(Fate.LOST, picture.ledger) == ["16 bits per channel (8 are read)"]


@needs_cjxl
def test_an_animation_gives_one_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (32, 24), colour) for colour in ("red", "lime", "blue")]
    source, target = tmp_path / "source.gif", tmp_path / "moving.jxl"
    frames[0].save(source, save_all=True, append_images=frames[1:], duration=100)
    subprocess.run(["cjxl", source, target, "-d", "0"], check=True, capture_output=True)
    picture = read(tmp_path, target.read_bytes())
    assert with_fate(Fate.LOST, picture.ledger) == ["animation (one frame is read)"]


@needs_cjxl
@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ("RGB_D65_SRG_Rel_SRG", Colour()),
        ("RGB_D65_202_Rel_PeQ", Colour(cicp=Cicp(9, 16))),
        ("RGB_D65_DCI_Per_SRG", Colour(cicp=Cicp(12, 13))),
        ("RGB_D65_202_Per_HLG", Colour(cicp=Cicp(9, 18))),
    ],
)
def test_enumerated_colours(tmp_path: Path, space: str, expected: Colour) -> None:
    source = tmp_path / "source.ppm"
    Image.fromarray(noise(20, 30, 3)).save(source)
    target = tmp_path / "target.jxl"
    subprocess.run(["cjxl", source, target, "-d", "0", "-x", f"color_space={space}"], check=True, capture_output=True)
    assert read(tmp_path, target.read_bytes()).colour == expected


@needs_cjxl
@pytest.mark.parametrize("orientation", [3, 6])
def test_the_codestream_turns(tmp_path: Path, orientation: int) -> None:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    source, target = tmp_path / "source.png", tmp_path / "target.jxl"
    values = noise(20, 30, 3)
    Image.fromarray(values).save(source, exif=tags)
    subprocess.run(["cjxl", source, target, "-d", "0"], check=True, capture_output=True)
    picture = read(tmp_path, target.read_bytes())
    if picture.size == Size(20, 30) and orientation == 6:
        pytest.skip("this cjxl leaves the orientation in EXIF alone")
    np.testing.assert_array_equal(picture.pixels, np.rot90(values, {3: 2, 6: -1}[orientation]))


def test_claimed_sizes(tmp_path: Path) -> None:
    path = tmp_path / "large.jxl"
    for side, words in ((2**30, "is more than 500 megapixels"), (20_000, "believed")):
        fields, count = 0, 0
        for value, bits in ((0, 1), (3, 2), (side - 1, 30), (1, 3), (1, 1)):  # not small, 30 bits, square, all usual
            fields |= value << count
            count += bits
        path.write_bytes(b"\xff\x0a" + fields.to_bytes(5, "little") + bytes(40))
        with pytest.raises(LimitError, match=words):
            probe(path)


@pytest.mark.parametrize("container", [False, True])
def test_cut_files(tmp_path: Path, container: bool, capfd: pytest.CaptureFixture[str]) -> None:
    data = jxl(noise(40, 50, 3), container=container)
    path = tmp_path / "cut.jxl"
    for share in (0.02, 0.1, 0.5, 0.9, 0.99):
        path.write_bytes(data[: max(13, int(len(data) * share))])
        with pytest.raises(PictureError, match="cut"):
            read_picture(path)
    assert capfd.readouterr().err == ""


def test_without_the_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "picture.jxl"
    path.write_bytes(jxl(noise(20, 30, 3)))
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    with pytest.raises(PictureError, match="JPEG XL needs pillow-jxl-plugin") as failure:
        read_picture(path)
    assert failure.value.hint == "pip install 'gsrcli[jxl]'"
    assert "JXL" not in [form.name for form in output_formats()]
    assert OPTIONAL_SUFFIXES[".jxl"] == "gsrcli[jxl]"


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("lossless", [False, True])
def test_writing(tmp_path: Path, channels: int, lossless: bool) -> None:
    y, x, c = np.mgrid[:40, :48, :channels]
    values = (3 * x + 2 * y + 7 * c + 20).astype(np.uint8)
    picture = Picture(values[..., : min(channels, 3)], values[..., 3].copy() if channels == 4 else None)
    path = tmp_path / "out.jxl"
    write_picture(picture, path, lossless=lossless)
    _, info, data, _, _ = pillow_jxl.Decoder()(path.read_bytes())
    seen = np.frombuffer(data, np.uint8).reshape(info.height, info.width, -1)
    assert np.abs(seen.astype(int) - values).max() <= (0 if lossless else 24)
    assert read_picture(path).origin == Origin("JXL", lossless=lossless)


def test_what_came_lossless_stays_lossless_and_metadata_are_written(tmp_path: Path) -> None:
    path, xmp = tmp_path / "out.jxl", b"<x:xmpmeta/>"
    values = noise(20, 30, 3)
    picture = Picture(values, metadata=Metadata(xmp=xmp, dpi=(300, 150)), origin=Origin("JXL", lossless=True))
    write_picture(picture, path)
    again = read_picture(path)
    np.testing.assert_array_equal(again.pixels, values)
    assert (again.metadata.xmp, again.metadata.dpi) == (xmp, (300, 150))


@pytest.mark.skipif(not shutil.which("jxlinfo"), reason="jxlinfo is not installed")
def test_jxlinfo_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "out.jxl"
    write_picture(Picture(noise(20, 30, 3), metadata=Metadata(xmp=b"<x/>", dpi=(300, 300))), path, lossless=True)
    said = subprocess.run(["jxlinfo", path], capture_output=True, text=True, check=True).stdout
    assert "30x20" in said
    assert "Exif" in said


def test_a_quality_wins_over_a_lossless_origin() -> None:
    picture = Picture(noise(64, 64, 3), origin=Origin("JXL", lossless=True))
    exact, lossy = (written(ENCODERS["JXL"], picture, Encoding(quality)) for quality in (None, 30))
    assert len(lossy) < len(exact) / 2
