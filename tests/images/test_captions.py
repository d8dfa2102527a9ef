"""Texts as XMP: whatever they say, the packet is XML that other parsers read, and says it."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from support.reading import png_chunk

from gsrcli.images import Text, read_picture, write_picture
from gsrcli.images.captions import iptc_properties, text_properties, with_properties

RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
DESCRIPTION = "{http://purl.org/dc/elements/1.1/}description"
KEYWORDS = ("Title", "Author", "Description", "Creation Time", "Software", "Source", "Disclaimer", "Comment")
OLD = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="a&amp;b" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="one"'
    b' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool="two"/></rdf:RDF></x:xmpmeta>'
)
anything = st.text(st.characters(), max_size=12)  # surrogates and control characters included
texts = st.builds(Text, st.sampled_from(KEYWORDS) | anything, anything, anything, anything)


@given(st.lists(texts, max_size=6), st.sampled_from([None, OLD]))
@settings(max_examples=300, deadline=None)
def test_texts_become_xml(found: list[Text], old: bytes | None) -> None:
    packet, _ = with_properties(old, text_properties(found))
    if packet is not None:
        ElementTree.fromstring(packet)


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=12)), max_size=6), st.sampled_from([None, OLD]))
@settings(max_examples=200, deadline=None)
def test_iptc_becomes_xml(datasets: list[tuple[int, bytes]], old: bytes | None) -> None:
    iptc = b"".join(b"\x1c\2" + struct.pack(">BH", number, len(value)) + value for number, value in datasets)
    packet, _ = with_properties(old, iptc_properties(iptc))
    if packet is not None:
        ElementTree.fromstring(packet)


latin = st.text(st.characters(codec="latin-1", exclude_characters="\0"), min_size=1, max_size=12)
ascii_text = st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=8)
unicode_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@given(st.lists(st.tuples(st.sampled_from(KEYWORDS) | latin, ascii_text, unicode_text, unicode_text), max_size=5))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_texts_of_png_files_become_xml(tmp_path: Path, found: list[tuple[str, str, str, str]]) -> None:
    bodies = (
        b"\0".join([key.encode("latin-1"), b"\0\0" + tag.encode(), translated.encode(), text.encode()])
        for key, tag, translated, text in found
    )
    chunks = [png_chunk(b"iTXt", body) for body in bodies]
    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "PNG")
    data, source, target = file.getvalue(), tmp_path / "a.png", tmp_path / "a.webp"
    source.write_bytes(data[:33] + b"".join(chunks) + data[33:])
    picture = read_picture(source)
    assert len(picture.metadata.texts) == len(found)
    write_picture(picture, target)
    packet = Image.open(target).info.get("xmp")
    if packet is not None:
        ElementTree.fromstring(packet)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([("e\x01n", "Hill")], {"x-default": "Hill", "en": "Hill"}),
        ([("e\x01n", "Hill"), ("en", "Lake")], {"x-default": "Hill\nLake", "en": "Hill\nLake"}),
        ([("x-default", "Hill"), ("", "Lake")], {"x-default": "Hill\nLake"}),
        ([("de", "Berg"), ("x-default", "Hill")], {"x-default": "Hill", "de": "Berg"}),
        ([('"<&', 'A "hill" & <lake>')], {"x-default": 'A "hill" & <lake>', '"<&': 'A "hill" & <lake>'}),
    ],
)
def test_languages(found: list[tuple[str, str]], expected: dict[str, str]) -> None:
    packet, lost = with_properties(None, text_properties(Text("Description", text, tag) for tag, text in found))
    assert packet is not None
    assert lost == []
    items = ElementTree.fromstring(packet).findall(f".//{DESCRIPTION}/{RDF}Alt/{RDF}li")
    assert {item.get(LANGUAGE): item.text for item in items} == expected


def test_keywords_without_control_characters() -> None:
    packet, lost = with_properties(OLD, text_properties([Text("Source", "three"), Text("My\x01 key", "four\x02")]))
    assert packet is not None
    assert lost == []
    said = "".join(ElementTree.fromstring(packet).itertext())
    assert "Source: three" in said
    assert "My key: four" in said
