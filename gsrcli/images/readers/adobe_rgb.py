"""Adobe RGB as cameras state it: in EXIF alone, without a profile (DCF 2.0)."""

from __future__ import annotations

from dataclasses import replace

from gsrcli.images.colour import Colour
from gsrcli.images.exif import exif_tags
from gsrcli.images.icc import adobe_rgb_profile
from gsrcli.images.ledger import Entry, Fate
from gsrcli.images.picture import Picture

__all__ = ["with_adobe_rgb"]

_EXIF, _COLOUR_SPACE, _INTEROPERABILITY, _INDEX = 0x8769, 0xA001, 0xA005, 1
_ADOBE_RGB, _UNCALIBRATED = 2, 0xFFFF


def with_adobe_rgb(picture: Picture) -> Picture:
    """Return a picture with a profile for the Adobe RGB that its EXIF alone states, and an entry that says so."""
    converted = any(entry.fate == Fate.CONVERTED and "sRGB" in entry.detail for entry in picture.ledger)
    if picture.colour != Colour() or converted or not _says_adobe_rgb(picture.metadata.exif):
        return picture
    entry = Entry("Adobe RGB of EXIF", Fate.CONVERTED, "to a colour profile")
    colour = Colour(icc=adobe_rgb_profile(grey=picture.grey))
    return replace(picture, colour=colour, ledger=(*picture.ledger, entry))


def _says_adobe_rgb(exif: bytes | None) -> bool:
    directory = exif_tags(exif).get(_EXIF) if exif else None
    if not isinstance(directory, dict):
        return False
    space, interoperability = directory.get(_COLOUR_SPACE), directory.get(_INTEROPERABILITY)
    if not isinstance(space, tuple):
        return False
    code = int.from_bytes(space[2][:2], "little")
    index = interoperability.get(_INDEX) if isinstance(interoperability, dict) else None
    adobe = isinstance(index, tuple) and index[2].startswith(b"R03")
    return code == _ADOBE_RGB or (code == _UNCALIBRATED and adobe)
