"""HEIC files: containers are built box by box around what pillow-heif encodes."""

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
from PIL import ExifTags, Image
from support import reading
from support.heif import HeifItem, boxes_of, coded_items, exif_item, heif_file, ispe, nclx, xmp_item
from support.reading import SRGB, read

from gsrcli.errors import LimitError, PictureError
from gsrcli.images import (
    OPTIONAL_SUFFIXES,
    Cicp,
    Colour,
    Fate,
    Metadata,
    Picture,
    fit,
    output_format,
    output_formats,
    probe,
    read_picture,
    with_fate,
    write_picture,
)
from gsrcli.size import Size

pillow_heif = pytest.importorskip("pillow_heif")

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
ALPHA = b"\0\0\0\0urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"


def ramp(height: int = 80, width: int = 96, top: int = 255) -> np.ndarray:
    return reading.ramp(height, width, top)


def heic(values: np.ndarray, **options: Any) -> bytes:
    """Encode (H, W, C) of 8 or 16 bits, of which 10 are stored, without loss."""
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[values.shape[2]] + (";16" if values.itemsize == 2 else "")
    file = io.BytesIO()
    lossless = {"quality": -1, "chroma": 444, "matrix_coefficients": 0, "full_range_flag": 1}
    if values.shape[2] < 3:
        lossless["matrix_coefficients"] = 6
    height, width = values.shape[:2]
    pillow_heif.encode(mode, (width, height), values.tobytes(), file, **{**lossless, **options})
    return file.getvalue()


def wrapped(data: bytes, *extra: tuple[bytes, bytes], colour: bool = True) -> HeifItem:
    """Return the picture that an encoder wrote, with its size, colour tags and further properties."""
    item = coded_items(data, b"hvcC")[0]
    item.properties += [(b"ispe", boxes_of(data, b"ispe")[0]), (b"pixi", boxes_of(data, b"pixi")[0])]
    if colour:
        item.properties.append((b"colr", boxes_of(data, b"colr")[0]))
    item.properties += extra
    return item


def container(*items: HeifItem) -> bytes:
    return heif_file(*items, brand=b"heic")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_eight_bits(tmp_path: Path, channels: int) -> None:
    values = np.dstack([ramp(), ramp()[..., 1]])[..., :channels]
    picture = read(tmp_path, heic(values))
    np.testing.assert_array_equal(picture.pixels, values[..., : min(channels, 3)])
    assert (picture.alpha is not None) == (channels == 4)
    if picture.alpha is not None:
        np.testing.assert_array_equal(picture.alpha, values[..., 3])
    assert picture.colour == Colour()
    assert picture.ledger == ()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_ten_bits(tmp_path: Path, channels: int) -> None:
    stored = np.dstack([ramp(top=1023), ramp(top=1023)[..., 1]])[..., :channels]
    picture = read(tmp_path, heic(np.ascontiguousarray(stored << 6)))
    expected = stored << 6 | stored >> 4
    np.testing.assert_array_equal(picture.pixels, expected[..., : min(channels, 3)])
    assert picture.pixels.max() == 65535
    if channels == 4:
        np.testing.assert_array_equal(picture.alpha, expected[..., 3])


def test_grey_with_alpha_stays_grey(tmp_path: Path) -> None:
    values = ramp()[..., :2]
    picture = read(tmp_path, heic(np.ascontiguousarray(values)))
    np.testing.assert_array_equal(picture.pixels, values[..., :1])
    np.testing.assert_array_equal(picture.alpha, values[..., 1])


@pytest.mark.parametrize("angle", range(4))
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_irot_and_imir_turn(tmp_path: Path, angle: int, axis: int | None) -> None:
    extra = [(b"irot", bytes([angle]))] + ([] if axis is None else [(b"imir", bytes([axis]))])
    data = container(wrapped(heic(ramp()), *extra))
    picture = read(tmp_path, data)
    expected = np.rot90(ramp(), angle)
    if axis is not None:
        expected = expected[::-1] if axis == 0 else expected[:, ::-1]
    np.testing.assert_array_equal(picture.pixels, expected)
    theirs = pillow_heif.open_heif(data)  # libheif turns it too
    np.testing.assert_array_equal(np.asarray(theirs.to_pillow()), expected)


