"""Write what a PNG file says about its picture: its ancillary chunks (https://www.w3.org/TR/png-3/)."""

from __future__ import annotations

import re
import struct
import zlib
from fractions import Fraction

from gsrcli.images.colour import Colour
from gsrcli.images.description import Description
from gsrcli.images.iptc import iptc_resources
from gsrcli.images.metadata import METRES_PER_INCH, MODIFIED, Metadata, Text

__all__ = ["ancillary_chunks", "png_chunk"]

_COMPRESSED = range(1024, 1 << 20)
"""The lengths of texts that are compressed. Pillow refuses to read a file with a compressed text that is longer."""
_HEX_LINE = 72
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)Z")


def png_chunk(name: bytes, body: bytes) -> bytes:
    """Return a chunk: length, name, body and checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))


def ancillary_chunks(picture: Description) -> list[bytes]:
    """Return the chunks with the colour tags and metadata of a picture, all of which precede the pixels."""
    return [png_chunk(name, body) for name, body in (*_colour(picture.colour), *_metadata(picture.metadata))]


def _colour(colour: Colour) -> list[tuple[bytes, bytes]]:
    chunks = []
    if colour.cicp:
        primaries, transfer, full_range = colour.cicp
        chunks.append((b"cICP", struct.pack(">4B", primaries, transfer, 0, full_range)))
    if colour.mastering:
        chunks.append((b"mDCV", colour.mastering))
    if colour.light:
        chunks.append((b"cLLI", struct.pack(">II", *colour.light)))
    if colour.icc:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(colour.icc)))
    elif colour.intent is not None:  # a file has a profile or this
        chunks.append((b"sRGB", struct.pack(">B", colour.intent)))
    if colour.gamma:
        chunks.append((b"gAMA", struct.pack(">I", round(colour.gamma * 100_000))))
    if colour.chromaticities:
        values = (round(value * 100_000) for point in colour.chromaticities for value in point)
        chunks.append((b"cHRM", struct.pack(">8i", *values)))
    return chunks


def _metadata(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    chunks = []
    if metadata.dpi:
        per_metre = (max(1, round(dpi / METRES_PER_INCH)) for dpi in metadata.dpi)
        chunks.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    elif metadata.aspect:
        ratio = Fraction(metadata.aspect).limit_denominator(10_000)
        chunks.append((b"pHYs", struct.pack(">IIB", ratio.denominator, max(1, ratio.numerator), 0)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp))
    if metadata.iptc:
        chunks.append(_text(_iptc(metadata.iptc)))
    return chunks + [_text(text) for text in metadata.texts]


def _text(text: Text) -> tuple[bytes, bytes]:
    """Return the name and body of the chunk for a text: the simplest that holds it."""
    if text.keyword == MODIFIED and (match := _TIME.fullmatch(text.text)):
        return b"tIME", struct.pack(">H5B", *map(int, match.groups()))
    keyword, written = text.keyword.encode("latin-1", "replace"), text.text.replace("\0", "\N{SYMBOL FOR NULL}")
    latin = None if text.language or text.translated else _latin_1(written)
    content = written.encode() if latin is None else latin
    long = len(content) in _COMPRESSED
    content = zlib.compress(content) if long else content
    if latin is not None:
        return (b"zTXt", keyword + b"\0\0" + content) if long else (b"tEXt", keyword + b"\0" + content)
    fields = (bytes([long, 0]) + text.language.encode(), text.translated.encode(), content)
    return b"iTXt", b"\0".join([keyword, *fields])


def _latin_1(text: str) -> bytes | None:
    """Return a text in Latin-1, or None if it has other characters."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return None


def _iptc(datasets: bytes) -> Text:
    """Return a text with IPTC datasets as ExifTool and ImageMagick read them.

    They are wrapped as a resource of Photoshop, and written as lines of hexadecimal digits.
    """
    resource = iptc_resources(datasets)
    digits = resource.hex()
    lines = [digits[at : at + _HEX_LINE] for at in range(0, len(digits), _HEX_LINE)]
    return Text("Raw profile type iptc", "\n".join(["", "IPTC profile", f"{len(resource):8}", *lines, ""]))
