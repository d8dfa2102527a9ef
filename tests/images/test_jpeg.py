"""JPEG files: each kind of them is made here, by other encoders or byte by byte."""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import re
import shutil
import struct
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from support.reading import SRGB, damaged, lost, read

from gsrcli.errors import LimitError, PictureError
from gsrcli.images import (
    Colour,
    Fate,
    Feature,
    Metadata,
    Origin,
    Picture,
    Text,
    fit,
    output_format,
    probe,
    read_picture,
    with_fate,
    write_picture,
    xmp,
)
from gsrcli.images.metadata import COMMENT
from gsrcli.size import Size

RDF = b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
XMP, EXTENSION = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"


_SIZE = Size(20, 30)


# Making files


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def with_segments(data: bytes, *segments: bytes) -> bytes:
    """Insert segments at the start of a JPEG file."""
    return data[:2] + b"".join(segments) + data[2:]


@functools.cache
def photo(height: int = 77, width: int = 91) -> np.ndarray:
    """Return something like a photograph, (H, W, 3)."""
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([x * 255 / width, y * 255 / height, (x + y) % 256], -1)
    noise = np.random.default_rng(0).normal(0, 12, smooth.shape)
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


def jpeg(values: np.ndarray | None = None, mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(photo() if values is None else values).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def opencv_jpeg(*options: int) -> bytes:
    return bytes(cv2.imencode(".jpg", photo()[..., ::-1], options)[1])


def blocks(size: Size, factors: Sequence[int]) -> int:
    """Return the number of blocks of an interleaved scan."""
    widest, tallest = max(f >> 4 for f in factors), max(f & 15 for f in factors)
    units = -(-size.height // (8 * tallest)) * -(-size.width // (8 * widest))
    return units * sum((f >> 4) * (f & 15) for f in factors)


def flat_jpeg(
    size: Size = _SIZE,
    factors: Sequence[int] = (0x11,),
    *,
    marker: int = 0xC0,
    precision: int = 8,
    scans: bytes | None = None,
    height: int | None = None,
    after: bytes = b"",
) -> bytes:
    """Return a grey picture whose blocks take two bits each: no difference from the last, and no more to come."""
    names = range(1, len(factors) + 1)
    frame = struct.pack(">BHHB", precision, size.height if height is None else height, size.width, len(factors))
    frame += b"".join(bytes((name, factor, 0)) for name, factor in zip(names, factors, strict=True))
    one_code = bytes([1]) + bytes(15)
    tables = segment(0xC4, b"\x00" + one_code + b"\x00") + segment(0xC4, b"\x10" + one_code + b"\x00")
    if scans is None:
        scans = scan(names) + bytes(-(-2 * blocks(size, factors) // 8))
    return b"".join(
        (
            b"\xff\xd8",
            segment(0xDB, b"\0" + bytes([1] * 64)),
            segment(marker, frame),
            tables,
            scans,
            after,
            b"\xff\xd9",
        )
    )


def scan(names: Iterable[int], first: int = 0, last: int = 63, bits: int = 0) -> bytes:
    names = list(names)
    components = b"".join(bytes((name, 0)) for name in names)
    return segment(0xDA, bytes([len(names)]) + components + bytes((first, last, bits)))


def photoshop(*resources: tuple[int, bytes]) -> bytes:
    """Return an APP13 segment of image resources."""
    body = b"".join(
        b"8BIM" + struct.pack(">HHI", name, 0, len(data)) + data + bytes(len(data) % 2) for name, data in resources
    )
    return segment(0xED, b"Photoshop 3.0\0" + body)


def jfif(unit: int, x: int, y: int) -> bytes:
    return segment(0xE0, b"JFIF\0\1\1" + struct.pack(">BHHBB", unit, x, y, 0, 0))


def exif(orientation: int = 1, dpi: int | None = None) -> bytes:
    block = Image.Exif()
    block[ExifTags.Base.Orientation] = orientation
    if dpi:
        block[ExifTags.Base.XResolution], block[ExifTags.Base.YResolution] = dpi, 2 * dpi
        block[ExifTags.Base.ResolutionUnit] = 2
    return segment(0xE1, block.tobytes())


def packet(*nodes: bytes) -> bytes:
    return b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + RDF + b"".join(nodes) + b"</rdf:RDF></x:xmpmeta>"


def node(content: bytes, attributes: bytes = b"") -> bytes:
    return b'<rdf:Description rdf:about=""' + attributes + b">" + content + b"</rdf:Description>"


def extended(main: bytes, extension: bytes, *, step: int = 60_000, digest: bytes | None = None) -> list[bytes]:
    """Return the segments of a packet, in which %s stands for the digest, and of its extension."""
    digest = digest or hashlib.md5(extension).hexdigest().upper().encode()
    parts = [
        segment(0xE1, EXTENSION + digest + struct.pack(">II", len(extension), at) + extension[at : at + step])
        for at in range(0, len(extension), step)
    ]
    return [segment(0xE1, XMP + main.replace(b"%s", digest)), *parts]


def mpf(offset: int, kind: int) -> bytes:
    """Return an APP2 segment that says where the second picture is, from the segment's byte-order mark on."""
    pictures = struct.pack(">IIIHHIIIHH", 0x030000, 0, 0, 0, 0, kind, 0, offset, 0, 0)
    directory = struct.pack(">HHHIII", 1, 0xB002, 7, len(pictures), 26, 0)
    return segment(0xE2, b"MPF\0MM\0*" + struct.pack(">I", 8) + directory + pictures)


def by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        values = np.asarray(image)
    return values.reshape(*values.shape[:2], -1)


# Decoding


def test_every_kind_is_decoded_as_by_pillow(tmp_path: Path) -> None:
    sampling, restart = cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_RST_INTERVAL
    kinds = {
        **{f"{s}, {p=}": jpeg(subsampling=s, progressive=p) for s in ("4:4:4", "4:2:2", "4:2:0") for p in (0, 1)},
        **{f"{s:x}": opencv_jpeg(sampling, s) for s in (0x411111, 0x121111)},
        "restarts": opencv_jpeg(restart, 2),
        "grey": jpeg(mode="L"),
        "RGB": jpeg(keep_rgb=True),
        **{f"sampling {f}": flat_jpeg(factors=f) for f in ([0x31, 0x11, 0x11], [0x41, 0x21, 0x11], [0x14, 0x11, 0x11])},
        "extended sequential": flat_jpeg(marker=0xC1),
    }
    for kind, data in kinds.items():
        picture = read(tmp_path, data)
        assert np.array_equal(picture.pixels, by_pillow(data)), kind
        assert picture.ledger == (), kind


def test_height_after_the_first_scan(tmp_path: Path) -> None:
    size = Size(21, 30)
    data = flat_jpeg(size, height=0, after=segment(0xDC, struct.pack(">H", size.height)))
    assert read(tmp_path, data).size == size


def test_cmyk_is_inverted_where_adobe_says_so(tmp_path: Path) -> None:
    inks = np.full((16, 16, 4), 0, np.uint8)
    inks[..., 0] = 255
    file = io.BytesIO()
    Image.frombytes("CMYK", (16, 16), inks.tobytes()).save(file, "JPEG", quality=100)
    adobe = file.getvalue()
    at = adobe.index(b"\xff\xee")
    plain = adobe[:at] + adobe[at + 16 :]
    cyan = read(tmp_path, adobe)
    assert cyan.pixels[8, 8, 0] < 10
    assert cyan.pixels[8, 8, 1] > 150
    assert with_fate(Fate.CONVERTED, cyan.ledger) == ["CMYK to sRGB"]
    dark = read(tmp_path, plain)  # no cyan, but all of the others
    assert dark.pixels.max() < 60


def test_the_quality_is_estimated(tmp_path: Path) -> None:
    for quality in (1, 10, 25, 50, 75, 90, 95, 99, 100):
        assert read(tmp_path, jpeg(quality=quality)).origin == Origin("JPEG", lossless=False, quality=quality)


# Damage


@pytest.mark.parametrize("ending", [b"", b"\xff\xd9"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_file_that_is_cut_short_is_read_as_far_as_it_goes(tmp_path: Path, progressive: bool, ending: bytes) -> None:
    values = photo(400, 120)
    whole = jpeg(values, quality=90, progressive=progressive)
    picture = read(tmp_path, whole[: int(0.6 * len(whole))] + ending)
    assert damaged(picture) == ["pixels in places" if progressive else "pixels in the lower part"]
    error = np.abs(picture.pixels[:32].astype(int) - values[:32])
    assert error.mean() < 12
    with pytest.raises(PictureError, match="damaged or cut short"):
        read(tmp_path, whole[: whole.index(b"\xff\xda") + 120] + ending)


def test_filling_before_the_end_is_no_damage(tmp_path: Path) -> None:
    for data in (jpeg(), jpeg(progressive=True), jpeg(mode="CMYK")):
        picture = read(tmp_path, data[:-2] + bytes(1000) + data[-2:])
        assert damaged(picture) == []
        assert np.array_equal(picture.pixels, read(tmp_path, data).pixels)


def test_a_missing_end_is_no_damage(tmp_path: Path) -> None:
    for data in (jpeg(), jpeg(progressive=True)):
        picture = read(tmp_path, data[:-2])
        assert np.array_equal(picture.pixels, by_pillow(data))
        assert picture.ledger == ()


def test_missing_scans_are_damage(tmp_path: Path) -> None:
    data = jpeg(progressive=True)
    last = data.rindex(b"\xff\xda")
    assert damaged(read(tmp_path, data[:last])) == ["pixels (fine detail is missing)"]
    grey = jpeg(mode="L")
    at = grey.index(b"\xff\xc0")
    frame = segment(0xC0, grey[at + 4 : at + 9] + b"\3\1\x11\0\2\x11\0\3\x11\0")  # colours, of which there are none
    picture = read(tmp_path, grey[:at] + frame + grey[at + 13 :])
    assert damaged(picture) == ["pixels (scans are missing)"]


def test_garbled_data_are_damage(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = jpeg(photo(160, 120), quality=90)
    middle = len(whole) * 2 // 3
    for garbage in (bytes(40), b"\xff\x3c" * 20, b"\xff\xc4\x00\x13" * 10):
        picture = read(tmp_path, whole[:middle] + garbage + whole[middle + 40 :])
        assert damaged(picture), garbage
        assert picture.size == Size(160, 120)
    assert capfd.readouterr().err == ""


def test_what_is_not_decoded_shows_nothing_of_memory(tmp_path: Path) -> None:
    """The decoder takes an error for a warning if there was a warning before."""
    broken = bytearray(jpeg(photo(24, 18), progressive=True))
    first, second = (match.start() for match in itertools.islice(re.finditer(b"\xff\xda", broken), 2))
    broken[second + 6] = 0x33  # of tables that are not there
    del broken[first + 20 : first + 32]
    (tmp_path / "in.jpg").write_bytes(broken)
    for _ in range(5):
        memory = [photo(24, 18).copy() for _ in range(50)]
        del memory  # for the decoder to find
        with pytest.raises(PictureError, match="damaged"):
            read_picture(tmp_path / "in.jpg")


def test_a_file_that_ends_before_its_data_is_damaged(tmp_path: Path) -> None:
    whole = jpeg()
    for end in (3, 30, whole.index(b"\xff\xc0") + 5, whole.index(b"\xff\xda"), whole.index(b"\xff\xda") + 3):
        with pytest.raises(PictureError, match="the file is damaged or cut short"):
            read(tmp_path, whole[:end])


def test_data_cut_short_are_found_where_pillow_decodes(tmp_path: Path) -> None:
    """Its decoder is silent about this; TurboJPEG, which is not, does not know the sampling."""
    size, factors = Size(96, 96), [0x31, 0x11, 0x11]
    whole = scan([1, 2, 3]) + bytes(blocks(size, factors) // 4 + 1)
    assert read(tmp_path, flat_jpeg(size, factors, scans=whole)).ledger == ()
    other = jpeg(photo(96, 96), subsampling="4:4:4")
    at = other.index(b"\xff\xc0") + 5
    other = other[:at] + b"\1\0" + other[at + 2 :]  # 256 rows
    assert damaged(read(tmp_path, other[: at + 6] + b"\x31" + other[at + 7 :]))


def test_a_bad_segment_costs_itself(tmp_path: Path) -> None:
    data = jpeg()
    for bad, what in (
        (segment(0xE1, b"Exif\0\0nothing like EXIF"), "EXIF"),
        (segment(0xE2, b"ICC_PROFILE\0\1\2" + SRGB[:-100]), "colour profile"),
        (segment(0xE2, b"ICC_PROFILE\0\1\1" + SRGB[:100]), "colour profile"),
        (segment(0xED, b"Photoshop 3.0\x008BIM\4\4\0\0\0\0\xff\xff"), "Photoshop image resources"),
        (photoshop((0x0404, b"\x1c\2\x50\0\xffshort")), "IPTC"),
        (segment(0xFE, b" ") + b"between segments", "marker segment"),
    ):
        picture = read(tmp_path, with_segments(data, bad))
        assert damaged(picture) == [what]
        assert np.array_equal(picture.pixels, by_pillow(data))


# What is not decoded


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (flat_jpeg(marker=0xC3), "lossless JPEG"),
        (flat_jpeg(marker=0xC5), "hierarchical JPEG"),
        (flat_jpeg(marker=0xF7), "JPEG-LS"),
        (flat_jpeg(precision=12, marker=0xC1), "JPEG of 12 bits per channel"),
        (flat_jpeg(factors=[0x11, 0x11]), "JPEG of 2 components"),
        (flat_jpeg(Size(1, 65501)), "JPEG of more than 65500 pixels per side"),
    ],
)
def test_kinds_that_are_not_supported(tmp_path: Path, data: bytes, kind: str) -> None:
    with pytest.raises(PictureError, match=f"{kind} is not supported") as failure:
        read(tmp_path, data)
    assert "damaged" not in str(failure.value)
    assert failure.value.hint


def test_a_size_is_believed_as_far_as_the_file_could_hold_it(tmp_path: Path) -> None:
    most = Size(800, 1280)  # as many blocks as 4000 bytes can hold
    assert read(tmp_path, flat_jpeg(most)).size == most
    for marker in (0xC0, 0xC2):
        with pytest.raises(PictureError, match=r"it claims 22000x22000 pixels, for which \d+ bytes are too few"):
            read(tmp_path, flat_jpeg(Size(22000, 22000), marker=marker, scans=scan([1]) + bytes(300)))
    large, grey_alone = Size(9600, 9600), scan([1]) + bytes(560_000)  # the others may follow
    with pytest.raises(LimitError, match="MB of memory"):
        read(tmp_path, flat_jpeg(large, [0x22, 0x11, 0x11], scans=grey_alone))
    with pytest.raises(LimitError, match="MB of memory"):
        read(tmp_path, flat_jpeg(Size(22000, 22000), [0x11] * 3, marker=0xC9, scans=scan([1, 2, 3]) + bytes(300)))


def test_turning_takes_memory_too(tmp_path: Path) -> None:
    data = flat_jpeg(Size(10_000, 10_000), [0x22, 0x11, 0x11])
    path = tmp_path / "in.jpg"
    path.write_bytes(data)
    assert probe(path) == Size(10_000, 10_000)
    path.write_bytes(with_segments(data, exif(orientation=6)))
    with pytest.raises(LimitError, match="600 MB of memory"):
        probe(path)


def test_scans_are_counted(tmp_path: Path) -> None:
    size = Size(1000, 1000)
    start = scan([1], 0, 0, 1) + bytes(blocks(size, [0x11]) // 8 + 1)
    refinements = (scan([1], 1, 63, 0x21) + b"\0") * 1000
    backwards = scan([1], 255, 0, 0x21) * 1000  # which is no work less
    with pytest.raises(LimitError, match="1000x1000 pixels in 2001 scans, which would take too long") as failure:
        read(tmp_path, flat_jpeg(size, marker=0xC2, scans=start + refinements + backwards))
    assert "jpegtran" in (failure.value.hint or "")


def test_many_small_parts_take_little_time(tmp_path: Path) -> None:
    data = jpeg()
    tails = (b"\xff\xd8\xff\xd9" * 50_000, b"\xff" * 200_000, b"\0" * 200_000 + data)
    for tail in tails:
        read(tmp_path, data + tail)
    names = b"".join(b' xmlns:a%d="u"' % number for number in range(5000))
    many = packet(*[node(b"", b' xmlns:a="u" a:b="c"')] * 10_000)
    for content in (packet(node(b"<a1:b/>" * 5000, names)), many):
        read(tmp_path, with_segments(data, *extended(packet(node(b"xmpNote:HasExtendedXMP='%s'")), content)))


@pytest.mark.parametrize(
    "text",
    [
        packet(node(b"", b" " * 500_000 + b'xmlns:a="u"' + b"\n" * 500_000)),
        packet(node(b"<?xpacket" * 50_000 + b" ?>")),
        packet(b" " * 900_000),
        packet(node(b"GPano:CroppedAreaImageWidthPixels>8<" + b"GPano:" + b"Left" * 200_000)),
    ],
)
def test_no_xmp_takes_long(text: bytes) -> None:
    assert len(xmp.split_xmp(xmp.xmp_alone(text), 65_502)[0]) <= 65_502
    assert xmp.xmp_resized(text, Size(1, 8)) == text


# Metadata


def test_comments(tmp_path: Path) -> None:
    comments = ("a comment", "ein Gruß", "第二")
    bodies = [text.encode() for text in comments] + ["naïve".encode("latin-1") + b"\0", b" \0"]
    picture = read(tmp_path, with_segments(jpeg(), *(segment(0xFE, body) for body in bodies)))
    assert [text.text for text in picture.metadata.texts] == [*comments, "naïve"]
    assert {text.keyword for text in picture.metadata.texts} == {COMMENT}
    write_picture(picture, tmp_path / "out.jpg")
    assert read_picture(tmp_path / "out.jpg").metadata.texts == picture.metadata.texts


def test_a_comment_longer_than_a_segment_is_divided(tmp_path: Path) -> None:
    long = "für " * 30_000
    write_picture(Picture(photo(), metadata=Metadata(texts=(Text(COMMENT, long),))), tmp_path / "out.jpg")
    texts = read_picture(tmp_path / "out.jpg").metadata.texts
    assert len(texts) > 1
    assert "".join(text.text for text in texts) == long


def test_iptc(tmp_path: Path) -> None:
    datasets = b"\x1c\2\x50\0\7IByline" + b"\x1c\2\x78\x80\4\0\0\0\5IText"
    other = (0x0425, bytes(16))
    for segments in ([photoshop(other, (0x0404, datasets))], [photoshop(other), photoshop((0x0404, datasets + b"\0"))]):
        picture = read(tmp_path, with_segments(jpeg(), *segments))
        assert picture.metadata.iptc == datasets
        assert picture.ledger == ()
    write_picture(picture, tmp_path / "out.jpg")
    assert read_picture(tmp_path / "out.jpg").metadata.iptc == datasets
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.info["photoshop"][0x0404] == datasets


def test_iptc_longer_than_a_segment(tmp_path: Path) -> None:
    datasets = (b"\x1c\2\x19\x7f\xff" + b"k" * 0x7FFF) * 5
    write_picture(Picture(photo(), metadata=Metadata(iptc=datasets)), tmp_path / "out.jpg")
    assert read_picture(tmp_path / "out.jpg").metadata.iptc == datasets


def test_photoshop_resources_that_are_lost(tmp_path: Path) -> None:
    guides = struct.pack(">IIIIIB", 1, 576, 576, 1, 320, 0)  # of the program's window
    picture = read(tmp_path, with_segments(jpeg(), photoshop((2000, bytes(26)), (0x0408, guides))))
    assert lost(picture) == ["clipping path"]


def test_rights_of_photoshop_go_to_xmp_unless_it_says_them(tmp_path: Path) -> None:
    resources = photoshop((0x040A, b"\1"), (0x040B, b"https://example.org/a?b&c"))
    picture = read(tmp_path, with_segments(jpeg(), resources))
    assert with_fate(Fate.CONVERTED, picture.ledger) == ["copyright flag to XMP", "copyright URL to XMP"]
    assert b"<xmpRights:Marked>True<" in (picture.metadata.xmp or b"")
    assert b"<xmpRights:WebStatement>https://example.org/a?b&amp;c<" in (picture.metadata.xmp or b"")
    rights = (
        b' xmlns:xmpRights="http://ns.adobe.com/xap/1.0/rights/" xmpRights:Marked="True" xmpRights:WebStatement="x"'
    )
    packet_with_rights = packet(node(b"", rights))
    picture = read(tmp_path, with_segments(jpeg(), segment(0xE1, XMP + packet_with_rights), resources))
    assert (picture.metadata.xmp, picture.ledger) == (packet_with_rights, ())
    assert read(tmp_path, with_segments(jpeg(), photoshop((0x040A, b"\0"), (0x040B, b"")))).ledger == ()


def test_resolution(tmp_path: Path) -> None:
    data = jpeg()
    assert data[2:4] == b"\xff\xe0"
    bare = data[:2] + data[20:]
    resource = photoshop((0x03ED, struct.pack(">IHHIHH", 150 << 16, 1, 1, 75 << 16, 1, 1)))
    for segments, dpi, aspect in (
        ([jfif(1, 300, 200)], (300, 200), None),
        ([jfif(2, 100, 50)], (254, 127), None),
        ([jfif(0, 1, 1)], None, None),
        ([jfif(0, 3, 4)], None, 4 / 3),
        ([jfif(0, 0, 4)], None, None),
        ([exif(dpi=96)], (96, 192), None),
        ([exif(orientation=6, dpi=96)], (192, 96), None),
        ([jfif(0, 3, 4), exif(orientation=6)], None, 3 / 4),
        ([jfif(0, 3, 4), exif(dpi=96)], (96, 192), None),
        ([jfif(1, 72, 72), exif(dpi=96)], (72, 72), None),
        ([resource], (150, 75), None),
    ):
        picture = read(tmp_path, with_segments(bare, *segments))
        assert picture.metadata.dpi == dpi
        assert picture.metadata.aspect == pytest.approx(aspect)
        write_picture(picture, tmp_path / "out.jpg")
        again = read_picture(tmp_path / "out.jpg")
        assert again.metadata.dpi == pytest.approx(dpi)
        assert again.metadata.aspect == pytest.approx(aspect)


def test_exif_may_go_on_in_the_next_segment(tmp_path: Path) -> None:
    block = exif()[10:] + bytes(range(256)) * 300
    segments = [segment(0xE1, b"Exif\0\0" + part) for part in (block[:65_000], block[65_000:])]
    assert read(tmp_path, with_segments(jpeg(), *segments)).metadata.exif == block
    picture = read(tmp_path, with_segments(jpeg(), exif(), exif(dpi=300)))
    assert lost(picture) == ["second EXIF block"]


def test_a_profile_in_several_parts(tmp_path: Path) -> None:
    icc = struct.pack(">I", 150_000) + SRGB[4:] + bytes(150_000 - len(SRGB))
    halves = [segment(0xE2, b"ICC_PROFILE\0" + bytes((n, 3)) + icc[(n - 1) * 50_000 :][:50_000]) for n in (3, 1, 2)]
    picture = read(tmp_path, with_segments(jpeg(), *halves))
    assert picture.colour.icc == icc
    write_picture(picture, tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.info["icc_profile"] == icc
    assert damaged(read(tmp_path, with_segments(jpeg(), *halves[:2]))) == ["colour profile"]


def test_a_profile_of_other_colours_is_not_kept(tmp_path: Path) -> None:
    icc = SRGB[:16] + b"CMYK" + SRGB[20:]
    picture = read(tmp_path, jpeg(icc_profile=icc))
    assert picture.colour.icc is None
    assert lost(picture) == ["colour profile (CMYK, which the picture is not)"]


@pytest.mark.parametrize(
    ("segments", "names"),
    [
        ([segment(0xEB, b"JP\0\1\0\0\0\1\0\0\0\x30jumb\0\0\0\x20jumdc2pa")], ["content credentials (C2PA)"]),
        ([segment(0xEB, b"JP\0\1\0\0\0\1\0\0\0\x30SPEC")], ["JPEG XT extension"]),
        ([segment(0xE1, b"FLIR\0\1\0\1")], ["thermal data (FLIR)"]),
        ([segment(0xE5, b"RMETA\0abc"), segment(0xE9, b"\1\2\3")], ["APP5 segment (RMETA), APP9 segment"]),
        (
            [segment(0xE0 + n, b"name\0") for n in range(3, 10)],
            ["APP3 segment (name), APP4 segment (name), APP5 segment (name), APP6 segment (name) and 3 more"],
        ),
        ([segment(0xEC, b"Ducky\0\1\0\4\0\0\0\x3c"), segment(0xE0, b"JFXX\0\x10thumbnail")], []),
        ([segment(0xE0, b"II\x1a\0\0\0HEAPJPGM\1\2\3"), segment(0xE2, b"FPXR\0\0\1\2")], ["notes of the camera"]),
        ([segment(0xEC, b"[picture info]\r\nTimeDate=909698819")], ["notes of the camera"]),
        ([segment(0xE3, b"Meta\0\0II*\0\1\2"), segment(0xEC, b"OLYMPUS\0\1")], ["notes of the camera"]),
        ([segment(0xE2, b"FPXR\0\0\1\2" + "/Audio/Audio Stream 000000".encode("utf-16-le"))], ["sound"]),
        ([segment(0xE4, b"SCALADO\0\1"), segment(0xE4, b"Qualcomm Camera\1")], []),
        ([segment(0xE5, b"ssuniqueid0123"), segment(0xEA, b"AROT\0\0\1\2\3")], []),
        ([segment(0xE4, b"AROT\0\0\1")], ["APP4 segment (AROT)"]),
    ],
)
def test_segments_that_are_lost(tmp_path: Path, segments: list[bytes], names: list[str]) -> None:
    assert lost(read(tmp_path, with_segments(jpeg(), *segments))) == names


# XMP


def test_extended_xmp_is_merged(tmp_path: Path) -> None:
    reference = b' xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="%s"'
    main = packet(node(b"<dc:title>T</dc:title>", b' xmlns:dc="http://purl.org/dc/elements/1.1/"' + reference))
    long = packet(
        node(b"", b' xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/" GDepth:Data="' + b"A" * 150_000 + b'"')
    )
    segments = extended(main, long)
    for order in ([0, 1, 2, 3], [0, 3, 1, 2], [2, 0, 1, 3]):
        picture = read(tmp_path, with_segments(jpeg(), *(segments[i] for i in order)))
        merged = picture.metadata.xmp or b""
        assert picture.ledger == ()
        assert b"HasExtendedXMP" not in merged
        assert b"<dc:title>T</dc:title>" in merged
        assert b"A" * 150_000 in merged
    other = b"0" * 32
    for broken in (segments[:3], extended(main, long, digest=other), [segments[0]], segments[1:]):
        picture = read(tmp_path, with_segments(jpeg(), *broken))
        assert damaged(picture) == ["extended XMP"]
        assert b"HasExtendedXMP" not in (picture.metadata.xmp or b"")


def parts_of(data: bytes) -> tuple[bytes, bytes]:
    """Return the packet in a JPEG file, and its extension, checked."""
    main, digest, length, found = b"", b"", 0, {}
    at = 2
    while data[at + 1] != 0xDA:
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + size]
        if body.startswith(XMP):
            main = body[len(XMP) :]
        elif body.startswith(EXTENSION):
            body = body[len(EXTENSION) :]
            digest, (length, offset) = body[:32], struct.unpack(">II", body[32:40])
            found[offset] = body[40:]
        at += 2 + size
    extension = b"".join(found[offset] for offset in sorted(found))
    assert len(extension) == length
    assert not extension or hashlib.md5(extension).hexdigest().upper().encode() == digest
    assert not extension or digest in main
    return main, extension


def test_long_xmp_is_extended(tmp_path: Path) -> None:
    spaces = b' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:a="http://a.example/"'
    small, element = b"<dc:title>small</dc:title>", b"<a:long><a:x>" + b"e" * 70_000 + b"</a:x></a:long>"
    attribute = b' a:longer="' + b"f" * 80_000 + b'"'
    long = b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>' + packet(node(small + element, spaces + attribute))
    long += b" " * 3000 + b'<?xpacket end="w"?>'
    path = tmp_path / "out.jpg"
    write_picture(Picture(photo(), metadata=Metadata(xmp=long)), path)
    main, extension = parts_of(path.read_bytes())
    assert small in main
    assert element in extension
    assert attribute.strip() in extension
    again = read_picture(path).metadata.xmp or b""
    assert all(part in again for part in (small, element, attribute))
    assert b"HasExtendedXMP" not in again
    if shutil.which("exiftool"):
        found = subprocess.run(
            ["exiftool", "-G1", "-a", "-s", str(path)], capture_output=True, text=True, check=True
        ).stdout
        assert {"Title", "LongX", "Longer"} <= {line.split("]")[1].split(":")[0].strip() for line in found.splitlines()}
        assert "Warning" not in found


def test_xmp_that_is_padded_or_broken(tmp_path: Path) -> None:
    path = tmp_path / "out.jpg"
    padded = packet(node(b"")) + b" " * 70_000 + b'<?xpacket end="w"?>'
    write_picture(Picture(photo(), metadata=Metadata(xmp=padded)), path)
    assert parts_of(path.read_bytes()) == (padded.replace(b" " * 70_000, b""), b"")
    broken = b"<unclosed>" + b"x" * 70_000
    write_picture(Picture(photo(), metadata=Metadata(xmp=broken)), path)
    assert parts_of(path.read_bytes())[1] == broken


def test_the_measures_of_a_panorama_are_scaled() -> None:
    before = (
        b"<rdf:Description GPano:FullPanoWidthPixels=\"8000\" GPano:CroppedAreaImageWidthPixels = '4000'"
        b' GPano:CroppedAreaLeftPixels="1001"><GPano:FullPanoHeightPixels>4000</GPano:FullPanoHeightPixels>'
        b"<GPano:CroppedAreaImageHeightPixels>1000</GPano:CroppedAreaImageHeightPixels>"
        b"<GPano:PoseHeadingDegrees>350.0</GPano:PoseHeadingDegrees></rdf:Description>"
    )
    after = before
    for old, new in ((b'"8000"', b'"12000"'), (b"'4000'", b"'6000'"), (b"1001", b"1502"), (b">4000", b">8000")):
        after = after.replace(old, new)
    assert xmp.xmp_resized(before, Size(2000, 6000)) == after.replace(b">1000", b">2000")
    unknown = before.replace(b"CroppedAreaImage", b"Other")
    assert xmp.xmp_resized(unknown, Size(2000, 6000)) == unknown


def test_xmp_without_what_refers_to_the_file() -> None:
    spaces = b"""
        xmlns:hdrgm='http://ns.adobe.com/hdr-gain-map/1.0/' xmlns:Container="http://ns.google.com/photos/1.0/container/"
        xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" xmlns:g="http://ns.apple.com/HDRGainMap/1.0/"
        xmlns:other="http://other.example/" other:kept="a > b" hdrgm:Version = '1.0' GCamera:MotionPhoto="1"
        GCamera:MicroVideoOffset="77" GCamera:PortraitNote="kept"
    """
    directory = b"<Container:Directory><rdf:Seq><rdf:li other:x='>'/></rdf:Seq></Container:Directory>"
    kept = b"<other:empty/><other:Directory>kept</other:Directory>"
    doomed = directory + b"<g:HDRGainMapVersion>65536</g:HDRGainMapVersion><hdrgm:Empty/>"
    alone = xmp.xmp_alone(packet(node(kept + doomed, spaces), node(b"<hdrgm:GainMapMax xmlns:hdrgm='x'/>", b" ")))
    assert kept in alone
    assert b'other:kept="a > b"' in alone
    assert b'GCamera:PortraitNote="kept"' in alone
    assert b"<hdrgm:GainMapMax" in alone  # another namespace of that prefix
    for gone in (b"hdrgm:Version", b"Container:Directory", b"MotionPhoto", b"MicroVideo", b"g:HDR", b"hdrgm:Empty"):
        assert gone not in alone
    assert xmp.xmp_alone(alone) == alone
    assert xmp.xmp_alone(b"<broken") == b"<broken"
    laughs = b'<!DOCTYPE x [<!ENTITY a "b">]>' + packet(node(b"<hdrgm:V/>", spaces))
    assert xmp.xmp_alone(laughs) == laughs


# What follows the picture


def gain_map(*segments: bytes) -> bytes:
    return with_segments(jpeg(photo(8, 8), mode="L"), *segments)


GAIN = b' xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"'
SPACE = b' xmlns:Container="http://ns.google.com/photos/1.0/container/"'
HDRGM = segment(0xE1, XMP + packet(node(b"", GAIN)))
CONTAINER = segment(0xE1, XMP + packet(node(b"<Container:Directory><rdf:Seq/></Container:Directory>", GAIN + SPACE)))
APPLE = segment(
    0xE1, XMP + packet(node(b"", b' xmlns:HDRGainMap="http://ns.apple.com/HDRGainMap/1.0/" HDRGainMap:Version="1"'))
)
ISO = segment(0xE2, b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0")
APDI = b' xmlns:apdi="http://ns.apple.com/pixeldatainfo/1.0/"'
DEPTH = segment(
    0xE1,
    XMP + packet(node(b"<apdi:AuxiliaryImageType>urn:com:apple:photo:2018:aux:depth</apdi:AuxiliaryImageType>", APDI)),
)


def samsung(*parts: bytes) -> bytes:
    """Return what phones of Samsung add to a file: parts, and a directory of them with their distances to it."""
    directory, after = b"", sum(map(len, parts))
    for part in parts:
        directory += struct.pack("<HHII", 0, 0x0A01, after, len(part))
        after -= len(part)
    directory = b"SEFH" + struct.pack("<II", 106, len(parts)) + directory
    return b"".join(parts) + directory + struct.pack("<I", len(directory)) + b"SEFT"


MOVIE = b"\0\0\0\x18ftypmp42" + bytes(500) + b"mdat"


@pytest.mark.parametrize(
    ("segments", "after", "names"),
    [
        ([CONTAINER], gain_map(HDRGM), ["gain map"]),
        ([], gain_map(APPLE), ["gain map"]),
        ([ISO], gain_map(ISO), ["gain map"]),
        ([], b"\0" * 100 + gain_map(DEPTH), ["depth map"]),
        ([], gain_map(), ["1 other picture"]),
        ([], gain_map() + gain_map(), ["2 other pictures"]),
        ([CONTAINER], gain_map(HDRGM) + MOVIE, ["gain map", "video of the motion photo"]),
        ([], bytes(24) + MOVIE, ["video of the motion photo"]),
        ([], b"something else of some length", ["29 bytes after the picture"]),
        ([], bytes(5000), []),
        ([], samsung(b"Image_UTC_Data1700000000000"), []),
        ([], samsung(b"Image_UTC_Data1700000000000", b"Color_Display_P3"), []),
        ([], samsung(b"MotionPhoto_Data" + MOVIE), ["video of the motion photo"]),
        ([], samsung(b"DualShot_DepthMap_1" + bytes(50), b"SoundShot_000"), ["depth map", "sound"]),
        ([], samsung(b"Image_UTC_Data1700000000000")[:-4], ["52 bytes after the picture"]),
        ([], bytes(40) + b"LaiDong\0" * 4, []),
        ([], bytes(40) + b"LaiDong\0" * 4 + b"and something else", ["50 bytes after the picture"]),
    ],
)
def test_what_follows_the_picture_is_named(
    tmp_path: Path, segments: list[bytes], after: bytes, names: list[str]
) -> None:
    data = jpeg()
    picture = read(tmp_path, with_segments(data, *segments) + after)
    assert lost(picture) == names
    assert np.array_equal(picture.pixels, by_pillow(data))
    write_picture(picture, tmp_path / "out.jpg")
    written = (tmp_path / "out.jpg").read_bytes()
    assert b"hdrgm:Version" not in written
    assert b"Container:Directory" not in written
    assert read_picture(tmp_path / "out.jpg").ledger == ()


def test_previews_are_told_from_other_pictures(tmp_path: Path) -> None:
    data = jpeg()
    offset = len(data) + len(mpf(0, 0)) - 10  # from the byte-order mark, behind the start, marker, length and name
    assert lost(read(tmp_path, with_segments(data, mpf(offset, 0x010002)) + gain_map())) == []
    assert lost(read(tmp_path, with_segments(data, mpf(offset, 0x020003)) + gain_map())) == ["1 other picture"]
    assert lost(read(tmp_path, with_segments(data, mpf(offset + 1, 0x010002)) + gain_map())) == ["1 other picture"]


# Writing


def test_the_quality_of_the_file_before_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.jpg"
    for origin, asked, expected in (
        (None, None, 95),
        (Origin("JPEG", lossless=False, quality=99), None, 99),
        (Origin("JPEG", lossless=False, quality=60), None, 95),
        (Origin("JPEG", lossless=False, quality=99), 80, 80),
        (Origin("JXL", lossless=False, quality=99), None, 99),
        (Origin("JXL", lossless=False), None, 95),
    ):
        write_picture(Picture(photo(), origin=origin), path, quality=asked)
        found = read_picture(path).origin
        assert found is not None
        assert found.quality == expected


def test_blocks_that_are_too_long_are_lost() -> None:
    most = 65533 - len(b"Exif\0\0")
    for length, fate in ((most, Fate.KEPT), (most + 1, Fate.LOST)):
        fitted, (entry,) = fit(Picture(photo(), metadata=Metadata(exif=bytes(length))), output_format("a.jpg"))
        assert (entry.what, entry.fate) == (Feature.EXIF, fate)
        assert (fitted.metadata.exif is None) == (fate == Fate.LOST)
    assert str(entry) == f"EXIF of {most + 1} bytes"


def test_the_longest_blocks_can_be_written(tmp_path: Path) -> None:
    form = output_format("a.jpg")
    icc = struct.pack(">I", form.most[Feature.PROFILE]) + SRGB[4:] + bytes(form.most[Feature.PROFILE] - len(SRGB))
    block = exif()[10:]
    metadata = Metadata(exif=block + bytes(form.most[Feature.EXIF] - len(block)))
    write_picture(Picture(photo(), colour=Colour(icc=icc), metadata=metadata), tmp_path / "out.jpg")
    again = read_picture(tmp_path / "out.jpg")
    assert again.colour.icc == icc
    assert again.metadata.exif == metadata.exif


def test_everything_is_written_as_other_programs_read_it(tmp_path: Path) -> None:
    metadata = Metadata(
        exif=exif(dpi=300)[10:],
        xmp=packet(node(b"")),
        iptc=b"\x1c\2\x50\0\7IByline",
        texts=(Text(COMMENT, "grün"),),
        dpi=(299.9994, 299.9994),
    )
    picture, ledger = fit(Picture(photo(), colour=Colour(icc=SRGB), metadata=metadata), output_format("a.jpg"))
    assert {entry.fate for entry in ledger} == {Fate.KEPT}
    path = tmp_path / "out.jpg"
    write_picture(picture, path)
    with Image.open(path) as image:
        image.load()
        assert image.info["dpi"] == (300, 300)
        assert image.info["comment"] == "grün".encode()
        assert image.info["xmp"] == metadata.xmp
        assert image.info["icc_profile"] == SRGB
        assert image.getexif()[ExifTags.Base.XResolution] == 300
    if shutil.which("exiftool"):
        command = ["exiftool", "-s3", "-Warning", "-Comment", "-By-line", str(path)]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        assert found == ["grün", "IByline"]
    if shutil.which("djpeg"):
        found = subprocess.run(["djpeg", str(path)], capture_output=True, check=True)
        assert found.stderr == b""


# Anything


@given(st.lists(st.integers(1, 400), min_size=1, max_size=12), st.integers(700, 2000))
@settings(max_examples=100, deadline=None)
def test_xmp_of_any_properties_is_split_and_merged(lengths: list[int], most: int) -> None:
    spaces = b' xmlns:a="http://a.example/"'
    properties = [b"<a:p%d>%s</a:p%d>" % (n, b"x" * length, n) for n, length in enumerate(lengths)]
    nodes = [node(b"".join(group), spaces) for group in (properties[::2], properties[1::2])]
    whole = packet(*nodes)
    main, extension = xmp.split_xmp(whole, most)
    assert len(main) <= most
    if extension is None:
        assert main == whole
        return
    assert xmp.extension_digest(main) == xmp.xmp_digest(extension)
    merged = xmp.merge_xmp(main, extension)
    assert merged is not None
    assert all(merged.count(text) == 1 for text in properties)
    assert all(main.count(text) + extension.count(text) == 1 for text in properties)
