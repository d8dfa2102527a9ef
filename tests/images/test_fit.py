"""Fitting to formats: what is converted, what is lost, and that the ledger says so."""

from __future__ import annotations

import io
import re
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin
from support.profiles import table_profile

from gsrcli.errors import PictureError
from gsrcli.images import (
    OUTPUT_SUFFIXES,
    Chromaticities,
    Cicp,
    Colour,
    Entry,
    Fate,
    Feature,
    Format,
    Metadata,
    Origin,
    Picture,
    Text,
    exif,
    fit,
    icc,
    output_format,
    read_picture,
    to_unit,
    white,
    with_fate,
    write_picture,
)
from gsrcli.size import Size

EVERYTHING = Format("ALL", (".all",), 1 << 20, keeps=frozenset(Feature), cicp_rules=True, languages=True)
BLOCKS = replace(EVERYTHING, keeps=frozenset({Feature.PROFILE, Feature.EXIF, Feature.XMP}), languages=False)
DEEP = replace(BLOCKS, keeps=BLOCKS.keeps | {Feature.SIXTEEN_BITS})
PROFILE_RULES = replace(EVERYTHING, cicp_rules=False)
RGB_ONLY = replace(BLOCKS, grey=False)
HDR_ONLY = frozenset({Feature.HDR})
NOTHING = replace(EVERYTHING, keeps=frozenset())
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SCANNER = table_profile(b"RGB ", np.mgrid[:2, :2, :2].sum(0)[..., None] * [100 / 3, 0, 0])
P3 = Chromaticities((0.3127, 0.329), (0.68, 0.32), (0.265, 0.69), (0.15, 0.06))


def ramp(channels: int = 3, dtype: Any = np.uint8) -> np.ndarray:
    top = np.iinfo(dtype).max
    values = np.linspace(0, top, 16 * 16 * channels).astype(dtype)
    return np.random.default_rng(0).permutation(values).reshape(16, 16, channels)


def fitted(picture: Picture, form: Format) -> tuple[Picture, tuple[Entry, ...]]:
    """Fit, and assert that fitting again changes nothing and finds nothing to say."""
    result, ledger = fit(picture, form)
    again, second = fit(result, form)
    assert (again.colour, again.metadata) == (result.colour, result.metadata)
    np.testing.assert_array_equal(again.pixels, result.pixels)
    assert {entry.fate for entry in second} <= {Fate.KEPT}
    return result, ledger


def lines(fate: Fate, ledger: tuple[Entry, ...]) -> list[str]:
    return with_fate(fate, ledger)


# Colour


@pytest.mark.parametrize("channels", [1, 3])
def test_all_colour_tags_are_kept_where_they_can_be(channels: int) -> None:
    profile = icc.adobe_rgb_profile(grey=channels == 1)
    colour = Colour(profile, Cicp(9, 16), 0.45455, P3, bytes(24), (10_000_000, 1))
    result, ledger = fitted(Picture(ramp(channels), colour=colour), EVERYTHING)
    assert result.colour == colour
    assert lines(Fate.KEPT, ledger) == [
        "colour profile",
        "CICP colour tags",
        "gamma and chromaticities",
        "HDR mastering data",
    ]


@pytest.mark.parametrize("channels", [1, 3])
def test_code_points_become_a_profile(channels: int) -> None:
    tags = Colour(SRGB, Cicp(12, 13), 0.45455, P3)
    result, ledger = fitted(Picture(ramp(channels), colour=tags), BLOCKS)
    assert result.colour == Colour(icc.cicp_profile(Cicp(12, 13), grey=channels == 1))
    assert lines(Fate.CONVERTED, ledger) == [
        "colour profile left out, because CICP colour tags rule over it",
        "CICP colour tags to a colour profile",
    ]
    assert not lines(Fate.LOST, ledger)


def test_hdr_without_code_points_is_told() -> None:
    colour = Colour(cicp=Cicp(9, 16), light=(40_000_000, 1), mastering=bytes(24))
    result, ledger = fitted(Picture(ramp(dtype=np.uint16), colour=colour), DEEP)
    assert result.colour == Colour(icc.cicp_profile(Cicp(9, 16), grey=False, peak=4000))
    assert lines(Fate.CONVERTED, ledger) == ["CICP colour tags to a colour profile, which few programs show as HDR"]
    assert lines(Fate.LOST, ledger) == ["HDR mastering data"]


def test_srgb_needs_no_profile() -> None:
    result, ledger = fitted(Picture(ramp(), colour=Colour(SRGB, Cicp(1, 13))), NOTHING)
    assert result.colour == Colour()
    assert not lines(Fate.LOST, ledger)


@pytest.mark.parametrize("codes", [Cicp(2, 2), Cicp(0, 3), Cicp(99, 99)])
def test_unspecified_code_points_say_nothing(codes: Cicp) -> None:
    result, ledger = fitted(Picture(ramp(), colour=Colour(SRGB, codes)), BLOCKS)
    assert result.colour == Colour(SRGB)
    assert ledger == (Entry(Feature.PROFILE, Fate.KEPT),)


