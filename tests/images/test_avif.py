"""AVIF files: containers are built box by box around what Pillow and OpenCV encode."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, features
from support.heif import HeifItem, box, boxes_of, coded_items, exif_item, heif_file, ispe, nclx, xmp_item
from support.profiles import table_profile
from support.reading import SRGB, noise, ramp, read
from support.writing import written

from gsrcli.errors import GsrError, LimitError, PictureError
from gsrcli.images import (
    Cicp,
    Colour,
    Fate,
    Metadata,
    Origin,
    Picture,
    PictureFile,
    fit,
    output_format,
    read_picture,
    with_fate,
    write_picture,
)
from gsrcli.images.writers import Encoding
from gsrcli.images.writers.avif import encode_avif_animation
from gsrcli.size import Size

pytestmark = pytest.mark.skipif(not features.check("avif"), reason="Pillow has no AVIF")

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
ALPHA = b"\0\0\0\0urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"


def pillow_avif(values: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "AVIF", **{"quality": 95, "subsampling": "4:4:4", **options})
    return file.getvalue()


def deep_avif(values: np.ndarray, bits: int = 10) -> bytes:
    """Encode (H, W) or (H, W, 3 or 4) of 10 or 12 bits with OpenCV, without loss."""
    return opencv_avif(values, bits, 100)


def opencv_avif(values: np.ndarray, bits: int, quality: int) -> bytes:
    options = [cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_QUALITY, quality, cv2.IMWRITE_AVIF_SPEED, 9]
    order = [2, 1, 0, 3]
    values = values if values.ndim == 2 else np.ascontiguousarray(values[..., order[: values.shape[2]]])
    done, data = cv2.imencode(".avif", values, options)
    assert done
    return data.tobytes()


def spread(values: np.ndarray, bits: int) -> np.ndarray:
    """Scale 10 or 12 bits to 16, by repeating the upper bits below."""
    wide = values.astype(np.uint32)
    return (wide << (16 - bits) | wide >> (2 * bits - 16)).astype(np.uint16)


def wrapped(data: bytes, *extra: tuple[bytes, bytes], colour: bool = True) -> HeifItem:
    """Return the picture that an encoder wrote, with its size, colour tags and further properties."""
    (item,) = coded_items(data)
    size = boxes_of(data, b"ispe")[0]
    item.properties += [(b"ispe", size), (b"pixi", boxes_of(data, b"pixi")[0])]
    if colour:
        item.properties.append((b"colr", boxes_of(data, b"colr")[0]))
    item.properties += extra
    return item


# Reading


def test_eight_bits_with_alpha(tmp_path: Path) -> None:
    values = np.dstack([ramp(), np.full((40, 48), 128, np.uint8)])
    picture = read(tmp_path, pillow_avif(values))
    assert np.abs(picture.pixels.astype(int) - ramp()).max() < 8
    assert picture.alpha is not None
    assert np.abs(picture.alpha.astype(int) - 128).max() < 3
    assert picture.colour == Colour()
    assert picture.ledger == ()


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("kind", ["grey", "colour", "colour and alpha"])
def test_ten_and_twelve_bits(tmp_path: Path, bits: int, kind: str) -> None:
    top = 2**bits - 1
    values = np.random.default_rng(bits).integers(0, top + 1, (40, 48, 4)).astype(np.uint16)
    values[:4], values[4:8] = top, 0
    stored = {"grey": values[..., 0], "colour": values[..., :3], "colour and alpha": values}[kind]
    picture = read(tmp_path, deep_avif(stored, bits))
    assert picture.bits == 16
    colours = values[..., :1] if kind == "grey" else values[..., :3]
    np.testing.assert_array_equal(picture.pixels, spread(colours, bits))
    assert picture.pixels.max() == 65535
    assert (picture.alpha is not None) == (kind == "colour and alpha")
    if picture.alpha is not None:
        np.testing.assert_array_equal(picture.alpha, spread(values[..., 3], bits))


@pytest.mark.parametrize("premultiplied", [False, True])
def test_ten_bit_grey_with_alpha(tmp_path: Path, premultiplied: bool) -> None:
    alpha = np.broadcast_to(np.linspace(300, 1023, 48).astype(np.uint16), (40, 48)).copy()
    grey = np.broadcast_to(np.linspace(100, 1000, 40).astype(np.uint16)[:, None], (40, 48)).copy()
    stored = np.rint(grey * (alpha / 1023)).astype(np.uint16) if premultiplied else grey
    colour = wrapped(deep_avif(stored))
    opacity = wrapped(deep_avif(alpha), (b"auxC", ALPHA), colour=False)
    opacity.references = [(b"auxl", [1])]
    if premultiplied:
        colour.references = [(b"prem", [2])]
    picture = read(tmp_path, heif_file(colour, opacity))
    assert picture.grey
    np.testing.assert_array_equal(picture.alpha, spread(alpha, 10))
    assert np.abs(picture.pixels[..., 0].astype(int) - spread(grey, 10)).max() <= (130 if premultiplied else 0)
    assert picture.origin == Origin("AVIF", lossless=not premultiplied, bits=10)


def test_limited_range_and_other_matrices(tmp_path: Path) -> None:
    values = ramp()
    picture = read(tmp_path, pillow_avif(values, range="limited"))
    assert np.abs(picture.pixels.astype(int) - values).max() < 8
    assert picture.pixels.min() < 4
    assert picture.pixels.max() > 251


@pytest.mark.parametrize("angle", range(4))
@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("deep", [False, True])
def test_irot_and_imir_turn(tmp_path: Path, angle: int, axis: int | None, deep: bool) -> None:
    data = deep_avif(ramp(top=1023)) if deep else pillow_avif(ramp())
    plain = read(tmp_path, data).pixels
    extra = [(b"irot", bytes([angle]))] + ([] if axis is None else [(b"imir", bytes([axis]))])
    picture = read(tmp_path, heif_file(wrapped(data, *extra)))
    expected = np.rot90(plain, angle)
    if axis is not None:
        expected = expected[::-1] if axis == 0 else expected[:, ::-1]
    np.testing.assert_array_equal(picture.pixels, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_as_pillow_writes_it(tmp_path: Path, orientation: int) -> None:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    tags[ExifTags.Base.Make] = "Maker"
    picture = read(tmp_path, pillow_avif(ramp(), exif=tags.tobytes()))
    turned = ramp()
    if orientation > 4:
        turned = turned.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        turned = turned[:, ::-1]
    if orientation in (3, 4, 7, 8):
        turned = turned[::-1]
    assert np.abs(picture.pixels.astype(int) - turned).max() < 8


def test_exif_and_xmp_do_not_turn(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation], tags[ExifTags.Base.Make] = 8, "Maker"
    block = tags.tobytes().removeprefix(b"Exif\0\0")
    picture = read(tmp_path, heif_file(wrapped(pillow_avif(ramp())), exif_item(block), xmp_item(XMP)))
    assert picture.size == Size(40, 48)
    assert picture.metadata.xmp == XMP.replace(b'"6"', b'"1"')
    again = Image.Exif()
    again.load(b"Exif\0\0" + (picture.metadata.exif or b""))
    assert again[ExifTags.Base.Orientation] == 1
    assert again[ExifTags.Base.Make] == "Maker"


@pytest.mark.parametrize("size", [(1, 1), (40, 48), (70, 300), (4, 4200)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_what_is_exact_is_known_to_be(tmp_path: Path, size: tuple[int, int], channels: int) -> None:
    """Noise, which no lossy coding keeps, by libaom in Pillow and OpenCV."""
    values = noise(*size, channels)
    planes = values[..., 0] if channels == 1 else values
    qualities = {100: True, 99: False, 90: False} if size != (1, 1) else {100: True}
    for quality, exact in qualities.items():
        file = opencv_avif(planes, 8, quality)
        assert_exact(read(tmp_path, file), values, exact)
        if channels == 1:
            assert_exact(read(tmp_path, pillow_avif(planes, quality=quality, subsampling="4:0:0")), values, exact)
        for subsampling in ("4:4:4", "4:2:0") if channels > 1 else ():
            converted = pillow_avif(planes, quality=quality, subsampling=subsampling)  # with another matrix
            assert read(tmp_path, converted).origin == Origin("AVIF", lossless=False)
    for bits in (10, 12):
        deep = noise(*size, channels, dtype=np.uint16, top=2**bits)
        for quality, exact in qualities.items():
            file = opencv_avif(deep[..., 0] if channels == 1 else deep, bits, quality)
            assert_exact(read(tmp_path, file), spread(deep, bits), exact)


def assert_exact(picture: Picture, values: np.ndarray, exact: bool) -> None:
    """Assert that a picture is what was encoded, or is not, and that its origin says so."""
    layers = picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
    assert layers.dtype == values.dtype
    assert np.array_equal(layers, values) == exact
    assert picture.origin is not None
    assert picture.origin.lossless == exact


@pytest.mark.skipif(not shutil.which("avifenc"), reason="avifenc is not installed")
@pytest.mark.parametrize(
    ("options", "exact"),
    [
        (["--lossless"], True),
        (["--lossless", "--speed", "3"], True),
        (["--lossless", "--tilecolslog2", "2", "--tilerowslog2", "1"], True),
        (["--lossless", "--autotiling"], True),
        (["--lossless", "--grid", "2x1"], True),
        (["--lossless", "--range", "limited"], False),
        (["--min", "0", "--max", "5", "--cicp", "1/13/0", "--yuv", "444"], False),
        (["--min", "0", "--max", "0", "--cicp", "1/13/1", "--yuv", "444"], False),
    ],
)
def test_other_ways_to_be_exact(tmp_path: Path, options: list[str], exact: bool) -> None:
    values = noise(130, 500, 3)
    Image.fromarray(values).save(tmp_path / "in.png")
    subprocess.run(["avifenc", *options, tmp_path / "in.png", tmp_path / "out.avif"], check=True, capture_output=True)
    assert_exact(read_picture(tmp_path / "out.avif"), values, exact)


def test_what_came_lossless_stays_lossless(tmp_path: Path) -> None:
    path, values = tmp_path / "out.avif", noise(20, 30, 3)
    for origin, quality, exact in ((None, None, False), (Origin("AVIF"), None, True), (Origin("AVIF"), 90, False)):
        write_picture(Picture(values, origin=origin), path, quality=quality)
        assert_exact(read_picture(path), values, exact)


def region(x: float, y: float, width: int, height: int) -> bytes:
    """Build a packet with an area of the Metadata Working Group, a tenth wide and two tenths high, or turned."""
    w, h = (0.1, 0.2) if width > height else (0.2, 0.1)
    return f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
 xmlns:r="http://www.metadataworkinggroup.com/schemas/regions/" xmlns:a="http://ns.adobe.com/xmp/sType/Area#"
 xmlns:d="http://ns.adobe.com/xap/1.0/sType/Dimensions#"><rdf:Description><r:Regions rdf:parseType="Resource">
<r:AppliedToDimensions d:w="{width}" d:h="{height}"/><r:Area a:x="{x}" a:y="{y}" a:w="{w}" a:h="{h}"/>
</r:Regions></rdf:Description></rdf:RDF></x:xmpmeta>""".encode()


