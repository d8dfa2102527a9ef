"""Read TGA files (Truevision, 1991). They have no signature, so that their header must make sense."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gsrcli.errors import PictureError
from gsrcli.images.content import Content
from gsrcli.images.description import Origin, Raster
from gsrcli.images.ledger import PIXELS, Entry, Fate
from gsrcli.images.metadata import COMMENT, Metadata, Text, sound_aspect
from gsrcli.images.picture import Picture, Pixels, levels, unmultiplied
from gsrcli.images.readers.source import (
    CUT,
    DAMAGED,
    Decoded,
    Limits,
    Source,
    Survey,
    appended,
    as_far_as_it_goes,
    large,
    stored_rows,
    streamed,
)
from gsrcli.images.strips import Strips
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
    def palette_at(self) -> int:
        return _HEADER.size + self.name_bytes

    @property
    def pixels_at(self) -> int:
        return self.palette_at + self.palette_bytes

    @property
    def raster(self) -> Raster:
        """Size and type of the pixels, with the alpha that they may have."""
        depth = self.palette_depth if self.coding == _PALETTE else self.depth
        declared = self.coding == _PALETTE or self.alpha_bits > 0
        alpha = depth == 16 if self.coding == _GREY else depth in (16, 32) and declared
        return Raster(Size(self.height, self.width), 1 if self.coding == _GREY else 3, np.dtype(np.uint8), alpha)

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
    by_parts = True

    def __init__(self, data: Content, limits: Limits) -> None:
        self._data, self._header = data, _Header(*_HEADER.unpack(data[: _HEADER.size]))
        if not self._header.sound:
            raise PictureError(DAMAGED)
        self.size = Size(self._header.height, self._header.width)
        limits.check(self.size)

    def picture(self, index: int = 0) -> Picture:
        stored, whole, end = self._stored()
        file = _File(self._data, end)
        decoded = self._decoded(stored)
        if decoded.alpha is not None and not decoded.alpha.any():
            decoded = replace(decoded, alpha=None)
        decoded = _straight(decoded, file)
        alpha = None if decoded.alpha is None else self._upright(decoded.alpha)
        entries = [*([] if whole else [CUT]), *decoded.entries]
        return Picture(self._upright(decoded.pixels), alpha, **self._described(entries, file))

    def strips(self, index: int = 0) -> Strips:
        header, end = self._header, self._header.pixels_at + self.size.area * self._header.pixel_bytes
        if not large(header.raster) or header.kind & _RUN_LENGTHS or end > len(self._data):
            return super().strips(index)
        survey, file = Survey(), _File(self._data, end)
        if header.raster.alpha or header.coding == _PALETTE:
            for decoded in self._decoded_strips():
                survey.add(decoded)
        if survey.damaged:
            return super().strips(index)

        def upright() -> Iterator[Decoded]:
            for decoded in self._decoded_strips():
                straight = _straight(decoded, file) if survey.visible else decoded
                alpha = None if straight.alpha is None else self._upright_rows(straight.alpha)
                yield replace(straight, pixels=self._upright_rows(straight.pixels), alpha=alpha)

        raster = header.raster._replace(alpha=header.raster.alpha and survey.visible and file.has_alpha)
        return streamed(raster, upright, survey, self._described(survey.entries, file))

    def _described(self, entries: list[Entry], file: _File) -> dict[str, Any]:
        name = self._data[_HEADER.size : self._header.palette_at]
        return {
            "metadata": _metadata(name, file.extension),
            "ledger": (*entries, *self._lost(file), *appended(self._data, file.end)),
            "origin": Origin(self.format),
        }

    def _stored(self) -> tuple[Bytes, bool, int]:
        """Return the bytes of the pixels ``(H, W, bytes)`` as they are stored, whether all are there, and their end."""
        header, at, step = self._header, self._header.pixels_at, self._header.pixel_bytes
        if header.kind & _RUN_LENGTHS:
            if self.size.area > _LONGEST_RUN * max(len(self._data) - at, 0) // (1 + step):
                raise PictureError(DAMAGED)
            decoded, end = _decoded_lengths(self._data[:], at, self.size.area, step)
            stored = np.frombuffer(decoded, np.uint8)
        else:
            end = at + self.size.area * step
            stored = np.frombuffer(self._data[at:end], np.uint8)
        values, whole = as_far_as_it_goes(stored, self.size.area * step)
        return values.reshape(*self.size, step), whole, end

    def _decoded_strips(self) -> Iterator[Decoded]:
        """Decode a complete picture that is not coded by run lengths: the upper rows first."""
        header, width = self._header, self.size.width
        upwards = not header.flags & _FROM_TOP
        length = width * header.pixel_bytes
        for rows in stored_rows(self._data, header.pixels_at, self.size.height, length, upwards=upwards):
            yield self._decoded(rows.reshape(len(rows), width, -1))

    def _decoded(self, values: Bytes) -> Decoded:
        """Return the colours and alpha of stored bytes ``(rows, W, bytes)``."""
        header = self._header
        if header.coding == _GREY:
            return Decoded(values[..., :1], values[..., 1] if header.depth == 16 else None)
        if header.coding == _COLOUR:
            return Decoded(*_colours(values, header.depth, bool(header.alpha_bits)))
        stored = np.frombuffer(self._data[header.palette_at : header.pixels_at], np.uint8)
        pixels, alpha = _colours(stored.reshape(header.palette_count, -1), header.palette_depth, True)
        indices = _indices(values) - header.palette_start
        missing = indices.min() < 0 or indices.max() >= header.palette_count
        indices = np.clip(indices, 0, header.palette_count - 1)
        entries = [Entry(PIXELS, Fate.DAMAGED, "(some are not in the palette)")] if missing else []
        return Decoded(pixels[indices], None if alpha is None else alpha[indices], entries)

    def _lost(self, file: _File) -> list[Entry]:
        """Return entries for what a picture has no place for. What gamma means is not agreed on."""
        header, extension, found = self._header, file.extension, list[str]()
        if header.left or header.top not in (0, header.height):  # where it is on top, some state the upper edge
            found.append("offset on the page")
        if file.has_developer_area:
            found.append("developer area")
        if extension:
            top, bottom, correction = struct.unpack_from("<2HI", extension, 478)
            found += [f"gamma of {top / bottom:g}"] if top and bottom and top != bottom else []
            found += ["colour correction table"] if correction else []
            found += ["background colour"] if any(extension[470:474]) else []
        return [Entry(what, Fate.LOST) for what in found]

    def _upright(self, values: Pixels) -> Pixels:
        """Turn a picture upright."""
        rows = values if self._header.flags & _FROM_TOP else values[::-1]
        return np.array(self._upright_rows(rows), order="C")

    def _upright_rows(self, values: Pixels) -> Pixels:
        """Turn rows upright whose order is right."""
        return values[:, ::-1] if self._header.flags & _FROM_RIGHT else values


class _File:
    """What follows the pixels of a file.

    Attributes:
        end: where the file ends: after its footer, if it has one, otherwise after its pixels.
        extension: the extension area of a file of the second version, or None.
        has_developer_area: whether the footer tells of one.
    """

    def __init__(self, data: Content, pixels_end: int) -> None:
        footer_at = data.find(_FOOTER, min(pixels_end, max(0, len(data) - len(_FOOTER))))
        self.end, self.has_developer_area = pixels_end, False
        self.extension: bytes | None = None
        if footer_at < 0:
            return
        self.end = footer_at + len(_FOOTER)
        at, developer_area = struct.unpack("<2I", data[footer_at - 8 : footer_at])
        self.has_developer_area = developer_area > 0
        area = data[at : min(at + _EXTENSION, self.end)]
        if at and len(area) == _EXTENSION and int.from_bytes(area[:2], "little") >= _EXTENSION:
            self.extension = area

    @property
    def has_alpha(self) -> bool:
        """Whether what is stored as alpha is that."""
        return self.extension is None or self.extension[494] in _ALPHA_KINDS

    @property
    def premultiplied(self) -> bool:
        """Whether colours are multiplied by alpha."""
        return self.extension is not None and self.extension[494] == _PREMULTIPLIED


def _straight(decoded: Decoded, file: _File) -> Decoded:
    """Return colours that are not multiplied by alpha, and alpha if it is that."""
    if decoded.alpha is None or not file.has_alpha:
        return replace(decoded, alpha=None)
    return replace(decoded, pixels=unmultiplied(decoded.pixels, decoded.alpha)) if file.premultiplied else decoded


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
