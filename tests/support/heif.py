"""Build HEIF files (AVIF, HEIC) box by box, around pictures that another encoder coded."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

SIZE = 4


@dataclass
class HeifItem:
    """An item: properties are (kind, body); references (kind, numbers)."""

    kind: bytes
    content: bytes
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    references: list[tuple[bytes, list[int]]] = field(default_factory=list)
    media_type: bytes = b""


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def ispe(width: int, height: int) -> tuple[bytes, bytes]:
    return b"ispe", struct.pack(">III", 0, width, height)


def nclx(primaries: int, transfer: int, matrix: int = 6, full: bool = True) -> tuple[bytes, bytes]:
    return b"colr", b"nclx" + struct.pack(">HHHB", primaries, transfer, matrix, full << 7)


def exif_item(block: bytes) -> HeifItem:
    return HeifItem(b"Exif", b"\0\0\0\6Exif\0\0" + block, references=[(b"cdsc", [1])])


def xmp_item(packet: bytes) -> HeifItem:
    return HeifItem(b"mime", packet, references=[(b"cdsc", [1])], media_type=b"application/rdf+xml")


def boxes_of(data: bytes, kind: bytes) -> list[bytes]:
    """Return the bodies of all boxes of a kind, wherever they are; good enough for files without a picture's bytes."""
    found, at = [], data.find(kind)
    while at >= 0:
        length = int.from_bytes(data[at - SIZE : at], "big")
        found.append(data[at + 4 : at - SIZE + length])
        at = data.find(kind, at + 4)
    return found


def coded_items(data: bytes, configuration: bytes = b"av1C") -> list[HeifItem]:
    """Return the pictures in a file that an encoder wrote, in its order, with their configuration."""
    table = boxes_of(data, b"iloc")[0]
    assert table[4] == 0x44, "offsets and lengths of 4 bytes"
    items, configurations = [], boxes_of(data, configuration)
    wide = table[0] == 1
    at = 8
    for _ in range(int.from_bytes(table[6:8], "big")):
        at += 4 if not wide else 6  # item, (method,) file
        base = int.from_bytes(table[at : at + (table[5] >> 4)], "big")
        at += (table[5] >> 4) + 2  # and the number of extents, 1
        offset, length = struct.unpack_from(">II", table, at)
        offset += base
        at += 8
        if len(items) < len(configurations):
            body = configurations[len(items)]
            kind = {b"av1C": b"av01", b"hvcC": b"hvc1"}[configuration]
            items.append(HeifItem(kind, data[offset : offset + length], [(configuration, body)]))
    return items


def heif_file(*items: HeifItem, brand: bytes = b"avif", primary: int = 1, brands: tuple[bytes, ...] = ()) -> bytes:
    """Build a file of items, which are numbered from 1 on."""
    infos, references, properties, associations = [], [], [], []
    for number, item in enumerate(items, 1):
        tail = b"\0" + (item.media_type + b"\0" if item.media_type else b"")
        infos.append(box(b"infe", struct.pack(">IHH", 2 << 24, number, 0), item.kind, tail))
        for kind, targets in item.references:
            references.append(box(kind, struct.pack(f">HH{len(targets)}H", number, len(targets), *targets)))
        indices = []
        for kind, body in item.properties:
            properties.append(box(kind, body))
            indices.append(len(properties) | 0x80 * (kind in (b"av1C", b"hvcC", b"irot", b"imir", b"clap")))
        associations.append(struct.pack(">HB", number, len(indices)) + bytes(indices))
    head = box(b"ftyp", brand, b"\0\0\0\0", brand, *(brands or (b"mif1", b"miaf")))

    def meta(at: int) -> bytes:
        places = b""
        for number, item in enumerate(items, 1):
            places += struct.pack(">HHHII", number, 0, 1, at, len(item.content))
            at += len(item.content)
        return box(
            b"meta",
            b"\0\0\0\0",
            box(b"hdlr", struct.pack(">II4s12xx", 0, 0, b"pict")),
            box(b"pitm", struct.pack(">IH", 0, primary)),
            box(b"iloc", struct.pack(">IBBH", 0, 0x44, 0, len(items)), places),
            box(b"iinf", struct.pack(">IH", 0, len(items)), *infos),
            box(b"iref", b"\0\0\0\0", *references) if references else b"",
            box(
                b"iprp",
                box(b"ipco", *properties),
                box(b"ipma", struct.pack(">II", 0, len(associations)), *associations),
            ),
        )

    contents = b"".join(item.content for item in items)
    return head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", contents)