def test_half_specified_code_points_take_the_rest_from_srgb() -> None:
    result, _ = fitted(Picture(ramp(), colour=Colour(cicp=Cicp(12, 2))), BLOCKS)
    assert result.colour.icc == icc.cicp_profile(Cicp(12, 13), grey=False)


def test_code_points_are_not_written_below_a_profile_that_would_rule() -> None:
    result, _ = fitted(Picture(ramp(), colour=Colour(SRGB, Cicp(12, 13))), PROFILE_RULES)
    assert result.colour == Colour(cicp=Cicp(12, 13))


@pytest.mark.parametrize("gamma", [None, 0.45455, 0.45454, 1 / 2.2])
@pytest.mark.parametrize(
    "chromaticities", [None, Chromaticities((0.3127, 0.329), (0.64, 0.33), (0.30001, 0.6), (0.15, 0.06))]
)
def test_the_gamma_of_srgb_is_srgb(gamma: float | None, chromaticities: Chromaticities | None) -> None:
    colour = Colour(gamma=gamma, chromaticities=chromaticities)
    for form in (BLOCKS, NOTHING):
        result, ledger = fitted(Picture(ramp(), colour=colour), form)
        assert (result.colour, ledger) == (Colour(), ())
        np.testing.assert_array_equal(result.pixels, ramp())
    assert fitted(Picture(ramp(), colour=colour), EVERYTHING)[0].colour == colour
    for other in (replace(colour, gamma=1 / 1.8), replace(colour, chromaticities=P3)):
        assert fitted(Picture(ramp(), colour=other), BLOCKS)[0].colour.icc


def test_gamma_becomes_a_profile_and_goes_below_one_without_a_word() -> None:
    result, ledger = fitted(Picture(ramp(), colour=Colour(gamma=1 / 2.2, chromaticities=P3)), BLOCKS)
    assert result.colour == Colour(icc.gamma_profile(1 / 2.2, P3, grey=False))
    assert lines(Fate.CONVERTED, ledger) == ["gamma and chromaticities to a colour profile"]
    result, ledger = fitted(Picture(ramp(), colour=Colour(SRGB, gamma=1 / 2.2)), BLOCKS)
    assert result.colour == Colour(SRGB)
    assert ledger == (Entry(Feature.PROFILE, Fate.KEPT),)


def test_blocks_too_long_for_a_format_are_lost() -> None:
    small = replace(EVERYTHING, most={Feature.EXIF: 9, Feature.PROFILE: 99})
    result, ledger = fitted(Picture(ramp(), colour=Colour(SRGB), metadata=Metadata(exif=bytes(10))), small)
    assert (result.colour, result.metadata) == (Colour(), Metadata())
    assert lines(Fate.LOST, ledger) == ["EXIF of 10 bytes", f"colour profile of {len(SRGB)} bytes"]
    kept, _ = fitted(Picture(ramp(), metadata=Metadata(exif=bytes(9))), small)
    assert kept.metadata.exif


def test_a_file_that_states_srgb_is_srgb() -> None:
    colour = Colour(gamma=0.45455, chromaticities=P3, intent=0)
    result, ledger = fitted(Picture(ramp(), colour=colour, metadata=Metadata(exif=exif_of_camera(2, None))), BLOCKS)
    assert (result.colour.icc, result.colour.gamma) == (None, None)
    assert ledger == (Entry(Feature.EXIF, Fate.KEPT),)


@pytest.mark.parametrize("form", [EVERYTHING, BLOCKS, NOTHING])
def test_damaged_colour_tags(form: Format) -> None:
    broken = Colour(b"not a profile", gamma=0.45, chromaticities=Chromaticities((0, 0), (0, 0), (0, 0), (0, 0)))
    result, ledger = fitted(Picture(ramp(), colour=broken), form)
    assert result.colour == Colour()
    assert lines(Fate.DAMAGED, ledger) == ["colour profile", "gamma and chromaticities"]


def test_a_damaged_profile_leaves_the_tags_below_it() -> None:
    result, _ = fitted(Picture(ramp(), colour=Colour(b"not a profile", gamma=0.45)), BLOCKS)
    assert result.colour.icc == icc.gamma_profile(0.45, None, grey=False)


def test_profiles_follow_the_channels() -> None:
    for_rgb, for_grey = icc.adobe_rgb_profile(grey=False), icc.adobe_rgb_profile(grey=True)
    for channels, profile, form, space in (
        (1, for_rgb, BLOCKS, "GRAY"),
        (3, for_grey, BLOCKS, "RGB"),
        (1, for_grey, RGB_ONLY, "RGB"),
        (1, for_grey, BLOCKS, "GRAY"),
    ):
        result, ledger = fitted(Picture(ramp(channels), colour=Colour(profile)), form)
        assert icc.profile_space(result.colour.icc or b"") == space
        np.testing.assert_array_equal(result.pixels, ramp(channels))
        assert ledger == (Entry(Feature.PROFILE, Fate.KEPT),)


