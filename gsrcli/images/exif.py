"""Edit EXIF: reset the orientation, drop the thumbnail, update the size, and convert from and to TIFF files.

An EXIF block is a small TIFF structure. Blocks are edited in place: rewriting one would move the maker notes, whose
offsets count from the start of the block, and would fail on the malformed entries that cameras write.
"""

from __future__ import annotations

import struct

from gsrcli.images.directories import LONG, SHORT, Entry, MalformedError, Tags, Tiff, pack_directory
from gsrcli.size import Size

__all__ = [
    "exif_block",
    "exif_from_directory",
    "exif_orientation",
    "exif_resized",
    "exif_tags",
    "exif_upright",
]

_IMAGE_WIDTH, _IMAGE_HEIGHT, _ORIENTATION = 0x0100, 0x0101, 0x0112
_THUMBNAIL_OFFSET, _THUMBNAIL_BYTES = 0x0201, 0x0202
_EXIF_DIRECTORY, _GPS_DIRECTORY, _INTEROPERABILITY_DIRECTORY = 0x8769, 0x8825, 0xA005
_DIRECTORIES = (_EXIF_DIRECTORY, _GPS_DIRECTORY, _INTEROPERABILITY_DIRECTORY)
_PIXEL_WIDTH, _PIXEL_HEIGHT = 0xA002, 0xA003

_MOST_BYTES = 1 << 24

# The tags in a TIFF file's directory that describe the picture, not the layout of the file.
_DESCRIPTIVE = frozenset(
    (
        *(0x010D, 0x010E, 0x010F, 0x0110, 0x011D),  # document, description, make, model, page
        *(0x0131, 0x0132, 0x013B, 0x013C, 0x8298),  # software, date, artist, host, copyright
        *(0x4746, 0x4749),  # rating, rating in percent
        *range(0x9C9B, 0x9CA0),  # Windows' title, comment, author, keywords, subject
        *(_EXIF_DIRECTORY, _GPS_DIRECTORY),
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
    """Return an EXIF block with its picture size, if it has one, changed."""
    try:
        tiff = Tiff(block)
        entries, _ = tiff.directory(tiff.first)
        if _EXIF_DIRECTORY in entries:
            exif, _ = tiff.directory(tiff.first_number(entries[_EXIF_DIRECTORY]))
            entries = {**entries, **{tag: exif[tag] for tag in (_PIXEL_WIDTH, _PIXEL_HEIGHT) if tag in exif}}
    except MalformedError:
        return block
    patched = bytearray(block)
    for tag in (_IMAGE_WIDTH, _PIXEL_WIDTH):
        if tag in entries:
            tiff.put_number(patched, entries[tag], LONG, size.width)
    for tag in (_IMAGE_HEIGHT, _PIXEL_HEIGHT):
        if tag in entries:
            tiff.put_number(patched, entries[tag], LONG, size.height)
    return bytes(patched)


def exif_tags(block: bytes) -> Tags:
    """Return the descriptive tags of an EXIF block, with its EXIF and GPS directories."""
    try:
        tiff = Tiff(block)
        entries, _ = tiff.directory(tiff.first)
    except MalformedError:
        return {}
    return _Copier(tiff).directory(_descriptive(entries))


def exif_from_directory(tiff: Tiff, entries: dict[int, Entry]) -> tuple[Tags, int]:
    """Return the descriptive tags of a TIFF file's directory, with its EXIF and GPS directories.

    Returns:
        the tags, and the number of tags that could not be copied because they are malformed.
    """
    copier = _Copier(tiff)
    return copier.directory(_descriptive(entries)), copier.malformed


def exif_block(tags: Tags) -> bytes | None:
    """Return tags as an EXIF block; None if there are none."""
    return b"II*\0\x08\0\0\0" + pack_directory(tags, 8) if tags else None


def _descriptive(entries: dict[int, Entry]) -> dict[int, Entry]:
    return {tag: entry for tag, entry in entries.items() if tag in _DESCRIPTIVE}


class _Copier:
    """Copies directories.

    It copies no more bytes than there are, because entries that share their values could ask for any amount.
    """

    def __init__(self, tiff: Tiff) -> None:
        self._tiff = tiff
        self._left = min(len(tiff.data), _MOST_BYTES)
        self.malformed = 0

    def directory(self, entries: dict[int, Entry], depth: int = 2) -> Tags:
        copies = {tag: self._value(tag, entry, depth) for tag, entry in entries.items()}
        return {tag: value for tag, value in copies.items() if value}

    def _value(self, tag: int, entry: Entry, depth: int) -> tuple[int, int, bytes] | Tags | None:
        try:
            if tag in _DIRECTORIES:
                subdirectory, _ = self._tiff.directory(self._tiff.first_number(entry))
                return self.directory(subdirectory, depth - 1) if depth else None
            values = self._tiff.little_endian(entry)
            if len(values) > self._left:
                raise MalformedError("values overlap")
            self._left -= len(values)
            return entry.kind, entry.count, values
        except MalformedError:  # cameras do write broken entries; keep the others
            self.malformed += 1
            return None
