"""Files of every format that can be read, with everything that the format can carry, made without this package.

Words such as Exif-Artist stand for what carries them, so that they can be looked for in any file.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageCms

from support.heif import HeifItem, box, boxes_of, coded_items, exif_item, heif_file, nclx, xmp_item

__all__ = ["CARRIERS", "DURATIONS", "LIGHT", "MASTERING", "PROFILE"]

HEIGHT, WIDTH = 24, 32
LIGHT, DURATIONS, DPI, DPI_CM = (1000, 400), [70, 210, 120], 200, 120
MASTERING = struct.pack(">8HII", 35400, 14600, 8500, 39850, 6550, 2300, 15635, 16450, 10_000_000, 50)
_ALPHA = b"\0\0\0\0urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"
_DEPTH_MAP = b"\0\0\0\0urn:mpeg:mpegB:cicp:systems:auxiliary:depth\0"
_XMP_NAME, _EXTENSION_NAME = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"


def _profile() -> bytes:
    """Return a profile of wide primaries with a description that can be looked for."""
    made = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    words = "Icc-Profile-".encode("utf-16-be")
    at = made.index("sRGB".encode("utf-16-be"))
    made[at : at + len(words)] = words
    start, size = next(
        struct.unpack_from(">II", made, 136 + 12 * number)
        for number in range(made[131])
        if made[132 + 12 * number : 136 + 12 * number] == b"gXYZ"
    )
    made[start + 8 : start + size] = struct.pack(">3I", 0x349A, 0xA02C, 0x0FC0)  # greener than sRGB
    return bytes(made)


PROFILE = _profile()


def _pixels(channels: int = 3, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    """Return noise ``(24, 32, channels)``, in which there is everything."""
    if dtype == np.float32:
        return np.random.default_rng(seed).random((HEIGHT, WIDTH, channels), np.float32)
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (HEIGHT, WIDTH, channels), dtype)


_CREATOR = b"<dc:creator><rdf:Seq><rdf:li>Xmp-Creator</rdf:li></rdf:Seq></dc:creator>"


def _packet(properties: str) -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"{_CREATOR.decode()}{properties}</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


XMP = _packet("")
IPTC = b"".join(
    b"\x1c\x02" + struct.pack(">BH", number, len(word)) + word
    for number, word in ((80, b"Iptc-Byline"), (55, b"20260102"), (225, b"Iptc-Odd"))
)


def _exif(**more: Any) -> bytes:
    """Return EXIF with an artist, a lens and a thumbnail."""
    tags = Image.Exif()
    tags[0x013B] = "Exif-Artist"
    tags[0x010F] = "Exif-Make"
    tags[0xC4A5] = b"PrintIM\0Exif-Print"
    tags[0xC350] = "Exif-Private"
    tags.get_ifd(0x8769)[0xA434] = "Exif-Lens"
    tags.get_ifd(0x8825)[0x1D] = "2026:01:02"
    for tag, value in more.items():
        tags[int(tag[1:])] = value
    return tags.tobytes().removeprefix(b"Exif\0\0")


# PNG


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _deflated(values: np.ndarray) -> bytes:
    rows = values.astype(values.dtype.newbyteorder(">")).reshape(len(values), -1).view(np.uint8)
    return zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())


def _png(values: np.ndarray, *chunks: bytes, after: bytes = b"", kind: int | None = None) -> bytes:
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]] if kind is None else kind
    header = struct.pack(">II5B", values.shape[1], values.shape[0], 8 * values.itemsize, kind, 0, 0, 0)
    parts = [_chunk(b"IHDR", header), *chunks, _chunk(b"IDAT", _deflated(values)), after, _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _photoshop(*resources: tuple[int, bytes]) -> bytes:
    return b"".join(
        b"8BIM" + struct.pack(">HHI", name, 0, len(data)) + data + bytes(len(data) % 2) for name, data in resources
    )


RESOURCES = _photoshop((0x0404, IPTC), (0x040A, b"\1"), (0x040B, b"http://Photoshop-Url"))


def _raw_profile(name: bytes, block: bytes) -> bytes:
    return _chunk(
        b"zTXt",
        b"Raw profile type "
        + name
        + b"\0\0"
        + zlib.compress(b"\n%s\n%8d\n%s\n" % (name, len(block), block.hex().encode())),
    )


_TEXTS = (
    _chunk(b"tEXt", b"Author\0Text-Author"),
    _chunk(b"zTXt", b"Copyright\0\0" + zlib.compress(b"Text-Copyright")),
    _chunk(b"iTXt", b"Title\0\0\0fr\0Titre\0Text-Title"),
    _chunk(b"tEXt", b"Odd\0Text-Odd"),
    _chunk(b"tEXt", b"Comment\0Plain-Comment"),
    _chunk(b"tIME", struct.pack(">H5B", 2026, 1, 2, 3, 4, 5)),
)


def png() -> bytes:
    per_metre = round(DPI / 0.0254)
    return _png(
        _pixels(4),
        _chunk(b"iCCP", b"x\0\0" + zlib.compress(PROFILE)),
        _chunk(b"sBIT", bytes(4 * [8])),
        _chunk(b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1)),
        _chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        *_TEXTS,
        after=_chunk(b"eXIf", _exif()) + _raw_profile(b"iptc", RESOURCES),
    )


def png_unusual() -> bytes:
    """Chunks that few programs write, and data after the end."""
    whole = _png(
        _pixels(4),
        _chunk(b"bKGD", bytes(6)),
        _chunk(b"oFFs", struct.pack(">iiB", 5, 5, 0)),
        _chunk(b"sCAL", b"\x011\x001"),
        _chunk(b"caBX", b"jumb"),
        _chunk(b"zzZz", b"unknown"),
        _chunk(b"sTER", b"\0"),
    )
    return whole + b"something that follows"


def png_hdr() -> bytes:
    return _png(
        _pixels(3, np.uint16),
        _chunk(b"cICP", bytes((9, 16, 0, 1))),
        _chunk(b"mDCV", MASTERING),
        _chunk(b"cLLI", struct.pack(">II", *(10_000 * level for level in LIGHT))),
    )


def png_gamma() -> bytes:
    chromaticities = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
    return _png(
        _pixels(),
        _chunk(b"gAMA", struct.pack(">I", 55555)),
        _chunk(b"cHRM", struct.pack(">8I", *chromaticities)),
        _chunk(b"pHYs", struct.pack(">IIB", 1, 2, 0)),
        _chunk(b"bKGD", bytes(6)),
    )


def png_palette() -> bytes:
    palette = _pixels(3).reshape(-1)[: 3 * 256].tobytes()
    return _png(_pixels(1), _chunk(b"PLTE", palette), _chunk(b"tRNS", bytes((0, 100))), kind=3)


def png_grey() -> bytes:
    values = _pixels(1, np.uint16)
    return _png(values, _chunk(b"tRNS", values[0, 0].astype(">u2").tobytes()))


def png_plain() -> bytes:
    return _png(_pixels(), _chunk(b"sRGB", b"\0"), _chunk(b"gAMA", struct.pack(">I", 45455)), _chunk(b"bKGD", bytes(6)))


def apng() -> bytes:
    chunks = [_chunk(b"acTL", struct.pack(">II", len(DURATIONS), 3))]
    sequence = 0
    for number, duration in enumerate(DURATIONS):
        body = struct.pack(">5I2H2B", sequence, WIDTH, HEIGHT, 0, 0, duration, 1000, 0, 0)
        chunks.append(_chunk(b"fcTL", body))
        sequence += 1
        if number:
            chunks.append(_chunk(b"fdAT", struct.pack(">I", sequence) + _deflated(_pixels(4, seed=number))))
            sequence += 1
        else:
            chunks.append(_chunk(b"IDAT", _deflated(_pixels(4))))
    profile = _chunk(b"iCCP", b"x\0\0" + zlib.compress(PROFILE))
    header = _chunk(b"IHDR", struct.pack(">II5B", WIDTH, HEIGHT, 8, 6, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + profile + b"".join((*_TEXTS, *chunks)) + _chunk(b"IEND", b"")


# JPEG


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _jpeg(
    values: np.ndarray, *segments: bytes, jfif: tuple[int, int, int] = (0, 1, 1), mode: str | None = None
) -> bytes:
    image = Image.fromarray(values[..., 0] if values.shape[2] == 1 else values, mode)
    coded = _saved(image, "JPEG")
    start = coded[:2] + _segment(0xE0, b"JFIF\0\1\1" + struct.pack(">BHHBB", *jfif, 0, 0))
    return start + b"".join(segments) + coded[2 if mode == "CMYK" else 20 :]


def _icc_segment(icc: bytes) -> bytes:
    return _segment(0xE2, b"ICC_PROFILE\0\1\1" + icc)


def jpeg() -> bytes:
    extension = _packet("<dc:source>Extended-Xmp" + "x" * 70_000 + "</dc:source>").replace(_CREATOR, b"")
    digest = hashlib.md5(extension).hexdigest().upper()
    packet = _packet(f'<n:HasExtendedXMP xmlns:n="http://ns.adobe.com/xmp/note/">{digest}</n:HasExtendedXMP>')
    parts = [
        _segment(
            0xE1,
            _EXTENSION_NAME + digest.encode() + struct.pack(">II", len(extension), at) + extension[at : at + 60_000],
        )
        for at in range(0, len(extension), 60_000)
    ]
    return _jpeg(
        _pixels(),
        _segment(0xE1, b"Exif\0\0" + _exif()),
        _segment(0xE1, _XMP_NAME + packet),
        *parts,
        _icc_segment(PROFILE),
        _segment(0xED, b"Photoshop 3.0\0" + RESOURCES),
        _segment(0xFE, b"Plain-Comment"),
        jfif=(2, DPI_CM, DPI_CM),
    )


def jpeg_with_maps() -> bytes:
    gain = 'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"'
    described = _packet("").replace(b'rdf:about=""', b'rdf:about="" ' + gain.encode())
    depth = _packet("<d:AuxiliaryImageType xmlns:d='urn:d'>urn:com:apple:photo:2018:aux:depth</d:AuxiliaryImageType>")
    small = _pixels(1)
    return (
        _jpeg(_pixels(), _segment(0xE1, _XMP_NAME + described), _segment(0xEB, b"JP\0\1\0\0\0\1jumbc2pa"))
        + _jpeg(small, _segment(0xE1, _XMP_NAME + described))
        + _jpeg(small, _segment(0xE1, _XMP_NAME + depth))
    )


def jpeg_grey() -> bytes:
    return _jpeg(_pixels(1), jfif=(0, 1, 2))


def jpeg_cmyk() -> bytes:
    return _jpeg(_pixels(4), mode="CMYK")


def jpeg_plain() -> bytes:
    return _saved(Image.fromarray(_pixels()), "JPEG")


# TIFF


def _tiff(values: np.ndarray, photometric: str, big: bool = False, tags: Sequence[Any] = (), **options: Any) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, bigtiff=big, byteorder=">") as writer:
        writer.write(values, photometric=photometric, metadata=None, extratags=tags, **options)
    return file.getvalue()


_ASCII, _SHORT, _UNDEFINED, _BYTE, _DOUBLE, _RATIONAL = 2, 3, 7, 1, 12, 5
_WORDS = {
    269: "Tiff-Document",
    270: "Tiff-Description",
    271: "Tiff-Make",
    272: "Tiff-Model",
    285: "Tiff-Page",
    306: "2026:01:02 03:04:05",
    315: "Tiff-Artist",
    316: "Tiff-Host",
    333: "Tiff-Inks",
    337: "Tiff-Target",
    33432: "Tiff-Copyright",
}
_GEO = (
    (33550, _DOUBLE, 3, (10.0, 10.0, 0.0), True),
    (33922, _DOUBLE, 6, (0.0, 0.0, 0.0, 500_000.0, 4_000_000.0, 0.0), True),
    (34735, _SHORT, 8, (1, 1, 0, 1, 1024, 0, 1, 1), True),
    (34737, _ASCII, 10, "Geo-Words|", True),
)

_TRANSFER = (301, _SHORT, 3 * 256, tuple(range(256)) * 3, True)


def tiff() -> bytes:
    tags = [(tag, _ASCII, len(word) + 1, word, True) for tag, word in _WORDS.items()]
    tags += [
        (700, _BYTE, len(XMP), XMP, True),
        (33723, _UNDEFINED, len(IPTC), IPTC, True),
        (34377, _BYTE, len(RESOURCES), RESOURCES, True),
        _TRANSFER,
        (37724, _UNDEFINED, 4, b"8BIM", True),
        (65000, _ASCII, 13, "Private-Word", True),
        *_GEO,
    ]
    return _tiff(
        _pixels(5, np.uint16),
        "rgb",
        extrasamples=["unassalpha", "unspecified"],
        iccprofile=PROFILE,
        resolution=(DPI_CM, DPI_CM),
        resolutionunit="CENTIMETER",
        software="Tiff-Software",
        tags=tags,
    )


def tiff_premultiplied() -> bytes:
    values = _pixels(4)
    values[..., :3] = values[..., :3].astype(int) * values[..., 3:] // 255
    return _tiff(values, "rgb", extrasamples=["assocalpha"], resolution=(1, 2), resolutionunit="NONE", tags=[_TRANSFER])


def tiff_of_numbers() -> bytes:
    return _tiff(_pixels(1, np.float32)[..., 0] * 900 - 100, "minisblack", big=True, tags=_GEO)


def tiff_cmyk() -> bytes:
    return _tiff(_pixels(4, np.uint16), "separated")


def tiff_ome() -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, ome=True) as writer:
        writer.write(_pixels(1)[..., 0], metadata={"axes": "YX", "Name": "Ome-Words"})
    return file.getvalue()


def tiff_imagej() -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, _pixels(1, np.uint16)[..., 0], imagej=True, metadata={"Info": "ImageJ-Words"})
    return file.getvalue()


def tiff_pages() -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for number in range(3):
            word = f"Page-Artist-{number}"
            writer.write(
                _pixels(3, seed=number)[: HEIGHT - number],
                photometric="rgb",
                metadata=None,
                resolution=(100 + number, 100 + number),
                resolutionunit="INCH",
                extratags=[(315, _ASCII, len(word) + 1, word, True)],
            )
    return file.getvalue()


# WebP, GIF, BMP


def webp() -> bytes:
    image = Image.fromarray(_pixels(4))
    options = {"lossless": True, "exact": True, "icc_profile": PROFILE, "exif": _exif(t282=DPI, t283=DPI), "xmp": XMP}
    data = _saved(image, "WEBP", **options)
    return data[:4] + struct.pack("<I", len(data) + 4) + data[8:] + b"C2PA\4\0\0\0jumb"


def webp_animation() -> bytes:
    frames = [Image.fromarray(_pixels(4, seed=number)) for number in range(3)]
    return _saved(
        frames[0],
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=DURATIONS,
        loop=3,
        icc_profile=PROFILE,
        exif=_exif(),
        xmp=XMP,
    )


_XMP_TRAILER = b"\x01" + bytes(range(255, -1, -1)) + b"\0"


def _blocks(*bodies: bytes) -> bytes:
    return b"".join(bytes([len(body)]) + body for body in bodies) + b"\0"


def _gif(frames: int, *extensions: bytes) -> bytes:
    images = []
    for number in range(frames):
        image = Image.fromarray(_pixels(3, seed=number)).quantize(255)
        image.info["transparency"] = 3
        images.append(image)
    if frames > 1:
        data = _saved(images[0], "GIF", save_all=True, append_images=images[1:], duration=DURATIONS, loop=2, disposal=2)
    else:
        data = _saved(images[0], "GIF", transparency=3)
    start = 13 + 3 * 2 ** ((data[10] & 7) + 1)
    return b"GIF89a" + data[6:12] + bytes([113]) + data[13:start] + b"".join(extensions) + data[start:]


_COMMENT = b"\x21\xfe" + _blocks(b"Plain-Comment")
_GIF_XMP = b"\x21\xff\x0bXMP DataXMP" + XMP + _XMP_TRAILER
_GIF_ICC = b"\x21\xff" + _blocks(b"ICCRGBG1012", *(PROFILE[at : at + 255] for at in range(0, len(PROFILE), 255)))
_PLAIN_TEXT = b"\x21\x01" + _blocks(bytes(12), b"Plain-Text")


def gif() -> bytes:
    """Pixels of aspect 2."""
    return _gif(1, _COMMENT, _GIF_XMP, _GIF_ICC, b"\x21\xff" + _blocks(b"MGK8BIM0000", b"Magick-8bim"))


def gif_animation() -> bytes:
    return _gif(3, _COMMENT, _GIF_XMP, _PLAIN_TEXT)


def bmp() -> bytes:
    rows = _pixels(4)[::-1].tobytes()
    per_metre = round(DPI / 0.0254)
    header = struct.pack("<IiiHHIIiiII", 124, WIDTH, HEIGHT, 1, 32, 3, len(rows), per_metre, per_metre, 0, 0)
    header += struct.pack("<5I48x", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, 0x4D424544)
    header += struct.pack("<4I", 4, 124 + len(rows), len(PROFILE), 0)
    total = 14 + len(header) + len(rows) + len(PROFILE)
    return struct.pack("<2sIHHI", b"BM", total, 0, 0, 138) + header + rows + PROFILE


def bmp_calibrated() -> bytes:
    rows = _pixels(3)[::-1].tobytes()
    header = struct.pack("<IiiHHIIiiII", 108, WIDTH, HEIGHT, 1, 24, 0, len(rows), 0, 0, 0, 0) + bytes(16)
    points = (0.68, 0.32, 0, 0.265, 0.69, 0.045, 0.15, 0.06, 0.79)
    header += struct.pack("<I9I3I", 0, *(round(value * 2**30) for value in points), *(3 * [round(1.8 * 2**16)]))
    return struct.pack("<2sIHHI", b"BM", 14 + len(header) + len(rows), 0, 0, 14 + len(header)) + header + rows


# AVIF, HEIC, JPEG XL


def _opencv_avif(values: np.ndarray, bits: int) -> bytes:
    options = [cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_QUALITY, 100, cv2.IMWRITE_AVIF_SPEED, 9]
    return cv2.imencode(".avif", values, options)[1].tobytes()


def _wrapped(data: bytes, configuration: bytes, *extra: tuple[bytes, bytes]) -> HeifItem:
    item = coded_items(data, configuration)[0]
    item.properties += [(name, boxes_of(data, name)[0]) for name in (b"ispe", b"pixi")]
    item.properties += extra
    return item


_LIGHT_BOXES = (
    (b"clli", struct.pack(">HH", *LIGHT)),
    (b"mdcv", MASTERING[4:12] + MASTERING[:4] + MASTERING[12:]),
)
_PASP = (b"pasp", struct.pack(">II", 2, 1))


def _auxiliary(data: bytes, configuration: bytes, kind: bytes) -> HeifItem:
    item = _wrapped(data, configuration, (b"auxC", kind))
    item.references.append((b"auxl", [1]))
    return item


def avif() -> bytes:
    """Display P3 with alpha and a gain map."""
    colour = _saved(Image.fromarray(_pixels()), "AVIF", quality=95, speed=10)
    grey = _saved(Image.fromarray(_pixels(1)[..., 0]), "AVIF", quality=95, subsampling="4:0:0", speed=10)
    gain = HeifItem(b"tmap", b"\0" * 10, references=[(b"dimg", [1, 5])])
    gain.properties.append((b"ispe", boxes_of(colour, b"ispe")[0]))
    return heif_file(
        _wrapped(colour, b"av1C", nclx(12, 13), _PASP),
        _auxiliary(grey, b"av1C", _ALPHA),
        exif_item(_exif(t282=DPI, t283=DPI)),
        xmp_item(XMP),
        _wrapped(grey, b"av1C"),
        gain,
        _auxiliary(grey, b"av1C", _DEPTH_MAP),
    )


def avif_profile() -> bytes:
    return _saved(Image.fromarray(_pixels()), "AVIF", icc_profile=PROFILE, speed=10)


def avif_hdr() -> bytes:
    values = np.random.default_rng(0).integers(0, 1024, (HEIGHT, WIDTH, 3), np.uint16)
    return heif_file(_wrapped(_opencv_avif(values, 10), b"av1C", nclx(9, 16), *_LIGHT_BOXES))


def avif_animation() -> bytes:
    """Frames with HDR metadata and an aspect in the description of their samples."""
    frames = [Image.fromarray(_pixels(3, seed=number)) for number in range(3)]
    options = {"save_all": True, "append_images": frames[1:], "duration": DURATIONS, "speed": 10}
    data = _saved(frames[0], "AVIF", exif=_exif(), xmp=XMP, **options)
    added = b"".join(box(name, body) for name, body in (*_LIGHT_BOXES, _PASP))
    places = [found.start() - 4 for found in re.finditer(b"moov|trak|mdia|minf|stbl|stsd|av01", data)]
    start = data.index(b"moov") - 4
    place = next(at for at in places if at > data.index(b"stsd") and data[at + 4 : at + 8] == b"av01")
    end = place + int.from_bytes(data[place : place + 4], "big")
    grown = bytearray(data)
    for at in places:
        size = int.from_bytes(data[at : at + 4], "big")
        if at >= start and at <= place < at + size:
            grown[at : at + 4] = struct.pack(">I", size + len(added))
    grown[end:end] = added
    for found in list(re.finditer(b"stco|iloc", grown)):
        at = found.end()
        if found[0] == b"iloc":
            _move_items(grown, at, len(added))
        else:
            spots = range(at + 8, at + 8 + 4 * int.from_bytes(grown[at + 4 : at + 8], "big"), 4)
            for spot in spots:
                grown[spot : spot + 4] = struct.pack(">I", int.from_bytes(grown[spot : spot + 4], "big") + len(added))
    return bytes(grown)


def _move_items(data: bytearray, at: int, distance: int) -> None:
    """Add to the offsets in an item location box of version 0, whose fields have 4 bytes."""
    assert data[at] == 0
    assert data[at + 4] == 0x44
    base = data[at + 5] >> 4
    assert not base
    spot = at + 8
    for _ in range(int.from_bytes(data[at + 6 : at + 8], "big")):
        assert data[spot + 4 : spot + 6] == b"\0\1"
        offset = int.from_bytes(data[spot + 6 : spot + 10], "big")
        data[spot + 6 : spot + 10] = struct.pack(">I", offset + distance)
        spot += 14


def _pillow_heif(values: np.ndarray, mode: str) -> bytes:
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.encode(mode, (values.shape[1], values.shape[0]), values.tobytes(), file, quality=90)
    return file.getvalue()


def heic() -> bytes:
    """10 bits of PQ with alpha, a depth map, and a thumbnail."""
    colour = _pillow_heif(np.repeat(np.repeat(_pixels(3, np.uint16), 4, 0), 4, 1), "RGB;16")
    grey = _pillow_heif(np.repeat(np.repeat(_pixels(1), 4, 0), 4, 1), "L")
    thumbnail = _wrapped(grey, b"hvcC")
    thumbnail.references.append((b"thmb", [1]))
    return heif_file(
        _wrapped(colour, b"hvcC", nclx(9, 16), _PASP, *_LIGHT_BOXES),
        _auxiliary(grey, b"hvcC", _DEPTH_MAP),
        exif_item(_exif(t282=DPI, t283=DPI)),
        xmp_item(XMP),
        thumbnail,
        brand=b"heic",
    )


def jxl() -> bytes:
    """With a box of a gain map."""
    import pillow_jxl

    encoder = pillow_jxl.Encoder(mode="RGBA", lossless=True, quality=100, use_container=True, num_threads=1)
    blocks = {"exif": _exif(t282=DPI, t283=DPI), "jumb": None, "xmp": XMP, "compress": False}
    data = encoder(_pixels(4).tobytes(), WIDTH, HEIGHT, jpeg_encode=False, **blocks)
    return data + box(b"jhgm", b"\0\0\0\0")


# Others


def tga() -> bytes:
    values = _pixels(4)
    header = struct.pack("<BBBHHBHHHHBB", 13, 0, 2, 0, 0, 0, 0, 0, WIDTH, HEIGHT, 32, 8)
    data = header + b"Tga-Name-Word" + values.tobytes()
    area = bytearray(struct.pack("<H", 495).ljust(495, b"\0"))
    for at, word in ((2, b"Tga-Author"), (43, b"Plain-Comment"), (379, b"Tga-Job"), (426, b"Tga-Software")):
        area[at : at + len(word)] = word
    area[367:379] = struct.pack("<6H", 1, 2, 2026, 3, 4, 5)
    area[474:478] = struct.pack("<HH", 2, 1)
    area[478:482] = struct.pack("<HH", 18, 10)
    area[494] = 3
    return data + bytes(area) + struct.pack("<II", len(data), 0) + b"TRUEVISION-XFILE.\0"


def ppm() -> bytes:
    values = _pixels(3, np.uint16)
    return b"P6\n# Plain-Comment\n%d %d\n65535\n" % (WIDTH, HEIGHT) + values.astype(">u2").tobytes()


def pfm() -> bytes:
    return b"Pf\n%d %d\n-1.0\n" % (WIDTH, HEIGHT) + (_pixels(1, np.float32) * 7).astype("<f4").tobytes()


def jp2() -> bytes:
    data = _saved(Image.fromarray(_pixels()), "JPEG2000")
    at = data.index(b"jp2h") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    header = data[at + 8 : at + size]
    start = header.index(b"colr") - 4
    header = header[:start] + header[start + int.from_bytes(header[start : start + 4], "big") :]
    header += box(b"colr", b"\2\0\0" + PROFILE)
    resolution = struct.pack(">4H2b", round(DPI / 0.0254), 1, round(DPI / 0.0254), 1, 0, 0)
    header += box(b"res ", box(b"resc", resolution))
    boxes = (
        (b"uuid", bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC") + XMP),
        (b"uuid", bytes.fromhex("33C7A4D2B81D4723A0BAF1A3E097AD38") + IPTC),
        (b"uuid", b"JpgTiffExif->JP2" + _exif()),
        (b"uuid", bytes.fromhex("B14BF8BD083D4B43A5AE8CD7D5A6CE03") + b"II*\0"),
        (b"xml ", b"<gml>Jp2-Xml</gml>"),
    )
    return data[:at] + box(b"jp2h", header) + b"".join(box(*part) for part in boxes) + data[at + size :]


def ico() -> bytes:
    images = [_png(_pixels(4)), _png(_pixels(4)[:16, :16])]
    at, head = 6 + 16 * len(images), struct.pack("<HHH", 0, 1, len(images))
    for image in images:
        head += struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(image), at)
        at += len(image)
    return head + b"".join(images)


CARRIERS: Mapping[str, Callable[[], bytes]] = {
    maker.__name__: maker
    for maker in (
        *(png, png_unusual, png_hdr, png_gamma, png_palette, png_grey, png_plain, apng),
        *(jpeg, jpeg_with_maps, jpeg_grey, jpeg_cmyk, jpeg_plain),
        *(tiff, tiff_premultiplied, tiff_of_numbers, tiff_cmyk, tiff_ome, tiff_imagej, tiff_pages),
        *(webp, webp_animation, gif, gif_animation, bmp, bmp_calibrated, avif, avif_profile, avif_hdr, avif_animation),
        *(heic, jxl, tga, ppm, pfm, jp2, ico),
    )
}
