"""What lies behind all that the directories of a TIFF file refer to, where that can be told."""

from __future__ import annotations

from collections.abc import Iterator

from gsrcli.images.content import trimmed
from gsrcli.images.directories import Entry, MalformedError, Tiff

__all__ = ["unreferred"]

_BELOW = (330, 34665, 34853, 40965)  # subdirectories: smaller copies, EXIF, GPS, interoperability
_OFFSETS = {273: 279, 324: 325, 288: 289, 513: 514}  # strips, tiles, free bytes and thumbnails, with their lengths
_OPAQUE = (37500, *range(515, 522))  # maker notes and tables of old JPEG, which refer to more
_FIRST_PRIVATE, _KINDS_OF_OFFSETS = 32768, (4, 13, 16, 18)
_NUMBERS = frozenset(  # private tags of such kinds that are no offsets: depth, IPTC, of EXIF, faxes and ImageJ
    (*range(32995, 32999), 33723, *range(34865, 34868), 34908, 34910, 40962, 40963, 50838)
)
_MOST_DIRECTORIES = 1000
_LEAST_BYTES = 16  # tiles of cloud-optimized files are followed by 4


def unreferred(tiff: Tiff, directories: list[dict[int, Entry]]) -> int:
    """Return where what no directory refers to starts, behind all else; the end of the file if that cannot be told."""
    try:
        end = max(_ends(tiff, directories))
    except (MalformedError, LookupError):
        return len(tiff.data)
    first, stop = trimmed(tiff.data, end, b"\0")
    return end if stop - first > _LEAST_BYTES else len(tiff.data)


def _ends(tiff: Tiff, directories: list[dict[int, Entry]]) -> Iterator[int]:
    """Yield where the parts end.

    Raises:
        LookupError: there may be parts that are not known.
        MalformedError: a part is outside the file.
    """
    left, seen, word = list(directories), set[int](), 8 if tiff.big else 4
    known = {*_BELOW, *_NUMBERS}
    while left:
        directory = left.pop()
        if len(seen) + len(left) > _MOST_DIRECTORIES:
            raise LookupError("too many directories")
        for tag, entry in directory.items():
            private = tag >= _FIRST_PRIVATE and tag not in known and entry.kind in _KINDS_OF_OFFSETS
            if private or tag in _OPAQUE:
                raise LookupError("a tag that may refer to more")
            yield max(entry.at + 4 + 3 * word, entry.values_at + len(tiff.raw(entry)))  # a link follows the last
            if tag in _BELOW:
                places = {*tiff.numbers(entry).tolist()} - seen
                left += [tiff.directory(at)[0] for at in places]
                seen |= places
            elif tag in _OFFSETS:
                starts, sizes = tiff.numbers(entry), tiff.numbers(directory[_OFFSETS[tag]])
                yield from (start + size for start, size in zip(starts.tolist(), sizes.tolist(), strict=False))
                if len(sizes) < len(starts) or not sizes.any():
                    raise LookupError("parts of unknown length")
