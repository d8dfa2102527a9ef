"""Read what the ancillary chunks of a PNG file say about its picture (https://www.w3.org/TR/png-3/).

Each chunk is read on its own: a bad one costs itself and an entry in the ledger. The order of chunks does not matter,
because many programs write metadata after the pixels.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import replace
from typing import Any

from gsrcli.images.colour import Chromaticities, Cicp, Colour
from gsrcli.images.exif import exif_upright
from gsrcli.images.ledger import Entry, Fate, Feature
from gsrcli.images.metadata import MAX_METADATA, METRES_PER_INCH, MODIFIED, Metadata, Text, sound_aspect, sound_dpi
from gsrcli.images.readers.metadata import checked_iptc
from gsrcli.images.readers.orientation import stated_orientation, upright_metadata
from gsrcli.images.readers.photoshop import Photoshop, read_photoshop, with_rights
from gsrcli.images.readers.png.chunks import Chunk

__all__ = ["Ancillary"]

_MAX_INFLATED_TOGETHER = 1 << 26
_MAX_TEXTS = 1000

_XMP_KEYWORD = "XML:com.adobe.xmp"
_RAW_PROFILE = "Raw profile type "
_EXIF_MARK, _XMP_MARK = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"

_IGNORED = frozenset({"iDOT", "sBIT"})
"""Chunks about how the file is stored, and about the digits of pixels that are enlarged."""

_OF_ANOTHER_FILE = frozenset({"date:create", "date:modify", "date:timestamp"})
"""Keywords of texts in which ImageMagick writes the times of the file that it read."""

_NAMES = {
    "PLTE": "suggested palette",
    "bKGD": "background colour",
    "hIST": "histogram",
    "sPLT": "suggested palette",
    "oFFs": "offset on the page",
    "pCAL": "calibration of pixel values",
    "sCAL": "physical scale",
    "sTER": "stereo layout",
    "caBX": "content credentials (C2PA)",
    "dSIG": "digital signature",
}
"""What is lost with chunks that a `Picture` has no place for."""

_LOST_BACKGROUND = Entry(_NAMES["bKGD"], Fate.LOST)


class _TooLongError(Exception):
    """Compressed data inflate to more than is read."""


class Ancillary:
    """What the ancillary chunks of a PNG file say, apart from transparency and animation.

    Attributes:
        ledger: what was damaged or lost.
    """

    def __init__(self) -> None:
        self.ledger: list[Entry] = []
        self._colour = Colour()
        self._metadata = Metadata()
        self._texts: list[Text] = []
        self._left = _MAX_INFLATED_TOGETHER
        self._seen: set[str] = set()
        self._photoshop = Photoshop()

    def read(self, chunk: Chunk) -> None:
        """Take in a chunk."""
        name = chunk.name
        if name in _IGNORED:
            return
        try:
            if not chunk.sound:
                raise ValueError("it is cut short, or its checksum is wrong")
            if name in ("tEXt", "zTXt", "iTXt"):
                self._read_text(*self._text(name, bytes(chunk.body)))
            elif name not in _SINGLE:
                self.ledger.append(Entry(_NAMES.get(name, f"{name} chunk"), Fate.LOST))
            elif name in self._seen:
                self.ledger.append(Entry(f"second {name} chunk", Fate.LOST))
            else:
                self._seen.add(name)
                _SINGLE[name](self, bytes(chunk.body))
        except _TooLongError:
            self.ledger.append(Entry(f"{name} chunk", Fate.LOST, "because it is too long"))
        except (ValueError, struct.error, zlib.error):
            self.ledger.append(Entry(f"{name} chunk", Fate.DAMAGED))

    def finish(self, *, transparent: bool) -> None:
        """Put together what the chunks say, once all of them are read.

        Args:
            transparent: whether the picture has transparency, without which nothing is seen of a background.
        """
        if not transparent:
            self.ledger = [entry for entry in self.ledger if entry != _LOST_BACKGROUND]
        packet, entries = with_rights(self._metadata.xmp, self._photoshop)
        self._metadata = replace(self._metadata, xmp=packet)
        self.ledger += entries

    @property
    def orientation(self) -> int:
        """The orientation in EXIF, otherwise in XMP, 1 to 8; 1 if neither has one."""
        return stated_orientation(self._metadata.exif, self._metadata.xmp)

    def metadata(self) -> tuple[Metadata, list[Entry]]:
        """Return the metadata of the upright picture, and entries for what could not be turned."""
        return upright_metadata(replace(self._metadata, texts=tuple(self._texts)), self.orientation)

    def colour(self, *, grey: bool) -> tuple[Colour, list[Entry]]:
        """Return the tags that count: CICP and a profile, which rule over sRGB, which rules over gamma.

        Args:
            grey: whether the picture is grey, for which a profile must not be one of another number of colours.
        """
        colour, entries = self._colour, []
        if colour.icc and colour.icc[16:20] not in ((b"GRAY", b"RGB ") if grey else (b"RGB ",)):
            colour = replace(colour, icc=None)
            entries.append(Entry(Feature.PROFILE, Fate.LOST, "because it is not one for such pixels"))
        if colour.cicp or colour.icc:
            colour = replace(colour, intent=None)
        if colour.cicp or colour.icc or colour.intent is not None:
            colour = replace(colour, gamma=None, chromaticities=None)
        return colour, entries

    # Colour

    def _read_profile(self, body: bytes) -> None:
        _, _, rest = body.partition(b"\0")
        if rest[:1] != b"\0":
            raise ValueError("unknown compression")
        self._put_profile(self._inflated(rest[1:]))

    def _put_profile(self, profile: bytes) -> None:
        size = int.from_bytes(profile[:4], "big")
        if not 128 <= size <= len(profile) or profile[36:40] != b"acsp":
            raise ValueError("no profile")
        if not self._colour.icc:
            self._colour = replace(self._colour, icc=profile[:size])

    def _read_cicp(self, body: bytes) -> None:
        primaries, transfer, matrix, full_range = struct.unpack(">4B", body)
        if matrix or full_range > 1:
            raise ValueError("not RGB")
        self._colour = replace(self._colour, cicp=Cicp(primaries, transfer, bool(full_range)))

    def _read_intent(self, body: bytes) -> None:
        (intent,) = struct.unpack(">B", body)
        if intent > 3:
            raise ValueError("unknown intent")
        self._colour = replace(self._colour, intent=intent)

    def _read_gamma(self, body: bytes) -> None:
        (gamma,) = struct.unpack(">I", body)
        if not 0 < gamma < 2**31:
            raise ValueError("no gamma")
        self._colour = replace(self._colour, gamma=gamma / 100_000)

    def _read_chromaticities(self, body: bytes) -> None:
        values = [value / 100_000 for value in struct.unpack(">8i", body)]
        white, red, green, blue = zip(values[::2], values[1::2], strict=True)
        area = (red[0] - blue[0]) * (green[1] - blue[1]) - (green[0] - blue[0]) * (red[1] - blue[1])
        if max(map(abs, values)) > 2 or white[1] <= 0 or abs(area) < 1e-4:
            raise ValueError("no gamut")
        self._colour = replace(self._colour, chromaticities=Chromaticities(white, red, green, blue))

    def _read_mastering(self, body: bytes) -> None:
        if len(body) != 24:
            raise ValueError("wrong length")
        self._colour = replace(self._colour, mastering=body)

    def _read_light(self, body: bytes) -> None:
        content, average = struct.unpack(">II", body)
        self._colour = replace(self._colour, light=(content, average))

    # Everything else

    def _read_physical(self, body: bytes) -> None:
        x, y, unit = struct.unpack(">IIB", body)
        if unit > 1 or not (0 < x < 2**31 and 0 < y < 2**31):
            raise ValueError("no resolution")
        if unit == 0:
            self._metadata = replace(self._metadata, aspect=sound_aspect(y, x))
        elif dpi := sound_dpi(x * METRES_PER_INCH, y * METRES_PER_INCH):
            self._metadata = replace(self._metadata, dpi=dpi)
        else:
            raise ValueError("no resolution")

    def _read_time(self, body: bytes) -> None:
        year, *rest = struct.unpack(">H5B", body)
        month, day, hour, minute, second = rest
        if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60):
            raise ValueError("no time")
        self._texts.append(Text(MODIFIED, f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))

    def _read_exif(self, body: bytes) -> None:
        self._put_block("exif", _exif(body))

    def _put_block(self, name: str, block: bytes) -> None:
        """Set the EXIF, XMP or IPTC, unless there is one."""
        present = getattr(self._metadata, name)
        if present is None:
            blocks: dict[str, Any] = {name: block}
            self._metadata = replace(self._metadata, **blocks)
        elif present != block:
            self.ledger.append(Entry(f"second {name.upper()} block", Fate.LOST))

    # Texts

    def _text(self, name: str, body: bytes) -> tuple[Text, bytes]:
        """Return a text, and its bytes before they were decoded."""
        field, separator, rest = body.partition(b"\0")
        keyword, language, translated = field.decode("latin-1"), "", ""
        if not separator or not 1 <= len(keyword) <= 79:
            raise ValueError("no keyword")
        if name == "iTXt":
            compression, (tag, other, rest) = rest[:2], rest[2:].split(b"\0", 2)
            if compression[:1] == b"\1":
                rest = self._inflated(rest)
            language, translated = tag.decode("ascii"), other.decode()
        elif name == "zTXt":
            if rest[:1] != b"\0":
                raise ValueError("unknown compression")
            rest = self._inflated(rest[1:])
        if keyword == _XMP_KEYWORD:
            return Text(keyword, ""), rest
        text = rest.decode("utf-8" if name == "iTXt" else "latin-1")
        return Text(keyword, text.rstrip("\0"), language, translated), rest

    def _read_text(self, text: Text, content: bytes) -> None:
        if text.keyword == _XMP_KEYWORD:
            self._put_block("xmp", content)
        elif text.keyword.startswith(_RAW_PROFILE) and (
            read := _RAW.get(text.keyword.removeprefix(_RAW_PROFILE).lower())
        ):
            block, junk = _raw_profile(text.text)
            read(self, block)
            if junk:
                self.ledger.append(Entry(text.keyword, Fate.DAMAGED, "(junk follows it)"))
        elif text.keyword in _OF_ANOTHER_FILE:
            pass
        elif len(self._texts) == _MAX_TEXTS:
            raise _TooLongError
        else:
            self._texts.append(text)

    def _read_app1(self, block: bytes) -> None:
        if block.startswith(_XMP_MARK):
            self._put_block("xmp", block.removeprefix(_XMP_MARK))
        else:
            self._read_exif(block)

    def _read_xmp(self, packet: bytes) -> None:
        self._put_block("xmp", packet)

    def _read_iptc(self, block: bytes) -> None:
        """Take in IPTC datasets: bare ones, or those among Photoshop's resources."""
        if block.startswith(b"8BIM"):
            self._photoshop = read_photoshop(block)
            self.ledger += self._photoshop.ledger
            block = self._photoshop.iptc
        elif not block.startswith(b"\x1c"):
            raise ValueError("no dataset")
        datasets, entries = checked_iptc(block)
        if datasets:
            self._put_block("iptc", datasets)
        self.ledger += entries

    def _inflated(self, deflated: bytes) -> bytes:
        """Inflate a complete zlib stream; whatever follows it is ignored."""
        inflater, most = zlib.decompressobj(), min(MAX_METADATA, self._left)
        inflated = inflater.decompress(deflated, most + 1)
        self._left -= min(most, len(inflated))
        if len(inflated) > most:
            raise _TooLongError
        if not inflater.eof:
            raise ValueError("it is cut short")
        return inflated


