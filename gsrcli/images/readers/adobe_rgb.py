"""Adobe RGB as cameras state it: in EXIF alone, without a profile (DCF 2.0)."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from gsrcli.images.colour import Colour
from gsrcli.images.description import Description
from gsrcli.images.exif import exif_says_adobe_rgb
from gsrcli.images.icc import adobe_rgb_profile
from gsrcli.images.ledger import Entry, Fate

__all__ = ["with_adobe_rgb"]

Described = TypeVar("Described", bound=Description)


def with_adobe_rgb(picture: Described) -> Described:
    """Return a picture with a profile for the Adobe RGB that its EXIF alone states, and an entry that says so."""
    converted = any(entry.fate == Fate.CONVERTED and "sRGB" in entry.detail for entry in picture.ledger)
    if picture.colour != Colour() or converted or not exif_says_adobe_rgb(picture.metadata.exif or b""):
        return picture
    entry = Entry("Adobe RGB of EXIF", Fate.CONVERTED, "read as a colour profile")
    colour = Colour(icc=adobe_rgb_profile(grey=picture.grey))
    return replace(picture, colour=colour, ledger=(*picture.ledger, entry))