@pytest.mark.parametrize(
    ("turned", "orientation", "result"),
    [
        ([], 6, region(0.3, 0.4, 48, 40)),  # EXIF does not turn
        ([(b"irot", b"\3")], 6, region(0.6, 0.3, 40, 48)),
        ([(b"irot", b"\3"), (b"imir", b"\0")], 7, region(0.6, 0.7, 40, 48)),
        ([(b"irot", b"\3"), (b"imir", b"\0")], 5, None),
        ([(b"irot", b"\3")], 8, None),
        ([(b"irot", b"\3")], 1, None),
    ],
)
def test_regions_are_turned_if_exif_agrees(
    tmp_path: Path, turned: list[tuple[bytes, bytes]], orientation: int, result: bytes | None
) -> None:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    block = tags.tobytes().removeprefix(b"Exif\0\0")
    others = exif_item(block), xmp_item(region(0.3, 0.4, 48, 40))
    picture = read(tmp_path, heif_file(wrapped(pillow_avif(ramp()), *turned), *others))
    if result:
        assert picture.metadata.xmp == result
    else:
        assert b":Area" not in (picture.metadata.xmp or b"")
    lost = ["image regions of the picture before it was turned"]
    assert with_fate(Fate.LOST, picture.ledger) == ([] if result else lost)


