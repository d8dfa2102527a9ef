"""Edit XMP: reset the orientation and update the size."""

from __future__ import annotations

import re

from gsrcli.size import Size

__all__ = ["xmp_orientation", "xmp_resized", "xmp_upright"]

_XMP_ORIENTATION = re.compile(rb'(tiff:Orientation(?:="|>))([1-8])')  # as in Pillow, which turns TIFF files by it
_XMP_WIDTH = re.compile(rb"((?:exif:PixelXDimension|tiff:ImageWidth)(?:\s*=\s*[\"']|>)\s*)\d+")
_XMP_HEIGHT = re.compile(rb"((?:exif:PixelYDimension|tiff:ImageLength)(?:\s*=\s*[\"']|>)\s*)\d+")


def xmp_orientation(packet: bytes) -> int | None:
    """Return the orientation in an XMP packet, 1 to 8, or None."""
    match = _XMP_ORIENTATION.search(packet)
    return int(match[2]) if match else None


def xmp_upright(packet: bytes) -> bytes:
    """Return an XMP packet with orientation 1."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1", packet)


def xmp_resized(packet: bytes, size: Size) -> bytes:
    """Return an XMP packet with its picture size, if it has one, changed."""
    packet = _XMP_WIDTH.sub(rb"\g<1>%d" % size.width, packet)
    return _XMP_HEIGHT.sub(rb"\g<1>%d" % size.height, packet)
