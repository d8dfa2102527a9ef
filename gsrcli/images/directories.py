"""Directories of TIFF structures: of TIFF files, classic or BigTIFF, and of EXIF blocks.

A directory is a list of tagged entries, followed by the offset of the next directory. Values that do not fit into an
entry, and subdirectories, are stored elsewhere in the structure.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, BinaryIO, NamedTuple, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from gsrcli.images.content import Content

__all__ = [
    "LONG",
    "LONG8",
    "RATIONAL",
    "SHORT",
    "Anchored",
    "Entry",
    "MalformedError",
    "PackedPage",
    "Tags",
    "Tiff",
    "Value",
    "pack_directory",
    "pack_file",
    "place_anchored",
    "write_file",
]

SHORT, LONG, RATIONAL, LONG8 = 3, 4, 5, 16
_KIND_SIZES = dict(zip(range(1, 14), (1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4), strict=True)) | {16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", SHORT: "H", LONG: "I", 6: "b", 8: "h", 9: "i", 13: "I", LONG8: "Q", 17: "q", 18: "Q"}
_FLOATS = {11: "f", 12: "d"}
_RATIONALS = {RATIONAL: "I", 10: "i"}  # two 4-byte words
_HEADER = 16  # bytes that are kept for that of a file; a classic one takes 8
_MOST_CLASSIC_BYTES = 2**32 - 2**16
_ONE_OF_PAGES = 2


class Anchored(NamedTuple):
    """A value that stays at its offset in the structure, because what it says depends on that."""

    kind: int
    values: int
    data: bytes
    at: int


Value: TypeAlias = tuple[int, int, bytes] | Anchored
"""The values of a tag: kind, count, and little-endian bytes."""

Tags: TypeAlias = dict[int, Union[Value, "Tags"]]
"""A directory: from tag to its values or to a subdirectory."""


class MalformedError(ValueError):
    """Data is not a TIFF structure, or an offset points outside it."""


@dataclass(frozen=True)
class Entry:
    """An entry of a directory: kind, number of values, and the offsets of the entry and of its values."""

    kind: int
    count: int
    at: int
    values_at: int


class Tiff:
    """The directories of a TIFF structure.

    Attributes:
        data: the whole structure.
        order: its byte order, "<" or ">".
        big: whether it is a BigTIFF.
        first: offset of the first directory.

    Raises:
        MalformedError: it is none, or an offset points outside it.
    """

    def __init__(self, data: Content) -> None:
        self.data = data
        if data[:2] not in (b"II", b"MM"):
            raise MalformedError("no byte-order mark")
        self.order = "<" if data[:2] == b"II" else ">"
        version = self.number("H", 2)
        if version not in (42, 43):
            raise MalformedError("not a TIFF structure")
        self.big = version == 43
        self.word, self.counter = ("Q", "Q") if self.big else ("I", "H")
        self.first = self.number(self.word, 8 if self.big else 4)

    def number(self, code: str, at: int) -> int:
        """Read the integer of a struct code at an offset."""
        size = struct.calcsize(self.order + code)
        if not 0 <= at <= len(self.data) - size:
            raise MalformedError("an offset points outside")
        value: int = struct.unpack(self.order + code, self.data[at : at + size])[0]
        return value

    def directory(self, at: int) -> tuple[dict[int, Entry], int]:
        """Read the directory at an offset; return its entries by tag, and the offset of its link to the next one."""
        count, word = self.number(self.counter, at), struct.calcsize(self.order + self.word)
        start = at + struct.calcsize(self.order + self.counter)
        layout = struct.Struct(f"{self.order}HH{self.word}{self.word}")
        end = start + count * layout.size
        if end > len(self.data):
            raise MalformedError("an offset points outside")
        entries: dict[int, Entry] = {}
        fields = layout.iter_unpack(self.data[start:end])
        for entry_at, (tag, kind, values, value) in zip(range(start, end, layout.size), fields, strict=True):
            inline = _KIND_SIZES.get(kind, 1) * values <= word
            entry = Entry(kind, values, entry_at, entry_at + layout.size - word if inline else value)
            entries.setdefault(tag, entry)  # of duplicates the first counts, as for libtiff
        return entries, end

    def directories(self) -> tuple[list[dict[int, Entry]], bool]:
        """Return the directories that are linked from the first on, and whether these are all.

        They are read as far as they are sound: a link outside ends them, and so do directories that overlap so much
        that together they are longer than the structure. A link to a directory that was read already is the last.
        """
        found, seen, left = list[dict[int, Entry]](), set[int](), len(self.data)
        at = self.first
        while at and at not in seen:
            seen.add(at)
            try:
                entries, link_at = self.directory(at)
                left -= link_at - at
                if left < 0:
                    raise MalformedError("directories overlap")
                found.append(entries)
                at = self.number(self.word, link_at) if link_at < len(self.data) else 0
            except MalformedError:
                if not found:
                    raise
                return found, False
        return found, True

    def first_number(self, entry: Entry | None, default: int = 0) -> int:
        """Return the first value of an integer entry, or the default if it has none."""
        if entry is None or entry.kind not in _INTEGERS or not entry.count:
            return default
        return self.number(_INTEGERS[entry.kind], entry.values_at)

    def numbers(self, entry: Entry | None) -> NDArray[Any]:
        """Return the values of an integer entry; none of another kind, or of no entry."""
        if entry is None or entry.kind not in _INTEGERS:
            return np.zeros(0, np.int64)
        return np.frombuffer(self.raw(entry), self.order + _INTEGERS[entry.kind])

    def floats(self, entry: Entry | None) -> list[float]:
        """Return the values of an entry of numbers of any kind; none of another kind, or of no entry."""
        if entry is None:
            return []
        if entry.kind in _RATIONALS:
            words = np.frombuffer(self.raw(entry), self.order + _RATIONALS[entry.kind]).astype(float)
            return [a / b if b else 0.0 for a, b in words.reshape(-1, 2).tolist()]
        if entry.kind in _FLOATS:
            return [float(value) for value in np.frombuffer(self.raw(entry), self.order + _FLOATS[entry.kind])]
        return [float(value) for value in self.numbers(entry)]

    def raw(self, entry: Entry) -> bytes:
        """Return the values of an entry as stored."""
        size = _KIND_SIZES.get(entry.kind)
        if size is None or entry.values_at + size * entry.count > len(self.data):
            raise MalformedError("an offset points outside")
        return self.data[entry.values_at : entry.values_at + size * entry.count]

    def little_endian(self, entry: Entry) -> bytes:
        """Return the values of an entry as little-endian bytes."""
        values = self.raw(entry)
        word = 4 if entry.kind in _RATIONALS else _KIND_SIZES[entry.kind]
        if self.order == ">":
            values = np.frombuffer(values, f">u{word}").astype(f"<u{word}").tobytes()
        return values

    def put_number(self, target: bytearray, entry: Entry, kind: int, value: int) -> None:
        """Set an entry of ``target``, a copy of the data, to one SHORT or LONG."""
        word = struct.calcsize(self.order + self.word)
        inline = struct.pack(self.order + {SHORT: "H", LONG: "I"}[kind], value).ljust(word, b"\0")
        struct.pack_into(f"{self.order}H{self.word}{word}s", target, entry.at + 2, kind, 1, inline)


def place_anchored(tags: Tags, at: int) -> tuple[Tags, bytes]:
    """Place the anchored values of a directory in a structure from an offset on; all else follows them.

    Those whose place is taken, by what lies before the offset or by an earlier one, are anchored no more.

    Returns:
        the directory, and what lies between the offset and all else, which starts at an even one.
    """
    body = bytearray()

    def settled(tags: Tags) -> Tags:
        found: Tags = {}
        for tag, value in tags.items():
            if isinstance(value, dict):
                found[tag] = settled(value)
            elif isinstance(value, Anchored) and value.at < at + len(body):
                found[tag] = value[:3]
            else:
                found[tag] = value
                if isinstance(value, Anchored):
                    body.extend(bytes(value.at - at - len(body)) + value.data)
        return found

    placed = settled(tags)
    return placed, bytes(body + bytes((at + len(body)) % 2))


def pack_directory(tags: Tags, at: int, *, big: bool = False, link: int = 0) -> bytes:
    """Pack a little-endian directory, with its values and subdirectories.

    Args:
        tags: the directory.
        at: the offset at which it will be stored.
        big: whether it is one of a BigTIFF.
        link: the offset of the next directory, or 0.
    """
    word, counter = ("Q", "Q") if big else ("I", "H")
    size = struct.calcsize("<" + word)
    entries, body = [], list[bytes]()
    here = at + struct.calcsize("<" + counter) + (4 + 2 * size) * len(tags) + size
    for tag in sorted(tags):
        value = tags[tag]
        if isinstance(value, dict):
            kind, count, data = LONG8 if big else LONG, 1, struct.pack("<" + word, here)
            outside = pack_directory(value, here, big=big)
        elif isinstance(value, Anchored):
            kind, count, data, outside = value.kind, value.values, struct.pack("<" + word, value.at), b""
        elif len(value[2]) <= size:
            (kind, count, data), outside = value, b""
        else:
            kind, count, data, outside = value[0], value[1], struct.pack("<" + word, here), value[2]
        outside += b"\0" * (len(outside) % 2)  # values start at even offsets
        body.append(outside)
        here += len(outside)
        entries.append(struct.pack(f"<HH{word}{size}s", tag, kind, count, data))
    return b"".join((struct.pack("<" + counter, len(tags)), *entries, struct.pack("<" + word, link), *body))


@dataclass(frozen=True)
class PackedPage:
    """A page to be packed.

    Attributes:
        tags: its directory, without its number and the places of the chunks.
        chunks: its strips or tiles, compressed one by one while they are iterated over, once.
        tiled: whether they are tiles.
    """

    tags: Tags
    chunks: Iterable[bytes]
    tiled: bool = False


def pack_file(pages: Iterable[PackedPage]) -> bytes:
    """Return a TIFF file; see :func:`write_file`."""
    file = io.BytesIO()
    write_file(file, pages)
    return file.getvalue()


def write_file(file: BinaryIO, pages: Iterable[PackedPage]) -> None:
    """Write a little-endian TIFF file of at least one page, or a BigTIFF if it would be longer than 4 GiB.

    Chunks are written as they come, and all directories after them: only then is it known which of both it is.

    Args:
        file: where to write from its start on; it can be sought in.
        pages: the pages, which are asked for one by one.
    """
    file.write(bytes(_HEADER))
    at, written = _HEADER, list[_Written]()
    for page in pages:
        tags, between = place_anchored(page.tags, at)
        file.write(between)
        at += len(between)
        lengths = []
        for chunk in page.chunks:
            file.write(chunk)
            lengths.append(len(chunk))
        starts = list(accumulate(lengths, initial=at))
        at = starts.pop()
        written.append(_Written(tags, starts, lengths, page.tiled))
    file.write(bytes(at % 2))  # directories start at even offsets
    at += at % 2
    end = at + sum(len(pack_directory(tags, at, big=True)) for tags in _directories(written, big=True))
    big, first = end > _MOST_CLASSIC_BYTES, at
    directories = _directories(written, big=big)
    for number, tags in enumerate(directories, 1):
        following = at + len(pack_directory(tags, at, big=big))
        file.write(pack_directory(tags, at, big=big, link=following if number < len(directories) else 0))
        at = following
    file.seek(0)
    file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, first) if big else struct.pack("<2sHI", b"II", 42, first))
    file.seek(at)


class _Written(NamedTuple):
    """A page whose chunks are written: its directory without their places, and these."""

    tags: Tags
    starts: list[int]
    lengths: list[int]
    tiled: bool


def _directories(pages: Sequence[_Written], *, big: bool) -> list[Tags]:
    """Return the directories of the pages of a file, with the places of their chunks; of several, with numbers."""
    word, kind = ("Q", LONG8) if big else ("I", LONG)
    directories = []
    for number, (tags, starts, lengths, tiled) in enumerate(pages):
        offsets, counts = (324, 325) if tiled else (273, 279)
        numbered: Tags = {
            254: (LONG, 1, struct.pack("<I", _ONE_OF_PAGES)),
            297: (SHORT, 2, struct.pack("<HH", number, len(pages))),
        }
        places: Tags = {
            offsets: (kind, len(starts), struct.pack(f"<{len(starts)}{word}", *starts)),
            counts: (LONG, len(starts), struct.pack(f"<{len(starts)}I", *lengths)),
        }
        directories.append(tags | places | (numbered if len(pages) > 1 else {}))
    return directories