def test_clean_aperture(tmp_path: Path) -> None:
    data = pillow_avif(ramp())
    whole = read(tmp_path, data).pixels
    # 20 columns by 10 rows, centred 4 columns left of and 5 rows below the middle
    clap = (b"clap", struct.pack(">IIIIiIiI", 20, 1, 10, 1, -4, 1, 5, 1))
    picture = read(tmp_path, heif_file(wrapped(data, clap, (b"irot", b"\1"))))
    np.testing.assert_array_equal(picture.pixels, np.rot90(whole[20:30, 10:30]))
    outside = (b"clap", struct.pack(">IIIIiIiI", 20, 1, 10, 1, -40, 1, 5, 1))
    np.testing.assert_array_equal(read(tmp_path, heif_file(wrapped(data, outside))).pixels, whole)


@pytest.mark.parametrize(
    ("points", "profile", "expected"),
    [
        ((1, 13), False, Colour()),
        ((2, 2), False, Colour()),
        ((300, 13), False, Colour()),  # there is no such code
        ((12, 13), False, Colour(cicp=Cicp(12, 13))),
        ((9, 16), False, Colour(cicp=Cicp(9, 16))),
        ((2, 2), True, Colour(icc=SRGB)),
        ((1, 1), True, Colour(icc=SRGB)),
        ((9, 18), True, Colour(icc=SRGB, cicp=Cicp(9, 18))),
    ],
)
def test_code_points_and_profiles(tmp_path: Path, points: tuple[int, int], profile: bool, expected: Colour) -> None:
    extra = [nclx(*points)] + ([(b"colr", b"prof" + SRGB)] if profile else [])
    assert read(tmp_path, heif_file(wrapped(pillow_avif(ramp()), *extra, colour=False))).colour == expected