def test_a_format_without_profiles_gets_srgb() -> None:
    pixels = ramp()
    profile = icc.cicp_profile(Cicp(12, 13), grey=False)
    expected = ImageCms.profileToProfile(
        Image.fromarray(pixels),
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    for colour in (Colour(profile), Colour(cicp=Cicp(12, 13)), Colour(chromaticities=P3)):
        result, ledger = fitted(Picture(pixels, colour=colour), NOTHING)
        assert result.colour == Colour(intent=1)
        assert np.abs(result.pixels.astype(int) - np.asarray(expected)).max() <= 1
        assert lines(Fate.CONVERTED, ledger) == ["colours to sRGB"]
        assert not lines(Fate.KEPT, ledger)


def test_hdr_without_profiles_is_told_once() -> None:
    colour = Colour(SRGB, cicp=Cicp(9, 16), light=(40_000_000, 1))
    _, ledger = fitted(Picture(ramp(), colour=colour), NOTHING)
    assert lines(Fate.CONVERTED, ledger) == ["colours to sRGB, without the range of HDR"]
    assert lines(Fate.LOST, ledger) == ["HDR mastering data"]
    assert not lines(Fate.KEPT, ledger)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "colour",
    [
        Colour(gamma=1 / 1.8),
        Colour(icc.gamma_profile(1 / 1.8, None, grey=True)),
        Colour(icc.gamma_profile(1 / 1.8, None, grey=False)),
    ],
)
def test_grey_stays_grey_in_srgb(colour: Colour, dtype: Any) -> None:
    grey = np.linspace(0, white(dtype), 256).astype(dtype).reshape(16, 16, 1)
    result, ledger = fit(Picture(grey, colour=colour), NOTHING)
    light = np.linspace(0, 1, 256) ** 1.8
    expected = white(dtype) * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert result.pixels.shape == (16, 16, 1)
    assert np.abs(result.pixels.ravel() - expected).max() <= (0.501 if dtype == np.uint8 else 257 / 255)
    assert "colours to sRGB" in lines(Fate.CONVERTED, ledger)
    for name in (".gif", ".jxl"):
        if name in OUTPUT_SUFFIXES:
            fitted_picture, ledger = fit(Picture(grey, colour=colour), output_format(f"a{name}"))
            assert fitted_picture.grey
            assert "more than 256 colours" not in lines(Fate.LOST, ledger)


def exif_of_camera(colour_space: int, index: bytes | None) -> bytes:
    """Build an EXIF block byte by byte: IFD0, EXIF directory and Interoperability directory."""
    exif_at, interoperability_at = 8 + 18, 8 + 18 + 30
    return (
        struct.pack(">2sHI", b"MM", 42, 8)
        + struct.pack(">HHHIII", 1, 0x8769, 4, 1, exif_at, 0)
        + struct.pack(">HHHIHHHHIII", 2, 0xA001, 3, 1, colour_space, 0, 0xA005, 4, 1, interoperability_at, 0)
        + (struct.pack(">HHHI4sI", 1, 1, 2, 4, index + b"\0", 0) if index else struct.pack(">HI", 0, 0))
    )


@pytest.mark.parametrize(
    ("space", "index", "adobe"),
    [
        (2, None, True),
        (0xFFFF, b"R03", True),
        (0xFFFF, b"R98", False),
        (0xFFFF, None, False),
        (1, b"R98", False),
        (1, b"R03", False),
    ],
)
def test_adobe_rgb_of_cameras(tmp_path: Path, space: int, index: bytes | None, adobe: bool) -> None:
    path = tmp_path / "in.jpg"
    profile = icc.adobe_rgb_profile(grey=False) if adobe else None
    Image.fromarray(ramp()).save(path, exif=b"Exif\0\0" + exif_of_camera(space, index))
    picture = read_picture(path)
    assert picture.colour == Colour(profile)
    assert lines(Fate.CONVERTED, picture.ledger) == ["Adobe RGB of EXIF read as a colour profile"] * adobe
    assert picture.without_metadata().colour == picture.colour  # stripping leaves how the picture looks
    profiles_alone = replace(NOTHING, keeps=frozenset({Feature.PROFILE}))
    assert fitted(picture, profiles_alone)[0].colour == picture.colour
    Image.fromarray(ramp()).save(path, exif=b"Exif\0\0" + exif_of_camera(space, index), icc_profile=SRGB)
    assert read_picture(path).colour == Colour(SRGB)


def test_adobe_rgb_is_not_said_of_srgb(tmp_path: Path) -> None:
    path, block = tmp_path / "in.jpg", b"Exif\0\0" + exif_of_camera(2, b"R03")
    Image.fromarray(ramp()).save(path, exif=block)
    picture = read_picture(path)
    result, ledger = fitted(picture, replace(NOTHING, keeps=frozenset({Feature.EXIF})))
    assert lines(Fate.CONVERTED, ledger) == ["colours to sRGB"]
    assert result.metadata.exif == exif_of_camera(1, b"R98")
    assert np.abs(result.pixels.astype(int) - picture.pixels).max() > 3
    Image.fromarray(ramp()).convert("CMYK").save(path, exif=block)
    assert read_picture(path).colour == Colour()


