"""Fit a picture to a file format: keep what the format keeps, convert or drop the rest, and record it in the ledger."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import numpy as np

from gsrcli.errors import PictureError
from gsrcli.images.formats import Format
from gsrcli.images.ledger import Entry, Fate, Feature, Ledger
from gsrcli.images.metadata import COMMENT
from gsrcli.images.picture import Picture, from_unit, to_unit

__all__ = ["Background", "fit"]

Background: TypeAlias = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


def fit(picture: Picture, form: Format, background: Background | None = None) -> tuple[Picture, Ledger]:
    """Return a picture that holds only what a format can, and the ledger of all that it carried.

    Encoders write everything that is left, except for the number of bits, which they reduce themselves so that
    upscaling in between computes with all of them. Fitting again changes nothing.

    Args:
        picture: a picture as read.
        form: the format to be written.
        background: what lies under transparency that the format cannot keep.

    Raises:
        PictureError: the format cannot keep the transparency, and there is no background.
    """
    ledger = []
    for feature in picture.features():
        if feature in form.keeps:
            ledger.append(Entry(feature, Fate.KEPT))
        else:
            picture, entry = _without(picture, feature, form, background)
            ledger.append(entry)
    if form.palette:
        ledger += _beyond_a_palette(picture)
    return picture, tuple(ledger)


def _beyond_a_palette(picture: Picture) -> list[Entry]:
    """Return what a palette does not keep of a picture, once it is upscaled; encoders reduce it themselves."""
    entries = []
    if not picture.grey:
        entries.append(Entry("more than 256 colours", Fate.LOST))
    if not picture.opaque:
        entries.append(Entry("partial transparency", Fate.LOST))
    return entries


def _without(picture: Picture, feature: Feature, form: Format, background: Background | None) -> tuple[Picture, Entry]:
    """Convert or drop a feature that a format does not keep."""
    colour, metadata = picture.colour, picture.metadata
    entry = Entry(feature, Fate.LOST)
    match feature:
        case Feature.SIXTEEN_BITS:
            if form.deep:
                entry = Entry(feature, Fate.CONVERTED, form.deep)
            else:
                entry = Entry(feature, Fate.LOST, "(8 are written)")
        case Feature.FLOAT:
            picture, entry = _rounded(picture)
        case Feature.TRANSPARENCY:
            if background is None:
                raise PictureError(
                    f"{form.name} cannot keep the transparency of this picture",
                    hint="write a .png or .webp file, or add --background white",
                )
            picture, entry = _flattened(picture, background), Entry(feature, Fate.CONVERTED, "to the background")
        case Feature.PROFILE:
            colour = replace(colour, icc=None)
        case Feature.CICP:
            colour = replace(colour, cicp=None)
        case Feature.GAMMA:
            colour = replace(colour, gamma=None, chromaticities=None)
        case Feature.HDR:
            colour = replace(colour, mastering=None, light=None)
        case Feature.EXIF:
            metadata = replace(metadata, exif=None)
        case Feature.XMP:
            metadata = replace(metadata, xmp=None)
        case Feature.IPTC:
            metadata = replace(metadata, iptc=None)
        case Feature.TEXT:
            metadata = replace(metadata, texts=tuple(text for text in metadata.texts if text.keyword == COMMENT))
        case Feature.COMMENT:
            metadata = replace(metadata, texts=tuple(text for text in metadata.texts if text.keyword != COMMENT))
        case Feature.RESOLUTION:
            metadata = replace(metadata, dpi=None)
        case Feature.ASPECT:
            metadata = replace(metadata, aspect=None)
        case Feature.GEO:
            metadata = replace(metadata, geo=None)
    return replace(picture, colour=colour, metadata=metadata), entry


def _rounded(picture: Picture) -> tuple[Picture, Entry]:
    """Convert floating point to 16 bits: [0, 1] as it is, otherwise from the smallest value to the largest."""
    low, high = float(picture.pixels.min()), float(picture.pixels.max())
    unit, detail = picture.pixels, "to 16 bits"
    if low < 0 or high > 1:
        unit = (unit - low) / ((high - low) or 1.0)
        detail += f", {low:g} to {high:g} as black to white"
    alpha = None if picture.alpha is None else from_unit(picture.alpha, np.uint16)
    rounded = replace(picture, pixels=from_unit(unit, np.uint16), alpha=alpha)
    return rounded, Entry(Feature.FLOAT, Fate.CONVERTED, detail)


def _flattened(picture: Picture, background: Background) -> Picture:
    """Lay the picture over a background; grey becomes RGB if the background has a colour."""
    assert picture.alpha is not None
    under = np.array(background, np.float32) / 255
    if picture.grey and len(set(background)) == 1:
        under = under[:1]
    top = to_unit(picture.pixels)
    alpha = to_unit(picture.alpha)[..., None]
    return replace(picture, pixels=from_unit(under + (top - under) * alpha, picture.pixels.dtype), alpha=None)
