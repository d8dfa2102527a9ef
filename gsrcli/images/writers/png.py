"""Encode PNG files: 8 and 16 bits, on all cores, with metadata.

Pillow does not support 16-bit colour, and OpenCV does not support metadata; both use one core, and compression takes
most of the time of saving. A deflate stream can be split at a flush, so blocks of rows are compressed separately and
concatenated. The bytes do not depend on the number of threads.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from gsrcli.images.picture import Picture
from gsrcli.images.writers.blocks import DEFLATE_LEVEL, interleaved, map_blocks
from gsrcli.images.writers.encoding import Encoding

__all__ = ["encode_png"]

_COLOUR_TYPES = {(1, False): 0, (3, False): 2, (1, True): 4, (3, True): 6}  # by channels and alpha
_AVERAGE = 3
_ADLER = 65521


def encode_png(picture: Picture, encoding: Encoding) -> bytes:
    """Encode a picture as a PNG file, with its profile, EXIF, XMP and dpi."""
    del encoding  # PNG is never lossy
    height, width = picture.size
    colour_type = _COLOUR_TYPES[picture.channels, picture.alpha is not None]
    header = struct.pack(">IIBBBBB", width, height, picture.bits, colour_type, 0, 0, 0)

    def compress(start: int, stop: int) -> tuple[bytes, int, int]:
        rows = _filtered(picture, start, stop)
        stream = zlib.compressobj(DEFLATE_LEVEL, zlib.DEFLATED, -15, 9)
        flush = zlib.Z_FINISH if stop == height else zlib.Z_SYNC_FLUSH
        deflated = stream.compress(rows.data) + stream.flush(flush)
        return _chunk(b"IDAT", deflated), zlib.adler32(rows.data), rows.size

    parts = [b"\x89PNG\r\n\x1a\n", _chunk(b"IHDR", header), *_metadata_chunks(picture)]
    parts.append(_chunk(b"IDAT", b"\x78\x01"))  # header of the zlib stream; its blocks and checksum follow
    checksum = 1
    for chunk, block_checksum, size in map_blocks(compress, picture):
        parts.append(chunk)
        checksum = _joined_adler32(checksum, block_checksum, size)
    parts += [_chunk(b"IDAT", struct.pack(">I", checksum)), _chunk(b"IEND", b"")]
    return b"".join(parts)


def _filtered(picture: Picture, start: int, stop: int) -> NDArray[np.uint8]:
    """Return rows [start, stop) after PNG's Average filter: each byte minus the mean of those to its left and above.

    Of PNG's four filters this gives the smallest files for enlarged pictures, whose neighbouring pixels are similar.
    """
    above = max(start - 1, 0)
    rows = interleaved(picture, above, stop).astype(f">u{picture.bits // 8}", copy=False)
    step = rows.shape[2] * picture.bits // 8  # bytes from a sample to its left neighbour
    values = np.ascontiguousarray(rows).view(np.uint8).reshape(stop - above, -1)
    if above == start:  # the row above the first is 0
        values = np.concatenate([np.zeros_like(values[:1]), values])
    left, up = np.zeros_like(values[1:]), values[:-1]
    left[:, step:] = values[1:, :-step]
    filtered = np.empty((stop - start, 1 + values.shape[1]), np.uint8)
    filtered[:, 0] = _AVERAGE
    filtered[:, 1:] = values[1:] - ((left & up) + ((left ^ up) >> 1))  # the mean, without a ninth bit
    return filtered


def _joined_adler32(first: int, second: int, second_size: int) -> int:
    """Combine the Adler-32 checksums of two blocks of bytes into that of both."""
    a = ((first & 0xFFFF) + (second & 0xFFFF) - 1) % _ADLER
    b = ((first >> 16) + (second >> 16) + second_size * ((first & 0xFFFF) - 1)) % _ADLER
    return b << 16 | a


def _metadata_chunks(picture: Picture) -> list[bytes]:
    chunks = []
    if picture.colour.icc:
        chunks.append(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(picture.colour.icc)))
    if picture.metadata.dpi:
        per_metre = (round(dpi / 0.0254) for dpi in picture.metadata.dpi)
        chunks.append(_chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if picture.metadata.exif:
        chunks.append(_chunk(b"eXIf", picture.metadata.exif))
    if picture.metadata.xmp:
        chunks.append(_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + picture.metadata.xmp))
    return chunks


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))
