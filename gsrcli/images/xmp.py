"""Edit XMP: orientation and size, what refers to other parts of a file, and the two parts of a packet in JPEG files.

Packets are edited as text, at the places where a parser found the properties, so that everything else stays as it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from gsrcli.size import Size

__all__ = [
    "RDF",
    "Packet",
    "Property",
    "extension_digest",
    "merge_xmp",
    "split_xmp",
    "xmp_alone",
    "xmp_digest",
    "xmp_is_blank",
    "xmp_orientation",
    "xmp_resized",
    "xmp_upright",
]

_XMP_ORIENTATION = re.compile(rb'(tiff:Orientation(?:="|>))([1-8])')  # as in Pillow, which turns TIFF files by it
_XMP_WIDTH = re.compile(rb"((?:exif:PixelXDimension|tiff:ImageWidth)(?:\s*=\s*[\"']|>)\s*)\d+")
_XMP_HEIGHT = re.compile(rb"((?:exif:PixelYDimension|tiff:ImageLength)(?:\s*=\s*[\"']|>)\s*)\d+")
_PANORAMA = rb"(GPano:%b(?:\s*=\s*[\"']|>)\s*)(\d{1,9})(?![\d.])"

_LONGEST_BLANK = 4096  # bytes without padding; whatever is longer says something
_TIFF = "http://ns.adobe.com/tiff/1.0/"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_NOTE = "http://ns.adobe.com/xmp/note/"
_CAMERA = "http://ns.google.com/photos/1.0/camera/"
_GAIN_MAPS = ("http://ns.adobe.com/hdr-gain-map/1.0/", "http://ns.apple.com/HDRGainMap/1.0/")
_DIRECTORIES = (
    "http://ns.google.com/photos/1.0/container/",
    "http://ns.google.com/photos/dd/1.0/container/",
    "http://ns.apple.com/pixeldatainfo/1.0/",
)

_LIST = f"{RDF} RDF"
_MOST_PREFIXES, _MOST_PROPERTIES = 256, 10_000
# Possessive quantifiers, which never go back, so that nothing that they meet takes them long.
_TAG = re.compile(rb"<(?:[^\"'>]++|\"[^\"]*+\"|'[^']*+')*+>")
_ATTRIBUTE = re.compile(rb"(?<!\s)\s++([^\s=<>\"']++)\s*+=\s*+(\"[^\"]*+\"|'[^']*+')")


def xmp_orientation(packet: bytes) -> int | None:
    """Return the orientation in an XMP packet, 1 to 8, or None."""
    match = _XMP_ORIENTATION.search(packet)
    return int(match[2]) if match else None


def xmp_upright(packet: bytes) -> bytes:
    """Return an XMP packet with orientation 1."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1", packet)


def xmp_resized(packet: bytes, size: Size) -> bytes:
    """Return an XMP packet with its picture size, if it has one, changed, and a panorama's measures in proportion."""
    packet = _XMP_WIDTH.sub(rb"\g<1>%d" % size.width, packet)
    packet = _XMP_HEIGHT.sub(rb"\g<1>%d" % size.height, packet)
    packet = _scaled(packet, size.width, b"CroppedAreaImageWidthPixels", rb"\w{0,40}(?:Left|Width)\w{0,40}")
    return _scaled(packet, size.height, b"CroppedAreaImageHeightPixels", rb"\w{0,40}(?:Top|Height)\w{0,40}")


def _scaled(packet: bytes, side: int, stated: bytes, names: bytes) -> bytes:
    """Scale the properties of a panorama in pixels, among them its width or height, to that of the picture."""
    before = re.search(_PANORAMA % stated, packet)
    if before is None or not int(before[2]):
        return packet
    return re.sub(_PANORAMA % names, lambda m: m[1] + b"%d" % round(int(m[2]) * side / int(before[2])), packet)


