"""Encode TIFF files: 8 and 16 bits, compressed on all cores, with metadata.

Pillow does not support 16-bit colour, and OpenCV does not support metadata.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

from gsrcli.images.exif import Tags, exif_tags, pack_directory
from gsrcli.images.picture import Picture
from gsrcli.images.writers.blocks import DEFLATE_LEVEL, interleaved, map_blocks, rows_per_block
from gsrcli.images.writers.encoding import Encoding

__all__ = ["encode_tiff"]

_DEFLATE, _HORIZONTAL_DIFFERENCE = 8, 2
_BLACK_IS_ZERO, _RGB, _STRAIGHT_ALPHA, _INCH = 1, 2, 2, 2


def encode_tiff(picture: Picture, encoding: Encoding) -> bytes:
    """Encode a picture of less than 4 GiB as a TIFF file, with its profile, EXIF, XMP and dpi.

    The file is little-endian and has one page, in deflated strips of horizontal differences. 16-bit grey with alpha
    becomes RGB, because few programs read it otherwise.
    """
    del encoding  # these files are never lossy
    spread = picture.grey and picture.bits == 16 and picture.alpha is not None
    channels = 3 if spread else picture.channels
    samples = channels + (picture.alpha is not None)

    def compress(start: int, stop: int) -> bytes:
        rows = interleaved(picture, start, stop)
        if spread:
            rows = rows[..., [0, 0, 0, 1]]
        differences = rows.astype(f"<u{picture.bits // 8}")
        differences[:, 1:] -= rows[:, :-1]
        return zlib.compress(differences.tobytes(), DEFLATE_LEVEL)

    strips = list(map_blocks(compress, picture))
    starts, end = [], 8
    for strip in strips:
        starts.append(end)
        end += len(strip)
    end += end % 2  # directories start at even offsets
    height, width = picture.size
    tags: Tags = {
        **exif_tags(picture.metadata.exif or b""),
        256: _longs([width]),
        257: _longs([height]),
        258: _shorts([picture.bits] * samples),
        259: _shorts([_DEFLATE]),
        262: _shorts([_RGB if channels == 3 else _BLACK_IS_ZERO]),
        273: _longs(starts),
        277: _shorts([samples]),
        278: _longs([rows_per_block(picture)]),
        279: _longs([len(strip) for strip in strips]),
        317: _shorts([_HORIZONTAL_DIFFERENCE]),
    }
    if picture.alpha is not None:
        tags[338] = _shorts([_STRAIGHT_ALPHA])
    if picture.metadata.dpi:
        tags[282], tags[283] = (_rational(dpi) for dpi in picture.metadata.dpi)
        tags[296] = _shorts([_INCH])
    if picture.metadata.xmp:
        tags[700] = (1, len(picture.metadata.xmp), picture.metadata.xmp)
    if picture.colour.icc:
        tags[34675] = (7, len(picture.colour.icc), picture.colour.icc)
    body = b"".join(strips)
    return struct.pack("<2sHI", b"II", 42, end) + body + b"\0" * (len(body) % 2) + pack_directory(tags, end)


def _shorts(values: Sequence[int]) -> tuple[int, int, bytes]:
    return 3, len(values), struct.pack(f"<{len(values)}H", *values)


def _longs(values: Sequence[int]) -> tuple[int, int, bytes]:
    return 4, len(values), struct.pack(f"<{len(values)}I", *values)


def _rational(value: float) -> tuple[int, int, bytes]:
    return 5, 1, struct.pack("<II", round(value * 1000), 1000)