def test_pixels_per_unit_on_the_sensor_are_scaled() -> None:
    """As Pillow reads it: 4000 pixels on 36 mm."""
    camera = Image.Exif()
    directory = camera.get_ifd(ExifTags.IFD.Exif)
    directory[ExifTags.Base.ExifImageWidth], directory[ExifTags.Base.ExifImageHeight] = 4000, 3000
    directory[ExifTags.Base.FocalPlaneXResolution] = TiffImagePlugin.IFDRational(1000, 9)
    directory[ExifTags.Base.FocalPlaneYResolution] = TiffImagePlugin.IFDRational(0, 1)
    block = camera.tobytes().removeprefix(b"Exif\0\0")
    for size in (Size(7500, 10000), Size(10000, 7500)):
        resized = exif.exif_resized(block, size)
        assert exif.exif_resized(resized, size) == resized
        again = Image.Exif()
        again.load(b"Exif\0\0" + resized)
        assert again.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalPlaneXResolution] == pytest.approx(10000 / 36)


# Captions


TEXTS = (
    Text("Title", "A & B"),
    Text("Title", "A und B", "de", "Titel"),
    Text("Author", "Åsa <asa@example.org>"),
    Text("Copyright", "© 2026"),
    Text("Creation Time", "2 Jan 2026 03:04:05 +0100"),
    Text("Software", "painter"),
    Text("parameters", "steps: 20\x00\x01"),
    Text("Comment", "hello"),
)


