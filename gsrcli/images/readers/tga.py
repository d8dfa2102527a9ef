"""Read TGA files (Truevision, 1991). They have no signature, so that their header must make sense."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gsrcli.errors import PictureError
from gsrcli.images.content import Content
from gsrcli.images.ledger import PIXELS, Entry, Fate
from gsrcli.images.metadata import COMMENT, Metadata, Text, sound_aspect
from gsrcli.images.picture import Origin, Picture, Pixels, levels, unmultiplied
from gsrcli.images.readers.source import CUT, DAMAGED, Limits, Source, appended, as_far_as_it_goes
from gsrcli.size import Size

__all__ = ["TgaSource", "begins_like_tga"]

_PALETTE, _COLOUR, _GREY, _RUN_LENGTHS = 1, 2, 3, 8
_HEADER = struct.Struct("<BBBHHBHHHHBB")
_DEPTHS = {_PALETTE: (8, 16), _COLOUR: (15, 16, 24, 32), _GREY: (8, 16)}
_ENTRY_DEPTHS = (15, 16, 24, 32)
_FROM_RIGHT, _FROM_TOP = 0x10, 0x20
_FOOTER = b"TRUEVISION-XFILE.\0"
_EXTENSION = 495  # bytes
_PREMULTIPLIED, _ALPHA_KINDS = 4, (3, 4)
_LONGEST_RUN = 128  # pixels

Bytes = NDArray[np.uint8]


class _Header(NamedTuple):
    name_bytes: int
    has_palette: int
    kind: int
    palette_start: int
    palette_count: int
    palette_depth: int
    left: int
    top: int
    width: int
    height: int
    depth: int
    flags: int

    @property
    def coding(self) -> int:
        return self.kind & ~_RUN_LENGTHS

    @property
    def alpha_bits(self) -> int:
        return self.flags & 15

    @property
    def pixel_bytes(self) -> int:
        return (self.depth + 7) // 8

    @property
    def palette_bytes(self) -> int:
        return self.palette_count * ((self.palette_depth + 7) // 8)

    @property
    def sound(self) -> bool:
        """Whether the fields are those of a picture."""
        palette = self.has_palette == 1 and self.palette_depth in _ENTRY_DEPTHS and self.palette_count > 0
        none = self.has_palette == 0 and not self.palette_count
        return (
            self.coding in _DEPTHS
            and self.kind < 12
            and self.depth in _DEPTHS[self.coding]
            and (palette if self.coding == _PALETTE else palette or none)
            and self.width > 0
            and self.height > 0
            and self.flags < 64
            and self.alpha_bits in (0, 1, 8)
        )


def begins_like_tga(data: Content) -> bool:
    """Return whether a file begins with a header that makes sense, or ends with the signature of the second version."""
    if len(data) < _HEADER.size:
        return False
    return _Header(*_HEADER.unpack(data[: _HEADER.size])).sound or data.endswith(_FOOTER)


class TgaSource(Source):
    """A TGA file."""

    format = "TGA"

    def __init__(self, data: bytes, limits: Limits) -> None:
        self._data, self._header = data, _Header(*_HEADER.unpack_from(data))
        if not self._header.sound:
            raise PictureError(DAMAGED)
        self.size = Size(self._header.height, self._header.width)
        limits.check(self.size)

    def picture(self, index: int = 0) -> Picture:
        header = self._header
        palette_at = _HEADER.size + header.name_bytes
        pixels_at = palette_at + header.palette_bytes
        values, whole, end = self._stored(pixels_at)
        entries = [] if whole else [CUT]
        file, rest = _parted(self._data, end)
        extension = _extension(file)
        if header.coding == _PALETTE:
            stored = np.frombuffer(self._data[palette_at:pixels_at], np.uint8)
            pixels, alpha = _colours(stored.reshape(header.palette_count, -1), header.palette_depth, True)
            indices = _indices(values) - header.palette_start
            if indices.min() < 0 or indices.max() >= header.palette_count:
                entries.append(Entry(PIXELS, Fate.DAMAGED, "(some are not in the palette)"))
            indices = np.clip(indices, 0, header.palette_count - 1)
            pixels, alpha = pixels[indices], None if alpha is None else alpha[indices]
        elif header.coding == _GREY:
            pixels, alpha = values[..., :1], values[..., 1] if header.depth == 16 else None
        else:
            pixels, alpha = _colours(values, header.depth, bool(header.alpha_bits))
        kind = extension[494] if extension else _ALPHA_KINDS[0]
        if alpha is not None and (kind not in _ALPHA_KINDS or not alpha.any()):
            alpha = None
        elif alpha is not None and kind == _PREMULTIPLIED:
            pixels = unmultiplied(pixels, alpha)
        return Picture(
            self._upright(pixels),
            None if alpha is None else self._upright(alpha),
            metadata=_metadata(self._data[_HEADER.size : palette_at], extension),
            ledger=(*entries, *self._lost(file, extension), *appended(rest)),
            origin=Origin(self.format),
        )

    def _stored(self, at: int) -> tuple[Bytes, bool, int]:
        """Return the bytes of the pixels ``(H, W, bytes)`` as they are stored, whether all are there, and their end."""
        header, step = self._header, self._header.pixel_bytes
        if header.kind & _RUN_LENGTHS:
            if self.size.area > _LONGEST_RUN * max(len(self._data) - at, 0) // (1 + step):
                raise PictureError(DAMAGED)
            decoded, end = _decoded_lengths(self._data, at, self.size.area, step)
            stored = np.frombuffer(decoded, np.uint8)
        else:
            end = at + self.size.area * step
            stored = np.frombuffer(self._data, np.uint8)[at:end]
        values, whole = as_far_as_it_goes(stored, self.size.area * step)
        return values.reshape(*self.size, step), whole, end

    def _lost(self, file: bytes, extension: bytes | None) -> list[Entry]:
        """Return entries for what a picture has no place for. What gamma means is not agreed on."""
        header, found = self._header, list[str]()
        if header.left or header.top not in (0, header.height):  # where it is on top, some state the upper edge
            found.append("offset on the page")
        if file.endswith(_FOOTER) and any(file[-22:-18]):
            found.append("developer area")
        if extension:
            top, bottom, correction = struct.unpack_from("<2HI", extension, 478)
            found += [f"gamma of {top / bottom:g}"] if top and bottom and top != bottom else []
            found += ["colour correction table"] if correction else []
            found += ["background colour"] if any(extension[470:474]) else []
        return [Entry(what, Fate.LOST) for what in found]

    def _upright(self, values: Pixels) -> Pixels:
        if not self._header.flags & _FROM_TOP:
            values = values[::-1]
        if self._header.flags & _FROM_RIGHT:
            values = values[:, ::-1]
        return np.array(values, order="C")


def _parted(data: bytes, end: int) -> tuple[bytes, bytes]:
    """Part a file after its footer, if it has one behind the end of its pixels, otherwise there."""
    footer_at = data.find(_FOOTER, min(end, len(data) - len(_FOOTER)))
    end = footer_at + len(_FOOTER) if footer_at >= 0 else end
    return data[:end], data[end:]


def _decoded_lengths(data: bytes, at: int, count: int, step: int) -> tuple[bytearray, int]:
    """Decode packets of run lengths to ``count`` pixels of ``step`` bytes, or fewer where they end before.

    Returns:
        the pixels, and where the packets end.
    """
    out, needed = bytearray(), count * step
    while len(out) < needed and at < len(data):
        length = (data[at] & 127) + 1
        size = step if data[at] & 128 else step * length
        packet = data[at + 1 : at + 1 + size]
        if len(packet) < step:
            break
        out += packet * length if data[at] & 128 else packet
        at += 1 + size
    return out[:needed], at


def _colours(values: Bytes, depth: int, has_alpha: bool) -> tuple[Bytes, Bytes | None]:
    """Return red, green and blue ``(…, 3)``, and alpha ``(…)`` or None, of stored bytes ``(…, 2 to 4)``."""
    if depth > 16:
        return values[..., 2::-1], values[..., 3] if depth == 32 and has_alpha else None
    words = _indices(values)
    scale = levels(31, np.uint8)
    pixels = np.stack([scale[words >> shift & 31] for shift in (10, 5, 0)], axis=-1)
    return pixels, (words >> 15).astype(np.uint8) * np.uint8(255) if depth == 16 and has_alpha else None


def _indices(values: Bytes) -> NDArray[np.int32]:
    """Return little-endian integers of one or two bytes along the last axis."""
    low = values[..., 0].astype(np.int32)
    return low if values.shape[-1] == 1 else low | values[..., 1].astype(np.int32) << 8


def _extension(data: bytes) -> bytes | None:
    """Return the extension area of a file of the second version, or None."""
    if not data.endswith(_FOOTER):
        return None
    at = int.from_bytes(data[-26:-22], "little")
    area = data[at : at + _EXTENSION]
    return area if at and len(area) == _EXTENSION and int.from_bytes(area[:2], "little") >= _EXTENSION else None


def _metadata(name: bytes, extension: bytes | None) -> Metadata:
    """Return the name of the picture; what an extension says of its making, and its pixel aspect ratio."""
    title = ("Title", _text(name))
    if not extension:
        return Metadata(texts=(Text(*title),) if title[1] else ())
    lines = [_text(extension[at : at + 81]) for at in range(43, 367, 81)]
    month, day, year, *time = struct.unpack_from("<6H", extension, 367)
    date = f"{year:04}-{month:02}-{day:02}T{time[0]:02}:{time[1]:02}:{time[2]:02}" if month and day else ""
    spent, version, letter = struct.unpack_from("<3H", extension, 420), *struct.unpack_from("<Hc", extension, 467)
    release = f"{version / 100:g}{_text(letter)}" if version else ""
    fields = (
        title,
        ("Author", _text(extension[2:43])),
        (COMMENT, "\n".join(line for line in lines if line)),
        ("Creation Time", date),
        ("Job", _text(extension[379:420])),
        ("Job Time", "{:02}:{:02}:{:02}".format(*spent) if any(spent) else ""),
        ("Software", f"{_text(extension[426:467])} {release}".strip()),
    )
    aspect = sound_aspect(*struct.unpack_from("<2H", extension, 474))
    return Metadata(texts=tuple(Text(keyword, text) for keyword, text in fields if text), aspect=aspect)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("latin-1").strip()