@dataclass(frozen=True)
class Property:
    """A property: its namespace and name, where it stands, and the start tag of the node that it belongs to."""

    namespace: str
    name: str
    start: int
    end: int
    attribute: bool
    node: int

    def __len__(self) -> int:
        return self.end - self.start


@dataclass
class _Node:
    """A node of the graph, usually rdf:Description: where its element stands, and the namespaces in scope."""

    start: int
    tag_end: int
    end: int
    namespaces: dict[str, str]


@dataclass
class Packet:
    """The layout of an XMP packet: its nodes and their properties, and where the list of nodes ends.

    Raises:
        ValueError: it is not well-formed XML.
    """

    text: bytes
    nodes: list[_Node] = field(default_factory=list)
    properties: list[Property] = field(default_factory=list)
    nodes_end: int | None = None

    def __post_init__(self) -> None:
        self.text = self.text.rstrip(b"\0")
        self._path: list[str] = []
        self._list_start: int | None = None
        self._open: tuple[str, int] | None = None
        self._declared: dict[str, list[str]] = {}
        self._scope: dict[str, str] | None = None
        parser = self._parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartNamespaceDeclHandler = self._declare
        parser.EndNamespaceDeclHandler = self._undeclare
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.StartDoctypeDeclHandler = self._refuse
        try:
            parser.Parse(self.text, True)
        except expat.ExpatError as error:
            raise ValueError(str(error)) from error

    def _refuse(self, *_: object) -> None:
        raise ValueError("a document type, which could expand to anything")

    def _declare(self, prefix: str | None, uri: str | None) -> None:
        self._declared.setdefault(prefix or "", []).append(uri or "")
        self._scope = None
        if len(self._declared) > _MOST_PREFIXES:
            raise ValueError("too many namespaces")

    def _undeclare(self, prefix: str | None) -> None:
        self._declared[prefix or ""].pop()
        self._scope = None

    def _namespaces(self) -> dict[str, str]:
        if self._scope is None:
            self._scope = {prefix: uris[-1] for prefix, uris in self._declared.items() if uris and uris[-1]}
        return self._scope

    def _at_node(self) -> bool:
        return bool(self._path) and self._path[-1] == _LIST

    def _at_property(self) -> bool:
        return len(self._path) > 1 and self._path[-2] == _LIST

    def _start(self, name: str, _: object) -> None:
        at = self._parser.CurrentByteIndex
        if self._at_node():
            self._start_node(at)
        elif self._at_property():
            self._open = name, at
        elif name == _LIST:
            if self._list_start is not None:
                raise ValueError("more than one list of nodes")
            self._list_start = at
        self._path.append(name)

    def _start_node(self, at: int) -> None:
        if len(self.nodes) + len(self.properties) > _MOST_PROPERTIES:
            raise ValueError("too many properties")
        tag_end = self._tag_end(at)
        self.nodes.append(_Node(at, tag_end, tag_end, self._namespaces()))
        for uri, name, match in self._attributes(at, tag_end):
            if uri != RDF:
                self.properties.append(Property(uri, name, match.start(), match.end(), True, len(self.nodes) - 1))

    def _attributes(self, at: int, tag_end: int) -> Iterator[tuple[str, str, re.Match[bytes]]]:
        """Yield namespace and name of the attributes with a prefix in a start tag, and what `_ATTRIBUTE` matched."""
        namespaces = self._namespaces()
        for match in _ATTRIBUTE.finditer(self.text, at, tag_end):
            prefix, _, name = match[1].decode().rpartition(":")
            if prefix not in ("", "xmlns", "xml"):
                yield namespaces.get(prefix, ""), name, match

    def _end(self, name: str) -> None:
        self._path.pop()
        at = self._parser.CurrentByteIndex
        if self._at_node():
            self.nodes[-1].end = self._element_end(self.nodes[-1].start, at)
        elif self._at_property() and self._open is not None:
            uri, _, local = self._open[0].rpartition(" ")
            start, self._open = self._open[1], None
            end = self._element_end(start, at)
            self.properties.append(Property(uri, local, start, end, False, len(self.nodes) - 1))
        elif name == _LIST and self._list_start is not None and not self._empty(self._list_start):
            self.nodes_end = at

    def _tag_end(self, at: int) -> int:
        tag = _TAG.match(self.text, at)
        if tag is None:
            raise ValueError("not UTF-8")
        return tag.end()

    def _empty(self, start: int) -> bool:
        return self.text.endswith(b"/>", start, self._tag_end(start))

    def _element_end(self, start: int, at: int) -> int:
        """Return the end of an element, given where its end tag is, of which an empty one has none."""
        return self._tag_end(start) if self._empty(start) else self._tag_end(at)

    def without(self, doomed: Iterable[Property]) -> bytes:
        """Return the text without some properties."""
        spans = sorted((p.start, p.end) for p in doomed)
        kept = zip([0, *(end for _, end in spans)], [*(start for start, _ in spans), len(self.text)], strict=True)
        return b"".join(self.text[start:end] for start, end in kept)

    def opening(self, node: _Node, content: bytes, attributes: bytes = b"") -> bytes:
        """Return a start tag like that of a node, for other attributes and content, with their namespaces."""
        tag = self.text[node.start : node.tag_end]
        name = re.match(rb"<[^\s/>]+", tag)
        assert name is not None
        about = b"".join(m[0] for m in _ATTRIBUTE.finditer(tag) if m[1].rpartition(b":")[2] == b"about")
        declared = _declarations(node.namespaces, name[0] + about + attributes + content)
        return name[0] + about + declared + attributes + b">"

    def closing(self, node: _Node) -> bytes:
        """Return the end tag of a node."""
        name = re.match(rb"<([^\s/>]+)", self.text[node.start : node.tag_end])
        assert name is not None
        return b"</" + name[1] + b">"


