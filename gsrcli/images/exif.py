"""Edit EXIF: reset the orientation, drop the thumbnail, update the size, and convert from and to TIFF files.

An EXIF block is a small TIFF structure: directories of tagged entries whose larger values, and further
directories, are stored elsewhere in the block. Blocks are edited in place: rewriting one would move the maker
notes, whose offsets count from the start of the block, and would fail on the malformed entries that cameras write.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias, Union

import numpy as np

from gsrcli.size import Size

__all__ = [
    "Tags",
    "exif_as_srgb",
    "exif_from_tiff",
    "exif_orientation",
    "exif_resized",
    "exif_resolution",
    "exif_tags",
    "exif_upright",
    "exif_with_resolution",
    "pack_directory",
    "tiff_tag",
]

SHORT, LONG = 3, 4
_KIND_SIZES = dict(zip(range(1, 14), (1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4), strict=True)) | {16: 8, 17: 8, 18: 8}
_RATIONALS = (5, 10)  # two 4-byte words

_IMAGE_WIDTH, _IMAGE_HEIGHT, _ORIENTATION = 0x0100, 0x0101, 0x0112
_THUMBNAIL_OFFSET, _THUMBNAIL_BYTES = 0x0201, 0x0202
_EXIF_DIRECTORY, _GPS_DIRECTORY, _INTEROPERABILITY_DIRECTORY = 0x8769, 0x8825, 0xA005
_DIRECTORIES = (_EXIF_DIRECTORY, _GPS_DIRECTORY, _INTEROPERABILITY_DIRECTORY)
_PIXEL_WIDTH, _PIXEL_HEIGHT = 0xA002, 0xA003
_FOCAL_PLANE_RESOLUTIONS = (0xA20E, 0xA20F)  # pixels per unit on the sensor
_COLOUR_SPACE, _INTEROPERABILITY_INDEX = 0xA001, 1
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
_INCH, _CENTIMETRE = 2, 3

# The tags in a TIFF file's directory that describe the picture, not the layout of the file.
_DESCRIPTIVE = frozenset(
    (
        *(0x010E, 0x010F, 0x0110, 0x0131, 0x0132),  # description, make, model, software, date
        *(0x013B, 0x013C, 0x4746, 0x4749, 0x8298),  # artist, host, rating, rating in percent, copyright
        *range(0x9C9B, 0x9CA0),  # Windows' title, comment, author, keywords, subject
        *(_EXIF_DIRECTORY, _GPS_DIRECTORY),
    )
)

Tags: TypeAlias = dict[int, Union[tuple[int, int, bytes], "Tags"]]
"""A directory: from tag to (kind, count, little-endian bytes) or to a subdirectory."""


class _MalformedError(ValueError):
    """Data is not a TIFF structure, or an offset points outside it."""


@dataclass(frozen=True)
class _Entry:
    """An entry of a directory: kind, number of values, and the offsets of the entry and of its values."""

    kind: int
    count: int
    at: int
    values_at: int


class _Tiff:
    """The directories of a TIFF structure: an EXIF block or a whole TIFF file, classic or BigTIFF."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        if data[:2] not in (b"II", b"MM"):
            raise _MalformedError("no byte-order mark")
        self.order = "<" if data[:2] == b"II" else ">"
        version = self.number("H", 2)
        if version not in (42, 43):
            raise _MalformedError("not a TIFF structure")
        self.word, self.counter = ("I", "H") if version == 42 else ("Q", "Q")
        self.first = self.number(self.word, 4 if version == 42 else 8)

    def number(self, code: str, at: int) -> int:
        """Read the integer of a struct code at an offset."""
        size = struct.calcsize(self.order + code)
        if not 0 <= at <= len(self.data) - size:
            raise _MalformedError("an offset points outside")
        value: int = struct.unpack_from(self.order + code, self.data, at)[0]
        return value

    def directory(self, at: int) -> tuple[dict[int, _Entry], int]:
        """Read the directory at an offset; return its entries by tag, and the offset of its link to the next one."""
        count, word = self.number(self.counter, at), struct.calcsize(self.order + self.word)
        at += struct.calcsize(self.order + self.counter)
        entry_size = 4 + 2 * word
        entries: dict[int, _Entry] = {}
        if at + count * entry_size > len(self.data):
            raise _MalformedError("an offset points outside")
        for start in range(at, at + count * entry_size, entry_size):
            kind, values = self.number("H", start + 2), self.number(self.word, start + 4)
            inline = _KIND_SIZES.get(kind, 1) * values <= word
            values_at = start + 4 + word
            entries[self.number("H", start)] = _Entry(
                kind, values, start, values_at if inline else self.number(self.word, values_at)
            )
        return entries, at + count * entry_size

    def first_number(self, entry: _Entry | None, default: int = 0) -> int:
        """Return the first value of an integer entry."""
        code = {1: "B", SHORT: "H", LONG: "I", 13: "I", 16: "Q"}.get(entry.kind) if entry else None
        return self.number(code, entry.values_at) if code and entry and entry.count else default

    def first_ratio(self, entry: _Entry) -> float:
        """Return the first value of an entry of unsigned fractions."""
        if entry.kind != 5 or not entry.count:
            raise _MalformedError("not a fraction")
        bottom = self.number("I", entry.values_at + 4)
        if not bottom:
            raise _MalformedError("division by zero")
        return self.number("I", entry.values_at) / bottom

    def little_endian(self, entry: _Entry) -> bytes:
        """Return the values of an entry as little-endian bytes."""
        size = _KIND_SIZES.get(entry.kind)
        if size is None or entry.values_at + size * entry.count > len(self.data):
            raise _MalformedError("an offset points outside")
        values = self.data[entry.values_at : entry.values_at + size * entry.count]
        word = 4 if entry.kind in _RATIONALS else size
        if self.order == ">":
            values = np.frombuffer(values, f">u{word}").astype(f"<u{word}").tobytes()
        return values

    def put_number(self, target: bytearray, entry: _Entry, kind: int, value: int) -> None:
        """Set an entry of ``target``, a copy of the data, to one SHORT or LONG."""
        word = struct.calcsize(self.order + self.word)
        inline = struct.pack(self.order + {SHORT: "H", LONG: "I"}[kind], value).ljust(word, b"\0")
        struct.pack_into(f"{self.order}H{self.word}{word}s", target, entry.at + 2, kind, 1, inline)


