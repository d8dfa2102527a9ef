"""No part of a picture is lost in silence: every kind of file, with everything it can carry, to every format.

What is in the files that are written is told without our readers.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import features
from support.carriers import CARRIERS, DURATIONS, LIGHT, MASTERING, SHOWN
from support.journeys import Journey, journey
from support.profiles import grey_profile
from support.seen import Seen

from gsrcli.images import Entry, Fate, Format, PictureFile, output_formats
from gsrcli.images.extras import has_extra


@dataclass(frozen=True)
class Part:
    """A part of a picture that a file carries.

    Attributes:
        there: whether it is in a file that was written, with the right value.
        entry: pattern of what the ledger calls it, whole, where it is not.
        converted: whether a conversion may leave nothing of it as it was.
    """

    there: Callable[[Seen], bool]
    entry: str
    converted: bool = False


def word(text: str, entry: str) -> Part:
    return Part(lambda seen: seen.says(text), entry)


def gone(entry: str, *, converted: bool = False) -> Part:
    """Return a part that no format keeps, or of which reading leaves nothing."""
    return Part(lambda seen: False, entry, converted)


def measured(across: float, down: float | None = None) -> Part:
    """Return a resolution, which formats store in whole numbers of an inch, a centimetre or a metre."""
    dpi = across, down or across
    return Part(lambda seen: seen.dpi is not None and seen.dpi == pytest.approx(dpi, rel=1e-3), "resolution")


def upright(width: int, height: int) -> Part:
    """Return a picture that is turned, of this size when it is not."""
    return Part(lambda seen: (seen.image.size, seen.orientation) == ((width, height), 1), "-")


_WORDS = (
    *("Exif-Artist", "Exif-Lens", "Xmp-Creator", "Extended-Xmp", "Iptc-Byline", "Photoshop-Url", "Plain-Comment"),
    *("Text-Author", "Text-Copyright", "Text-Title", "Text-Odd", "Tga-Author", "Tga-Job", "Icc-Profile-"),
    *("Tiff-Document", "Tiff-Description", "Tiff-Make", "Tiff-Model", "Tiff-Page", "Tiff-Artist", "Tiff-Host"),
)
_OF_GREY = grey_profile(1.8)[-16:]
_SRGB = r"|colours to sRGB(, without the range of HDR)?"
_COLOURS = Part(lambda seen: seen.form != "GIF", "more than 256 colours")
_ALPHA = Part(lambda seen: seen.transparent, "transparency to the background", converted=True)
_SOFT = Part(lambda seen: seen.form != "GIF", "partial transparency|transparency to the background", converted=True)
_PROFILE = Part(lambda seen: "Icc-Profile-".encode("utf-16-be") in seen.icc, "colour profile" + _SRGB, converted=True)
_SIXTEEN = Part(lambda seen: seen.bits >= 16, r"16 bits per channel .*", converted=True)
_TWELVE = Part(lambda seen: seen.bits >= 12, r"12 bits per channel .*", converted=True)
_TEN = Part(lambda seen: seen.bits >= 10, r"10 bits per channel \(8 are written\)")
_FLOAT = Part(lambda seen: seen.bits == 32, "floating-point values to .*", converted=True)
_ASPECT = Part(lambda seen: seen.aspect == pytest.approx(2), "pixel aspect ratio( beside a resolution)?")
_LIGHT = Part(lambda seen: tuple(seen.light) == LIGHT, "HDR mastering data")
_MASTERING = Part(lambda seen: seen.mastering == MASTERING, "HDR mastering data")
_CURVE = Part(lambda seen: _OF_GREY in seen.icc, "colour profile" + _SRGB, converted=True)
_GAMMA = Part(lambda seen: bool(seen.chunk(b"gAMA")), "gamma and chromaticities to a colour profile" + _SRGB, True)
_EXIF = [word(text, "EXIF") for text in ("Exif-Artist", "Exif-Lens", "Exif-Print", "Exif-Private", "2026:01:02")]
_XMP = word("Xmp-Creator", "XMP")
_BYLINE = word("Iptc-Byline", r"IPTC( \(.*creator.*\))?")
_ODD = word("Iptc-Odd", r"IPTC( \(.*2:225.*\))?")
_DATE = Part(lambda seen: seen.says("20260102") or seen.says("2026-01-02"), r"IPTC( \(.*DateCreated.*\))?")
_IPTC = [_BYLINE, _ODD, _DATE]
_COMMENT = word("Plain-Comment", r"comment( \(Comment\))?")
_DURATIONS = Part(lambda seen: seen.durations == pytest.approx(DURATIONS), "-")
_FOREVER, _TWICE, _THRICE = (Part(lambda seen, n=n: seen.loops == n, "-") for n in (0, 2, 3))
_FRAMES = Part(lambda seen: seen.count == 3, "-")
_GEO = Part(lambda seen: seen.form == "TIFF" and 33922 in seen.tiff.pages[0].tags, "GeoTIFF tags")


_MODIFIED = Part(
    lambda seen: bool(seen.chunk(b"tIME")) or seen.says("2026-01-02T03:04:05"), r"text( \(.*Modification Time.*\))?"
)
_FRENCH = Part(
    lambda seen: seen.says('xml:lang="fr"') or seen.says("Title\0\0\0fr"), r"languages of texts|text( \(.*Title.*\))?"
)
_TITRE = word("Titre", r"translated keywords|text( \(.*Title.*\))?")
_WRITER = word("tifffile", "EXIF")
_INKS = gone("CMYK to sRGB through its profile", converted=True)
_LAB = gone("Lab to sRGB", converted=True)
_NO_DATA = gone(r"\d+ pixels? without data to transparency", converted=True)
_ADOBE_RGB = Part(
    lambda seen: "Adobe RGB".encode("utf-16-be") in seen.icc,
    "Adobe RGB of EXIF read as a colour profile|colour profile" + _SRGB,
    converted=True,
)


def coded(*codes: int) -> Part:
    pattern = r"CICP colour tags to a colour profile(, which few programs show as HDR)?" + _SRGB
    return Part(lambda seen: tuple(seen.code_points) == codes, pattern, converted=True)


def text(keyword: str, words: str | None = None) -> Part:
    return word(words or f"Text-{keyword}", rf"text( \(.*{keyword}.*\))?")


def tag(words: str) -> Part:
    return word(words, "EXIF")


_RIGHTS = [word("Photoshop-Url", "XMP"), word("Marked>True<", "XMP")]
_TEXTS = [text("Author"), text("Copyright"), text("Title"), text("Odd"), _COMMENT]
_TIFF_WORDS = ("Document", "Description", "Make", "Model", "Page", "Artist", "Host", "Copyright", "Software")
_USUAL = [_COLOURS, _ALPHA, _SOFT, _PROFILE, measured(200), *_EXIF, _XMP]
_JPEG = [
    *(_COLOURS, _PROFILE, measured(304.8), *_EXIF, _XMP, word("Extended-Xmp", "XMP")),
    *(*_IPTC, _COMMENT, *_RIGHTS),
]
_CARRIED: Mapping[str, list[Part]] = {
    "png": [*_USUAL, *_IPTC, *_RIGHTS, *_TEXTS, _MODIFIED, _FRENCH, _TITRE],
    "png_unusual": [
        *(_COLOURS, _ALPHA, _SOFT),
        *map(
            gone,
            (
                "background colour",
                "offset on the page",
                "physical scale",
                r"content credentials \(C2PA\)",
                "zzZz chunk",
                "stereo layout",
                "22 bytes after the picture",
            ),
        ),
    ],
    "png_hdr": [_COLOURS, _SIXTEEN, coded(9, 16), _LIGHT, _MASTERING],
    "png_gamma": [_COLOURS, _GAMMA, _ASPECT],
    "png_palette": [_ALPHA, _SOFT],
    "png_drawing": [
        *(_ALPHA, _SOFT, _PROFILE, *_EXIF, _XMP),
        *map(gone, ("calibration of pixel values", "suggested palette", "histogram", "digital signature")),
    ],
    "png_grey": [_SIXTEEN, _ALPHA],
    "png_deep_grey": [_SIXTEEN, _ALPHA, _SOFT, _CURVE],
    "png_plain": [_COLOURS],
    "apng": [_COLOURS, _ALPHA, _SOFT, _PROFILE, *_TEXTS, _MODIFIED, _FRENCH, _TITRE],
    "jpeg": _JPEG,
    "jpeg_phone": [
        *(_COLOURS, upright(24, 32), _ADOBE_RGB, measured(50, 100), *_EXIF, word("Exif-Notes", "EXIF"), _XMP),
        *(gone("video of the motion photo"), gone(r"APP7 segment \(Odd-Segment\)")),
    ],
    "jpeg_with_maps": [
        *(_COLOURS, _XMP, gone("gain map"), gone("depth map"), gone(r"content credentials \(C2PA\)")),
    ],
    "jpeg_grey": [_ASPECT],
    "jpeg_cmyk": [_COLOURS, gone("CMYK to sRGB", converted=True)],
    "jpeg_inks": [_INKS, measured(150), *_IPTC, gone("clipping path")],
    "jpeg_plain": [_COLOURS],
    "tiff": [
        *(_COLOURS, _SIXTEEN, _ALPHA, _SOFT, _PROFILE, measured(304.8), _XMP, *_IPTC, _GEO, *_RIGHTS),
        *(tag(f"Tiff-{name}") for name in _TIFF_WORDS),
        *map(gone, ("extra channel", "Photoshop layers", "names of inks", "target printer", "TIFF tag 65000")),
        *map(gone, ("grey response curve", "halftone hints", "clipping path")),
    ],
    "tiff_photo": [_COLOURS, upright(24, 32), _ALPHA, tag("Exif-Lens"), tag("2026:01:02"), tag("Tiff-Software")],
    "tiff_premultiplied": [_WRITER, gone("transfer function"), _COLOURS, _ALPHA, _SOFT, _ASPECT],
    "tiff_tiles": [_COLOURS, _SIXTEEN, _ALPHA, _SOFT, _PROFILE, _WRITER],
    "tiff_palette": [_SIXTEEN, _ALPHA, _NO_DATA, _GEO, _WRITER],
    "tiff_of_numbers": [_FLOAT, _GEO, _WRITER],
    "tiff_elevation": [
        *(_FLOAT, _ALPHA, _NO_DATA, _GEO, word("Gdal-Words", "GeoTIFF tags"), _WRITER),
        *(gone("16-bit signed integers to floating point", converted=True), gone("rational polynomial coefficients")),
    ],
    "tiff_cmyk": [_COLOURS, _SIXTEEN, gone("CMYK to sRGB", converted=True), _WRITER],
    "tiff_inks": [_INKS, _SIXTEEN, _ALPHA, _SOFT, gone("extra channel"), gone("names of inks"), _WRITER],
    "tiff_lab": [_COLOURS, _LAB, _SIXTEEN, _ALPHA, _SOFT, _WRITER],
    "tiff_icclab": [_COLOURS, _LAB, _WRITER],
    "tiff_ome": [word("Ome-Words", "OME-XML description"), _WRITER],
    "tiff_imagej": [_SIXTEEN, word("ImageJ-Words", "ImageJ metadata"), gone("ImageJ description"), _WRITER],
    "tiff_pages": [_COLOURS, tag("Page-Artist-0"), measured(100), _WRITER],
    "tiff_fax": [measured(204, 196), tag("Tiff-Document"), gone("fax address")],
    "avif": [
        *(_COLOURS, _ALPHA, _SOFT, coded(12, 13), _ASPECT, measured(200), *_EXIF, _XMP),
        *(gone("gain map"), gone("depth map")),
    ],
    "avif_profile": [_COLOURS, _PROFILE],
    "avif_hdr": [_COLOURS, _TEN, coded(9, 16), _LIGHT, _MASTERING],
    "avif_deep": [
        *(_COLOURS, upright(20, 30), _TWELVE, _ALPHA, _SOFT, coded(9, 18), measured(200), *_EXIF, _XMP),
        Part(lambda seen: seen.aspect == pytest.approx(0.5), _ASPECT.entry),
    ],
    "avif_grey": [_TEN, _ALPHA, _SOFT, _CURVE],
    "avif_animation": [_COLOURS, _LIGHT, _MASTERING, _ASPECT, *_EXIF, _XMP],
    "heic": [
        *(_COLOURS, _TEN, coded(9, 16), _LIGHT, _MASTERING, _ASPECT, measured(200), *_EXIF, _XMP),
        gone("depth map"),
    ],
    "heic_phone": [
        *(_COLOURS, upright(96, 256), _PROFILE, measured(200), *_EXIF),
        *map(gone, ("gain map", "matte", "application/odd metadata")),
    ],
    "webp": [*_USUAL, gone(r"content credentials \(C2PA\)")],
    "webp_animation": [_COLOURS, _ALPHA, _SOFT, _PROFILE, *_EXIF, _XMP],
    "webp_lossy": [_COLOURS, upright(24, 32), _ALPHA, _SOFT, *_EXIF, gone("zzzz chunk")],
    "gif": [_ALPHA, _PROFILE, _XMP, _COMMENT, _ASPECT, gone(r"application extension \(MGK8BIM0000\)")],
    "gif_animation": [_ALPHA, _XMP, _COMMENT, _ASPECT, gone("plain text")],
    "bmp": [_COLOURS, _ALPHA, _SOFT, _PROFILE, measured(200)],
    "bmp_calibrated": [_COLOURS, _GAMMA],
    "bmp_deep": [_COLOURS, _SIXTEEN, _ALPHA, _SOFT, gone("linked colour profile")],
    "jxl": [_COLOURS, _ALPHA, _SOFT, measured(200), *_EXIF, _XMP, gone("gain map"), gone("zzzz box")],
    "jxl_deep": [_SIXTEEN, coded(1, 8), gone(r"XMP \(it is compressed with Brotli\)")],
    "jxl_jpeg": _JPEG,
    "tga": [
        *(_COLOURS, _ALPHA, _SOFT, _ASPECT, _COMMENT),
        *(text("Author", "Tga-Author"), text("Title", "Tga-Name-Word")),
        *(text("Job", "Tga-Job"), text("Creation Time", "2026-01-02T03:04:05"), gone("gamma of 1.8")),
        *(text("Job Time", "12:34:56"), text("Software", "Tga-Software 1.23b"), gone("offset on the page")),
    ],
    "tga_palette": [
        *(_ALPHA, _SOFT),
        *map(gone, ("colour correction table", "developer area", "background colour")),
    ],
    "ppm": [_COLOURS, _SIXTEEN, _COMMENT],
    "pgm": [_COMMENT, gone("pictures after the first")],
    "pam": [_COLOURS, _SIXTEEN, _ALPHA, _SOFT, _COMMENT],
    "pfm": [_FLOAT],
    "jp2": [_COLOURS, _PROFILE, measured(200), *_EXIF, _XMP, *_IPTC, gone("GeoJP2 tags"), gone("XML box")],
    "jp2_deep": [
        *(_COLOURS, _SIXTEEN, _ALPHA, _SOFT),
        *map(gone, ("XML box", "unknown UUID box", "intellectual property rights", "JUMBF metadata")),
    ],
    "ico": [_COLOURS, _ALPHA, _SOFT, gone("a smaller picture")],
    "cur": [_COLOURS, _ALPHA, gone("a smaller picture"), gone("hot spot")],
}
"""What every file carries."""
_OF_ALL: Mapping[str, list[Part]] = {
    "apng": [_FRAMES, _DURATIONS, _THRICE],
    "webp_animation": [_FRAMES, _DURATIONS, _THRICE],
    "gif_animation": [_FRAMES, _DURATIONS, _THRICE],
    "avif_animation": [_FRAMES, _DURATIONS, _FOREVER],
    "tiff_pages": [_FRAMES, tag("Page-Artist-1"), tag("Page-Artist-2")],
}
"""What those with several pictures carry further, if all of them are written."""
_EXACT = ("PNG", "TIFF", "BMP")
"""Formats that are written without loss."""
_EXACT_FROM = {"WEBP": ("webp",), "JXL": ("jxl",), "GIF": ("gif_animation",)}
"""Those that are where these files are, which have no colours to be converted."""
_ENDLESS = ("avif", "heic", "jxl", "jpeg_phone")
"""Begins of the names of files whose end is not looked for, or that end with something else already."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that makes the file of a carrier, or skips the test if it cannot."""
    folder = tmp_path_factory.mktemp("carriers")

    def made(name: str) -> Path:
        if name.startswith("avif") and not features.check("avif"):
            pytest.skip("Pillow has no AVIF")
        extra = {"heic": "pillow_heif", "jxl": "pillow_jxl"}.get(name.partition("_")[0])
        if extra and not has_extra(extra):
            pytest.skip(f"{extra} is not installed")
        path = folder / name
        if not path.exists():
            path.write_bytes(CARRIERS[name]())
        return path

    return made


