"""What a picture file says about its picture, apart from colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from gsrcli.images.directories import Tags

__all__ = ["COMMENT", "MODIFIED", "Metadata", "Text"]

COMMENT = "Comment"
"""Keyword of a comment, as JPEG and GIF files have it."""

MODIFIED = "Modification Time"
"""Keyword of the time at which the picture was last changed, in UTC, such as 2026-01-02T03:04:05Z (PNG, tIME)."""


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
