"""Take HEIF containers (AVIF, HEIC) apart into items with properties, and put them together again.

A HEIF file is a tree of ISO base media boxes. Its meta box lists items: coded pictures, grids of them, EXIF, XMP. Items
have properties (size, colour, rotation) and refer to each other (ISO/IEC 14496-12 and 23008-12).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice

__all__ = [
    "Box",
    "Heif",
    "Item",
    "Property",
    "boxes",
    "children",
    "exif_content",
    "file_boxes",
    "find_box",
    "pack_box",
    "pack_full_box",
    "pack_heif",
    "parse_heif",
]

_MAX_ITEMS = 4096
_MAX_LINKS = 1 << 16  # references between items, and properties of items
_VISUAL_SAMPLE_ENTRY = 78  # bytes before its boxes
_MOST_BOXES = 1 << 16
_PICTURE_DATA = (b"mdat", b"jxlc", b"jxlp")


@dataclass(frozen=True)
class Box:
    """A box: its four-character kind, the range of its body in the file, and whether the data hold all of it."""

    kind: bytes
    start: int
    stop: int
    whole: bool = True


@dataclass(frozen=True)
class Property:
    """A property of an item: the kind and body of its box, and whether readers must understand it."""

    kind: bytes
    body: bytes
    essential: bool = False


@dataclass(frozen=True)
class Item:
    """An item: its kind, content, properties in order, references by kind, and the media type of a mime item."""

    kind: bytes
    content: bytes
    properties: tuple[Property, ...] = ()
    references: Mapping[bytes, tuple[int, ...]] = field(default_factory=dict)
    media_type: bytes = b""

    def property(self, kind: bytes) -> bytes | None:
        """Return the body of the first property of a kind."""
        return next((p.body for p in self.properties if p.kind == kind), None)


@dataclass(frozen=True)
class Heif:
    """The items of a HEIF file by their number, and which of them is the picture."""

    items: Mapping[int, Item]
    primary: int

    @cached_property
    def _referring(self) -> dict[tuple[bytes, int], list[int]]:
        found: dict[tuple[bytes, int], list[int]] = {}
        for number, item in self.items.items():
            for kind, targets in item.references.items():
                for target in dict.fromkeys(targets):
                    found.setdefault((kind, target), []).append(number)
        return found

    def referring(self, kind: bytes, number: int) -> list[int]:
        """Return the items with a reference of a kind to an item."""
        return self._referring.get((kind, number), [])

    def only(self, numbers: Iterable[int]) -> Heif:
        """Return the file with some of its items alone, and the references among them."""
        kept = set(numbers)
        items = {}
        for number in sorted(kept):
            item = self.items[number]
            references = {
                kind: tuple(n for n in targets if n in kept)
                for kind, targets in item.references.items()
                if kept.intersection(targets)
            }
            items[number] = replace(item, references=references)
        return Heif(items, self.primary)


def boxes(data: bytes | bytearray, start: int = 0, stop: int | None = None, *, strict: bool = True) -> Iterator[Box]:
    """Yield the boxes between two offsets; a cut last box ends where the data end.

    Args:
        data: the file.
        start: where the first box starts.
        stop: where the last one ends at the latest; None for the end of the file.
        strict: whether to raise at a box that is malformed; otherwise that too ends where the data end.

    Raises:
        ValueError: a box is shorter than its own header.
    """
    stop = len(data) if stop is None else min(stop, len(data))
    while stop - start >= 8:
        size, kind = struct.unpack_from(">I4s", data, start)
        header = 8
        if size == 1:
            size, header = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        elif size == 0:  # it extends to the end
            size = stop - start
        if size < header or start + header > len(data):
            if strict:
                raise ValueError("a box is shorter than its header")
            size = stop - start + 1
        yield Box(kind, start + header, min(start + size, stop), start + size <= stop)
        start += size


def file_boxes(data: bytes | bytearray) -> tuple[list[Box], int]:
    """Return the boxes of a file, and where they end: before what is no box, and before a further file.

    Only the coded picture may be cut short, because what there is of it can be read.
    """
    found, end = list[Box](), 0
    for box in islice(boxes(data, strict=False), _MOST_BOXES):
        further = box.kind == b"ftyp" and any(earlier.kind == b"ftyp" for earlier in found)
        if further or not box.kind.isascii() or not box.kind.decode().isprintable():
            break
        if not box.whole and box.kind not in _PICTURE_DATA:
            break
        found.append(box)
        end = box.stop
    return found, end


def find_box(data: bytes | bytearray, *path: bytes, inside: Box | None = None) -> Box | None:
    """Return the first box at a path of kinds, such as ``moov, trak, mdia``, in the file or inside a box."""
    found = inside
    for kind in path:
        among = boxes(data, children(found), found.stop) if found else file_boxes(data)[0]
        found = next((box for box in among if box.kind == kind), None)
        if found is None:
            return None
    return found


def children(box: Box) -> int:
    """Return where the boxes inside a box start."""
    if box.kind in (b"meta", b"iref"):
        return box.start + 4  # version and flags
    if box.kind == b"stsd":
        return box.start + 8
    return box.start + _VISUAL_SAMPLE_ENTRY if box.kind in (b"av01", b"hvc1") else box.start


class _Fields:
    """Reads the fields of a box one after the other."""

    def __init__(self, data: bytes, box: Box) -> None:
        self.data, self.at, self.stop = data, box.start, box.stop

    def number(self, size: int) -> int:
        """Return the next big-endian number of some bytes."""
        if self.at + size > self.stop:
            raise ValueError("a box is cut short")
        self.at += size
        return int.from_bytes(self.data[self.at - size : self.at], "big")

    def raw(self, size: int) -> bytes:
        return self.number(size).to_bytes(size, "big")

    def text(self) -> bytes:
        """Return the next text, which ends with a zero byte or the box."""
        end = self.data.find(b"\0", self.at, self.stop)
        end = self.stop if end < 0 else end
        text = self.data[self.at : end]
        self.at = min(end + 1, self.stop)
        return text

    def version(self) -> tuple[int, int]:
        """Return the version and flags of a full box."""
        return self.number(1), self.number(3)


def parse_heif(data: bytes) -> Heif:
    """Take a HEIF file apart.

    Raises:
        ValueError: it has no picture, or is malformed.
    """
    meta = find_box(data, b"meta")
    if meta is None:
        raise ValueError("no meta box")
    parts = {box.kind: box for box in boxes(data, meta.start + 4, meta.stop)}
    primary = _Fields(data, parts[b"pitm"])
    version, _ = primary.version()
    number = primary.number(4 if version else 2)
    kinds = _parse_kinds(data, parts[b"iinf"])
    contents = _parse_contents(data, parts[b"iloc"], parts.get(b"idat"))
    references = _parse_references(data, parts[b"iref"]) if b"iref" in parts else {}
    properties = _parse_properties(data, parts[b"iprp"]) if b"iprp" in parts else {}
    items = {
        n: Item(kind, contents.get(n, b""), tuple(properties.get(n, ())), references.get(n, {}), media_type)
        for n, (kind, media_type) in kinds.items()
    }
    if number not in items:
        raise ValueError("the picture is missing")
    return Heif(items, number)


def _parse_kinds(data: bytes, box: Box) -> dict[int, tuple[bytes, bytes]]:
    """Return kinds and media types of the items."""
    fields = _Fields(data, box)
    version, _ = fields.version()
    count = fields.number(4 if version else 2)
    kinds: dict[int, tuple[bytes, bytes]] = {}
    for entry in boxes(data, fields.at, box.stop):
        if len(kinds) == min(count, _MAX_ITEMS):
            break
        info = _Fields(data, entry)
        version, _ = info.version()
        if entry.kind != b"infe" or version < 2:
            continue
        number = info.number(4 if version > 2 else 2)
        info.number(2)  # protection
        kind = info.raw(4)
        info.text()  # name
        kinds[number] = kind, info.text() if kind == b"mime" else b""
    return kinds


def _parse_contents(data: bytes, box: Box, inline: Box | None) -> dict[int, bytes]:
    """Return the contents of the items; none of those that lie outside the file."""
    fields = _Fields(data, box)
    version, _ = fields.version()
    sizes = fields.number(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    contents: dict[int, bytes] = {}
    budget = len(data) + (1 << 20)  # items may share bytes, but not many
    for _ in range(min(fields.number(4 if version > 1 else 2), _MAX_ITEMS)):
        number = fields.number(4 if version > 1 else 2)
        method = fields.number(2) & 15 if version else 0
        fields.number(2)  # this file
        base = fields.number(base_size)
        area = Box(b"", 0, len(data)) if method == 0 else inline if method == 1 else None
        pieces, sound, extents = [], area is not None, fields.number(2)
        if extents > 1 and not offset_size + length_size:
            raise ValueError("extents without a size")
        for _ in range(extents):
            if version:
                fields.number(index_size)
            start, length = base + fields.number(offset_size), fields.number(length_size)
            if area is None:
                continue
            start += area.start
            stop = start + length if length else area.stop
            sound = sound and start <= stop <= area.stop
            budget -= stop - start
            if budget < 0:
                raise ValueError("items claim more bytes than the file has")
            pieces.append(data[start:stop])
        if sound:
            contents[number] = b"".join(pieces)
    return contents


def _parse_references(data: bytes, box: Box) -> dict[int, dict[bytes, tuple[int, ...]]]:
    """Return the references of the items, by kind."""
    fields = _Fields(data, box)
    version, _ = fields.version()
    size = 4 if version else 2
    references: dict[int, dict[bytes, list[int]]] = {}
    links = 0
    for entry in boxes(data, fields.at, box.stop):
        reference = _Fields(data, entry)
        source, count = reference.number(size), reference.number(2)
        links = _bounded(links + count)
        targets = references.setdefault(source, {}).setdefault(entry.kind, [])
        targets += [reference.number(size) for _ in range(count)]
    return {source: {kind: tuple(found) for kind, found in kinds.items()} for source, kinds in references.items()}


def _parse_properties(data: bytes, box: Box) -> dict[int, list[Property]]:
    """Return the properties of the items."""
    parts = list(boxes(data, box.start, box.stop))
    container = next(part for part in parts if part.kind == b"ipco")
    known = [(p.kind, data[p.start : p.stop]) for p in boxes(data, container.start, container.stop)]
    properties: dict[int, list[Property]] = {}
    links = 0
    for part in parts:
        if part.kind != b"ipma":
            continue
        fields = _Fields(data, part)
        version, flags = fields.version()
        bits = 15 if flags & 1 else 7
        for _ in range(min(fields.number(4), _MAX_ITEMS)):
            number = fields.number(4 if version else 2)
            found, count = properties.setdefault(number, []), fields.number(1)
            links = _bounded(links + count)
            for _ in range(count):
                value = fields.number((bits + 1) // 8)
                index = (value & (1 << bits) - 1) - 1
                if 0 <= index < len(known):  # 0 means no property
                    found.append(Property(*known[index], bool(value >> bits)))
    return properties


def exif_content(content: bytes) -> bytes:
    """Return the EXIF block in an item or box, which starts with the distance to it, though not in all files."""
    stated = 4 + int.from_bytes(content[:4], "big")
    starts = (stated, 4, 10, 0, 6)  # with and without the mark of JPEG files, of 6 bytes
    return next((content[at:] for at in starts if content[at : at + 2] in (b"II", b"MM")), content[4:])


def _bounded(links: int) -> int:
    if links > _MAX_LINKS:
        raise ValueError("items have too many references or properties")
    return links


def pack_box(kind: bytes, *parts: bytes) -> bytes:
    """Return a box."""
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def pack_full_box(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    """Return a box with a version and flags."""
    return pack_box(kind, struct.pack(">I", version << 24 | flags), *parts)


def pack_heif(file: Heif, brand: bytes, *compatible: bytes) -> bytes:
    """Put a HEIF file together, with its items numbered from 1.

    Args:
        file: the items.
        brand: brand of the file, such as ``avif``.
        compatible: further brands.
    """
    file = _renumbered(file)
    head = pack_box(b"ftyp", brand, b"\0\0\0\0", brand, *compatible)
    kinds, references, properties = _pack_kinds(file), _pack_references(file), _pack_properties(file)

    def meta(contents_at: int) -> bytes:
        handler = pack_full_box(b"hdlr", 0, 0, struct.pack(">I4s12xx", 0, b"pict"))
        primary = pack_full_box(b"pitm", 0, 0, struct.pack(">H", file.primary))
        contents = _pack_locations(file, contents_at)
        return pack_full_box(b"meta", 0, 0, handler, primary, contents, kinds, references, properties)

    contents_at = len(head) + len(meta(0)) + 8
    return head + meta(contents_at) + pack_box(b"mdat", *(item.content for item in file.items.values()))


def _renumbered(file: Heif) -> Heif:
    """Return the file with its items numbered from 1."""
    numbers = {old: new for new, old in enumerate(file.items, 1)}
    items = {}
    for old, item in file.items.items():
        references = {kind: tuple(numbers[n] for n in targets) for kind, targets in item.references.items()}
        items[numbers[old]] = replace(item, references=references)
    return Heif(items, numbers[file.primary])


def _pack_kinds(file: Heif) -> bytes:
    """Return the kinds and media types of the items. Tiles are hidden."""
    tiles = {tile for item in file.items.values() for tile in item.references.get(b"dimg", ())}
    entries = []
    for number, item in file.items.items():
        name = b"\0" + item.media_type + b"\0" if item.kind == b"mime" else b"\0"
        fields = struct.pack(">HH4s", number, 0, item.kind)
        entries.append(pack_full_box(b"infe", 2, int(number in tiles), fields, name))
    return pack_full_box(b"iinf", 0, 0, struct.pack(">H", len(entries)), *entries)


def _pack_locations(file: Heif, start: int) -> bytes:
    """Return where the contents of the items are, which follow each other from an offset on."""
    locations = []
    for number, item in file.items.items():
        locations.append(struct.pack(">HHHII", number, 0, 1, start, len(item.content)))
        start += len(item.content)
    return pack_full_box(b"iloc", 0, 0, struct.pack(">BBH", 0x44, 0, len(locations)), *locations)


def _pack_references(file: Heif) -> bytes:
    """Return the references of the items; nothing if there are none."""
    references = []
    for number, item in file.items.items():
        for kind, targets in item.references.items():
            ids = [number, len(targets), *targets]
            references.append(pack_box(kind, struct.pack(f">{len(ids)}H", *ids)))
    return pack_full_box(b"iref", 0, 0, *references) if references else b""


def _pack_properties(file: Heif) -> bytes:
    """Return the properties of the items; equal ones are stored once."""
    known: dict[tuple[bytes, bytes], int] = {}
    associations = []
    for number, item in file.items.items():
        indices = []
        for entry in item.properties:
            index = known.setdefault((entry.kind, entry.body), len(known) + 1)
            indices.append(entry.essential << 15 | index)
        if indices:
            associations.append(struct.pack(f">HB{len(indices)}H", number, len(indices), *indices))
    return pack_box(
        b"iprp",
        pack_box(b"ipco", *(pack_box(kind, body) for kind, body in known)),
        pack_full_box(b"ipma", 0, 1, struct.pack(">I", len(associations)), *associations),
    )