def _declarations(namespaces: dict[str, str], text: bytes) -> bytes:
    """Return the declarations of the namespaces that a text uses."""
    used = (prefix for prefix in namespaces if prefix != "xml" and (not prefix or f"{prefix}:".encode() in text))
    return b"".join(f" {_declared(prefix)}={_quoted(namespaces[prefix])}".encode() for prefix in used)


def _declared(prefix: str) -> str:
    return f"xmlns:{prefix}" if prefix else "xmlns"


def _quoted(uri: str) -> str:
    return '"' + uri.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;") + '"'


def _parsed(packet: bytes) -> Packet | None:
    try:
        return Packet(packet)
    except ValueError:
        return None


def xmp_alone(packet: bytes) -> bytes:
    """Return an XMP packet without what refers to other parts of its file.

    These are extensions of the packet, gain maps, directories of pictures behind the first, and videos of motion
    photos; whoever looks for them in another file would find nothing, or something else. A packet that is not
    well-formed is returned as it is.
    """
    parsed = _parsed(packet)
    doomed = [entry for entry in parsed.properties if _refers(entry)] if parsed else []
    return parsed.without(doomed) if parsed and doomed else packet


def _refers(entry: Property) -> bool:
    return (
        entry.namespace in _GAIN_MAPS + _DIRECTORIES
        or (entry.namespace == _NOTE and entry.name == "HasExtendedXMP")
        or (entry.namespace == _CAMERA and entry.name.startswith(("MotionPhoto", "MicroVideo")))
    )


def xmp_is_blank(packet: bytes) -> bool:
    """Return whether an XMP packet has no property but the orientation."""
    text = _without_padding(packet)
    if len(text) > _LONGEST_BLANK:
        return False
    parsed = _parsed(text)
    if parsed is None:
        return not packet.strip(b"\0\t\n\r ")
    return all((entry.namespace, entry.name) == (_TIFF, "Orientation") for entry in parsed.properties)


