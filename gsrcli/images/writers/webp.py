"""Encode WebP files, still and animated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from gsrcli.images.picture import Picture
from gsrcli.images.riff import chunks, pack_chunk, pack_riff, webp_header
from gsrcli.images.strips import Strips, in_memory
from gsrcli.images.writers.encoding import Encoding
from gsrcli.images.writers.frames import changed_box, check_colours, check_size
from gsrcli.images.writers.pillow import encoded, metadata_options, pillow_image, with_resolution_in_exif

__all__ = ["encode_webp", "encode_webp_animation"]

_EFFORT = 50  # of 100, for a file without loss
_PIXELS = (b"ALPH", b"VP8 ", b"VP8L")
_REPLACE = 2  # frame flag: do not blend with what is shown
_LONGEST = (1 << 24) - 1  # ms
_MOST_LOOPS = 65535


def encode_webp(file: BinaryIO, strips: Strips, encoding: Encoding) -> None:
    """Write a picture as a WebP file, with its profile, EXIF, XMP and resolution.

    It is lossless if asked for, and, unless a quality is asked for, if the picture comes from a lossless WebP file.
    """
    picture = in_memory(strips)
    options = metadata_options(with_resolution_in_exif(picture))
    file.write(encoded(pillow_image(picture), "WEBP", **_compression(picture, encoding), **options))


def encode_webp_animation(file: BinaryIO, frames: Iterable[Strips], loops: int, encoding: Encoding) -> None:
    """Write the frames of an animation as a WebP file, with the first one's profile, EXIF, XMP and resolution.

    Each frame holds the rectangle that differs from the frame before.

    Args:
        file: where to write.
        frames: pictures of one size with their durations; each is asked for when the one before it is encoded.
        loops: how often the animation is shown; 0 for ever.
        encoding: how to encode.

    Raises:
        PictureError: a frame has another size or other colour tags than the first one.
    """
    packed: list[bytes] = []
    shown = first = None
    blocks: dict[str, bytes] = {}
    transparent = False
    for picture in map(in_memory, frames):
        image = pillow_image(picture)
        values = np.asarray(image.convert("RGBA"))
        if first is None or shown is None:
            first, blocks = picture, metadata_options(with_resolution_in_exif(picture))
            area = slice(0, image.height), slice(0, image.width)
        else:
            check_size(first, picture, len(packed) + 1)
            check_colours(first, picture, len(packed) + 1)
            area = changed_box(shown, values, even=True)
        packed.append(_frame(image, area, picture, _compression(first, encoding)))
        transparent = transparent or picture.alpha is not None
        shown = values
    if first is None:
        raise ValueError("there are no frames")
    exif = blocks.get("exif", b"").removeprefix(b"Exif\0\0")
    profile, xmp = blocks.get("icc_profile"), blocks.get("xmp")
    flags = 0x02 | 0x20 * bool(profile) | 0x10 * transparent | 0x08 * bool(exif) | 0x04 * bool(xmp)
    content = pack_riff(
        b"WEBP",
        webp_header(first.size, flags),
        *([pack_chunk(b"ICCP", profile)] if profile else []),
        pack_chunk(b"ANIM", bytes(4), min(loops, _MOST_LOOPS).to_bytes(2, "little")),
        *packed,
        *([pack_chunk(b"EXIF", exif)] if exif else []),
        *([pack_chunk(b"XMP ", xmp)] if xmp else []),
    )
    file.write(content)


def _frame(image: Image.Image, area: tuple[slice, slice], picture: Picture, compression: dict[str, Any]) -> bytes:
    """Return the chunk of a frame that replaces an area."""
    rows, columns = area
    part = image.crop((columns.start, rows.start, columns.stop, rows.stop))
    pixels = [chunk for chunk in chunks(encoded(part, "WEBP", **compression)) if chunk.kind in _PIXELS]
    fields = (columns.start // 2, rows.start // 2, part.width - 1, part.height - 1)
    duration = min(round(1000 * (picture.duration or 0)), _LONGEST)
    header = b"".join(value.to_bytes(3, "little") for value in (*fields, duration)) + bytes([_REPLACE])
    return pack_chunk(b"ANMF", header, *(pack_chunk(chunk.kind, chunk.body) for chunk in pixels))


def _compression(picture: Picture, encoding: Encoding) -> dict[str, Any]:
    if encoding.without_loss(picture, "WEBP"):
        return {"lossless": True, "quality": _EFFORT, "exact": True}
    return {"quality": encoding.quality_in("WEBP"), "exact": True}  # colours of transparent pixels included
