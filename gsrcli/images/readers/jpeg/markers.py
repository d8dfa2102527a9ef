"""The markers of a JPEG file: its segments, frame and scans (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from gsrcli.size import Size

__all__ = ["ADOBE", "APP0", "COM", "JFIF", "Codestream", "Component", "Frame", "Scan", "Segment", "read_codestream"]

APP0, COM = 0xE0, 0xFE
JFIF, ADOBE = b"JFIF\0", b"Adobe"
_SOI, _EOI, _SOS, _DNL, _DHP = 0xD8, 0xD9, 0xDA, 0xDC, 0xDE
_TABLES = frozenset((0xC4, 0xCC, 0xDB, 0xDD))  # DHT, DAC, DQT, DRI
_ANCILLARY = frozenset((*range(APP0, 0xF0), COM))
_FRAMES = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), _DHP, 0xF7))
_WITHIN_DATA = _TABLES | _ANCILLARY | {_SOS, _DNL}  # what may follow a scan, besides the end
_WITH_PARAMETERS = _WITHIN_DATA | _FRAMES

_MARKER = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
_MARKER_WITHIN_DATA = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)  # not a stuffed byte or a restart


class Segment(NamedTuple):
    """A marker with its parameters, and their offset in the file: APP0 to APP15, or a comment."""

    marker: int
    body: bytes
    at: int


class Component(NamedTuple):
    """A component of the frame: its identifier, sampling factors, and quantization table."""

    identifier: int
    horizontal: int
    vertical: int
    table: int


@dataclass(frozen=True)
class Frame:
    """The frame header.

    Attributes:
        marker: its marker, which tells the process: 0xC0 baseline, 0xC2 progressive, and so on.
        precision: bits per sample.
        size: size as stored.
        components: its components.
    """

    marker: int
    precision: int
    size: Size
    components: tuple[Component, ...]

    @property
    def progressive(self) -> bool:
        return self.marker in (0xC2, 0xCA)

    @property
    def arithmetic(self) -> bool:
        return self.marker in (0xC9, 0xCA)

    def blocks(self, component: Component) -> int:
        """Return the number of 8x8 blocks that cover a component."""
        widest = max(c.horizontal for c in self.components)
        tallest = max(c.vertical for c in self.components)
        across = -(-self.size.width * component.horizontal // (8 * widest))
        down = -(-self.size.height * component.vertical // (8 * tallest))
        return across * down


class Scan(NamedTuple):
    """A scan: the identifiers of its components, the band of coefficients, the bits, and the bytes of its data."""

    components: tuple[int, ...]
    first: int
    last: int
    high: int
    low: int
    size: int


@dataclass
class Codestream:
    """A picture's bytes, from its start to its end.

    Attributes:
        end: where it ends in the file.
        frame: its frame; None if there is none.
        scans: its scans.
        tables: quantization tables, 64 numbers in zigzag order, by identifier.
        segments: segments that a decoder of the picture does not need, in the order of the file.
        sound: whether all bytes are where they belong. A decoder finds more damage, within the scans.
        misplaced: whether there is anything between segments.
        decodable: what a decoder needs, alone and with an end.
    """

    end: int = 0
    frame: Frame | None = None
    scans: list[Scan] = field(default_factory=list)
    tables: dict[int, tuple[int, ...]] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    sound: bool = True
    misplaced: bool = False
    decodable: bytes = b""

    def find(self, marker: int, signature: bytes) -> list[bytes]:
        """Return the bodies of the segments with a marker and signature, without the signature."""
        return [s.body[len(signature) :] for s in self.segments if s.marker == marker and s.body.startswith(signature)]


def read_codestream(data: bytes, start: int = 0) -> Codestream:
    """Read the markers of the picture that starts at an offset of a file. Whatever is wrong, this raises nothing."""
    stream = Codestream()
    parts: list[bytes] = []
    at = start + 2
    while (found := _MARKER.search(data, at)) is not None:
        marker, between = data[found.end() - 1], data[at : found.start()]
        if between.strip(b"\0\xff"):
            stream.misplaced = True
        at = found.end()
        if marker == _EOI:
            break
        if marker == _SOI:  # the end is missing, and another picture follows
            at -= 2
            break
        if marker in _WITH_PARAMETERS:
            if (body := _body(data, at)) is None:
                at = len(data)
                break
            at += 2 + len(body)
            if marker == _SOS:
                at = _read_scan(stream, parts, data, body, at)
            elif marker in _ANCILLARY:
                stream.segments.append(Segment(marker, body, at - len(body)))
            else:
                _read_parameters(stream, parts, marker, body)
    else:
        at = len(data)
    stream.end = at
    stream.decodable = b"".join((b"\xff\xd8", *_colour_markers(stream), *parts, b"\xff\xd9"))
    return stream


def _body(data: bytes, at: int) -> bytes | None:
    """Return the parameters of the segment whose length is at an offset; None if the file ends before."""
    length = int.from_bytes(data[at : at + 2], "big")
    return data[at + 2 : at + length] if 2 <= length <= len(data) - at else None


def _packed(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _read_parameters(stream: Codestream, parts: list[bytes], marker: int, body: bytes) -> None:
    """Read a frame header, tables, or the number of lines."""
    if marker in _FRAMES:
        if stream.frame is None:
            stream.frame = _frame(marker, body)
            parts.append(_packed(marker, body))
        else:
            stream.sound = False
    elif marker == _DNL:
        _set_height(stream, parts, body)
    else:
        if marker == 0xDB:
            _read_tables(stream, body)
        parts.append(_packed(marker, body))


def _frame(marker: int, body: bytes) -> Frame | None:
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        return None
    precision, height, width, count = struct.unpack(">BHHB", body[:6])
    components = (
        Component(name, factors >> 4, factors & 15, table)
        for name, factors, table in struct.iter_unpack("BBB", body[6 : 6 + 3 * count])
    )
    return Frame(marker, precision, Size(height, width), tuple(components))


def _set_height(stream: Codestream, parts: list[bytes], body: bytes) -> None:
    """Put the height that is given after the first scan, if it is, into the frame header, as libjpeg needs it."""
    frame = stream.frame
    if frame is None or frame.size.height or len(body) != 2:
        return
    stream.frame = replace(frame, size=Size(int.from_bytes(body, "big"), frame.size.width))
    for index, part in enumerate(parts):
        if part[1] == frame.marker:
            parts[index] = part[:5] + body + part[7:]


def _read_tables(stream: Codestream, body: bytes) -> None:
    at = 0
    while at < len(body):
        wide, name = body[at] >> 4, body[at] & 15
        values = body[at + 1 : at + 1 + (128 if wide else 64)]
        at += 1 + (128 if wide else 64)
        if at <= len(body):
            stream.tables.setdefault(name, struct.unpack(">64H" if wide else "64B", values))


def _read_scan(stream: Codestream, parts: list[bytes], data: bytes, body: bytes, at: int) -> int:
    """Read the scan whose data start at an offset; return where they end."""
    parts.append(_packed(_SOS, body))
    start = piece = at
    while (found := _MARKER_WITHIN_DATA.search(data, at)) is not None:
        at = found.start()
        if _ends_scan(data, at):
            break
        stream.sound = False  # A marker that cannot be here would be fatal to libjpeg. It was a stuffed byte, perhaps.
        parts.append(data[piece:at] + b"\xff\0")
        at = piece = found.end()
    else:
        at = len(data)
    parts.append(data[piece:at])
    if body and len(body) == 4 + 2 * body[0]:
        first, last, bits = body[-3:]
        stream.scans.append(Scan(tuple(body[1:-3:2]), first, last, bits >> 4, bits & 15, at - start))
    else:
        stream.sound = False
    return at


def _ends_scan(data: bytes, at: int) -> bool:
    """Return whether the marker at an offset can follow the data of a scan: another one follows it, or the end."""
    marker = data[at + 1]
    if marker in (_EOI, _SOI):
        return True
    body = _body(data, at + 2) if marker in _WITHIN_DATA else None
    if body is None:
        return False
    if marker == _SOS:
        return bool(body) and len(body) == 4 + 2 * body[0]
    return data[at + 4 + len(body) : at + 5 + len(body)] in (b"\xff", b"")


def _colour_markers(stream: Codestream) -> list[bytes]:
    """Return the two segments from which libjpeg tells the colours, without anything else that it would object to."""
    markers = []
    if stream.find(APP0, JFIF):
        markers.append(_packed(APP0, JFIF + b"\1\1\0\0\1\0\1\0\0"))
    if adobe := [body for body in stream.find(0xEE, ADOBE) if len(body) >= 7]:
        transform = adobe[-1][6]
        if transform > 2 and stream.frame is not None:  # unknown: YCbCr or YCCK
            transform = {3: 1, 4: 2}.get(len(stream.frame.components), 0)
        markers.append(_packed(0xEE, ADOBE + adobe[-1][:6] + bytes([transform])))
    return markers