_SINGLE = {
    "iCCP": Ancillary._read_profile,
    "cICP": Ancillary._read_cicp,
    "sRGB": Ancillary._read_intent,
    "gAMA": Ancillary._read_gamma,
    "cHRM": Ancillary._read_chromaticities,
    "mDCV": Ancillary._read_mastering,
    "mDCv": Ancillary._read_mastering,  # as in drafts of the standard
    "cLLI": Ancillary._read_light,
    "cLLi": Ancillary._read_light,
    "pHYs": Ancillary._read_physical,
    "tIME": Ancillary._read_time,
    "eXIf": Ancillary._read_exif,
}
"""The chunks of which a file has one."""

_RAW = {
    "exif": Ancillary._read_exif,
    "app1": Ancillary._read_app1,
    "xmp": Ancillary._read_xmp,
    "iptc": Ancillary._read_iptc,
    "8bim": Ancillary._read_iptc,
    "icc": Ancillary._put_profile,
    "icm": Ancillary._put_profile,
}
"""The profiles that ImageMagick and ExifTool write as hexadecimal texts."""


def _exif(block: bytes) -> bytes:
    """Return an EXIF block from its byte-order mark on, if it is readable."""
    block = block.removeprefix(_EXIF_MARK)
    if exif_upright(block) is None:
        raise ValueError("unreadable")
    return block


def _raw_profile(text: str) -> tuple[bytes, str]:
    """Return the bytes of a profile in a text: a line with its name, one with its length, and hexadecimal digits.

    Return also what follows the digits, which should be nothing.
    """
    match = re.match(r"\s*[^\n]*\n\s*(\d{1,9})\s*\n", text)
    if match is None:
        raise ValueError("no length")
    digits, length = "".join(text[match.end() :].split()), int(match[1])
    if len(digits) < 2 * length:
        raise ValueError("it is cut short")
    return bytes.fromhex(digits[: 2 * length]), digits[2 * length :]