def test_exif_and_xmp_do_not_turn(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 8
    tags[ExifTags.Base.XResolution] = tags[ExifTags.Base.YResolution] = 240
    block = tags.tobytes().removeprefix(b"Exif\0\0")
    picture = read(tmp_path, container(wrapped(heic(ramp())), exif_item(block), xmp_item(XMP)))
    np.testing.assert_array_equal(picture.pixels, ramp())
    assert picture.metadata.xmp == XMP.replace(b'"6"', b'"1"')
    assert picture.metadata.dpi == (240, 240)
    again = Image.Exif()
    again.load(b"Exif\0\0" + (picture.metadata.exif or b""))
    assert again[ExifTags.Base.Orientation] == 1


def test_colour_tags(tmp_path: Path) -> None:
    extra = [nclx(12, 16, 0), (b"colr", b"rICC" + SRGB), (b"clli", struct.pack(">HH", 600, 200))]
    picture = read(tmp_path, container(wrapped(heic(ramp()), *extra, colour=False)))
    assert picture.colour == Colour(icc=SRGB, cicp=Cicp(12, 16), light=(6_000_000, 2_000_000))


def test_a_grid_and_what_is_no_part_of_it(tmp_path: Path) -> None:
    values = [np.full((64, 64, 3), level, np.uint8) for level in (40, 90, 150, 220)]
    tiles = [wrapped(heic(value)) for value in values]
    grid = HeifItem(b"grid", struct.pack(">BBBBHH", 0, 0, 1, 1, 120, 100), [ispe(120, 100)], [(b"dimg", [2, 3, 4, 5])])
    gain = wrapped(heic(values[0]), (b"auxC", b"\0\0\0\0urn:com:apple:photo:2020:aux:hdrgainmap\0"), colour=False)
    gain.references = [(b"auxl", [1])]
    burst = wrapped(heic(values[1]))
    picture = read(tmp_path, container(grid, *tiles, gain, burst, burst))
    assert picture.size == Size(100, 120)
    for (y, x), level in (((0, 0), 40), ((0, 119), 90), ((99, 0), 150), ((99, 119), 220)):
        assert picture.pixels[y, x, 0] == level
    assert with_fate(Fate.LOST, picture.ledger) == ["gain map", "2 further pictures"]


def test_the_primary_picture_of_several(tmp_path: Path) -> None:
    first, second = wrapped(heic(np.zeros((64, 64, 3), np.uint8))), wrapped(heic(ramp()))
    picture = read(tmp_path, heif_file(first, second, brand=b"mif1", brands=(b"heic",), primary=2))
    np.testing.assert_array_equal(picture.pixels, ramp())


def test_claimed_sizes(tmp_path: Path) -> None:
    path = tmp_path / "claims.heic"
    for claim, kind, words in (
        ((16000, 16000), LimitError, "believed"),
        ((60000, 60000), LimitError, "60000x60000 is more than"),
        ((4000, 4000), PictureError, "damaged"),
    ):
        item = wrapped(heic(ramp()))
        item.properties = [ispe(*claim) if name == b"ispe" else (name, body) for name, body in item.properties]
        path.write_bytes(container(item))
        with pytest.raises(kind, match=words):
            read_picture(path)


def test_unsupported_kinds_are_named(tmp_path: Path) -> None:
    path = tmp_path / "picture.heif"
    path.write_bytes(heif_file(HeifItem(b"j2k1", b"data", [ispe(4, 4)]), brand=b"mif1", brands=(b"j2ki",)))
    with pytest.raises(PictureError, match="kind j2k1 is not supported"):
        read_picture(path)
    path.write_bytes(b"\0\0\0\x18ftypmsf1\0\0\0\0msf1hevc" + b"\0\0\0\x08moov")
    with pytest.raises(PictureError, match="sequence without a still picture"):
        read_picture(path)
    path.write_bytes(b"\0\0\0\x10ftypmif3heic" + b"\0\0\0\x10mini\0\0\0\0\0\0\0\0")
    with pytest.raises(PictureError, match="mif3"):
        read_picture(path)


def test_cut_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = container(wrapped(heic(ramp())))
    path = tmp_path / "cut.heic"
    for length in range(12, len(data) - 1, max(1, len(data) // 60)):
        path.write_bytes(data[:length])
        with pytest.raises(PictureError, match="cut"):
            read_picture(path)
    assert capfd.readouterr().err == ""


def test_without_pillow_heif(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "picture.heic"
    path.write_bytes(heic(ramp()))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for function in (read_picture, probe):
        with pytest.raises(PictureError, match="HEIC needs pillow-heif") as failure:
            function(path)
        assert failure.value.hint == "pip install 'gsrcli[heic]'"
    assert "HEIF" not in [form.name for form in output_formats()]
    assert OPTIONAL_SUFFIXES[".heic"] == OPTIONAL_SUFFIXES[".heif"] == OPTIONAL_SUFFIXES[".hif"] == "gsrcli[heic]"


# Writing


def decoded(path: Path) -> np.ndarray:
    image = pillow_heif.open_heif(path, convert_hdr_to_8bit=False)
    deep = "16" in image.mode
    values = np.frombuffer(image.data, np.uint16 if deep else np.uint8).reshape(*image.size[::-1], -1)
    return values | values >> 10 if deep else values


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("size", [(80, 96), (81, 97)])
def test_writing(
    tmp_path: Path, deep: bool, lossless: bool, grey: bool, size: tuple[int, int], capfd: pytest.CaptureFixture[str]
) -> None:
    top = 65535 if deep else 255
    values = ramp(*size, top)[..., : 1 if grey else 3]
    path = tmp_path / "out.heic"
    write_picture(Picture(values), path, lossless=lossless)
    found = decoded(path)
    assert found.shape == values.shape
    error = np.abs(found.astype(int) - values).max() / top
    assert error <= (0.0005 if deep else 0) if lossless else error < 0.03
    assert capfd.readouterr() == ("", "")


def test_everything_is_written(tmp_path: Path) -> None:
    colour = Colour(cicp=Cicp(9, 16), light=(10_000_000, 4_000_000), mastering=b"RXRYGXGYBXBY" + bytes(range(12)))
    metadata = Metadata(xmp=b"<x/>", dpi=(300, 150), aspect=2.0)
    for top in (255, 65535):
        path = tmp_path / "out.heif"
        pixels = ramp(top=top)
        picture = Picture(pixels, pixels[..., 0].copy(), colour=colour, metadata=metadata)
        _, ledger = fit(picture, output_format(path))
        assert with_fate(Fate.LOST, ledger) == []
        assert with_fate(Fate.CONVERTED, ledger) == (["16 bits per channel to 10 bits"] if top > 255 else [])
        write_picture(picture, path)
        info = pillow_heif.open_heif(path).info
        assert info["content_light_level"] == {"max_content_light_level": 1000, "max_pic_average_light_level": 400}
        assert tuple(info["pixel_aspect_ratio"]) == (2, 1)
        assert info["xmp"] == b"<x/>"
        again = read_picture(path)
        assert again.colour == colour
        assert (again.metadata.xmp, again.metadata.dpi, again.metadata.aspect) == (b"<x/>", (300, 150), 2)
        assert np.abs(again.alpha.astype(int) - picture.alpha).max() < top / 50
        write_picture(Picture(pixels, colour=Colour(icc=SRGB)), path)
        assert read_picture(path).colour.icc == SRGB


@pytest.mark.skipif(not shutil.which("heif-info"), reason="heif-info is not installed")
def test_heif_info_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "out.heic"
    write_picture(Picture(ramp(), ramp()[..., 0].copy(), metadata=Metadata(xmp=b"<x/>", dpi=(300, 300))), path)
    done = subprocess.run(["heif-info", path], capture_output=True, text=True, check=True)
    assert "image: 96x80 (id=1), primary" in done.stdout
    assert "alpha channel: yes" in done.stdout
