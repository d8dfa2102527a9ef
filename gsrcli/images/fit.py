"""Fit a picture to a file format: keep what the format keeps, convert or drop the rest, and record it in the ledger."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import numpy as np
from PIL import Image

from gsrcli.errors import PictureError
from gsrcli.images.captions import Property, iptc_properties, text_properties, with_properties
from gsrcli.images.description import Description, Pictured
from gsrcli.images.fit_colour import as_rgb, fit_colour
from gsrcli.images.formats import Format
from gsrcli.images.ledger import Entry, Fate, Feature, Ledger
from gsrcli.images.metadata import COMMENT, Metadata, Text
from gsrcli.images.picture import Picture, from_unit, to_eight_bits, to_unit, white
from gsrcli.images.srgb import from_srgb
from gsrcli.images.strips import Strips, in_memory, in_strips

__all__ = ["Background", "fit"]

Background: TypeAlias = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

_BLACK, _WHITE, _PALETTE = (0, 0, 0), (255, 255, 255), 256
_COLOURS = (Feature.PROFILE, Feature.CICP, Feature.GAMMA, Feature.HDR)
_TEN_BITS = 10
_CAPTIONS = (Feature.IPTC, Feature.TEXT, Feature.COMMENT)


def fit(picture: Pictured, form: Format, background: Background | None = None) -> tuple[Pictured, Ledger]:
    """Return a picture that holds only what a format can, and the ledger of all that it carried.

    Encoders write everything that is left, except for the number of bits, which they reduce themselves so that
    upscaling in between computes with all of them. Fitting again changes nothing.

    Strips are converted as they come; only for a palette they are all computed at once.

    Args:
        picture: a picture as read, or its enlargement: a `Picture` or `Strips`.
        form: the format to be written.
        background: what lies under transparency that the format cannot keep.

    Raises:
        PictureError: the format cannot keep the transparency or the alpha that is data, and there is no background.
    """
    ledger = list[Entry]()
    if picture.duration is not None:
        form = form.of_frames
    if form.one_density:
        picture, entries = _with_one_density(picture)
        ledger += entries
    carried = picture.features()
    for feature in carried:
        if feature in (*_COLOURS, *_CAPTIONS):
            continue
        if feature in form.keeps and _length(picture, feature) <= form.most.get(feature, math.inf):
            ledger.append(Entry(feature, Fate.KEPT))
        else:
            picture, entry = _without(picture, feature, form, background)
            ledger.append(entry)
    picture, entries = fit_colour(picture, form)
    ledger += entries
    if background and Feature.TRANSPARENCY not in form.keeps and not picture.opaque:
        picture = picture.converted(partial(_flattened, colour=_of_background(background, picture)))
    picture, entries = _fit_captions(picture, form, [feature for feature in carried if feature in _CAPTIONS])
    ledger += entries
    if form.palette:
        held = in_memory(picture)
        ledger += _beyond_a_palette(held)
        if isinstance(picture, Strips):
            picture = replace(picture, source=in_strips(held).source)
    return picture, tuple(ledger)


def _with_one_density(picture: Pictured) -> tuple[Pictured, list[Entry]]:
    """Drop the aspect of pixels where there is a resolution, which says it too."""
    dpi, aspect = picture.metadata.dpi, picture.metadata.aspect
    if not dpi or not aspect:
        return picture, []
    agreed = math.isclose(dpi[1] / dpi[0], aspect, rel_tol=0.01)
    entries = [] if agreed else [Entry(Feature.ASPECT, Fate.LOST, "beside a resolution")]
    return replace(picture, metadata=replace(picture.metadata, aspect=None)), entries


def _beyond_a_palette(picture: Picture) -> list[Entry]:
    """Return what a palette does not keep of a picture; encoders reduce it themselves.

    What upscaling adds to a picture that a palette does keep, such as one from a GIF file, nobody misses.
    """
    if picture.origin and picture.origin.format == "GIF":
        return []
    entries = []
    alpha, seen = picture.alpha, to_eight_bits(picture.seen).reshape(1, -1, picture.channels)
    if not picture.grey and seen.size and Image.fromarray(seen).getcolors(_PALETTE) is None:
        entries.append(Entry(f"more than {_PALETTE} colours", Fate.LOST))
    if alpha is not None and np.any((alpha > 0) & (alpha < white(alpha.dtype))):
        entries.append(Entry("partial transparency", Fate.LOST))
    if alpha is not None and picture.alpha_is_data and np.any(alpha == 0):
        entries.append(Entry("colours under full transparency", Fate.LOST))
    return entries


def _without(
    picture: Pictured, feature: Feature, form: Format, background: Background | None
) -> tuple[Pictured, Entry]:
    """Convert or drop a feature that a format does not keep."""
    metadata, too_long = picture.metadata, feature in form.most
    entry = Entry(feature, Fate.LOST, f"of {_length(picture, feature)} bytes" if too_long else "")
    match feature:
        case Feature.SIXTEEN_BITS:
            stored = picture.origin.bits if picture.origin else None
            what = f"{stored} bits per channel" if stored else feature
            if form.deep and stored == _TEN_BITS:
                entry = Entry(what, Fate.KEPT)
            elif form.deep:
                entry = Entry(what, Fate.CONVERTED, form.deep)
            else:
                entry = Entry(what, Fate.LOST, "(8 are written)")
        case Feature.FLOAT:
            picture, entry = _rounded(picture, form)
        case Feature.NARROW:
            picture, entry = picture.converted(_expanded), Entry(feature, Fate.CONVERTED, "to full range")
        case Feature.TRANSPARENCY:
            if background is None:
                what, otherwise = ("alpha", "") if picture.alpha_is_data else (feature, ", or add --background white")
                raise PictureError(
                    f"{form.name} cannot keep the {what} of this picture",
                    hint=f"write a .png or .webp file{otherwise}",
                )
            entry = Entry(feature, Fate.CONVERTED, "to the background")
            if picture.grey and len(set(background)) > 1:
                picture = picture.converted(as_rgb)
        case Feature.RESOLUTION:
            metadata = replace(metadata, dpi=None)
        case Feature.ASPECT:
            metadata = replace(metadata, aspect=None)
        case Feature.GEO:
            metadata = replace(metadata, geo=None)
    return replace(picture, metadata=metadata), entry


def _length(picture: Description, feature: Feature) -> int:
    """Return the number of bytes of a feature, where it is a block of them."""
    return len(picture.metadata.exif or b"") if feature == Feature.EXIF else 0


def _fit_captions(picture: Pictured, form: Format, carried: list[Feature]) -> tuple[Pictured, list[Entry]]:
    """Put texts, comments and IPTC, where a picture carries them, into XMP if a format keeps that alone."""
    entries = [Entry(feature, Fate.KEPT) for feature in carried if feature in form.keeps]
    entries += _lost_languages(picture.metadata, form)
    dropped = [feature for feature in carried if feature not in form.keeps]
    properties = {feature: _properties(picture.metadata, feature) for feature in dropped}
    metadata = _within(picture.metadata, form)
    if Feature.XMP in form.keeps:
        packet, lost = with_properties(metadata.xmp, [new for found in properties.values() for new in found])
        metadata = replace(metadata, xmp=packet)
        entries += [entry for feature, found in properties.items() for entry in _in_xmp(feature, found, lost)]
    else:
        entries += [Entry(feature, Fate.LOST) for feature in dropped]
    return replace(picture, metadata=metadata), entries


def _properties(metadata: Metadata, feature: Feature) -> list[Property]:
    """Return texts, comments or IPTC as properties of XMP."""
    if feature == Feature.IPTC:
        return iptc_properties(metadata.iptc or b"")
    return text_properties(text for text in metadata.texts if _kind(text) == feature and not text.blank)


def _kind(text: Text) -> Feature:
    return Feature.COMMENT if text.keyword == COMMENT else Feature.TEXT


def _lost_languages(metadata: Metadata, form: Format) -> list[Entry]:
    """Return what is lost of the languages of texts that a format keeps without them, or in XMP."""
    if form.languages:
        return []
    kept = [text for text in metadata.texts if _kind(text) in form.keeps]
    in_xmp = [text for text in metadata.texts if text not in kept and Feature.XMP in form.keeps]
    silent = [*kept, *(text for text in in_xmp if not all(p.translatable for p in text_properties([text])))]
    entries = [Entry("languages of texts", Fate.LOST)] if any(text.language for text in silent) else []
    if any(text.translated for text in (*kept, *in_xmp)):
        entries.append(Entry("translated keywords", Fate.LOST))
    return entries


def _within(metadata: Metadata, form: Format) -> Metadata:
    """Return only the blocks and texts that a format keeps; those without content are in no ledger."""
    texts = tuple(text for text in metadata.texts if _kind(text) in form.keeps)
    if not form.languages:
        texts = tuple(text._replace(language="", translated="") for text in texts)
    exif = metadata.exif if len(metadata.exif or b"") <= form.most.get(Feature.EXIF, math.inf) else None
    return replace(
        metadata,
        exif=exif if Feature.EXIF in form.keeps else None,
        xmp=metadata.xmp if Feature.XMP in form.keeps else None,
        iptc=metadata.iptc if Feature.IPTC in form.keeps else None,
        texts=texts,
    )


def _in_xmp(feature: Feature, properties: list[Property], lost: list[str]) -> list[Entry]:
    """Return what became of properties, given the keywords of those that found no place in XMP."""
    keywords = dict.fromkeys(new.keyword for new in properties)
    missing = [keyword for keyword in keywords if keyword in lost]
    entries = [Entry(feature, Fate.CONVERTED, "to XMP")] if len(missing) < len(keywords) else []
    if missing or not keywords:
        entries.append(Entry(feature, Fate.LOST, f"({', '.join(missing)})" if missing else ""))
    return entries


def _rounded(picture: Pictured, form: Format) -> tuple[Pictured, Entry]:
    """Convert floating point to 16 bits: [0, 1] as it is, otherwise from the smallest value that counts to the largest.

    The entry says how many of those bits are written.
    """
    if picture.extremes is None:
        raise ValueError("the extremes of a floating-point picture must be known")
    low, high = picture.extremes
    detail = "to 16 bits" if Feature.SIXTEEN_BITS in form.keeps else form.deep or "to 8 bits"
    beyond = low < 0 or high > 1
    if beyond:
        detail += f", {low:g} to {high:g} as black to white"

    def convert(part: Picture) -> Picture:
        unit = part.pixels
        if beyond:
            unit = np.clip(unit, low, high)  # what is hidden may be any number for "no data"
            unit = (unit / 2 - low / 2) / ((high / 2 - low / 2) or 1.0)  # halves, because the range may overflow
        alpha = None if part.alpha is None else from_unit(part.alpha, np.uint16)
        return replace(part, pixels=from_unit(np.clip(unit, 0, 1), np.uint16), alpha=alpha)

    return picture.converted(convert), Entry(Feature.FLOAT, Fate.CONVERTED, detail)


def _expanded(picture: Picture) -> Picture:
    """Convert values of narrow range, in which 8 bits have black at 16 and white at 235, to full range."""
    assert picture.colour.cicp is not None
    pixels = picture.pixels
    if pixels.dtype == np.float32:
        pixels = (pixels * np.float32(255) - 16) / 219
    else:
        values = np.arange(white(pixels.dtype) + 1) / (1 << picture.bits - 8)
        pixels = from_unit((values - 16) / 219, pixels.dtype)[pixels]
    return replace(picture, pixels=pixels, colour=replace(picture.colour, cicp=picture.colour.cicp.full))


def _of_background(background: Background, picture: Description) -> tuple[int, ...]:
    """Return the values that the colour of a background, which is one of sRGB, has in a picture.

    Formats without transparency have no colour tags but profiles.
    """
    icc = picture.colour.icc
    if not icc or background in (_BLACK, _WHITE):  # which all colours have in common, exactly
        return background[: picture.channels]
    try:
        return from_srgb(background, icc)[: picture.channels]
    except ValueError:
        raise PictureError(
            "its colour profile has no way to the colour of the background", hint="use white or black"
        ) from None


def _flattened(picture: Picture, colour: tuple[int, ...]) -> Picture:
    """Lay the picture over a background of a colour."""
    assert picture.alpha is not None
    under = np.array(colour, np.float32) / 255
    top = to_unit(picture.pixels)
    alpha = to_unit(picture.alpha)[..., None]
    return replace(picture, pixels=from_unit(under + (top - under) * alpha, picture.pixels.dtype), alpha=None)
