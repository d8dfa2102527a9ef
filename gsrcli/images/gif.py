"""Take GIF files apart into frames and extensions, and put them together (GIF89a specification)."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from gsrcli.size import Size

__all__ = ["Gif", "GifFrame", "pack_blocks", "parse_gif"]

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_KIND = re.compile(b"[%c%c%c]" % (_EXTENSION, _IMAGE, _TRAILER))
_PLAIN_TEXT, _GRAPHIC_CONTROL, _COMMENT, _APPLICATION = 0x01, 0xF9, 0xFE, 0xFF
_HEADER, _PLACE = 13, 9  # bytes of the header with the canvas, and of the place of a frame
_NO_CONTROL = (0, 0, None)
_MOST_OTHERS = 4
_LOOPS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_XMP, _PROFILE = b"XMP DataXMP", b"ICCRGBG1012"
_XMP_TRAILER = 258  # bytes by which readers of blocks find the end

_Control: TypeAlias = tuple[int, int, int | None]


class GifFrame(NamedTuple):
    """A frame as stored.

    Attributes:
        left: first column on the canvas.
        top: first row.
        size: size of the frame.
        interlaced: whether rows are in interlaced order.
        palette: red, green and blue of each index; empty if the file has none.
        pixels: code size and blocks of the compressed indices.
        delay: duration in units of 10 ms.
        disposal: what follows the frame: 2 its area is cleared, 3 what was there before returns.
        transparent: index of transparent pixels, or None.
    """

    left: int
    top: int
    size: Size
    interlaced: bool
    palette: bytes
    pixels: bytes
    delay: int = 0
    disposal: int = 0
    transparent: int | None = None


@dataclass
class Gif:
    """A GIF file.

    Attributes:
        size: size of the canvas.
        aspect: width of a pixel divided by its height, or None.
        frames: the whole frames; a first one that is cut, as far as it goes.
        loops: how often the animation is repeated, 0 for ever; None if it is shown once.
        comments: comments.
        xmp: XMP packet, or None.
        icc: colour profile, or None.
        others: names of the other extensions.
        cut: whether the file ends early.
        end: offset after its end.
    """

    size: Size
    aspect: float | None = None
    frames: list[GifFrame] = field(default_factory=list)
    loops: int | None = None
    comments: list[bytes] = field(default_factory=list)
    xmp: bytes | None = None
    icc: bytes | None = None
    others: dict[str, None] = field(default_factory=dict)
    cut: bool = True
    end: int = 0


def parse_gif(data: bytes) -> Gif:
    """Take a GIF file apart.

    Raises:
        ValueError: it is cut short before its first frame.
    """
    if len(data) < _HEADER:
        raise ValueError("no header")
    width, height, flags, _, aspect = struct.unpack_from("<HHBBB", data, 6)
    gif = Gif(Size(height, width), (aspect + 15) / 64 if aspect not in (0, 49) else None, end=len(data))
    first = _HEADER + _palette_bytes(flags)
    palette = data[_HEADER:first]
    control: _Control = _NO_CONTROL
    for kind, start, end in _parts(data, first):
        whole = end <= len(data)
        if kind == _TRAILER:
            gif.cut, gif.end = False, end
        elif kind == _EXTENSION and whole and data[start] == _GRAPHIC_CONTROL:
            control = _parse_control(data[start + 1 : end])
        elif kind == _EXTENSION and whole:
            _parse_extension(gif, data[start], data[start + 1 : end])
        elif kind == _IMAGE and (whole or not gif.frames):  # of the first, what there is
            gif.frames.append(_parse_frame(data, start, end, palette, control))
            control = _NO_CONTROL
    if not gif.frames:
        raise ValueError("no frame")
    return gif


def _parts(data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """Yield the kind of each extension and image and of the trailer, and where what follows the kind starts and ends.

    What is cut ends past the end. Anything else is junk, which all readers skip.
    """
    while mark := _KIND.search(data, at):
        kind, start = mark[0][0], mark.end()
        if kind == _IMAGE and start + _PLACE >= len(data):
            return
        at = _end_of_part(data, kind, start)
        yield kind, start, at
        if kind == _TRAILER:
            return


def _end_of_part(data: bytes, kind: int, start: int) -> int:
    if kind == _EXTENSION:
        return _end_of_blocks(data, start + 1)  # after its label
    if kind == _IMAGE:
        return _end_of_blocks(data, _pixels_at(data, start) + 1)  # after the size of its codes
    return start


def _palette_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _pixels_at(data: bytes, at: int) -> int:
    """Return where the pixels of an image start, after its place and its palette."""
    return at + _PLACE + _palette_bytes(data[at + _PLACE - 1])


def _end_of_blocks(data: bytes, at: int) -> int:
    """Return the offset after a chain of blocks; past the end if it is cut."""
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1


def _blocks(chain: bytes) -> Iterator[bytes]:
    """Yield the bodies of a chain of blocks, which may be cut."""
    at = 0
    while at < len(chain) and chain[at]:
        yield chain[at + 1 : at + 1 + chain[at]]
        at += 1 + chain[at]


def _parse_control(chain: bytes) -> _Control:
    """Return delay, disposal and transparent index."""
    body = next(_blocks(chain), b"")
    if len(body) < 4:
        return _NO_CONTROL
    flags, delay, index = struct.unpack_from("<BHB", body)
    return delay, flags >> 2 & 7, index if flags & 1 else None


def _parse_extension(gif: Gif, label: int, chain: bytes) -> None:
    if label == _COMMENT:
        gif.comments.append(b"".join(_blocks(chain)))
    elif label == _APPLICATION:
        name = next(_blocks(chain), b"")
        if name == _XMP:  # the packet itself is not in blocks
            gif.xmp = chain[12:-_XMP_TRAILER]
        elif name == _PROFILE:
            gif.icc = b"".join(list(_blocks(chain))[1:])
        elif name in _LOOPS:
            for body in _blocks(chain):
                if len(body) == 3 and body[0] == 1:
                    gif.loops = int.from_bytes(body[1:], "little")
        elif len(gif.others) < _MOST_OTHERS:
            readable = name.isascii() and name.decode("latin-1").isprintable()
            gif.others[f"application extension ({name.decode()})" if readable else "application extension"] = None
    elif label == _PLAIN_TEXT:
        gif.others["plain text"] = None


def _parse_frame(data: bytes, at: int, end: int, palette: bytes, control: _Control) -> GifFrame:
    """Return the frame between two offsets, given the palette of the file; what there is of one that is cut."""
    left, top, width, height, flags = struct.unpack_from("<HHHHB", data, at)
    pixels_at = _pixels_at(data, at)
    own = data[at + _PLACE : pixels_at]
    pixels = data[pixels_at:end]
    if end > len(data):
        pixels = pixels[:1] + pack_blocks(b"".join(_blocks(pixels[1:])))
    return GifFrame(left, top, Size(height, width), bool(flags & 0x40), own or palette, pixels, *control)


def pack_blocks(body: bytes) -> bytes:
    """Return bytes as a chain of blocks."""
    parts = (body[at : at + 255] for at in range(0, len(body), 255))
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"