def test_light_levels_and_aspect(tmp_path: Path) -> None:
    green, blue, red, rest = b"GXGY", b"BXBY", b"RXRY", bytes(range(12))
    extra = [
        (b"clli", struct.pack(">HH", 1000, 400)),
        (b"mdcv", green + blue + red + rest),
        (b"pasp", struct.pack(">II", 2, 1)),
    ]
    picture = read(tmp_path, heif_file(wrapped(pillow_avif(ramp()), *extra)))
    assert picture.colour.light == (10_000_000, 4_000_000)
    assert picture.colour.mastering == red + green + blue + rest
    assert picture.metadata.aspect == 2
    turned = read(tmp_path, heif_file(wrapped(pillow_avif(ramp()), *extra, (b"irot", b"\1"))))
    assert turned.metadata.aspect == 0.5


def test_what_is_no_part_of_the_picture_is_named(tmp_path: Path) -> None:
    data = pillow_avif(ramp())

    def auxiliary(name: bytes) -> HeifItem:
        item = wrapped(data, (b"auxC", b"\0\0\0\0" + name + b"\0"), colour=False)
        item.references = [(b"auxl", [1])]
        return item

    thumbnail = wrapped(data)
    thumbnail.references = [(b"thmb", [1])]
    gain = HeifItem(b"tmap", b"\0", [ispe(48, 40)], [(b"dimg", [1, 2])])
    note = HeifItem(b"mime", b"{}", references=[(b"cdsc", [1])], media_type=b"application/json")
    thumbnail_alpha = wrapped(data, (b"auxC", ALPHA), colour=False)
    thumbnail_alpha.references = [(b"auxl", [7])]
    items = [
        wrapped(data),
        wrapped(data),
        gain,
        auxiliary(b"urn:com:apple:photo:2020:aux:hdrgainmap"),
        auxiliary(b"urn:mpeg:mpegB:cicp:systems:auxiliary:depth"),
        auxiliary(b"urn:example:something"),
        thumbnail,
        wrapped(data),
        note,
        thumbnail_alpha,
    ]
    picture = read(tmp_path, heif_file(*items))
    assert with_fate(Fate.LOST, picture.ledger) == [
        "2 gain maps",
        "depth map",
        "auxiliary picture",
        "further picture",
        "application/json metadata",
    ]


def test_bad_metadata_cost_themselves_alone(tmp_path: Path) -> None:
    exif = HeifItem(b"Exif", b"\0\0\0\0nothing", references=[(b"cdsc", [1])])
    picture = read(tmp_path, heif_file(wrapped(pillow_avif(ramp()), (b"colr", b"profnothing")), exif))
    assert picture.size == Size(40, 48)
    assert with_fate(Fate.DAMAGED, picture.ledger) == ["colour profile", "EXIF"]
    outside = bytearray(heif_file(wrapped(pillow_avif(ramp())), xmp_item(XMP)))
    place = outside.index(b"iloc") + 4 + 8 + 14 + 6
    outside[place : place + 4] = b"\x7f\xff\xff\xff"
    assert read(tmp_path, bytes(outside)).metadata.xmp is None


