"""Encode GIF files, still and animated: every frame with its own palette of 256 colours."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gsrcli.errors import PictureError
from gsrcli.images.gif import GifFrame, pack_blocks, parse_gif
from gsrcli.images.metadata import COMMENT, Metadata
from gsrcli.images.picture import Picture, to_eight_bits
from gsrcli.images.strips import Strips, in_memory
from gsrcli.images.writers.encoding import Encoding
from gsrcli.images.writers.frames import changed_box, check_size
from gsrcli.images.writers.pillow import encoded

__all__ = ["encode_gif", "encode_gif_animation"]

_OPAQUE = 128
_KEEP, _CLEAR = 1, 2
_SHORTEST = 2  # units of 10 ms; browsers slow shorter frames down
_XMP_TRAILER = b"\x01" + bytes(range(255, -1, -1)) + b"\0"


def encode_gif(file: BinaryIO, strips: Strips, encoding: Encoding) -> None:
    """Write a picture as a GIF file, with its XMP and comments.

    Colours beyond 256 are dithered. Pixels are either opaque or, below half of it, transparent.
    """
    encode_gif_animation(file, [strips], 1, encoding)


def encode_gif_animation(file: BinaryIO, frames: Iterable[Strips], loops: int, encoding: Encoding) -> None:
    """Write the frames of an animation as a GIF file, with the first one's XMP and comments.

    Opaque frames hold the rectangle that differs from the frame before; those before and after transparency all of it.

    Args:
        file: where to write.
        frames: pictures of one size with their durations; each is asked for when all but the one before it are encoded.
        loops: how often the animation is shown; 0 for ever.
        encoding: not used: the palette apart, GIF is never lossy.

    Raises:
        PictureError: there is no frame, or one has another size than the first.
    """
    first: Picture | None = None
    last: _Shown | None = None
    below: NDArray[np.uint8] | None = None  # opaque colours that the last frame is drawn over; None for transparency
    time, ended = 0.0, 0
    for number, picture in enumerate(map(in_memory, frames), 1):
        if first is None:
            first = picture
            file.write(_head(picture, loops))
        check_size(first, picture, number)
        time += 100 * (picture.duration or 0)
        delay = max(round(time) - ended, _SHORTEST) if picture.duration else 0
        ended += delay
        shown = _shown(picture, delay)
        if last is not None:
            # Only the frame itself can clear what it leaves, and the next one shows through transparency.
            clear = shown.visible is not None
            file.write(_frame(last, below, clear))
            below = None if clear or last.visible is not None else last.colours
        last = shown
    if last is None:
        raise PictureError("an animation needs at least one frame")
    file.write(_frame(last, below, clear=False) + b"\x3b")


class _Shown(NamedTuple):
    """A frame as it is to be shown: colours ``(H, W, 3)``, where they are visible, unless all are, and the delay."""

    colours: NDArray[np.uint8]
    visible: NDArray[np.bool_] | None
    delay: int


def _shown(picture: Picture, delay: int) -> _Shown:
    colours = np.broadcast_to(to_eight_bits(picture.pixels), (*picture.size, 3))
    visible = None if picture.alpha is None else to_eight_bits(picture.alpha) >= _OPAQUE
    return _Shown(colours, None if visible is None or visible.all() else visible, delay)


def _head(picture: Picture, loops: int) -> bytes:
    """Return header, canvas, loops, comments and XMP."""
    height, width = picture.size
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x70, 0, 0)
    if loops != 1:
        head += _application(b"NETSCAPE2.0") + b"\x03\x01" + struct.pack("<H", min(max(loops - 1, 0), 65535)) + b"\0"
    return head + _described(picture.metadata)


def _described(metadata: Metadata) -> bytes:
    comments = (text.text.encode() for text in metadata.texts if text.keyword == COMMENT)
    described = b"".join(b"\x21\xfe" + pack_blocks(comment) for comment in comments)
    if metadata.xmp:
        described += _application(b"XMP DataXMP") + metadata.xmp + _XMP_TRAILER
    return described


def _application(name: bytes) -> bytes:
    return b"\x21\xff\x0b" + name


def _frame(frame: _Shown, below: NDArray[np.uint8] | None, clear: bool) -> bytes:
    """Return a frame with its own palette.

    Args:
        frame: what is to be shown.
        below: opaque colours of the same size that it is drawn over, or None for a transparent canvas.
        clear: whether it leaves a transparent canvas.
    """
    height, width = frame.colours.shape[:2]
    rows, columns = slice(0, height), slice(0, width)
    if below is not None and frame.visible is None and not clear:
        rows, columns = changed_box(below, frame.colours)
    visible = frame.visible
    if clear and visible is None:  # some programs clear to transparency only where the frame might have any
        visible = np.ones((height, width), np.bool_)
    packed = _compressed(frame.colours[rows, columns], visible)
    flags = (_CLEAR if clear else _KEEP) << 2 | (packed.transparent is not None)
    control = b"\x21\xf9\x04" + struct.pack("<BHB", flags, min(frame.delay, 65535), packed.transparent or 0) + b"\0"
    bits = (len(packed.palette) // 3).bit_length() - 1
    flags = 0x80 | bits - 1 | 0x40 * packed.interlaced
    place = struct.pack("<HHHHB", columns.start, rows.start, packed.size.width, packed.size.height, flags)
    return control + b"\x2c" + place + packed.palette + packed.pixels


def _compressed(colours: NDArray[np.uint8], visible: NDArray[np.bool_] | None) -> GifFrame:
    """Return a frame as Pillow compresses it."""
    image, free = _paletted(colours, visible)
    options = {} if free is None else {"transparency": free}
    return parse_gif(encoded(image, "GIF", optimize=False, interlace=0, **options)).frames[0]


def _paletted(colours: NDArray[np.uint8], visible: NDArray[np.bool_] | None) -> tuple[Image.Image, int | None]:
    """Return colours as a Pillow image with a palette, and the index of its transparent pixels, if it may have any."""
    most = 256 if visible is None else 255
    seen = colours.reshape(1, -1, 3)
    if visible is not None:
        seen = colours[visible][None] if visible.any() else np.zeros((1, 1, 3), np.uint8)
        colours = np.where(visible[..., None], colours, seen[0, 0])  # those of hidden pixels take no place
    image = Image.fromarray(np.ascontiguousarray(seen))
    if image.getcolors(most) is not None:
        indices, table = _exact(colours)
    else:
        palette = image.quantize(most, Image.Quantize.MEDIANCUT)
        dithered = Image.fromarray(np.ascontiguousarray(colours)).quantize(palette=palette)
        indices, table = np.asarray(dithered), dithered.getpalette() or []
    if visible is not None:
        indices = np.where(visible, indices, most).astype(np.uint8)
    result = Image.fromarray(indices)
    result.putpalette((table[: 3 * most] + [0] * 768)[:768] if visible is not None else table)
    return result, None if visible is None else most


def _exact(colours: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], list[int]]:
    """Return indices of few colours, and the palette."""
    packed = colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    found, inverse = np.unique(packed, return_inverse=True)
    table = [int(colour) >> shift & 255 for colour in found for shift in (16, 8, 0)]
    return inverse.reshape(packed.shape).astype(np.uint8), table