def extension_digest(packet: bytes) -> str | None:
    """Return the digest of the extension that an XMP packet names, 32 hexadecimal digits, or None."""
    match = re.search(rb"HasExtendedXMP(?:\s*=\s*[\"']|[^<>]{0,200}>\s*)([0-9A-Fa-f]{32})", packet)
    return match[1].decode().upper() if match else None


def xmp_digest(extension: bytes) -> str:
    """Return the digest of an extension, by which its packet names it."""
    return hashlib.md5(extension, usedforsecurity=False).hexdigest().upper()


def merge_xmp(packet: bytes, extension: bytes) -> bytes | None:
    """Return an XMP packet with the nodes of its extension added; None if either is not well-formed."""
    main, more = _parsed(packet), _parsed(extension)
    if main is None or more is None or main.nodes_end is None:
        return None
    nodes = b"".join(_standing_alone(more, node) for node in more.nodes)
    return main.text[: main.nodes_end] + nodes + main.text[main.nodes_end :]


def _standing_alone(packet: Packet, node: _Node) -> bytes:
    """Return the text of a node, with the namespaces that were declared around it."""
    tag, content = packet.text[node.start : node.tag_end], packet.text[node.tag_end : node.end]
    named = {match[1] for match in _ATTRIBUTE.finditer(tag)}
    around = {prefix: uri for prefix, uri in node.namespaces.items() if _declared(prefix).encode() not in named}
    end = len(tag) - (2 if tag.endswith(b"/>") else 1)
    return tag[:end] + _declarations(around, tag + content) + tag[end:] + content


def split_xmp(packet: bytes, most: int) -> tuple[bytes, bytes | None]:
    """Split an XMP packet for a JPEG file, where a segment cannot hold it.

    Args:
        packet: the packet.
        most: the most bytes of the first part.

    Returns:
        A packet, which names its extension, and that extension: the largest properties. A packet that cannot be
        divided goes into the extension as a whole. None in place of an extension that is not needed.
    """
    if len(packet) > most:
        packet = _without_padding(packet)
    if len(packet) <= most:
        return packet, None
    parsed = _parsed(packet)
    if parsed is not None and parsed.nodes_end is not None:
        moved, left = [], len(parsed.text) + len(_reference(b""))
        for entry in sorted(parsed.properties, key=len, reverse=True):
            if left <= most:
                break
            moved.append(entry)
            left -= len(entry)
        if left <= most:
            extension = _extension(parsed, moved)
            rest = Packet(parsed.without(moved))
            assert rest.nodes_end is not None
            return rest.text[: rest.nodes_end] + _reference(extension) + rest.text[rest.nodes_end :], extension
    return _enclosed(_reference(packet)), packet


def _without_padding(packet: bytes) -> bytes:
    """Return a packet without the white space before its end, which is room for editing it in place."""
    end = packet.rfind(b"<?xpacket end")
    return packet[:end].rstrip() + packet[end:] if end > 0 else packet


def _reference(extension: bytes) -> bytes:
    """Return a node that names an extension."""
    return (
        f'<rdf:Description rdf:about="" xmlns:rdf="{RDF}" xmlns:xmpNote="{_NOTE}"'
        f' xmpNote:HasExtendedXMP="{xmp_digest(extension)}"/>'
    ).encode()


def _extension(packet: Packet, moved: list[Property]) -> bytes:
    """Return an extension that holds some properties of a packet."""
    nodes = []
    for entry in sorted(moved, key=lambda entry: entry.start):
        node, text = packet.nodes[entry.node], packet.text[entry.start : entry.end]
        opening = packet.opening(node, b"", text) if entry.attribute else packet.opening(node, text) + text
        nodes.append(opening + packet.closing(node))
    return _enclosed(b"".join(nodes))


def _enclosed(nodes: bytes) -> bytes:
    start = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}">'
    return start.encode() + nodes + b"</rdf:RDF></x:xmpmeta>"
