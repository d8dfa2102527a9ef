"""Encode PNG files: 8 and 16 bits, on all cores, with metadata.

Pillow does not support 16-bit colour, and OpenCV does not support metadata; both use one core, and compression takes
most of the time of saving. A deflate stream can be split at a flush, so blocks of rows are compressed separately and
concatenated. The bytes do not depend on the number of threads.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from gsrcli.errors import PictureError
from gsrcli.images.picture import Picture
from gsrcli.images.writers.blocks import DEFLATE_LEVEL, interleaved, map_blocks
from gsrcli.images.writers.encoding import Encoding
from gsrcli.images.writers.frames import changed_box, like_first
from gsrcli.images.writers.png.ancillary import ancillary_chunks, png_chunk

__all__ = ["encode_png", "encode_png_animation"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DEFAULT_DURATION = 0.1
_MAX_16 = 65535
_COLOUR_TYPES = {(1, False): 0, (3, False): 2, (1, True): 4, (3, True): 6}  # by channels and alpha
_AVERAGE = 3
_ADLER = 65521


def encode_png(picture: Picture, encoding: Encoding) -> bytes:
    """Encode a picture as a PNG file, with its colour tags and metadata."""
    parts = [_SIGNATURE, _header(picture), *ancillary_chunks(picture)]
    parts += [png_chunk(b"IDAT", part) for part in _deflated(picture)]
    return b"".join([*parts, png_chunk(b"IEND", b"")])


def encode_png_animation(frames: Iterable[Picture], loops: int, encoding: Encoding) -> bytes:
    """Encode pictures as an animated PNG file, with the colour tags and metadata of the first one.

    Of every frame after the first, only the rectangle that differs from the frame before is stored.

    Args:
        frames: at least one picture; all have the size, depth, channels and transparency of the first one, except that
            they may be grey or opaque where that one is not. One after the other is asked for.
        loops: how often the animation is shown; 0 for ever.
        encoding: not used: PNG is never lossy.

    Raises:
        PictureError: a frame has more channels than the first one, or another size, depth or colour tags.
    """
    chunks: list[bytes] = []
    first = last = None
    count = sequence = 0
    for frame in frames:
        if first is not None:
            frame = like_first(first, frame, count + 1)
            if frame.bits != first.bits:
                raise PictureError(f"frame {count + 1} of the animation has {frame.bits} bits, the first {first.bits}")
        top, left, changed = (0, 0, frame) if last is None else _changed(last, frame)
        chunks.append(_frame_chunk(sequence, changed, top, left, frame.duration))
        sequence += 1
        for part in _deflated(changed):
            if last is None:
                chunks.append(png_chunk(b"IDAT", part))
            else:
                chunks.append(png_chunk(b"fdAT", struct.pack(">I", sequence) + part))
                sequence += 1
        first, last, count = first or frame, frame, count + 1
    if first is None:
        raise PictureError("an animation needs at least one frame")
    control = png_chunk(b"acTL", struct.pack(">II", count, loops))
    return b"".join([_SIGNATURE, _header(first), *ancillary_chunks(first), control, *chunks, png_chunk(b"IEND", b"")])


def _header(picture: Picture) -> bytes:
    height, width = picture.size
    colour_type = _COLOUR_TYPES[picture.channels, picture.alpha is not None]
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, picture.bits, colour_type, 0, 0, 0))


def _deflated(picture: Picture) -> Iterator[bytes]:
    """Yield the compressed pixels in parts."""
    height = picture.size.height

    def compress(start: int, stop: int) -> tuple[bytes, int, int]:
        rows = _filtered(picture, start, stop)
        stream = zlib.compressobj(DEFLATE_LEVEL, zlib.DEFLATED, -15, 9)
        flush = zlib.Z_FINISH if stop == height else zlib.Z_SYNC_FLUSH
        return stream.compress(rows.data) + stream.flush(flush), zlib.adler32(rows.data), rows.size

    yield b"\x78\x01"  # header of the zlib stream; its blocks and checksum follow
    checksum = 1
    for deflated, block_checksum, size in map_blocks(compress, picture):
        yield deflated
        checksum = _joined_adler32(checksum, block_checksum, size)
    yield struct.pack(">I", checksum)


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


def _changed(last: Picture, frame: Picture) -> tuple[int, int, Picture]:
    """Return the smallest rectangle that differs from the frame before: its first row and column, and its pixels."""
    before, after = (interleaved(picture, 0, picture.size.height) for picture in (last, frame))
    rows, columns = changed_box(before, after)
    alpha = None if frame.alpha is None else frame.alpha[rows, columns]
    return rows.start, columns.start, replace(frame, pixels=frame.pixels[rows, columns], alpha=alpha)


def _frame_chunk(sequence: int, frame: Picture, top: int, left: int, duration: float | None) -> bytes:
    """Return the chunk that announces a frame, which replaces what it covers and stays."""
    seconds = min(_DEFAULT_DURATION if duration is None else duration, _MAX_16)
    delay = Fraction(seconds).limit_denominator(int(_MAX_16 / max(seconds, 1)))
    height, width = frame.size
    body = struct.pack(">5I2H2B", sequence, width, height, left, top, delay.numerator, delay.denominator, 0, 0)
    return png_chunk(b"fcTL", body)