def test_a_grid(tmp_path: Path) -> None:
    values = [np.full((64, 64, 3), level, np.uint8) for level in (40, 90, 150, 220)]
    tiles = [wrapped(pillow_avif(value)) for value in values]
    grid = HeifItem(b"grid", struct.pack(">BBBBHH", 0, 0, 1, 1, 120, 100), [ispe(120, 100)], [(b"dimg", [2, 3, 4, 5])])
    picture = read(tmp_path, heif_file(grid, *tiles))
    assert picture.size == Size(100, 120)
    for (y, x), level in (((0, 0), 40), ((0, 119), 90), ((99, 0), 150), ((99, 119), 220)):
        assert abs(int(picture.pixels[y, x, 0]) - level) < 3


@pytest.mark.parametrize("claim", [(16000, 16000), (48, 41), (49, 40)])
def test_a_size_larger_than_what_is_coded_is_damage(tmp_path: Path, claim: tuple[int, int]) -> None:
    item = wrapped(pillow_avif(ramp()))
    item.properties = [ispe(*claim) if kind == b"ispe" else (kind, body) for kind, body in item.properties]
    path = tmp_path / "claims.avif"
    path.write_bytes(heif_file(item))
    tracemalloc.start()
    with pytest.raises(PictureError, match="damaged"):
        read_picture(path)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_sizes_beyond_the_limits(tmp_path: Path) -> None:
    path = tmp_path / "large.avif"
    for claim, limit, words in (
        ((16000, 16000), 10**6, "16000x16000 is more than 1 megapixels"),
        ((40000, 10), 10**9, "32768 pixels per side"),
    ):
        item = wrapped(pillow_avif(ramp()))
        item.properties = [ispe(*claim) if kind == b"ispe" else (kind, body) for kind, body in item.properties]
        path.write_bytes(heif_file(item))
        with pytest.raises(LimitError, match=words):
            read_picture(path, max_pixels=limit)


def test_a_blank_picture_of_few_bytes_is_not_believed(tmp_path: Path) -> None:
    grid = HeifItem(b"grid", struct.pack(">BBBBHH", 0, 0, 31, 31, 16384, 16384), [ispe(16384, 16384)])
    grid.references = [(b"dimg", [2] * 1024)]
    tile = wrapped(pillow_avif(np.zeros((512, 512, 3), np.uint8)))
    path = tmp_path / "blank.avif"
    path.write_bytes(heif_file(grid, tile))
    with pytest.raises(LimitError, match="too large to be believed"):
        read_picture(path)


def test_many_references_take_no_time(tmp_path: Path) -> None:
    item = wrapped(pillow_avif(ramp()))
    item.references = [(b"dimg", [1, 1])] * 60_000
    path = tmp_path / "many.avif"
    path.write_bytes(heif_file(item))
    start = time.process_time()
    with pytest.raises(PictureError, match="damaged"):
        read_picture(path)
    assert time.process_time() - start < 5


def test_unsupported_kinds_are_named(tmp_path: Path) -> None:
    path = tmp_path / "picture.avif"
    path.write_bytes(heif_file(HeifItem(b"j2k1", b"data", [ispe(4, 4)])))
    with pytest.raises(PictureError, match="kind j2k1 is not supported"):
        read_picture(path)


def test_what_the_decoder_does_not_implement_is_no_damage(tmp_path: Path) -> None:
    tile = wrapped(pillow_avif(np.zeros((64, 64, 3), np.uint8)))
    cells = struct.pack(">BBBBHH", 0, 0, 0, 1, 128, 64)
    grid = HeifItem(b"grid", cells, [ispe(128, 64)], [(b"dimg", [3, 4])])
    alpha = HeifItem(b"grid", cells, [ispe(128, 64), (b"auxC", ALPHA)], [(b"dimg", [3, 4]), (b"auxl", [1])])
    path = tmp_path / "shared.avif"
    path.write_bytes(heif_file(grid, alpha, tile, tile))  # colour and alpha share their tiles
    with pytest.raises(PictureError, match="of this kind is not supported"):
        read_picture(path)


