"""Convert texts with keywords and IPTC to XMP, for formats that keep XMP alone.

After the mapping of the Metadata Working Group (2010), and for the keywords of PNG the nearest property of Dublin Core.
What has no property goes into exif:UserComment with its keyword.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from html import escape
from typing import NamedTuple

from gsrcli.images.iptc import datasets_of
from gsrcli.images.metadata import COMMENT, MODIFIED, Text

__all__ = ["Property", "iptc_properties", "text_properties", "with_properties"]

_NAMESPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
}
_COMMENT_PROPERTY = "exif:UserComment"
_OF_KEYWORD = {
    "Title": "dc:title",
    "Author": "dc:creator",
    "Description": "dc:description",
    "Copyright": "dc:rights",
    "Creation Time": "xmp:CreateDate",
    MODIFIED: "xmp:ModifyDate",
    "Software": "xmp:CreatorTool",
    "Source": "dc:source",
    "Disclaimer": "xmpRights:UsageTerms",
    COMMENT: _COMMENT_PROPERTY,
}
_OF_DATASET = {
    5: "dc:title",
    25: "dc:subject",
    40: "photoshop:Instructions",
    55: "photoshop:DateCreated",
    80: "dc:creator",
    85: "photoshop:AuthorsPosition",
    90: "photoshop:City",
    95: "photoshop:State",
    101: "photoshop:Country",
    103: "photoshop:TransmissionReference",
    105: "photoshop:Headline",
    110: "photoshop:Credit",
    115: "photoshop:Source",
    116: "dc:rights",
    120: "dc:description",
    122: "photoshop:CaptionWriter",
}
"""Properties by dataset number in record 2 of IPTC-IIM."""
_DATE, _TIME = 55, 60
_STRUCTURAL = (0, _TIME)  # the version, and the time, which goes with the date
_ARRAYS = {"dc:creator": "Seq", "dc:subject": "Bag"}
_TRANSLATED = ("dc:title", "dc:description", "dc:rights", "xmpRights:UsageTerms", _COMMENT_PROPERTY)
_DATES = ("xmp:CreateDate", "xmp:ModifyDate", "photoshop:DateCreated")

_DEFAULT = "x-default"  # language of the text that is shown to whoever speaks none of the others

_LONGEST_DATE = 99  # characters
_LONGEST = 1 << 24  # bytes of a packet
_UTF8 = b"\x1b%G"
_FORBIDDEN = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # in XML
_ABOUT = re.compile(r"rdf:about\s*=\s*(\"[^\"]*\"|'[^']*')")
_END = "</rdf:RDF>"


class Property(NamedTuple):
    """One value of an XMP property, such as dc:title, with the keyword that it has elsewhere and its language."""

    name: str
    value: str
    keyword: str
    language: str = ""

    @property
    def translatable(self) -> bool:
        """Whether it has values in several languages."""
        return self.name in _TRANSLATED


def text_properties(texts: Iterable[Text]) -> list[Property]:
    """Return the XMP properties of texts."""
    found = []
    for text in texts:
        name, value = _OF_KEYWORD.get(text.keyword, ""), text.text
        if name in _DATES:
            value = _iso_date(value) or ""
        if not name or not value:
            name, value = _COMMENT_PROPERTY, f"{text.keyword}: {text.text}"
        found.append(Property(name, value, text.keyword, text.language))
    return found


def iptc_properties(iptc: bytes) -> list[Property]:
    """Return the XMP properties of IPTC-IIM datasets; those of datasets that have none have no name."""
    datasets = [(record, number, value) for record, number, value, _ in datasets_of(iptc)]
    encoding = "utf-8" if (1, 90, _UTF8) in datasets else "latin-1"
    time = next((value for record, number, value in datasets if (record, number) == (2, _TIME)), b"")
    found = []
    for record, number, raw in datasets:
        if record != 2 or number in _STRUCTURAL:
            continue
        name, value = _OF_DATASET.get(number, ""), raw.decode(encoding, "replace").strip("\0 ")
        if number == _DATE:
            value = _iptc_date(value, time.decode("latin-1"))
        if value:
            found.append(Property(name, value, name.partition(":")[2] or f"dataset {record}:{number}"))
    return found


def with_properties(packet: bytes | None, properties: Iterable[Property]) -> tuple[bytes | None, list[str]]:
    """Add properties to an XMP packet, or to a new one, where it has none of that name.

    Returns:
        the packet, and the keywords of values that found no place: the packet says something else there, is not
        UTF-8 text, or would get too long.
    """
    properties = list(properties)
    try:
        old = packet.decode() if packet else ""
    except UnicodeDecodeError:
        return packet, _keywords(properties)
    if packet and _END not in old:
        return packet, _keywords(properties)
    placed, homeless = dict[str, list[Property]](), list[Property]()
    nameless = [new for new in properties if not new.name]
    for new in properties:
        if not new.name:
            continue
        if not _names(old, new.name):
            placed.setdefault(new.name, []).append(new)
        elif _escaped(new.value) not in old:
            homeless.append(new)
    if homeless and not _names(old, _COMMENT_PROPERTY):
        comments = placed.setdefault(_COMMENT_PROPERTY, [])
        comments += [p._replace(name=_COMMENT_PROPERTY, value=f"{p.keyword}: {p.value}") for p in homeless]
        homeless = []
    if not placed:
        return packet, _keywords([*homeless, *nameless])
    written = _written(old, placed).encode()
    return (written, _keywords([*homeless, *nameless])) if len(written) <= _LONGEST else (packet, _keywords(properties))


def _keywords(properties: Iterable[Property]) -> list[str]:
    return list(dict.fromkeys(p.keyword for p in properties))


def _names(packet: str, name: str) -> bool:
    return re.search(rf"\b{name}\b\s*[=>/]|<{name}\s", packet) is not None


def _written(old: str, placed: Mapping[str, list[Property]]) -> str:
    """Return a packet with a further description at its end."""
    about = _ABOUT.search(old)
    prefixes = sorted({name.partition(":")[0] for name in placed})
    namespaces = "".join(f' xmlns:{prefix}="{_NAMESPACES[prefix]}"' for prefix in prefixes)
    body = "".join(f"<{name}>{_value(name, values)}</{name}>" for name, values in placed.items())
    subject = about[1] if about else '""'
    description = f"<rdf:Description rdf:about={subject}{namespaces}>{body}</rdf:Description>"
    if old:
        before, end, after = old.rpartition(_END)
        return before + description + end + after
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">{description}{_END}</x:xmpmeta>'
        '<?xpacket end="w"?>'
    )


def _value(name: str, values: list[Property]) -> str:
    if name in _ARRAYS:
        items = "".join(f"<rdf:li>{_escaped(p.value)}</rdf:li>" for p in values)
        return f"<rdf:{_ARRAYS[name]}>{items}</rdf:{_ARRAYS[name]}>"
    if name not in _TRANSLATED:
        return _escaped(values[0].value if name in _DATES else "; ".join(p.value for p in values))
    by_language = dict[str, list[str]]()
    for p in values:
        by_language.setdefault(_quotable(p.language) or _DEFAULT, []).append(p.value)
    texts = {_DEFAULT: by_language.get(_DEFAULT) or next(iter(by_language.values()))} | by_language
    items = "".join(f'<rdf:li xml:lang="{k}">{_escaped(chr(10).join(v))}</rdf:li>' for k, v in texts.items())
    return f"<rdf:Alt>{items}</rdf:Alt>"


def _escaped(text: str) -> str:
    """Return a text as it stands in XML, without the characters that XML cannot have."""
    return escape(_FORBIDDEN.sub("", text), quote=False)


def _quotable(text: str) -> str:
    return _escaped(text).replace('"', "&quot;")


def _iso_date(text: str) -> str | None:
    """Return a date and time as XMP has it; None if it is in no usual format."""
    from email.utils import parsedate_to_datetime  # late, as few need it and it imports much: sockets, for example

    text = text.strip()[:_LONGEST_DATE]
    for parse in (datetime.fromisoformat, parsedate_to_datetime, lambda t: datetime.strptime(t, "%Y:%m:%d %H:%M:%S")):
        try:
            return parse(text).isoformat()
        except (ValueError, TypeError, IndexError):
            continue
    return None


def _iptc_date(date: str, time: str) -> str:
    """Return CCYYMMDD and HHMMSS±HHMM, either of which may be cut short, as XMP has them; "" if it is no date."""
    match = re.fullmatch(r"(\d{4})(\d\d)(\d\d)", date)
    if not match or match[1] == "0000":
        return ""
    parts = [part for part in match.groups() if part != "00"]
    clock = re.fullmatch(r"(\d\d)(\d\d)(\d\d)(?:([+-]\d\d)(\d\d))?", time)
    if not clock or len(parts) < 3:
        return "-".join(parts)
    zone = f"{clock[4]}:{clock[5]}" if clock[4] else ""
    return f"{'-'.join(parts)}T{clock[1]}:{clock[2]}:{clock[3]}{zone}"