def exif_orientation(block: bytes) -> int | None:
    """Return the orientation in an EXIF block or TIFF file, 1 to 8; None if it has none."""
    value = tiff_tag(block, _ORIENTATION)
    return value if value is not None and 1 <= value <= 8 else None


def tiff_tag(block: bytes, tag: int) -> int | None:
    """Return the first value of an integer tag in the first directory of an EXIF block or TIFF file."""
    try:
        tiff = _Tiff(block)
        entries, _ = tiff.directory(tiff.first)
        return tiff.first_number(entries[tag]) if tag in entries else None
    except _MalformedError:
        return None


def exif_upright(block: bytes) -> bytes | None:
    """Return an EXIF block or TIFF file with orientation 1 and without its thumbnail; None if it is unreadable."""
    try:
        tiff = _Tiff(block)
        entries, link_at = tiff.directory(tiff.first)
    except _MalformedError:
        return None
    patched = bytearray(block)
    if _ORIENTATION in entries:
        tiff.put_number(patched, entries[_ORIENTATION], SHORT, 1)
    link_size = struct.calcsize(tiff.order + tiff.word)
    patched[link_at : link_at + link_size] = bytes(len(patched[link_at : link_at + link_size]))
    del patched[_thumbnail_start(tiff, link_at) :]
    return bytes(patched)


def _thumbnail_start(tiff: _Tiff, link_at: int) -> int:
    """Return where the thumbnail starts if it comes last, as in nearly all files; otherwise the end."""
    end = len(tiff.data)
    try:
        thumbnail, _ = tiff.directory(tiff.number(tiff.word, link_at))
        start = tiff.first_number(thumbnail.get(_THUMBNAIL_OFFSET))
        size = tiff.first_number(thumbnail.get(_THUMBNAIL_BYTES))
    except _MalformedError:
        return end
    return start if start >= link_at and start + size == end else end


