"""What a picture file says about its picture, apart from colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from gsrcli.images.directories import Tags

__all__ = [
    "CENTIMETRES_PER_INCH",
    "COMMENT",
    "MAX_METADATA",
    "METRES_PER_INCH",
    "MODIFIED",
    "Metadata",
    "Text",
    "decoded_text",
    "sound_aspect",
    "sound_dpi",
]

COMMENT = "Comment"
"""Keyword of a comment, as JPEG and GIF files have it."""

MODIFIED = "Modification Time"
"""Keyword of the time at which the picture was last changed, in UTC, such as 2026-01-02T03:04:05Z (PNG, tIME)."""


MAX_METADATA = 1 << 24
"""The longest block of metadata to keep, in bytes."""

METRES_PER_INCH, CENTIMETRES_PER_INCH = 0.0254, 2.54


class Text(NamedTuple):
    """A text with a keyword, such as Author, Title or Comment (the keywords of PNG).

    Attributes:
        keyword: 1 to 79 Latin-1 characters.
        text: the text.
        language: RFC 3066 tag, or "".
        translated: the keyword in that language, or "".
    """

    keyword: str
    text: str
    language: str = ""
    translated: str = ""

    @property
    def blank(self) -> bool:
        """Whether it says nothing."""
        return not self.text.strip()


@dataclass(frozen=True)
class Metadata:
    """Metadata of an upright picture.

    Attributes:
        exif: EXIF block, starting at its byte-order mark, with orientation 1 and without thumbnail.
        xmp: XMP packet, with orientation 1; extended packets are merged into it.
        iptc: IPTC-IIM datasets.
        texts: texts with keywords.
        dpi: pixels per inch, horizontal and vertical.
        aspect: width of a pixel divided by its height, where the file gives that without a unit.
        geo: GeoTIFF tags, for this picture's pixels.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    texts: tuple[Text, ...] = ()
    dpi: tuple[float, float] | None = None
    aspect: float | None = None
    geo: Tags | None = None


def decoded_text(raw: bytes) -> str:
    """Decode a text whose encoding its file does not tell: UTF-8, or Latin-1 if it cannot be that."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def sound_aspect(width: float, height: float) -> float | None:
    """Return the width of a pixel divided by its height; None if they are equal or make no sense."""
    return width / height if width > 0 and height > 0 and width != height and 1e-3 < width / height < 1e3 else None


def sound_dpi(x: float, y: float) -> tuple[float, float] | None:
    """Return pixels per inch, horizontal and vertical; None if they make no sense: some files say 0 or nan."""
    return (x, y) if 0 < x < 65536 and 0 < y < 65536 else None