@pytest.fixture(scope="module")
def take(files: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Format], Journey]:
    """Return a function that takes a carrier to a format, once."""
    folder = tmp_path_factory.mktemp("journeys")
    return cache(lambda name, form: journey(files(name), form, folder))


def test_all_carriers_are_walked() -> None:
    assert set(_CARRIED) == set(SHOWN) == set(CARRIERS)


@pytest.mark.parametrize("form", output_formats(), ids=lambda form: form.name)
@pytest.mark.parametrize("name", CARRIERS)
def test_nothing_is_lost_in_silence(name: str, form: Format, take: Callable[[str, Format], Journey]) -> None:
    trip = take(name, form)
    parts = [*_CARRIED[name], *(_OF_ALL.get(name, []) if trip.whole else [])]
    seen = Seen(trip.data, form.name)
    faults = [fault for part in parts for fault in _faults(part, seen, trip)]
    faults += _noise(parts, trip) + _untrue(seen, trip)
    assert not faults, "; ".join(faults)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        pytest.param(name, form, id=f"{name}-{form.name}")
        for name in CARRIERS
        for form in output_formats()
        if form.name in _EXACT or name in _EXACT_FROM.get(form.name, ())
    ],
)
def test_the_pixels_are_the_right_ones(
    name: str, form: Format, files: Callable[[str], Path], take: Callable[[str, Format], Journey]
) -> None:
    trip, shown = take(name, form), SHOWN[name]
    expected = shown.pictures(files(name).read_bytes())
    pictures = Seen(trip.data, form.name).pictures
    assert len(pictures) == (len(expected) if trip.whole else 1)
    for number, (picture, right) in enumerate(zip(pictures, expected, strict=False)):
        apart = _difference(picture, right)
        assert apart <= shown.within, f"picture {number} is {apart:.2f}/255 off"


@pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")
def test_what_is_there_is_found_by_exiftool(take: Callable[[str, Format], Journey]) -> None:
    """Words in the bytes of a file could be out of reach."""
    names = (
        *("png", "png_drawing", "apng", "jpeg", "jpeg_phone", "tiff", "tiff_photo"),
        *("webp", "webp_animation", "gif", "jp2", "avif", "tga"),
    )
    forms = {
        str((trip := take(name, form)).path): (trip.data, form.name) for name in names for form in output_formats()
    }
    command = ["exiftool", "-json", "-a", "-u", "-G1:3", *forms]
    for tags in json.loads(subprocess.run(command, check=True, capture_output=True).stdout):
        seen = Seen(*forms.pop(tags["SourceFile"]))
        values = " ".join(map(str, tags.values()))
        missing = [word for word in _WORDS if seen.says(word) and word not in values]
        assert not missing, f"{tags['SourceFile']}: {missing}"
    assert not forms


@pytest.mark.parametrize("name", [name for name in CARRIERS if not name.startswith(_ENDLESS)])
def test_what_follows_the_picture_is_named(name: str, files: Callable[[str], Path], tmp_path: Path) -> None:
    def entries(more: bytes) -> Counter[Entry]:
        path = tmp_path / "file"
        path.write_bytes(files(name).read_bytes() + more)
        return Counter(PictureFile(path).picture().ledger)

    ends_already = name in ("png_unusual", "pgm")
    alone, padded, with_words = (entries(more) for more in (b"", b"\0\0\r\n\0", b"\nsomething that follows\0"))
    assert with_words - alone == Counter(
        [] if name == "pgm" else [Entry(f"{45 if ends_already else 22} bytes after the picture", Fate.LOST)]
    )
    assert padded == alone