def described(packet: bytes | None, path: Path) -> dict[str, str]:
    """Return the XMP that exiftool reads, by group and name."""
    if not shutil.which("exiftool"):
        pytest.skip("exiftool is not installed")
    path.write_bytes(packet or b"")
    command = ["exiftool", "-validate", "-warning", "-XMP:all", "-a", "-G0", "-s", "-x", "XMPToolkit", str(path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {m[1]: m[2] for m in re.finditer(r"^\[(?:XMP|ExifTool)\]\s+(\S+)\s*: (.*)$", said, re.MULTILINE)}


def test_texts_become_xmp(tmp_path: Path) -> None:
    result, ledger = fitted(Picture(ramp(), metadata=Metadata(texts=TEXTS)), BLOCKS)
    assert result.metadata.texts == ()
    assert lines(Fate.CONVERTED, ledger) == ["text to XMP", "comment to XMP"]
    assert lines(Fate.LOST, ledger) == ["translated keywords"]
    found = described(result.metadata.xmp, tmp_path / "out.xmp")
    assert found.pop("Validate") == "OK"
    assert found == {
        "Title": "A & B",
        "Title-de": "A und B",
        "Creator": "Åsa <asa@example.org>",
        "Rights": "© 2026",
        "CreateDate": "2026:01:02 03:04:05+01:00",
        "CreatorTool": "painter",
        "UserComment": "parameters: steps: 20.hello",
    }


@pytest.mark.parametrize(
    ("text", "form", "lost"),
    [
        (Text("Title", "Brücke", "de"), ".png", []),
        (Text("Title", "Brücke", "de", "Titel"), ".png", []),
        (Text("Title", "Brücke", "de"), ".jpg", []),  # XMP has titles in several languages
        (Text("seed", "sieben", "de"), ".webp", []),  # as user comments
        (Text("Title", "Brücke", "de", "Titel"), ".avif", ["translated keywords"]),
        (Text("Author", "Åsa", "sv"), ".jpg", ["languages of texts"]),
        (Text("Comment", "Brücke", "de"), ".jpg", ["languages of texts"]),
        (Text("Title", "Brücke", "de"), ".tif", ["languages of texts"]),
        (Text("Title", "Brücke", "", "Titel"), ".tif", ["translated keywords"]),
        (Text("Title", "Brücke", "de", "Titel"), ".tif", ["languages of texts", "translated keywords"]),
        (Text("Title", "Brücke", "de", "Titel"), ".bmp", ["text"]),
        (Text("Title", "Bridge"), ".tif", []),
    ],
)
def test_lost_languages_are_told(tmp_path: Path, text: Text, form: str, lost: list[str]) -> None:
    result, ledger = fitted(Picture(ramp(), metadata=Metadata(texts=(text,))), output_format(f"a{form}"))
    assert lines(Fate.LOST, ledger) == lost
    write_picture(result, tmp_path / f"out{form}")
    again = read_picture(tmp_path / f"out{form}").metadata
    assert (text in again.texts) == (form == ".png")
    in_xmp = b'xml:lang="de">' in (again.xmp or b"")
    assert in_xmp == (bool(text.language) and form in (".jpg", ".webp", ".avif") and "languages of texts" not in lost)


def test_the_time_of_the_last_change_becomes_xmp() -> None:
    """That of PNG's tIME, in the words of XMP, not as a comment."""
    texts = (Text("Modification Time", "2026-01-02T03:04:05Z"),)
    result, _ = fitted(Picture(ramp(), metadata=Metadata(texts=texts)), BLOCKS)
    packet = ElementTree.fromstring(result.metadata.xmp or b"")
    dates = [node.text for node in packet.iter("{http://ns.adobe.com/xap/1.0/}ModifyDate")]
    assert dates == ["2026-01-02T03:04:05+00:00"]
    assert b"UserComment" not in (result.metadata.xmp or b"")


OLD = (
    '<?xpacket begin="\ufeff"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-'
    'rdf-syntax-ns#"><rdf:Description rdf:about="uuid:1" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://'
    'ns.adobe.com/xap/1.0/" xmp:CreatorTool="painter"><dc:title><rdf:Alt><rdf:li xml:lang="x-default">Other</rdf:li>'
    '</rdf:Alt></dc:title></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
).encode()


def test_xmp_that_is_there_wins(tmp_path: Path) -> None:
    result, ledger = fitted(Picture(ramp(), metadata=Metadata(xmp=OLD, texts=TEXTS[:1] + TEXTS[3:6])), BLOCKS)
    assert not lines(Fate.LOST, ledger)
    found = described(result.metadata.xmp, tmp_path / "out.xmp")
    assert found["Validate"] == "OK"
    assert (found["Title"], found["CreatorTool"], found["Rights"]) == ("Other", "painter", "© 2026")
    assert found["UserComment"] == "Title: A & B"


@pytest.mark.parametrize("packet", [b"\xff\xfe<\0", b"<x:xmpmeta>", OLD.replace(b"dc:title>", b"exif:UserComment>")])
def test_texts_that_find_no_place_are_lost(packet: bytes) -> None:
    metadata = Metadata(xmp=packet, texts=(Text("Comment", "hello"), Text("seed", "7")))
    result, ledger = fitted(Picture(ramp(), metadata=metadata), BLOCKS)
    assert result.metadata == Metadata(xmp=packet)
    assert lines(Fate.LOST, ledger) == ["text (seed)", "comment (Comment)"]
    assert not lines(Fate.CONVERTED, ledger)


def test_very_long_texts_are_lost() -> None:
    result, ledger = fitted(Picture(ramp(), metadata=Metadata(texts=(Text("Title", "x" * 70_000),))), BLOCKS)
    assert b"x" * 70_000 in (result.metadata.xmp or b"")
    assert lines(Fate.LOST, ledger) == []
    result, ledger = fitted(Picture(ramp(), metadata=Metadata(texts=(Text("Title", "x" * (1 << 24)),))), BLOCKS)
    assert result.metadata == Metadata()
    assert lines(Fate.LOST, ledger) == ["text (Title)"]


def test_texts_without_xmp_are_lost() -> None:
    _, ledger = fitted(Picture(ramp(), metadata=Metadata(texts=TEXTS)), NOTHING)
    assert lines(Fate.LOST, ledger) == ["text", "comment"]


def dataset(record: int, number: int, value: bytes) -> bytes:
    return struct.pack(">BBBH", 0x1C, record, number, len(value)) + value


def test_iptc_becomes_xmp(tmp_path: Path) -> None:
    iptc = (
        dataset(1, 90, b"\x1b%G")
        + dataset(2, 0, b"\0\4")
        + dataset(2, 5, "Brücke".encode())
        + dataset(2, 25, b"water")
        + dataset(2, 25, b"stone")
        + dataset(2, 55, b"20260102")
        + dataset(2, 60, b"030405+0100")
        + dataset(2, 80, b"Asa")
        + dataset(2, 90, b"Oslo")
        + dataset(2, 120, b"A bridge")
        + dataset(2, 10, b"5")
    )
    result, ledger = fitted(Picture(ramp(), metadata=Metadata(iptc=iptc + b"\x1c\2")), BLOCKS)
    assert result.metadata.iptc is None
    assert lines(Fate.CONVERTED, ledger) == ["IPTC to XMP"]
    assert lines(Fate.LOST, ledger) == ["IPTC (dataset 2:10)"]
    found = described(result.metadata.xmp, tmp_path / "out.xmp")
    assert found.pop("Validate") == "OK"
    assert found == {
        "Title": "Brücke",
        "Subject": "water, stone",
        "DateCreated": "2026:01:02 03:04:05+01:00",
        "Creator": "Asa",
        "City": "Oslo",
        "Description": "A bridge",
    }
    kept, _ = fitted(Picture(ramp(), metadata=Metadata(iptc=iptc)), EVERYTHING)
    assert kept.metadata.iptc == iptc


def test_square_pixels_are_nothing_to_lose() -> None:
    assert fit(Picture(ramp(), metadata=Metadata(aspect=1)), NOTHING)[1] == ()
    _, ledger = fitted(Picture(ramp(), metadata=Metadata(aspect=1.5)), NOTHING)
    assert lines(Fate.LOST, ledger) == ["pixel aspect ratio"]


def blank_exif() -> bytes:
    """Build an EXIF block with an orientation, a resolution, and the version in the EXIF directory."""
    return (
        struct.pack(">2sHI", b"MM", 42, 8)
        + struct.pack(">HHHIHHHHIHHHHIII", 3, 0x0112, 3, 1, 1, 0, 0x0128, 3, 1, 2, 0, 0x8769, 4, 1, 50, 0)
        + struct.pack(">HHHI4sI", 1, 0x9000, 7, 4, b"0232", 0)
    )


BLANK_XMP = (
    b'<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    b'syntax-ns#"><rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="1"/>'
    b"</rdf:RDF></x:xmpmeta>" + b" " * 9000 + b'<?xpacket end="w"?>'
)


def test_what_has_no_content_is_nothing_to_lose() -> None:
    texts = (Text("Title", ""), Text("Comment", " \n"))
    iptc = dataset(1, 90, b"\x1b%G") + dataset(2, 0, b"\0\4") + dataset(2, 120, b"")
    blank = Metadata(exif=blank_exif(), xmp=BLANK_XMP, iptc=iptc, texts=texts)
    assert Picture(ramp(), metadata=blank).features() == []
    result, ledger = fitted(Picture(ramp(), metadata=blank), NOTHING)
    assert (result.metadata, ledger) == (Metadata(), ())
    assert fitted(Picture(ramp(), metadata=blank), EVERYTHING)[0].metadata == blank
    result, ledger = fitted(Picture(ramp(), metadata=replace(blank, texts=(*texts, Text("Author", "Asa")))), BLOCKS)
    assert [str(entry) for entry in ledger] == ["text to XMP"]
    small = replace(EVERYTHING, most={Feature.EXIF: 9})
    assert fitted(Picture(ramp(), metadata=blank), small)[0].metadata.exif is None


@pytest.mark.parametrize(
    "metadata",
    [
        Metadata(exif=exif_of_camera(1, b"R98")),
        Metadata(exif=b"broken"),
        Metadata(xmp=OLD),
        Metadata(xmp=b"<broken"),
        Metadata(iptc=dataset(2, 0, b"\0\4") + dataset(2, 120, b"A bridge")),
        Metadata(iptc=b"broken"),
        Metadata(texts=(Text("Title", "x"),)),
    ],
)
def test_what_has_content_is_told(metadata: Metadata) -> None:
    _, ledger = fitted(Picture(ramp(), metadata=metadata), NOTHING)
    assert len(lines(Fate.LOST, ledger)) == 1


# Pixels


def test_flattening_blends_encoded_values() -> None:
    deep = ramp(dtype=np.uint16)
    alpha = np.full((16, 16), 65535, np.uint16)
    alpha[0] = 0
    alpha[1] = 32768
    result, ledger = fit(Picture(deep, alpha), BLOCKS, background=(255, 0, 51))
    assert result.alpha is None
    np.testing.assert_array_equal(result.pixels[2:], deep[2:])
    np.testing.assert_array_equal(result.pixels[0], np.broadcast_to([65535, 0, 13107], (16, 3)))
    share = 32768 / 65535
    half = deep[1] * share + np.array([65535, 0, 13107]) * (1 - share)
    assert np.abs(result.pixels[1] - half).max() <= 0.51
    assert "transparency to the background" in lines(Fate.CONVERTED, ledger)
    with pytest.raises(PictureError, match="transparency"):
        fit(Picture(deep, alpha), BLOCKS)


def test_grey_over_a_colour_becomes_rgb_with_its_profile() -> None:
    alpha = np.full((16, 16), 255, np.uint8)
    alpha[0] = 0
    picture = Picture(ramp(1), alpha, colour=Colour(icc.adobe_rgb_profile(grey=True)))
    result, _ = fit(picture, BLOCKS, background=(255, 0, 0))
    assert icc.profile_space(result.colour.icc or b"") == "RGB"
    np.testing.assert_array_equal(result.pixels[1:], np.repeat(ramp(1)[1:], 3, axis=2))
    plain, _ = fit(picture, BLOCKS, background=(9, 9, 9))
    assert plain.grey


@pytest.mark.parametrize(
    ("values", "expected", "words"),
    [
        ([0, 0.5, 1], [0, 32768, 65535], "to 16 bits"),
        ([0.25, 0.25, 0.25], [16384, 16384, 16384], "to 16 bits"),
        ([7, 7, 7], [0, 0, 0], "to 16 bits, 7 to 7 as black to white"),
        ([-1, 0, 3], [0, 16384, 65535], "to 16 bits, -1 to 3 as black to white"),
        ([-3e38, 0, 3e38], [0, 32768, 65535], "to 16 bits, -3e+38 to 3e+38 as black to white"),
        ([0, 0.25, 1e-30], [0, 16384, 0], "to 16 bits"),
    ],
)
def test_floating_point_becomes_integers(values: list[float], expected: list[int], words: str) -> None:
    pixels = np.array(values, np.float32).reshape(1, 3, 1)
    alpha = np.array([[0.25, 0.5, 1]], np.float32)
    form = replace(NOTHING, keeps=frozenset({Feature.SIXTEEN_BITS, Feature.TRANSPARENCY}))
    result, ledger = fitted(Picture(pixels, alpha), form)
    assert result.pixels.dtype == result.alpha.dtype == np.uint16
    assert np.abs(result.pixels.ravel().astype(int) - expected).max() <= 1
    np.testing.assert_array_equal(result.alpha, [[16384, 32768, 65535]])
    assert lines(Fate.CONVERTED, ledger) == [f"floating-point values {words}"]


@pytest.mark.parametrize("data", [False, True])
def test_hidden_floating_point_counts_as_data_alone(data: bool) -> None:
    pixels = np.array([-1, 0, 3, 7], np.float32).reshape(1, 4, 1)
    alpha = np.array([[1, 0.5, 1, 0]], np.float32)
    form = replace(NOTHING, keeps=frozenset({Feature.SIXTEEN_BITS, Feature.TRANSPARENCY}))
    result, ledger = fitted(Picture(pixels, alpha, alpha_is_data=data), form)
    top = 7 if data else 3
    expected = np.clip((pixels + 1) / (top + 1), 0, 1) * 65535
    assert np.abs(result.pixels - expected).max() <= 1
    assert lines(Fate.CONVERTED, ledger) == [f"floating-point values to 16 bits, -1 to {top} as black to white"]


@pytest.mark.parametrize("data", [False, True])
def test_a_palette_has_no_colours_under_full_transparency(data: bool) -> None:
    alpha = np.zeros((32, 32), np.uint8)
    alpha[0] = 255
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    _, ledger = fit(Picture(pixels, alpha, alpha_is_data=data), output_format("a.gif"))
    assert lines(Fate.LOST, ledger) == ["more than 256 colours", "colours under full transparency"] * data


@pytest.mark.parametrize("duration", [None, 0.1])
def test_frames_keep_less_than_still_pictures(duration: float | None) -> None:
    form = replace(EVERYTHING, keeps=EVERYTHING.keeps - {Feature.SIXTEEN_BITS}, deep="to 10 bits", still=HDR_ONLY)
    colour = Colour(cicp=Cicp(9, 16), light=(1, 1))
    result, ledger = fit(Picture(ramp(dtype=np.uint16), colour=colour, duration=duration), form)
    assert bool(result.colour.light) == (duration is None)
    if duration is None:
        assert lines(Fate.CONVERTED, ledger) == ["16 bits per channel to 10 bits"]
        assert lines(Fate.LOST, ledger) == []
    else:
        assert lines(Fate.CONVERTED, ledger) == []
        assert lines(Fate.LOST, ledger) == ["16 bits per channel (8 are written)", "HDR mastering data"]


@pytest.mark.parametrize(("bits", "fate", "words"), [(10, Fate.KEPT, ""), (12, Fate.CONVERTED, " to 10 bits")])
def test_the_ledger_counts_the_bits_of_the_file(bits: int, fate: Fate, words: str) -> None:
    picture = Picture(ramp(dtype=np.uint16), origin=Origin("AVIF", bits=bits))
    _, ledger = fit(picture, replace(NOTHING, deep="to 10 bits"))
    assert lines(fate, ledger) == [f"{bits} bits per channel{words}"]
    _, ledger = fit(picture, NOTHING)
    assert lines(Fate.LOST, ledger) == [f"{bits} bits per channel (8 are written)"]


@pytest.mark.parametrize(("dpi", "lost"), [((100, 200), []), ((72, 72), ["pixel aspect ratio beside a resolution"])])
def test_one_place_for_resolution_and_aspect(dpi: tuple[float, float], lost: list[str]) -> None:
    picture = Picture(ramp(), metadata=Metadata(dpi=dpi, aspect=2))
    result, ledger = fitted(picture, replace(EVERYTHING, one_density=True))
    assert (result.metadata.dpi, result.metadata.aspect) == (dpi, None)
    assert lines(Fate.LOST, ledger) == lost


@pytest.mark.parametrize("hidden", [-9999, -3.4e38, 3.4e38, 0.5])
@pytest.mark.parametrize(("low", "high"), [(0.25, 0.75), (3000, 3200), (-1, 0)])
@pytest.mark.filterwarnings("error")
def test_hidden_values_do_not_stretch_the_range(hidden: float, low: float, high: float) -> None:
    pixels = np.array([hidden, low, high], np.float32).reshape(1, 3, 1)
    form = replace(NOTHING, keeps=frozenset({Feature.SIXTEEN_BITS, Feature.TRANSPARENCY}))
    result, ledger = fitted(Picture(pixels, np.array([[0, 1, 1]], np.float32)), form)
    within = low >= 0 and high <= 1
    expected = [16384, 49151] if within else [0, 65535]
    np.testing.assert_array_equal(result.pixels.ravel()[1:], expected)
    words = "to 16 bits" if within else f"to 16 bits, {low:g} to {high:g} as black to white"
    assert lines(Fate.CONVERTED, ledger) == [f"floating-point values {words}"]
    unseen, _ = fitted(Picture(pixels, np.zeros((1, 3), np.float32)), form)
    assert unseen.pixels.dtype == np.uint16


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".avif", ".heic", ".tif", ".webp", ".png"])
def test_narrow_range_becomes_full_where_a_format_cannot_say_it(tmp_path: Path, suffix: str, dtype: Any) -> None:
    if suffix not in OUTPUT_SUFFIXES:
        pytest.skip(f"this machine writes no {suffix}")
    unit = np.broadcast_to(np.linspace(0, 1, 64)[:, None, None], (64, 64, 3))
    step = 1 << 8 * np.dtype(dtype).itemsize - 8
    narrow = np.rint((16 + 219 * unit) * step).astype(dtype)
    picture = Picture(narrow, colour=Colour(cicp=Cicp(9, 16, full_range=False)))
    form = output_format(f"a{suffix}")
    result, ledger = fit(picture, form)
    if suffix == ".png":
        assert result.colour == picture.colour
        np.testing.assert_array_equal(result.pixels, narrow)
        assert "narrow-range values" in lines(Fate.KEPT, ledger)
        return
    assert "narrow-range values to full range" in lines(Fate.CONVERTED, ledger)
    assert np.abs(to_unit(result.pixels) - unit).max() <= (
        0.5 / 219 if dtype == np.uint8 else 0.5 / 56064
    ) + 0.5 / white(dtype)
    assert (result.pixels.min(), result.pixels.max()) == (0, white(dtype))
    write_picture(picture, tmp_path / f"out{suffix}", lossless=form.lossless and form.quality is not None)
    again = read_picture(tmp_path / f"out{suffix}")
    assert np.abs(to_unit(again.pixels) - unit).max() < 0.006
    assert again.colour.cicp == (Cicp(9, 16) if Feature.CICP in form.keeps else None)