def exif_resized(block: bytes, size: Size) -> bytes:
    """Return an EXIF block with its picture size, if it has one, changed, and what is measured in its pixels scaled."""
    exif = dict[int, _Entry]()
    try:
        tiff = _Tiff(block)
        entries, _ = tiff.directory(tiff.first)
        if _EXIF_DIRECTORY in entries:
            exif, _ = tiff.directory(tiff.first_number(entries[_EXIF_DIRECTORY]))
            entries = {**entries, **{tag: exif[tag] for tag in (_PIXEL_WIDTH, _PIXEL_HEIGHT) if tag in exif}}
    except _MalformedError:
        return block
    patched = bytearray(block)
    _scale_focal_plane(tiff, patched, exif, size)
    for tag in (_IMAGE_WIDTH, _PIXEL_WIDTH):
        if tag in entries:
            tiff.put_number(patched, entries[tag], LONG, size.width)
    for tag in (_IMAGE_HEIGHT, _PIXEL_HEIGHT):
        if tag in entries:
            tiff.put_number(patched, entries[tag], LONG, size.height)
    return bytes(patched)


def _scale_focal_plane(tiff: _Tiff, patched: bytearray, exif: dict[int, _Entry], size: Size) -> None:
    """Scale the pixels per unit on the sensor with the size that the EXIF directory states, whichever side is up."""
    try:
        area = tiff.first_number(exif.get(_PIXEL_WIDTH)) * tiff.first_number(exif.get(_PIXEL_HEIGHT))
        for entry in (exif[tag] for tag in _FOCAL_PLANE_RESOLUTIONS if tag in exif):
            parts = tiff.number("I", entry.values_at), tiff.number("I", entry.values_at + 4)
            if entry.kind != _RATIONALS[0] or entry.count != 1 or not all(parts) or area in (0, size.area):
                continue
            scaled = Fraction(*parts) * Fraction(math.sqrt(size.area / area)).limit_denominator(10_000)
            scaled = scaled.limit_denominator(1_000_000)
            if scaled and max(scaled.as_integer_ratio()) < 1 << 32:
                struct.pack_into(f"{tiff.order}II", patched, entry.values_at, *scaled.as_integer_ratio())
    except _MalformedError:
        pass


def exif_as_srgb(block: bytes) -> bytes:
    """Return an EXIF block whose colour space, if it states one, is sRGB."""
    patched = bytearray(block)
    try:
        tiff = _Tiff(block)
        entries, _ = tiff.directory(tiff.first)
        exif, _ = tiff.directory(tiff.first_number(entries.get(_EXIF_DIRECTORY)))
        if _COLOUR_SPACE in exif:
            tiff.put_number(patched, exif[_COLOUR_SPACE], SHORT, 1)
        directory, _ = tiff.directory(tiff.first_number(exif.get(_INTEROPERABILITY_DIRECTORY)))
        index = directory.get(_INTEROPERABILITY_INDEX)
        if index and index.count == 4:
            patched[index.values_at : index.values_at + 4] = b"R98\0"
    except _MalformedError:
        pass
    return bytes(patched)


def exif_resolution(block: bytes) -> tuple[float, float] | None:
    """Return the pixels per inch in an EXIF block, horizontal and vertical; None if it has none."""
    try:
        tiff = _Tiff(block)
        entries, _ = tiff.directory(tiff.first)
        unit = tiff.first_number(entries.get(_RESOLUTION_UNIT), _INCH)
        x, y = (tiff.first_ratio(entries[tag]) for tag in (_X_RESOLUTION, _Y_RESOLUTION))
    except (_MalformedError, KeyError):
        return None
    scale = {_INCH: 1.0, _CENTIMETRE: 2.54}.get(unit, 0.0)  # 1 means that only the aspect is known
    dpi = x * scale, y * scale
    return dpi if 0 < dpi[0] < 65536 and 0 < dpi[1] < 65536 else None


