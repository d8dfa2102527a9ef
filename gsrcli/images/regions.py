"""Turn and enlarge what XMP says of regions of a picture, such as faces.

These are the regions of the Metadata Working Group (2010, 5.9), which belong to the stored picture, before it is turned
by its orientation; those of Microsoft (People Tagging); and those of IPTC.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from gsrcli.images.xmp import RDF, Packet

__all__ = ["enlarged_regions", "kinds_of_regions", "turned_regions", "without_regions"]

_AREA, _DIMENSIONS = "http://ns.adobe.com/xmp/sType/Area#", "http://ns.adobe.com/xap/1.0/sType/Dimensions#"
_RECTANGLE = "http://ns.microsoft.com/photo/1.2/t/Region#"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_APPLIED_TO, _OF_IPTC = "AppliedToDimensions", (_IPTC, "ImageRegion")
_PROPERTIES = (
    ("http://www.metadataworkinggroup.com/schemas/regions/", "Regions"),
    ("http://ns.microsoft.com/photo/1.2/", "RegionInfo"),
    _OF_IPTC,
)

_NUMBER = re.compile(rb"-?(?:\d{1,9}(?:\.\d{0,30})?|\.\d{1,30})(?:[eE][+-]?\d)?")
_DEEPEST, _MOST = 64, 10_000


def turned_regions(packet: bytes, orientation: int) -> bytes:
    """Return an XMP packet whose regions are turned upright with the picture.

    Args:
        packet: the packet.
        orientation: the orientation by which the picture is turned, 1 to 8.

    Returns:
        the packet without regions that are not measured as specified, and without those of IPTC, if it is turned.
    """
    if orientation == 1 or not _may_have_regions(packet):
        return packet
    try:
        places = _Places(packet)
        packet = places.edited({**_turned_areas(places, orientation), **_turned_rectangles(places, orientation)})
    except ValueError:
        return without_regions(packet)
    return _without(packet, (_OF_IPTC,))


def enlarged_regions(packet: bytes, scale: tuple[float, float]) -> bytes:
    """Return an XMP packet whose regions are those of an enlarged picture, where they are measured in pixels.

    Args:
        packet: the packet.
        scale: scale factors (y, x).
    """
    if not _may_have_regions(packet):
        return packet
    down, across = scale
    factors = {"w": across, "h": down, "rbX": across, "rbY": down, "rbW": across, "rbH": down, "rbRx": across}
    try:
        places = _Places(packet)
        in_pixels = {v.parents[-1] for v in places.values if v.name == "rbUnit" and places.at(v) == b"pixel"}
        measured = [v for v in places.values if v.structure == _APPLIED_TO or in_pixels & set(v.parents)]
        enlarged = {v: float(places.number(v)) * factors[v.name] for v in measured if v.name in factors}
    except ValueError:
        return packet
    return places.edited({value: f"{number:.10g}".encode() for value, number in enlarged.items()})


def kinds_of_regions(packet: bytes) -> set[str]:
    """Return the names of the properties that tell regions."""
    if not _may_have_regions(packet):
        return set()
    try:
        return {p.name for p in Packet(packet).properties if (p.namespace, p.name) in _PROPERTIES}
    except ValueError:
        return set()


def without_regions(packet: bytes) -> bytes:
    """Return an XMP packet without regions; one that is not well-formed as it is."""
    return _without(packet, _PROPERTIES)


def _may_have_regions(packet: bytes) -> bool:
    return any(namespace.encode() in packet for namespace, _ in _PROPERTIES)


def _without(packet: bytes, names: Iterable[tuple[str, str]]) -> bytes:
    try:
        parsed = Packet(packet)
    except ValueError:
        return packet
    doomed = [p for p in parsed.properties if (p.namespace, p.name) in names]
    return parsed.without(doomed) if doomed else packet


def _turned_areas(places: _Places, orientation: int) -> dict[_Value, bytes]:
    """Return new values for the areas of the Metadata Working Group, and the dimensions of the picture they apply to.

    Raises:
        ValueError: they are not as specified.
    """
    changed = dict[_Value, bytes]()
    for area in places.structures(_AREA):
        if "unit" in area and places.at(area["unit"]) != b"normalized":
            raise ValueError("areas in other units")
        numbers = [places.number(area[name]) if name in area else Decimal() for name in "xywh"]
        turned = dict(zip("xywh", _turned(orientation, *numbers), strict=True))
        changed |= {area[name]: _text(turned[name]) for name in "xywh" if name in area}
    for sides in places.structures(_DIMENSIONS, _APPLIED_TO) if orientation > 4 else ():
        changed |= {sides[a]: places.at(sides[b]) for a, b in ("wh", "hw") if {a, b} <= sides.keys()}
    return changed


def _turned_rectangles(places: _Places, orientation: int) -> dict[_Value, bytes]:
    """Return new values for Microsoft's rectangles: left, top, width and height.

    Raises:
        ValueError: they are not as specified.
    """
    changed = dict[_Value, bytes]()
    for rectangle in places.structures(_RECTANGLE):
        if "Rectangle" in rectangle:
            left, top, w, h = map(_number, places.at(rectangle["Rectangle"]).split(b","))
            x, y, w, h = _turned(orientation, left + w / 2, top + h / 2, w, h)
            changed[rectangle["Rectangle"]] = b", ".join(map(_text, (x - w / 2, y - h / 2, w, h)))
    return changed


def _turned(orientation: int, x: Decimal, y: Decimal, w: Decimal, h: Decimal) -> tuple[Decimal, ...]:
    """Turn an area upright: its centre, width and height, in parts of the picture's sides."""
    if orientation > 4:
        x, y, w, h = y, x, h, w
    return (1 - x if orientation in (2, 3, 6, 7) else x), (1 - y if orientation in (3, 4, 7, 8) else y), w, h