def _difference(picture: np.ndarray, right: np.ndarray) -> float:
    """Return the largest difference of two pictures as far as it is seen, in 1/255, beyond that of their bits."""
    assert picture.shape[:2] == right.shape[:2]
    colours, alpha = _unit(picture)
    right_colours, right_alpha = _unit(right)
    if picture.dtype.kind != "f" and right_colours.max() > 1:  # a range that became black to white
        seen = right_colours[right_alpha[..., 0] > 0]
        right_colours = (right_colours - seen.min()) / np.ptp(seen)
    scale = np.maximum(1, np.abs(right_colours))
    of_colours = np.abs(colours - right_colours) / scale * right_alpha
    apart = max(of_colours.max(), np.abs(alpha - right_alpha).max())
    rounding = 0 if picture.dtype == right.dtype else 0.51 / _top(picture)
    return 255 * max(0, apart - rounding)


def _unit(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return colours and alpha, where integers are from 0 to 1."""
    values = picture / _top(picture)
    colours = picture.shape[2] - (picture.shape[2] in (2, 4))
    alpha = values[..., colours:] if colours < values.shape[2] else np.ones((*values.shape[:2], 1))
    return values[..., :colours], alpha


def _top(picture: np.ndarray) -> int:
    return np.iinfo(picture.dtype).max if picture.dtype.kind == "u" else 1


def _faults(part: Part, seen: Seen, trip: Journey) -> list[str]:
    """Return what is wrong with the ledger of a part."""
    named = {entry.fate for entry in trip.ledger if re.fullmatch(part.entry, str(entry))} - {Fate.KEPT}
    excused = named if part.converted else named - {Fate.CONVERTED}
    if part.there(seen):
        return [f"{part.entry} is called lost, but is there"] if named & {Fate.LOST, Fate.DAMAGED} else []
    return [] if excused else [f"{part.entry} is lost in silence"]


def _noise(parts: list[Part], trip: Journey) -> list[str]:
    """Return what is called lost, converted or damaged, and was not in the file."""
    captions = r"(IPTC|text|comment|copyright flag|copyright URL) to XMP"
    changed = [str(entry) for entry in trip.ledger if entry.fate != Fate.KEPT]
    patterns = [part.entry for part in parts] + [captions]
    return [f"{line} is noise" for line in changed if not any(re.fullmatch(pattern, line) for pattern in patterns)]


def _untrue(seen: Seen, trip: Journey) -> list[str]:
    """Return conversions that did not happen, and what is called both kept and lost."""
    truths = {
        r"to a colour profile": lambda: bool(seen.icc),
        r"colours to sRGB": lambda: not seen.icc,
        r"to 10\b": lambda: seen.bits == 10,
        r"to 16 bits": lambda: seen.bits == 16,
        r"\(8 are written\)|to 8 bits": lambda: seen.bits == 8,
    }
    lines = [str(entry) for entry in trip.ledger if entry.fate in (Fate.CONVERTED, Fate.LOST)]
    untrue = [line for line in lines for said, true in truths.items() if re.search(said, line) and not true()]
    kept = {entry.what for entry in trip.ledger if entry.fate == Fate.KEPT}
    both = [entry.what for entry in trip.ledger if entry.fate == Fate.LOST and entry.what in kept]
    return [f"{line} is not true" for line in untrue] + [f"{what} is called kept and lost" for what in both]