def exif_with_resolution(block: bytes | None, dpi: tuple[float, float] | None) -> bytes | None:
    """Return an EXIF block that says the pixels per inch, for formats that have no other place for them.

    The first directory is written anew after everything else, so that all that offsets point to stays where it is.
    """
    if dpi is None or (block is not None and exif_resolution(block) == dpi):
        return block
    block = block or b"II*\0\x08\0\0\0\0\0\0\0\0\0"
    try:
        tiff = _Tiff(block)
        entries, link_at = tiff.directory(tiff.first)
        link = tiff.number(tiff.word, link_at)
    except _MalformedError:
        return block
    if tiff.word != "I":
        return block
    at = len(block) + len(block) % 2
    values = struct.pack(tiff.order + "4I", *(part for value in dpi for part in _ratio(value)))
    packed = {tag: block[entry.at : entry.at + 12] for tag, entry in entries.items()}
    for tag, kind, value in (
        (_X_RESOLUTION, 5, struct.pack(tiff.order + "I", at)),
        (_Y_RESOLUTION, 5, struct.pack(tiff.order + "I", at + 8)),
        (_RESOLUTION_UNIT, SHORT, struct.pack(tiff.order + "HH", _INCH, 0)),
    ):
        packed[tag] = struct.pack(tiff.order + "HHI4s", tag, kind, 1, value)
    directory = struct.pack(tiff.order + "H", len(packed)) + b"".join(packed[tag] for tag in sorted(packed))
    directory += struct.pack(tiff.order + "I", link)
    moved = block.ljust(at, b"\0") + values + directory
    return moved[:4] + struct.pack(tiff.order + "I", at + len(values)) + moved[8:]


def _ratio(value: float) -> tuple[int, int]:
    """Return a positive number below 65536 as a fraction: whole, or in ten-thousandths."""
    return (round(value), 1) if value == round(value) else (round(value * 10_000), 10_000)


def exif_tags(block: bytes) -> Tags:
    """Return the descriptive tags of an EXIF block or TIFF file, with its EXIF and GPS directories."""
    try:
        tiff = _Tiff(block)
        entries, _ = tiff.directory(tiff.first)
    except _MalformedError:
        return {}
    return _copy_directory(tiff, {tag: entries[tag] for tag in entries if tag in _DESCRIPTIVE})


def _copy_directory(tiff: _Tiff, entries: dict[int, _Entry], depth: int = 2) -> Tags:
    copies = {tag: _copy_value(tiff, tag, entry, depth) for tag, entry in entries.items()}
    return {tag: value for tag, value in copies.items() if value}


def _copy_value(tiff: _Tiff, tag: int, entry: _Entry, depth: int) -> tuple[int, int, bytes] | Tags | None:
    try:
        if tag not in _DIRECTORIES:
            return entry.kind, entry.count, tiff.little_endian(entry)
        if depth:
            return _copy_directory(tiff, tiff.directory(tiff.first_number(entry))[0], depth - 1)
    except _MalformedError:
        pass  # cameras do write broken entries; keep the others
    return None


def exif_from_tiff(file: bytes) -> bytes | None:
    """Return the EXIF block of a TIFF file; None if it has no descriptive tags."""
    tags = exif_tags(file)
    return b"II*\0\x08\0\0\0" + pack_directory(tags, 8) if tags else None


def pack_directory(tags: Tags, at: int) -> bytes:
    """Pack a little-endian classic TIFF directory, with its values and subdirectories, for the offset ``at``."""
    entries, body = [], b""
    body_at = at + 2 + 12 * len(tags) + 4
    for tag in sorted(tags):
        value = tags[tag]
        here = body_at + len(body)
        if isinstance(value, dict):
            kind, count, data = LONG, 1, struct.pack("<I", here)
            body += pack_directory(value, here)
        elif len(value[2]) <= 4:
            kind, count, data = value
        else:
            kind, count, data = value[0], value[1], struct.pack("<I", here)
            body += value[2]
        body += b"\0" * (len(body) % 2)  # values start at even offsets
        entries.append(struct.pack("<HHI4s", tag, kind, count, data))
    return struct.pack("<H", len(tags)) + b"".join(entries) + b"\0\0\0\0" + body