def _number(text: bytes) -> Decimal:
    """Return a number.

    Raises:
        ValueError: it is none.
    """
    if not _NUMBER.fullmatch(text.strip()):
        raise ValueError("not a number")
    return Decimal(text.strip().decode())


def _text(number: Decimal) -> bytes:
    return f"{number.normalize():f}".encode()


@dataclass(frozen=True)
class _Value:
    """A number or unit of a region: its namespace and name, where its text stands, and to what it belongs.

    Attributes:
        parents: numbers of the elements around it, the innermost last.
        structure: name of the innermost that is not of RDF, without its namespace.
    """

    namespace: str
    name: str
    start: int
    end: int
    parents: tuple[int, ...]
    structure: str


@dataclass
class _Places(Packet):
    """The layout of an XMP packet, with the numbers and units of its regions, be they attributes or elements.

    Raises:
        ValueError: it is not well-formed XML, too deep, or has too many of them.
    """

    values: list[_Value] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._elements: list[tuple[int, str, int]] = []  # number, structure, and end of the start tag
        self._count = 0
        super().__post_init__()

    def _start(self, name: str, _: object) -> None:
        super()._start(name, _)
        if len(self._elements) >= _DEEPEST:
            raise ValueError("too deep")
        at = self._parser.CurrentByteIndex
        tag_end = self._tag_end(at)
        self._count += 1
        uri, _, local = name.rpartition(" ")
        structure = self._elements[-1][1] if uri == RDF and self._elements else local
        self._elements.append((self._count, structure, tag_end))
        for uri, local, match in self._attributes(at, tag_end):
            self._add(uri, local, match.start(2) + 1, match.end(2) - 1)

    def _end(self, name: str) -> None:
        super()._end(name)
        number, _, start = self._elements.pop()
        at = self._parser.CurrentByteIndex
        if number == self._count and self._elements and at >= start:  # no element is inside
            uri, _, local = name.rpartition(" ")
            self._add(uri, local, start, at)

    def _add(self, namespace: str, name: str, start: int, end: int) -> None:
        if namespace not in (_AREA, _DIMENSIONS, _RECTANGLE, _IPTC):
            return
        if len(self.values) >= _MOST:
            raise ValueError("too many regions")
        numbers, structures, _ = zip(*self._elements, strict=True)
        self.values.append(_Value(namespace, name, start, end, numbers, structures[-1]))

    def structures(self, namespace: str, name: str | None = None) -> list[dict[str, _Value]]:
        """Return the structures with values of a namespace: values by their names.

        Args:
            namespace: the namespace.
            name: name of the structures; None for any.
        """
        found = dict[int, dict[str, _Value]]()
        for value in self.values:
            if value.namespace == namespace and name in (None, value.structure):
                found.setdefault(value.parents[-1], {})[value.name] = value
        return list(found.values())

    def at(self, value: _Value) -> bytes:
        """Return the text of a value, without white space around it."""
        return self.text[value.start : value.end].strip()

    def number(self, value: _Value) -> Decimal:
        """Return a value that is a number, or raise `ValueError`."""
        return _number(self.at(value))

    def edited(self, changed: Mapping[_Value, bytes]) -> bytes:
        """Return the packet with other texts for some values."""
        parts, done = list[bytes](), 0
        for value in sorted(changed, key=lambda value: value.start):
            parts += [self.text[done : value.start], changed[value]]
            done = value.end
        return b"".join([*parts, self.text[done:]])
