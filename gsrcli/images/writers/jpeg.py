"""Encode JPEG files.

Bands of rows are encoded by themselves, with the same tables, and joined by restart markers, at which decoders begin
anew: that takes a few bytes for each band, and changes no pixel.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from typing import BinaryIO

from gsrcli.images.description import Description
from gsrcli.images.iptc import iptc_resources
from gsrcli.images.metadata import CENTIMETRES_PER_INCH, COMMENT, Metadata
from gsrcli.images.picture import Picture
from gsrcli.images.strips import Strip, Strips, of_rows
from gsrcli.images.writers.blocks import in_threads, rows_per_block
from gsrcli.images.writers.encoding import Encoding
from gsrcli.images.writers.pillow import encoded, pillow_image
from gsrcli.images.xmp import split_xmp, xmp_digest

__all__ = ["encode_jpeg"]

_SEGMENT = 65533  # bytes
_MOST_PARTS = 255  # of a profile
_APP0, _APP1, _APP2, _APP13, _COM = 0xE0, 0xE1, 0xE2, 0xED, 0xFE
_MOST_XMP = 65502  # XMP specification, part 3, 1.1.3
_MOST_DENSITY = 65535
_SOF0, _RST0, _EOI, _SOS, _DRI = 0xC0, 0xD0, 0xD9, 0xDA, 0xDD
_BLOCK = 8  # rows and columns; of all channels, because colour has its full resolution
_MOST_BLOCKS = 65535  # between two restart markers


def encode_jpeg(file: BinaryIO, strips: Strips, encoding: Encoding) -> None:
    """Write a picture as a JPEG file, with colour at full resolution, its profile, EXIF, XMP, IPTC and comments.

    The quality is that which is asked for, otherwise 95, or that of the JPEG file which the picture is from if higher.

    Raises:
        ValueError: the profile or EXIF is too long; `gsrcli.images.fit` prevents that.
    """
    height, width = strips.size
    quality = encoding.quality or max(encoding.quality_in("JPEG"), _quality_before(strips))
    across = -(-width // _BLOCK)
    down = max(1, min(_MOST_BLOCKS // across, rows_per_block(strips.raster) // _BLOCK))
    encode = partial(_encoded, quality=quality)
    for number, stream in enumerate(in_threads(encode, of_rows(strips, down * _BLOCK))):
        (_, *tables, scan), at = _head(stream)  # without Pillow's own JFIF segment
        if number == 0:
            file.write(b"".join((stream[:2], *_segments(strips.metadata, strips.colour.icc))))
            file.writelines(_of_height(segment, height) for segment in tables)
            file.write(_segment(_DRI, struct.pack(">H", across * down)) if down * _BLOCK < height else b"")
            file.write(scan)
        else:
            file.write(bytes((0xFF, _RST0 + (number - 1) % 8)))
        file.write(memoryview(stream)[at:-2])
    file.write(bytes((0xFF, _EOI)))


def _encoded(rows: Strip, quality: int) -> bytes:
    """Return rows as a JPEG file."""
    return encoded(pillow_image(Picture(rows.pixels)), "JPEG", quality=quality, subsampling="4:4:4")


def _head(stream: bytes) -> tuple[list[bytes], int]:
    """Return the segments of a file up to that which starts its scan, and where its coded pixels start."""
    segments, at = list[bytes](), 2
    while not segments or segments[-1][1] != _SOS:
        end = at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        segments.append(stream[at:end])
        at = end
    return segments, at


def _of_height(segment: bytes, height: int) -> bytes:
    """Return a segment, with another height if it is the one that says it."""
    return segment[:5] + struct.pack(">H", height) + segment[7:] if segment[1] == _SOF0 else segment


def _quality_before(picture: Description) -> int:
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