def test_no_opencv_for_ten_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = deep_avif(ramp(top=1023))
    monkeypatch.setattr("gsrcli.images.readers.avif.opencv_has_avif", lambda: False)
    picture = read(tmp_path, data)
    assert picture.bits == 8
    assert with_fate(Fate.LOST, picture.ledger) == ["16 bits per channel (this OpenCV reads no AVIF)"]
    np.testing.assert_allclose(picture.pixels, ramp(), atol=1)
    assert picture.origin == Origin("AVIF", lossless=False)


# Writing


def decoded(path: Path, deep: bool) -> np.ndarray:
    """Decode with OpenCV to (H, W, C), in 16 bits if it is deep."""
    values = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    assert values.dtype == (np.uint16 if deep else np.uint8)
    values = values.reshape(*values.shape[:2], -1)
    if values.shape[2] >= 3:
        values = values[..., [2, 1, 0, 3][: values.shape[2]]]
    return spread(values, 10) if deep else values


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("grey", [False, True])
def test_writing(tmp_path: Path, deep: bool, lossless: bool, grey: bool) -> None:
    values = ramp(80, 96, 65535 if deep else 255)
    values = values[..., :1] if grey else values
    path = tmp_path / "out.avif"
    write_picture(Picture(values), path, lossless=lossless)
    found = decoded(path, deep)
    assert found.shape == values.shape
    error = np.abs(found.astype(int) - values).max() / (65535 if deep else 255)
    assert error <= (0.0005 if deep else 0) if lossless else error < 0.03


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("grey", [False, True])
def test_alpha_is_written_at_the_same_depth(tmp_path: Path, deep: bool, grey: bool) -> None:
    values = ramp(80, 96, 65535 if deep else 255)
    picture = Picture(values[..., :1] if grey else values, np.ascontiguousarray(values[..., 1]))
    path = tmp_path / "out.avif"
    write_picture(picture, path)
    image = Image.open(path)
    assert image.mode == "RGBA"
    again = read_picture(path)
    assert again.bits == picture.bits
    assert again.grey == grey
    for ours, theirs in ((again.pixels, picture.pixels), (again.alpha, picture.alpha)):
        assert np.abs(ours.astype(int) - theirs).max() < (2000 if deep else 8)


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (255, 255, 0)])
def test_pure_colours_stay_pure(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    path = tmp_path / "out.avif"
    for pixels in (np.full((32, 32, 3), colour, np.uint8), np.full((32, 32, 3), colour, np.uint16) * np.uint16(257)):
        write_picture(Picture(pixels), path)
        assert np.abs(np.asarray(Image.open(path)).astype(int) - colour).max() <= 2


def test_colour_tags_and_metadata_are_written(tmp_path: Path) -> None:
    colour = Colour(cicp=Cicp(9, 16), light=(10_000_000, 4_000_000), mastering=b"RXRYGXGYBXBY" + bytes(range(12)))
    metadata = Metadata(xmp=b"<x/>", dpi=(300, 150), aspect=2.0)
    for pixels in (ramp(), ramp(top=65535)):
        path = tmp_path / "out.avif"
        picture = Picture(pixels, colour=colour, metadata=metadata)
        fitted, ledger = fit(picture, output_format(path))
        assert with_fate(Fate.LOST, ledger) == []
        assert (fitted.colour, fitted.metadata) == (colour, metadata)
        write_picture(picture, path)
        data = path.read_bytes()
        assert [body[:8] for body in boxes_of(data, b"colr")] == [b"nclx\0\x09\0\x10"]
        assert boxes_of(data, b"clli") == [struct.pack(">HH", 1000, 400)]
        assert boxes_of(data, b"mdcv") == [b"GXGYBXBYRXRY" + bytes(range(12))]
        assert boxes_of(data, b"pasp") == [struct.pack(">II", 2, 1)]
        image = Image.open(path)
        assert image.info["xmp"] == b"<x/>"
        assert image.getexif()[ExifTags.Base.XResolution] == 300
        assert image.getexif()[ExifTags.Base.YResolution] == 150
        assert read_picture(path).colour == colour
        again = read_picture(path).metadata
        assert (again.xmp, again.dpi, again.aspect) == (b"<x/>", (300, 150), 2)
        write_picture(Picture(pixels, colour=Colour(icc=SRGB)), path)
        assert Image.open(path).info["icc_profile"] == SRGB


def test_untagged_pictures_say_srgb(tmp_path: Path) -> None:
    for pixels in (ramp(), ramp(top=65535), ramp()[..., :1]):
        write_picture(Picture(pixels), tmp_path / "out.avif")
        assert boxes_of((tmp_path / "out.avif").read_bytes(), b"colr")[0][:8] == b"nclx\0\x01\0\x0d"


def test_sixteen_bits_become_ten(tmp_path: Path) -> None:
    picture = Picture(ramp(top=65535))
    _, ledger = fit(picture, output_format("a.avif"))
    assert with_fate(Fate.CONVERTED, ledger)[0].startswith("16 bits per channel to 10")
    assert with_fate(Fate.LOST, ledger) == []


def test_no_opencv_to_write_ten_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsrcli.images.writers.avif.opencv_has_avif", lambda: False)
    write_picture(Picture(ramp()), tmp_path / "out.avif")
    with pytest.raises(PictureError, match="writes no AVIF"):
        write_picture(Picture(ramp(top=65535)), tmp_path / "out.avif")


@pytest.mark.skipif(not shutil.which("avifdec"), reason="avifdec is not installed")
@pytest.mark.parametrize("deep", [False, True])
def test_avifdec_reads_what_is_written(tmp_path: Path, deep: bool) -> None:
    path = tmp_path / "out.avif"
    pixels = ramp(top=65535 if deep else 255)
    colour, metadata = Colour(cicp=Cicp(9, 16)), Metadata(xmp=b"<x/>", dpi=(300, 300))
    write_picture(Picture(pixels, pixels[..., 0].copy(), colour=colour, metadata=metadata), path)
    said = subprocess.run(["avifdec", "-i", path], capture_output=True, text=True, check=True).stdout
    for words in (
        "Color Primaries: 9",
        "Transfer Char. : 16",
        f"Bit Depth      : {10 if deep else 8}",
        "XMP Metadata   : P",
    ):
        assert words in said


# Animations


def frames(count: int = 4, **options: Any) -> list[Picture]:
    durations = (0.04, 0.1, 0.5, 1.0)
    return [
        Picture(np.full((48, 64, 3), 60 * i + 10, np.uint8), duration=durations[i], **options) for i in range(count)
    ]


def test_reading_an_animation(tmp_path: Path) -> None:
    images = [Image.new("RGBA", (64, 48), (60 * i, 0, 0, 200)) for i in range(4)]
    path = tmp_path / "moving.avif"
    images[0].save(path, save_all=True, append_images=images[1:], duration=[40, 100, 500, 0])
    file = PictureFile(path)
    assert (file.size, file.count, file.animated, file.loops) == (Size(48, 64), 4, True, 0)
    for index in (2, 0, 3, 1):
        picture = file.picture(index)
        assert abs(int(picture.pixels[20, 20, 0]) - 60 * index) < 4
        assert picture.alpha is not None
        assert picture.duration == (0.04, 0.1, 0.5, 0.1)[index]  # no duration is shown for 100 ms


@pytest.mark.parametrize("loops", [0, 1, 3])
def test_writing_an_animation(tmp_path: Path, loops: int) -> None:
    path, asked = tmp_path / "moving.avif", 0
    colour, metadata = Colour(cicp=Cicp(9, 16)), Metadata(xmp=b"<x/>", dpi=(300, 300))

    def one_by_one() -> Any:
        nonlocal asked
        for picture in frames(colour=colour, metadata=metadata):
            asked += 1
            yield picture

    path.write_bytes(written(encode_avif_animation, one_by_one(), loops, Encoding()))
    assert asked == 4
    image = Image.open(path)
    assert image.n_frames == 4
    file = PictureFile(path)
    assert (file.count, file.loops) == (4, loops)
    for index, expected in enumerate(frames()):
        picture = file.picture(index)
        assert picture.duration == expected.duration
        assert np.abs(picture.pixels.astype(int) - expected.pixels).max() < 4
        assert picture.colour == colour
        assert picture.metadata.xmp == b"<x/>"
        assert picture.metadata.dpi == (300, 300)


def test_a_track_of_alpha_may_come_first(tmp_path: Path) -> None:
    images = [Image.new("RGBA", (64, 48), (200, 60 * i, 0, 128)) for i in range(3)]
    path = tmp_path / "moving.avif"
    images[0].save(path, save_all=True, append_images=images[1:], subsampling="4:4:4")
    data = path.read_bytes()
    colour, alpha = (box(b"trak", body) for body in boxes_of(data, b"trak"))
    assert colour + alpha in data
    path.write_bytes(data.replace(colour + alpha, alpha + colour))
    picture = PictureFile(path).picture(1)
    assert np.abs(picture.pixels.astype(int) - [200, 60, 0]).max() < 4
    assert picture.alpha is not None
    assert np.abs(picture.alpha.astype(int) - 128).max() < 4


@pytest.mark.parametrize("transparent", [False, True])
def test_an_animation_of_grey_keeps_its_profile(tmp_path: Path, transparent: bool) -> None:
    lightness = np.linspace(0, 100, 5)[:, None] * [1, 0, 0]
    profile = table_profile(b"GRAY", lightness)  # which has no counterpart for RGB
    alpha = np.full((48, 64), 128, np.uint8) if transparent else None
    grey = [replace(frame, pixels=frame.pixels[..., :1], alpha=alpha, colour=Colour(icc=profile)) for frame in frames()]
    fitted, ledger = zip(*(fit(frame, output_format("a.avif")) for frame in grey), strict=True)
    assert "colour profile" in with_fate(Fate.KEPT, ledger[0])
    path = tmp_path / "moving.avif"
    path.write_bytes(written(encode_avif_animation, fitted, 0, Encoding()))
    image = Image.open(path)
    assert image.info["icc_profile"] == profile
    file = PictureFile(path)
    for index, expected in enumerate(grey):
        image.seek(index)
        shown = np.asarray(image.convert("RGBA"))
        assert np.abs(shown[..., :3].astype(int) - expected.pixels).max() < 4
        assert (shown[..., 3] == 128).all() == transparent
        picture = file.picture(index)
        assert picture.grey
        assert picture.colour == expected.colour
        assert fit(picture, output_format("a.png"))[0].colour == expected.colour


def test_animations_without_loss_are_refused() -> None:
    with pytest.raises(PictureError, match="without loss"):
        written(encode_avif_animation, frames(), 0, Encoding(lossless=True))


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        ([], []),
        ([(b":alpha", b":depth")], ["depth map"]),
        ([(b"auxv", b"soun"), (b"tref", b"free")], ["sound"]),
        ([(b"tref", b"free")], ["further track"]),
    ],
)
def test_tracks_beside_an_animation_are_named(
    tmp_path: Path, changes: list[tuple[bytes, bytes]], lost: list[str]
) -> None:
    """The second track, of alpha, is declared to be another one."""
    images = [Image.new("RGBA", (64, 48), (60 * i, 0, 0, 200)) for i in range(2)]
    path = tmp_path / "moving.avif"
    images[0].save(path, save_all=True, append_images=images[1:])
    data = path.read_bytes()
    at = data.index(b"moov")
    at = data.index(b"trak", data.index(b"trak", at) + 4)
    second = data[at:]
    for before, after in changes:
        assert second.count(before) == 1
        second = second.replace(before, after)
    path.write_bytes(data[:at] + second)
    assert [str(entry) for entry in PictureFile(path).picture().ledger if entry.fate == Fate.LOST] == lost


