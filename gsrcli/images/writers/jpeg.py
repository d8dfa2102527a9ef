"""Encode JPEG files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import BinaryIO

from gsrcli.images.iptc import iptc_resources
from gsrcli.images.metadata import CENTIMETRES_PER_INCH, COMMENT, Metadata
from gsrcli.images.picture import Picture
from gsrcli.images.strips import Strips, in_memory
from gsrcli.images.writers.encoding import Encoding
from gsrcli.images.writers.pillow import encoded, pillow_image
from gsrcli.images.xmp import split_xmp, xmp_digest

__all__ = ["encode_jpeg"]

_SEGMENT = 65533  # bytes
_MOST_PARTS = 255  # of a profile
_APP0, _APP1, _APP2, _APP13, _COM = 0xE0, 0xE1, 0xE2, 0xED, 0xFE
_MOST_XMP = 65502  # XMP specification, part 3, 1.1.3
_MOST_DENSITY = 65535


def encode_jpeg(file: BinaryIO, strips: Strips, encoding: Encoding) -> None:
    """Write a picture as a JPEG file, with colour at full resolution, its profile, EXIF, XMP, IPTC and comments.

    The quality is that which is asked for, otherwise 95, or that of the JPEG file which the picture is from if higher.

    Raises:
        ValueError: the profile or EXIF is too long; `gsrcli.images.fit` prevents that.
    """
    picture = in_memory(strips)
    image = pillow_image(replace(picture, alpha=None))
    quality = encoding.quality or max(encoding.quality_in("JPEG"), _quality_before(picture))
    stream = encoded(image, "JPEG", quality=quality, subsampling="4:4:4")
    start = 4 + int.from_bytes(stream[4:6], "big")  # past Pillow's own JFIF segment
    file.write(b"".join((stream[:2], *_segments(picture.metadata, picture.colour.icc), memoryview(stream)[start:])))


def _quality_before(picture: Picture) -> int:
    origin = picture.origin
    return (origin.quality if origin else None) or 0


def _segments(metadata: Metadata, icc: bytes | None) -> Iterator[bytes]:
    yield _segment(_APP0, b"JFIF\0\1\1" + struct.pack(">BHHBB", *_density(metadata), 0, 0))
    if metadata.exif:
        yield _segment(_APP1, b"Exif\0\0" + metadata.exif)
    if metadata.xmp:
        yield from _xmp_segments(metadata.xmp)
    if metadata.iptc:
        yield from (_segment(_APP13, part) for part in _parts(b"Photoshop 3.0\0", iptc_resources(metadata.iptc)))
    if icc:
        parts = list(_parts(b"ICC_PROFILE\0??", icc))
        if len(parts) > _MOST_PARTS:
            raise ValueError(f"a colour profile of {len(icc)} bytes is too long for JPEG")
        for number, part in enumerate(parts, 1):
            yield _segment(_APP2, b"ICC_PROFILE\0" + bytes((number, len(parts))) + part[14:])
    for text in metadata.texts:
        if text.keyword == COMMENT:
            yield from (_segment(_COM, part) for part in _parts(b"", text.text.encode()))


def _segment(marker: int, body: bytes) -> bytes:
    if len(body) > _SEGMENT:
        raise ValueError(f"{len(body)} bytes are too long for a segment of JPEG")
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _parts(name: bytes, body: bytes) -> Iterator[bytes]:
    """Divide what is longer than a segment, and put a name before each part."""
    step = _SEGMENT - len(name)
    return (name + body[at : at + step] for at in range(0, len(body), step))


def _xmp_segments(packet: bytes) -> Iterator[bytes]:
    packet, extension = split_xmp(packet, _MOST_XMP)
    yield _segment(_APP1, b"http://ns.adobe.com/xap/1.0/\0" + packet)
    if extension is not None:
        name = b"http://ns.adobe.com/xmp/extension/\0" + xmp_digest(extension).encode()
        name += struct.pack(">I", len(extension))
        step = _SEGMENT - len(name) - 4
        for at in range(0, len(extension), step):
            yield _segment(_APP1, name + struct.pack(">I", at) + extension[at : at + step])


def _density(metadata: Metadata) -> tuple[int, int, int]:
    """Return the unit of JFIF, and the pixels per unit, horizontal and vertical.

    The unit is 1 for inches or 2 for centimetres, whichever is more exact; without one, 0, only the ratio counts.
    """
    if metadata.dpi:
        x, y = metadata.dpi
        _, density = min(_rounded(1, x, y), _rounded(2, x / CENTIMETRES_PER_INCH, y / CENTIMETRES_PER_INCH))
        return density
    if metadata.aspect:
        ratio = Fraction(min(metadata.aspect, 1 / metadata.aspect)).limit_denominator(_MOST_DENSITY)
        sides = max(ratio.numerator, 1), ratio.denominator
        return 0, *(sides if metadata.aspect > 1 else sides[::-1])
    return 0, 1, 1


def _rounded(unit: int, x: float, y: float) -> tuple[float, tuple[int, int, int]]:
    """Return a density in whole numbers, after the relative error of that."""
    across, down = (min(max(round(density), 1), _MOST_DENSITY) for density in (x, y))
    return max(abs(across / x - 1), abs(down / y - 1)), (unit, across, down)
