"""Tell formats by the first bytes of a file, before the reader of one is imported."""

from __future__ import annotations

import re

from gsrcli.images.content import Content

__all__ = [
    "JP2",
    "JPEG2000_CODESTREAM",
    "JXL",
    "PNG",
    "RAW_MAGIC",
    "TIFF",
    "begins_like_avif",
    "begins_like_heif",
    "begins_like_ico",
    "begins_like_pnm",
]

PNG = b"\x89PNG\r\n\x1a\n"
JP2, JPEG2000_CODESTREAM = b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"
JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")

RAW_MAGIC = {b"IIRO": "ORF", b"IIRS": "ORF", b"MMOR": "ORF", b"IIU\0": "RW2"}
"""First bytes of camera raw files that are no TIFF files but nearly, and the names of their formats."""

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", *RAW_MAGIC)

_AVIF = (b"avif", b"avis")
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_HEIF = (*_HEIC, b"mif1", b"msf1", b"mif2", b"mif3")
_PNM = re.compile(rb"P[1-6Ff](?:\s|#)|P7\s(?!332\s)")  # that is a thumbnail of XV
_ICO_LIST, _ICO_ENTRY = 6, 16  # bytes: where the list of pictures starts, and of each entry in it


def _brands(data: Content) -> list[bytes]:
    """Return the brands of an ISO base media file, the major one first."""
    if data[4:8] != b"ftyp":
        return []
    stop = min(int.from_bytes(data[:4], "big"), len(data), 512)
    return [data[8:12], *(data[at : at + 4] for at in range(16, stop, 4))]


def begins_like_avif(data: Content) -> bool:
    """Return whether AVIF is among the brands of a file, and HEIC is not the first."""
    brands = _brands(data)
    return bool(brands) and brands[0] not in _HEIC and any(brand in _AVIF for brand in brands)


def begins_like_heif(data: Content) -> bool:
    """Return whether HEIF is among the brands of a file."""
    return any(brand in _HEIF for brand in _brands(data))


def begins_like_pnm(data: Content) -> bool:
    """Return whether a file begins like one of the formats of Netpbm."""
    return _PNM.match(data[:16]) is not None


def begins_like_ico(data: Content) -> bool:
    """Return whether a file begins like an icon or a cursor, with at least one picture behind the list of them."""
    if len(data) < _ICO_LIST + _ICO_ENTRY or data[:3] not in (b"\0\0\1", b"\0\0\2") or data[3:4] != b"\0":
        return False
    count, reserved, at = (int.from_bytes(data[start:stop], "little") for start, stop in ((4, 6), (9, 10), (18, 22)))
    return count > 0 and reserved == 0 and at >= _ICO_LIST + _ICO_ENTRY * count
