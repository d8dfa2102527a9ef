"""The ledger: what a picture carries, and what becomes of each part on its way from file to file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

__all__ = ["PIXELS", "Entry", "Fate", "Feature", "Ledger", "damage_of_pixels", "with_fate"]

PIXELS = "pixels"
"""The part of a ledger's entry that tells of the picture itself: if it is damaged, some of it is missing or wrong."""


class Feature(StrEnum):
    """What a picture may carry beyond 8 bits per channel; the value is its name in messages."""

    SIXTEEN_BITS = "16 bits per channel"
    FLOAT = "floating-point values"
    NARROW = "narrow-range values"
    TRANSPARENCY = "transparency"
    PROFILE = "colour profile"
    CICP = "CICP colour tags"
    GAMMA = "gamma and chromaticities"
    HDR = "HDR mastering data"
    EXIF = "EXIF"
    XMP = "XMP"
    IPTC = "IPTC"
    TEXT = "text"
    COMMENT = "comment"
    RESOLUTION = "resolution"
    ASPECT = "pixel aspect ratio"
    GEO = "GeoTIFF tags"


class Fate(StrEnum):
    """What became of a part of a picture."""

    KEPT = "kept"
    CONVERTED = "converted"
    LOST = "lost"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class Entry:
    """One line of the ledger.

    Attributes:
        what: the part: a `Feature`, or a noun phrase for what readers cannot represent, such as "gain map".
        fate: what became of it.
        detail: a phrase that follows, such as "to sRGB through its profile", or nothing.
    """

    what: str
    fate: Fate
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.what} {self.detail}".strip()


Ledger: TypeAlias = tuple[Entry, ...]
"""Everything notable that a picture carried, and what became of it."""


def damage_of_pixels(ledger: Iterable[Entry]) -> list[str]:
    """Return the lines that say that some of the picture itself is missing or wrong, each once."""
    return with_fate(Fate.DAMAGED, (entry for entry in ledger if entry.what == PIXELS))


def with_fate(fate: Fate, ledger: Iterable[Entry]) -> list[str]:
    """Return the lines of a ledger with one fate, in words, each once."""
    return list(dict.fromkeys(str(entry) for entry in ledger if entry.fate == fate))