def test_a_sequence_that_claims_to_be_larger(tmp_path: Path) -> None:
    images = [Image.new("RGB", (64, 48), colour) for colour in ("red", "green")]
    path = tmp_path / "moving.avif"
    images[0].save(path, save_all=True, append_images=images[1:])
    data = bytearray(path.read_bytes())
    at = data.index(b"av01", data.index(b"stsd")) + 4 + 24
    assert data[at : at + 4] == struct.pack(">HH", 64, 48)
    data[at : at + 4] = struct.pack(">HH", 4000, 4000)
    path.write_bytes(data)
    with pytest.raises(PictureError, match="damaged"):
        PictureFile(path).picture()


def test_cut_files(tmp_path: Path) -> None:
    data = heif_file(wrapped(pillow_avif(ramp())), xmp_item(XMP))
    path = tmp_path / "cut.avif"
    for length in range(12, len(data) - len(XMP) - 1, 7):
        path.write_bytes(data[:length])
        with pytest.raises((PictureError, GsrError), match="cut"):
            read_picture(path)


def test_replaced_frames_keep_their_type() -> None:
    first, second = frames(2)
    mixed = [first, replace(second, alpha=np.full((48, 64), 255, np.uint8))]
    assert written(encode_avif_animation, mixed, 0, Encoding())[4:12] == b"ftypavis"
