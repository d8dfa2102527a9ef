"""Encode PNG files: 8 and 16 bits, on all cores, with metadata.

Pillow does not support 16-bit colour, and OpenCV does not support metadata; both use one core, and compression takes
most of the time of saving. A deflate stream can be split at a flush, so blocks of rows are compressed separately and
written one after the other. The bytes depend neither on the number of threads nor on the strips.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gsrcli.errors import PictureError
from gsrcli.images.description import Description
from gsrcli.images.picture import Picture
from gsrcli.images.strips import Strip, Strips, in_memory, in_strips, of_rows
from gsrcli.images.writers.blocks import DEFLATE_LEVEL, in_threads, rows_per_block
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


def encode_png(file: BinaryIO, strips: Strips, encoding: Encoding) -> None:
    """Write a picture as a PNG file, with its colour tags and metadata."""
    _begin(file, strips)
    for part in _deflated(strips):
        file.write(png_chunk(b"IDAT", part))
    file.write(png_chunk(b"IEND", b""))


def encode_png_animation(file: BinaryIO, frames: Iterable[Strips], loops: int, encoding: Encoding) -> None:
    """Write pictures as an animated PNG file, with the colour tags and metadata of the first one.

    Of every frame after the first, only the rectangle that differs from the frame before is stored.

    Args:
        file: where to write from its start on; it can be sought in.
        frames: at least one picture; all have the size, depth, channels and transparency of the first one, except that
            they may be grey or opaque where that one is not. One after the other is asked for.
        loops: how often the animation is shown; 0 for ever.
        encoding: not used: PNG is never lossy.

    Raises:
        PictureError: a frame has more channels than the first one, or another size, depth or colour tags.
    """
    first = last = None
    count = sequence = control_at = 0
    for strips in frames:
        frame = in_memory(strips)
        if first is None:
            _begin(file, frame)
            control_at = file.tell()
            file.write(_control(0, loops))
        else:
            frame = like_first(first, frame, count + 1)
            if frame.bits != first.bits:
                raise PictureError(f"frame {count + 1} of the animation has {frame.bits} bits, the first {first.bits}")
        top, left, changed = (0, 0, frame) if last is None else _changed(last, frame)
        file.write(_frame_chunk(sequence, changed, top, left, frame.duration))
        sequence += 1
        for part in _deflated(in_strips(changed)):
            if last is None:
                file.write(png_chunk(b"IDAT", part))
            else:
                file.write(png_chunk(b"fdAT", struct.pack(">I", sequence) + part))
                sequence += 1
        first, last, count = first or frame, frame, count + 1
    if first is None:
        raise PictureError("an animation needs at least one frame")
    file.write(png_chunk(b"IEND", b""))
    file.seek(control_at)
    file.write(_control(count, loops))
    file.seek(0, os.SEEK_END)


def _begin(file: BinaryIO, picture: Description) -> None:
    """Write what precedes the pixels of a file or its frames."""
    height, width = picture.size
    colour_type = _COLOUR_TYPES[picture.channels, picture.raster.alpha]
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, picture.bits, colour_type, 0, 0, 0))
    file.write(b"".join([_SIGNATURE, header, *ancillary_chunks(picture)]))


def _control(frames: int, loops: int) -> bytes:
    return png_chunk(b"acTL", struct.pack(">II", frames, loops))


class _Block(NamedTuple):
    """Rows of a picture, the one row above them, unless they are the first, and whether they are the last."""

    rows: Strip
    above: Strip | None
    last: bool


def _blocks(strips: Strips) -> Iterator[_Block]:
    above, left = None, strips.size.height
    for rows in of_rows(strips, rows_per_block(strips.raster)):
        left -= len(rows.pixels)
        yield _Block(rows, above, left == 0)
        above = rows.cut(-1, None)


def _deflated(strips: Strips) -> Iterator[bytes]:
    """Yield the compressed pixels in parts."""
    yield b"\x78\x01"  # header of the zlib stream; its blocks and checksum follow
    checksum = 1
    for deflated, block_checksum, size in in_threads(_compressed, _blocks(strips)):
        yield deflated
        checksum = _joined_adler32(checksum, block_checksum, size)
    yield struct.pack(">I", checksum)


def _compressed(block: _Block) -> tuple[bytes, int, int]:
    """Return a part of a deflate stream, and the checksum and the number of the bytes that it is of."""
    rows = _filtered(block.rows, block.above)
    stream = zlib.compressobj(DEFLATE_LEVEL, zlib.DEFLATED, -15, 9)
    flush = zlib.Z_FINISH if block.last else zlib.Z_SYNC_FLUSH
    return stream.compress(rows.data) + stream.flush(flush), zlib.adler32(rows.data), rows.size


def _filtered(rows: Strip, above: Strip | None) -> NDArray[np.uint8]:
    """Return rows after PNG's Average filter: each byte minus the mean of those to its left and above.

    Of PNG's four filters this gives the smallest files for enlarged pictures, whose neighbouring pixels are similar.
    """
    octets = _octets(rows)
    step = octets.shape[1] // rows.pixels.shape[1]  # bytes from a sample to its left neighbour
    values = np.empty((len(octets) + 1, octets.shape[1]), np.uint8)
    values[0] = 0 if above is None else _octets(above)
    values[1:] = octets
    del octets  # there are few blocks in memory at a time, but of each several copies
    up = values[:-1]
    filtered = np.zeros((len(up), 1 + up.shape[1]), np.uint8)
    filtered[:, 0] = _AVERAGE
    mean = filtered[:, 1:]
    mean[:, step:] = values[1:, :-step]
    differing = mean ^ up
    differing >>= 1
    mean &= up
    mean += differing  # without a ninth bit
    np.subtract(values[1:], mean, out=mean)
    return filtered


def _octets(rows: Strip) -> NDArray[np.uint8]:
    """Return the bytes of rows, ``(rows, bytes)``."""
    layers = rows.layers
    return np.ascontiguousarray(layers, layers.dtype.newbyteorder(">")).view(np.uint8).reshape(len(layers), -1)


def _joined_adler32(first: int, second: int, second_size: int) -> int:
    """Combine the Adler-32 checksums of two blocks of bytes into that of both."""
    a = ((first & 0xFFFF) + (second & 0xFFFF) - 1) % _ADLER
    b = ((first >> 16) + (second >> 16) + second_size * ((first & 0xFFFF) - 1)) % _ADLER
    return b << 16 | a


def _changed(last: Picture, frame: Picture) -> tuple[int, int, Picture]:
    """Return the smallest rectangle that differs from the frame before: its first row and column, and its pixels."""
    before, after = (Strip(picture.pixels, picture.alpha).layers for picture in (last, frame))
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