def test_values_outside_the_narrow_range_are_clipped() -> None:
    pixels = np.array([[[0, 1, 15], [236, 254, 255]]], np.uint8)
    result, _ = fitted(Picture(pixels, colour=Colour(cicp=Cicp(1, 13, full_range=False))), BLOCKS)
    np.testing.assert_array_equal(result.pixels, [[[0] * 3, [255] * 3]])
    assert result.colour == Colour()


def test_alpha_has_no_narrow_range() -> None:
    alpha = np.full((16, 16), 16, np.uint8)
    colour = Colour(cicp=Cicp(12, 13, full_range=False))
    result, _ = fitted(Picture(ramp(), alpha, colour=colour), output_format("a.webp"))
    np.testing.assert_array_equal(result.alpha, alpha)


def test_floating_point_of_narrow_range() -> None:
    pixels = np.array([[[16 / 255, 0.5, 235 / 255]]], np.float32)
    form = replace(BLOCKS, keeps=BLOCKS.keeps | {Feature.FLOAT})
    result, _ = fitted(Picture(pixels, colour=Colour(cicp=Cicp(1, 13, full_range=False))), form)
    np.testing.assert_allclose(result.pixels, [[[0, (127.5 - 16) / 219, 1]]], atol=1e-6)


def seen_as(colour: tuple[int, ...], profile: bytes) -> np.ndarray:
    """Return the sRGB that littlecms sees in the values of a profile."""
    image = Image.fromarray(np.array(colour, np.uint8).reshape((1, 1) if len(colour) == 1 else (1, 1, 3)))
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    shown = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return np.asarray(shown)[0, 0].astype(int)


