"""Encode BMP files."""

from __future__ import annotations

import struct

import numpy as np

from gsrcli.images.metadata import METRES_PER_INCH
from gsrcli.images.picture import Picture, Pixels, to_eight_bits
from gsrcli.images.writers.encoding import Encoding

__all__ = ["encode_bmp"]

_FILE_HEADER, _OLDEST, _V5 = 14, 40, 124  # sizes of headers
_RGB, _BITFIELDS = 0, 3
_SRGB, _EMBEDDED = 0x73524742, 0x4D424544
_RELATIVE_COLORIMETRIC = 4


def encode_bmp(picture: Picture, encoding: Encoding) -> bytes:
    """Encode a picture as an uncompressed BMP file, with its profile and dpi.

    The header is the oldest one that all programs read, but version 5 where there is alpha or a profile. Grey has a
    palette, except with alpha.
    """
    rows = np.ascontiguousarray(_rows(picture)[::-1])  # bottom first
    height, width = picture.size
    bits = 8 * rows.shape[2]
    padding = -rows.shape[1] * rows.shape[2] % 4
    lines = np.pad(rows.reshape(height, -1), ((0, 0), (0, padding)))
    icc = picture.colour.icc
    header_size = _V5 if icc or picture.alpha is not None else _OLDEST
    palette = np.arange(256, dtype="<u4") * 0x010101 if bits == 8 else np.empty(0, "<u4")
    pixels_at = _FILE_HEADER + header_size + palette.nbytes
    per_metre = (round(dpi / METRES_PER_INCH) for dpi in picture.metadata.dpi or (0, 0))
    header = struct.pack(
        "<IiiHHII", header_size, width, height, 1, bits, _BITFIELDS if bits == 32 else _RGB, lines.size
    )
    header += struct.pack("<iiII", *per_metre, len(palette), 0)
    if header_size == _V5:
        masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000) if bits == 32 else (0, 0, 0, 0)
        profile_at = header_size + palette.nbytes + lines.size  # from the start of this header
        header += struct.pack("<5I48x", *masks, _EMBEDDED if icc else _SRGB)
        header += struct.pack("<4I", _RELATIVE_COLORIMETRIC, profile_at if icc else 0, len(icc or b""), 0)
    total = pixels_at + lines.size + len(icc or b"")
    start = struct.pack("<2sIHHI", b"BM", total, 0, 0, pixels_at)
    return b"".join((start, header, palette.tobytes(), lines.tobytes(), icc or b""))


def _rows(picture: Picture) -> Pixels:
    """Return ``(H, W, 1, 3 or 4)`` in 8 bits: grey, or blue, green, red and alpha."""
    pixels = to_eight_bits(picture.pixels)
    if picture.alpha is None:
        return pixels if picture.grey else pixels[..., ::-1]
    colours = np.broadcast_to(pixels, (*picture.size, 3))[..., ::-1]
    return np.concatenate([colours, to_eight_bits(picture.alpha)[..., None]], axis=2)
