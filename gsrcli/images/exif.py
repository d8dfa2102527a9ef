"""Edit EXIF: reset the orientation, drop the thumbnail, update the size, and convert from and to TIFF files.

An EXIF block is a small TIFF structure. Blocks are edited in place: rewriting one would move the maker notes, whose
offsets count from the start of the block, and would fail on the malformed entries that cameras write.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction

from gsrcli.images.directories import (
    LONG,
    RATIONAL,
    SHORT,
    Anchored,
    Entry,
    MalformedError,
    Tags,
    Tiff,
    Value,
    pack_directory,
    place_anchored,
)
from gsrcli.images.metadata import CENTIMETRES_PER_INCH, MAX_METADATA, sound_dpi
from gsrcli.size import Size

__all__ = [
    "DESCRIPTIVE_TAGS",
    "exif_as_srgb",
    "exif_block",
    "exif_from_directory",
    "exif_is_blank",
    "exif_orientation",
    "exif_resized",
    "exif_resolution",
    "exif_says_adobe_rgb",
    "exif_tags",
    "exif_upright",
    "exif_with_resolution",
]

_IMAGE_WIDTH, _IMAGE_HEIGHT, _ORIENTATION = 0x0100, 0x0101, 0x0112
_THUMBNAIL_OFFSET, _THUMBNAIL_BYTES = 0x0201, 0x0202
_EXIF_DIRECTORY, _GPS_DIRECTORY, _INTEROPERABILITY_DIRECTORY = 0x8769, 0x8825, 0xA005
_DIRECTORIES = (_EXIF_DIRECTORY, _GPS_DIRECTORY, _INTEROPERABILITY_DIRECTORY)
_PIXEL_WIDTH, _PIXEL_HEIGHT = 0xA002, 0xA003
_FOCAL_PLANE_RESOLUTIONS = (0xA20E, 0xA20F)  # pixels per unit on the sensor
_COLOUR_SPACE, _INTEROPERABILITY_INDEX = 0xA001, 1
_ADOBE_RGB, _UNCALIBRATED = 2, 0xFFFF
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
_NO_UNIT, _INCH, _CENTIMETRE = 1, 2, 3

_MAKER_NOTES = 0x927C
_FARTHEST = 1 << 13  # offset of maker notes that stay where they are, behind zeros

_DIRECTORY_KIND = 13

# The tags that say nothing beyond the pixels, the resolution and the size, and those that EXIF must have.
_OF_THE_PICTURE = {_IMAGE_WIDTH, _IMAGE_HEIGHT, _ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT, 0x0213}
_OF_THE_PICTURE |= {0x9000, 0x9101, 0xA000, _COLOUR_SPACE, _PIXEL_WIDTH, _PIXEL_HEIGHT}  # versions and components

# The tags in a TIFF file's directory that describe the picture, not the layout of the file.
DESCRIPTIVE_TAGS = frozenset(
    (
        *(0x010D, 0x010E, 0x010F, 0x0110, 0x011D),  # document, description, make, model, page
        *(0x0131, 0x0132, 0x013B, 0x013C, 0x8298),  # software, date, artist, host, copyright
        *(0x4746, 0x4749),  # rating, rating in percent
        *range(0x9C9B, 0x9CA0),  # Windows' title, comment, author, keywords, subject
        0xC4A5,  # print image matching
        *(_EXIF_DIRECTORY, _GPS_DIRECTORY),
    )
)

# The tags of an EXIF block's first directory that describe how its picture is stored, and those that other parts of a
# TIFF file have too.
_OF_STORAGE = frozenset(
    (
        *(*range(254, 267), 273, *range(277, 282), 284, *range(288, 294), 317, *range(320, 326), 330, 332, 334),
        *range(338, 348),
        *(*range(512, 522), *range(529, 533), *range(32995, 32999)),
        *(301, 318, 319),  # transfer function, white point and primaries: other formats have a profile
        *(_ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT),
        *(700, 33723, 34377, 34675, 37724),  # XMP, IPTC, Photoshop's blocks, a profile
        *(33421, 33422, *range(50706, 51200)),  # of camera raw files
        0xEA1C,  # padding
    )
)


def exif_orientation(block: bytes) -> int | None:
    """Return the orientation in an EXIF block or TIFF file, 1 to 8; None if it has none."""
    try:
        tiff = Tiff(block)
        entries, _ = tiff.directory(tiff.first)
        value = tiff.first_number(entries.get(_ORIENTATION))
    except MalformedError:
        return None
    return value if 1 <= value <= 8 else None


def exif_is_blank(block: bytes) -> bool:
    """Return whether an EXIF block says nothing but what every file does: orientation, resolution, size, versions."""
    try:
        tiff = Tiff(block)
        tags, _ = tiff.directory(tiff.first)
        exif = tags.pop(_EXIF_DIRECTORY, None)
        below, _ = tiff.directory(tiff.first_number(exif)) if exif else ({}, 0)
    except MalformedError:
        return False
    return (tags.keys() | below.keys()) <= _OF_THE_PICTURE


def exif_upright(block: bytes) -> bytes | None:
    """Return an EXIF block or TIFF file with orientation 1 and without its thumbnail; None if it is unreadable."""
    try:
        tiff = Tiff(block)
        entries, link_at = tiff.directory(tiff.first)
    except MalformedError:
        return None
    patched = bytearray(block)
    if _ORIENTATION in entries:
        tiff.put_number(patched, entries[_ORIENTATION], SHORT, 1)
    link_size = struct.calcsize(tiff.order + tiff.word)
    patched[link_at : link_at + link_size] = bytes(len(patched[link_at : link_at + link_size]))
    del patched[_thumbnail_start(tiff, link_at) :]
    return bytes(patched)


def _thumbnail_start(tiff: Tiff, link_at: int) -> int:
    """Return where the thumbnail starts if it comes last, as in nearly all files; otherwise the end."""
    end = len(tiff.data)
    try:
        thumbnail, _ = tiff.directory(tiff.number(tiff.word, link_at))
        start = tiff.first_number(thumbnail.get(_THUMBNAIL_OFFSET))
        size = tiff.first_number(thumbnail.get(_THUMBNAIL_BYTES))
    except MalformedError:
        return end
    return start if start >= link_at and start + size == end else end


def exif_resized(block: bytes, size: Size) -> bytes:
    """Return an EXIF block with its picture size, if it has one, changed, and what is measured in its pixels scaled."""
    exif = dict[int, Entry]()
    try:
        tiff = Tiff(block)
        entries, _ = tiff.directory(tiff.first)
        if _EXIF_DIRECTORY in entries:
            exif, _ = tiff.directory(tiff.first_number(entries[_EXIF_DIRECTORY]))
            entries = {**entries, **{tag: exif[tag] for tag in (_PIXEL_WIDTH, _PIXEL_HEIGHT) if tag in exif}}
    except MalformedError:
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


def _scale_focal_plane(tiff: Tiff, patched: bytearray, exif: dict[int, Entry], size: Size) -> None:
    """Scale the pixels per unit on the sensor with the size that the EXIF directory states, whichever side is up."""
    try:
        area = tiff.first_number(exif.get(_PIXEL_WIDTH)) * tiff.first_number(exif.get(_PIXEL_HEIGHT))
        for entry in (exif[tag] for tag in _FOCAL_PLANE_RESOLUTIONS if tag in exif):
            parts = tiff.number("I", entry.values_at), tiff.number("I", entry.values_at + 4)
            if entry.kind != RATIONAL or entry.count != 1 or not all(parts) or area in (0, size.area):
                continue
            scaled = Fraction(*parts) * Fraction(math.sqrt(size.area / area)).limit_denominator(10_000)
            scaled = scaled.limit_denominator(1_000_000)
            if scaled and max(scaled.as_integer_ratio()) < 1 << 32:
                struct.pack_into(f"{tiff.order}II", patched, entry.values_at, *scaled.as_integer_ratio())
    except MalformedError:
        pass


def exif_as_srgb(block: bytes) -> bytes:
    """Return an EXIF block whose colour space, if it states one, is sRGB."""
    patched = bytearray(block)
    try:
        tiff = Tiff(block)
        entries, _ = tiff.directory(tiff.first)
        exif, _ = tiff.directory(tiff.first_number(entries.get(_EXIF_DIRECTORY)))
        if _COLOUR_SPACE in exif:
            tiff.put_number(patched, exif[_COLOUR_SPACE], SHORT, 1)
        directory, _ = tiff.directory(tiff.first_number(exif.get(_INTEROPERABILITY_DIRECTORY)))
        index = directory.get(_INTEROPERABILITY_INDEX)
        if index and index.count == 4:
            patched[index.values_at : index.values_at + 4] = b"R98\0"
    except MalformedError:
        pass
    return bytes(patched)


def exif_says_adobe_rgb(block: bytes) -> bool:
    """Return whether an EXIF block says that colours are Adobe RGB, as cameras tag it (DCF 2.0)."""
    try:
        tiff = Tiff(block)
        entries, _ = tiff.directory(tiff.first)
        exif, _ = tiff.directory(tiff.first_number(entries.get(_EXIF_DIRECTORY)))
        space = tiff.first_number(exif.get(_COLOUR_SPACE))
        if space != _UNCALIBRATED:
            return space == _ADOBE_RGB
        directory, _ = tiff.directory(tiff.first_number(exif.get(_INTEROPERABILITY_DIRECTORY)))
        index = directory.get(_INTEROPERABILITY_INDEX)
        return index is not None and tiff.raw(index).startswith(b"R03")
    except MalformedError:
        return False


def exif_resolution(block: bytes) -> tuple[float, float] | None:
    """Return the pixels per inch in an EXIF block, horizontal and vertical; None if it has none."""
    try:
        tiff = Tiff(block)
        entries, _ = tiff.directory(tiff.first)
        unit = tiff.first_number(entries.get(_RESOLUTION_UNIT), _INCH)
        (x, *_), (y, *_) = (tiff.floats(entries.get(tag)) for tag in (_X_RESOLUTION, _Y_RESOLUTION))
    except ValueError:  # malformed, or without values
        return None
    scale = {_NO_UNIT: 0.0, _CENTIMETRE: CENTIMETRES_PER_INCH}.get(
        unit, 1.0
    )  # without a unit, only the aspect is known
    return sound_dpi(x * scale, y * scale)


def exif_with_resolution(block: bytes | None, dpi: tuple[float, float] | None) -> bytes | None:
    """Return an EXIF block that says the pixels per inch, for formats that have no other place for them.

    The first directory is written anew after everything else, so that all that offsets point to stays where it is.
    """
    if dpi is None or (block is not None and exif_resolution(block) == dpi):
        return block
    block = block or b"II*\0\x08\0\0\0\0\0\0\0\0\0"
    try:
        tiff = Tiff(block)
        entries, link_at = tiff.directory(tiff.first)
        link = tiff.number(tiff.word, link_at)
    except MalformedError:
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
    """Return the tags of an EXIF block that describe its picture, with its EXIF and GPS directories."""
    try:
        tiff = Tiff(block)
        entries, _ = tiff.directory(tiff.first)
    except MalformedError:
        return {}
    described = {t: entry for t, entry in entries.items() if t not in _OF_STORAGE and entry.kind != _DIRECTORY_KIND}
    return _Copier(tiff).directory(described)


def exif_from_directory(tiff: Tiff, entries: dict[int, Entry]) -> tuple[Tags, int]:
    """Return the descriptive tags of a TIFF file's directory, with its EXIF and GPS directories.

    Returns:
        the tags, and the number of tags that could not be copied because they are malformed.
    """
    copier = _Copier(tiff)
    return copier.directory(_descriptive(entries)), copier.malformed


def exif_block(tags: Tags) -> bytes | None:
    """Return tags as an EXIF block; None if there are none."""
    placed, head = place_anchored(tags, 8)
    at = 8 + len(head)
    return struct.pack("<4sI", b"II*\0", at) + head + pack_directory(placed, at) if tags else None


def _descriptive(entries: dict[int, Entry]) -> dict[int, Entry]:
    return {tag: entry for tag, entry in entries.items() if tag in DESCRIPTIVE_TAGS}


class _Copier:
    """Copies directories.

    It copies no more bytes than there are, because entries that share their values could ask for any amount. Maker
    notes keep their offset, from which most count, if it is near enough.
    """

    def __init__(self, tiff: Tiff) -> None:
        self._tiff = tiff
        self._left = min(len(tiff.data), MAX_METADATA)
        self.malformed = 0

    def directory(self, entries: dict[int, Entry], depth: int = 2) -> Tags:
        copies = {tag: self._value(tag, entry, depth) for tag, entry in entries.items()}
        return {tag: value for tag, value in copies.items() if value}

    def _value(self, tag: int, entry: Entry, depth: int) -> Value | Tags | None:
        try:
            if tag in _DIRECTORIES:
                subdirectory, _ = self._tiff.directory(self._tiff.first_number(entry))
                return self.directory(subdirectory, depth - 1) if depth else None
            values = self._tiff.little_endian(entry)
            if len(values) > self._left:
                raise MalformedError("values overlap")
            self._left -= len(values)
            if tag == _MAKER_NOTES and len(values) > 8 and entry.values_at < _FARTHEST:
                return Anchored(entry.kind, entry.count, values, entry.values_at)
            return entry.kind, entry.count, values
        except MalformedError:  # cameras do write broken entries; keep the others
            self.malformed += 1
            return None
