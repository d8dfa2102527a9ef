"""Take GIF files apart into frames and extensions, and put them together (GIF89a specification)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from gsrcli.size import Size

__all__ = ["Gif", "GifFrame", "pack_blocks", "parse_gif"]

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_PLAIN_TEXT, _CONTROL, _COMMENT, _APPLICATION = 0x01, 0xF9, 0xFE, 0xFF
_MOST_OTHERS = 4
_LOOPS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_XMP, _PROFILE = b"XMP DataXMP", b"ICCRGBG1012"
_XMP_TRAILER = 258  # bytes by which readers of blocks find the end


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
    if len(data) < 13:
        raise ValueError("no header")
    width, height, flags, _, aspect = struct.unpack_from("<HHBBB", data, 6)
    gif = Gif(Size(height, width), (aspect + 15) / 64 if aspect not in (0, 49) else None)
    at = 13
    palette = data[at : at + _palette_bytes(flags)]
    at += _palette_bytes(flags)
    control: tuple[int, int, int | None] = (0, 0, None)
    while at < len(data):
        kind = data[at]
        at += 1
        if kind == _TRAILER:
            gif.cut = False
            break
        if kind == _EXTENSION and at < len(data):
            label, start = data[at], at + 1
            at = _end_of_blocks(data, start)
            if at > len(data):
                break
            if label == _CONTROL:
                control = _parse_control(data[start:at])
            else:
                _parse_extension(gif, label, data[start:at])
        elif kind == _IMAGE and at + 9 < len(data):
            at, frame = _parse_frame(data, at, palette, control)
            if at > len(data) and gif.frames:
                break
            gif.frames.append(frame)  # of the first, what there is
            control = (0, 0, None)
        elif kind in (_EXTENSION, _IMAGE):
            break
        # Anything else is junk, which all readers skip.
    gif.end = at
    if not gif.frames:
        raise ValueError("no frame")
    return gif


def _palette_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


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


def _parse_control(chain: bytes) -> tuple[int, int, int | None]:
    """Return delay, disposal and transparent index."""
    body = next(_blocks(chain), b"")
    if len(body) < 4:
        return 0, 0, None
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


def _parse_frame(data: bytes, at: int, palette: bytes, control: tuple[int, int, int | None]) -> tuple[int, GifFrame]:
    """Return the offset after a frame, past the end if it is cut, and the frame."""
    left, top, width, height, flags = struct.unpack_from("<HHHHB", data, at)
    at += 9
    if flags & 0x80:
        palette = data[at : at + _palette_bytes(flags)]
        at += _palette_bytes(flags)
    end = _end_of_blocks(data, at + 1)
    pixels = data[at:end]
    if end > len(data):
        pixels = pixels[:1] + pack_blocks(b"".join(_blocks(pixels[1:])))
    return end, GifFrame(left, top, Size(height, width), bool(flags & 0x40), palette, pixels, *control)


def pack_blocks(body: bytes) -> bytes:
    """Return bytes as a chain of blocks."""
    parts = (body[at : at + 255] for at in range(0, len(body), 255))
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"