@pytest.mark.parametrize("background", [(255, 136, 0), (128, 128, 128), (0, 0, 0), (255, 255, 255)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "colour",
    [
        Colour(icc.adobe_rgb_profile(grey=False)),
        Colour(icc.adobe_rgb_profile(grey=True)),
        Colour(cicp=Cicp(12, 13)),
        Colour(cicp=Cicp(9, 1)),
        Colour(cicp=Cicp(9, 16)),
        Colour(gamma=1.0),
        Colour(gamma=1 / 1.8, chromaticities=P3),
    ],
)
def test_a_background_is_a_colour_of_srgb(colour: Colour, channels: int, background: tuple[int, int, int]) -> None:
    picture = Picture(ramp(channels), np.zeros((16, 16), np.uint8), colour=colour)
    result, _ = fitted_over(picture, background)
    assert result.grey == (channels == 1 and len(set(background)) == 1)
    (values,) = {tuple(pixel) for pixel in result.pixels.reshape(-1, result.channels).tolist()}
    assert result.colour.icc
    assert np.abs(seen_as(values, result.colour.icc) - background).max() <= 4  # dark linear light has few 8-bit values
    if background in ((0, 0, 0), (255, 255, 255)):
        assert values == background[: result.channels]
    unconverted, _ = fit(picture, NOTHING, background)
    assert unconverted.colour == Colour(intent=1)
    np.testing.assert_array_equal(unconverted.pixels[0, 0], background[: unconverted.channels])


def test_a_profile_without_a_way_to_the_background_is_told() -> None:
    picture = Picture(ramp(), np.zeros((16, 16), np.uint8), colour=Colour(SCANNER))
    assert icc.profile_space(SCANNER) == "RGB"
    result, _ = fitted_over(picture, (255, 255, 255))
    assert result.colour == picture.colour
    assert (result.pixels == 255).all()
    with pytest.raises(PictureError, match="no way to the colour of the background"):
        fit(picture, BLOCKS, (255, 136, 0))


def fitted_over(picture: Picture, background: tuple[int, int, int]) -> tuple[Picture, tuple[Entry, ...]]:
    """Fit to a format without transparency, and assert that fitting again changes nothing."""
    result, ledger = fit(picture, BLOCKS, background)
    again, _ = fit(result, BLOCKS, background)
    np.testing.assert_array_equal(again.pixels, result.pixels)
    return result, ledger


# Through files


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif"])
def test_wide_gamut_is_the_same_in_other_formats(tmp_path: Path, suffix: str) -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16], pixels[16:, :16], pixels[16:, 16:] = (250, 30, 30), (30, 200, 60), (128, 128, 128)
    for colour in (Colour(cicp=Cicp(12, 13)), Colour(chromaticities=P3)):
        write_picture(Picture(pixels, colour=colour), tmp_path / f"out{suffix}")
        again = read_picture(tmp_path / f"out{suffix}")
        assert again.colour.icc
        assert np.median(np.abs(again.pixels.astype(int) - pixels)) < 3
        assert icc.profile_space(again.colour.icc) == "RGB"
