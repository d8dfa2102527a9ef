"""Encode BMP files."""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np

from gsrcli.images.metadata import METRES_PER_INCH
from gsrcli.images.picture import to_eight_bits
from gsrcli.images.strips import Strip, Strips, of_rows
from gsrcli.images.writers.blocks import rows_per_block
from gsrcli.images.writers.encoding import Encoding

__all__ = ["encode_bmp"]

_FILE_HEADER, _OLDEST, _V5 = 14, 40, 124  # sizes of headers
_RGB, _BITFIELDS = 0, 3
_SRGB, _EMBEDDED = 0x73524742, 0x4D424544
_RELATIVE_COLORIMETRIC = 4


def encode_bmp(file: BinaryIO, strips: Strips, encoding: Encoding) -> None:
    """Write a picture as an uncompressed BMP file, with its profile and dpi.

    The header is the oldest one that all programs read, but version 5 where there is alpha or a profile. Grey has a
    palette, except with alpha.
    """
    (height, width), alpha, icc = strips.size, strips.raster.alpha, strips.colour.icc
    bits = 32 if alpha else 8 * strips.channels
    pixels_size = height * _line_bytes(width, bits)
    header_size = _V5 if icc or alpha else _OLDEST
    palette = np.arange(256, dtype="<u4") * 0x010101 if bits == 8 else np.empty(0, "<u4")
    pixels_at = _FILE_HEADER + header_size + palette.nbytes
    per_metre = (round(dpi / METRES_PER_INCH) for dpi in strips.metadata.dpi or (0, 0))
    header = struct.pack(
        "<IiiHHII", header_size, width, height, 1, bits, _BITFIELDS if bits == 32 else _RGB, pixels_size
    )
    header += struct.pack("<iiII", *per_metre, len(palette), 0)
    if header_size == _V5:
        masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000) if bits == 32 else (0, 0, 0, 0)
        profile_at = header_size + palette.nbytes + pixels_size  # from the start of this header
        header += struct.pack("<5I48x", *masks, _EMBEDDED if icc else _SRGB)
        header += struct.pack("<4I", _RELATIVE_COLORIMETRIC, profile_at if icc else 0, len(icc or b""), 0)
    total = pixels_at + pixels_size + len(icc or b"")
    start = struct.pack("<2sIHHI", b"BM", total, 0, 0, pixels_at)
    file.write(b"".join((start, header, palette.tobytes())))
    at = pixels_at + pixels_size
    for rows in of_rows(strips, rows_per_block(strips.raster)):  # from the end of the file towards its start
        lines = _lines(rows)
        at -= len(lines)
        file.seek(at)
        file.write(lines)
    file.seek(pixels_at + pixels_size)
    file.write(icc or b"")


def _line_bytes(width: int, bits: int) -> int:
    """Return how many bytes a row takes: a multiple of 4."""
    return (width * bits + 31) // 32 * 4


def _lines(rows: Strip) -> bytes:
    """Return rows in 8 bits, the last one first: grey, or blue, green, red and alpha."""
    pixels = to_eight_bits(rows.pixels)
    if rows.alpha is not None:
        colours = np.broadcast_to(pixels, (*pixels.shape[:2], 3))[..., ::-1]
        pixels = np.dstack((colours, to_eight_bits(rows.alpha)))
    elif pixels.shape[2] == 3:
        pixels = pixels[..., ::-1]
    count, width, channels = pixels.shape
    lines = np.zeros((count, _line_bytes(width, 8 * channels)), np.uint8)
    lines[:, : width * channels] = pixels[::-1].reshape(count, -1)
    return lines.tobytes()
