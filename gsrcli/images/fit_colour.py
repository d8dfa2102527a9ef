"""Fit the colour tags of a picture to a file format, so that its numbers go on meaning the same colours."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from gsrcli.images.colour import Colour
from gsrcli.images.description import Pictured
from gsrcli.images.exif import exif_as_srgb
from gsrcli.images.formats import Format
from gsrcli.images.icc import cicp_profile, gamma_profile, profile_fits, profile_for, profile_space
from gsrcli.images.ledger import Entry, Fate, Feature
from gsrcli.images.picture import Picture
from gsrcli.images.srgb import to_srgb

__all__ = ["as_rgb", "fit_colour"]

_RELATIVE_COLORIMETRIC = 1
_TO_PROFILE = "to a colour profile"


def fit_colour(picture: Pictured, form: Format) -> tuple[Pictured, list[Entry]]:
    """Return a picture with only the colour tags that a format keeps, and what became of the others.

    A tag that rules and that the format does not keep becomes a profile. Pixels are converted to sRGB only where the
    format keeps no profile, or none for RGB of what was grey. Grey stays grey, unless its profile is one for RGB that
    does not treat all channels alike.
    """
    colour, entries = picture.colour, list[Entry]()
    grey, hdr = picture.grey and form.grey, bool(colour.cicp and colour.cicp.hdr)
    if colour.icc and not picture.grey and _of_grey_alone(colour.icc):
        colour = replace(colour, icc=None)
        entries.append(Entry(Feature.PROFILE, Fate.DAMAGED))
    for feature, step in (
        (Feature.PROFILE, _profile),
        (Feature.CICP, _cicp),
        (Feature.GAMMA, _gamma),
        (Feature.HDR, _mastering),
    ):
        colour, found = step(colour, form, grey)
        entries += [Entry(feature, fate, detail) for fate, detail in found]
    keeps, fits = Feature.PROFILE in form.keeps, bool(colour.icc) and profile_fits(colour.icc or b"", grey=grey)
    if colour.icc and keeps and grey and not fits:
        picture = picture.converted(as_rgb)
        entries.append(Entry("grey", Fate.CONVERTED, "to RGB, for which its profile is"))
    elif colour.icc and not (keeps and fits):
        picture, colour = _in_srgb(picture, colour.icc), Colour(intent=_RELATIVE_COLORIMETRIC)
        entries = [entry for entry in entries if entry.fate not in (Fate.KEPT, Fate.CONVERTED)]
        entries.append(Entry("colours", Fate.CONVERTED, "to sRGB, without the range of HDR" if hdr else "to sRGB"))
    return replace(picture, colour=colour), entries


def _of_grey_alone(icc: bytes) -> bool:
    """Return whether a profile says nothing of RGB, although it is one for grey."""
    return profile_space(icc) == "GRAY" and profile_for(icc, grey=False) is None


_Step = tuple[Colour, list[tuple[Fate, str]]]


def _profile(colour: Colour, form: Format, grey: bool) -> _Step:
    """Check the profile, and make it one for grey or for RGB, as the format has the pixels."""
    if not colour.icc:
        return colour, []
    if profile_space(colour.icc) not in ("RGB", "GRAY"):  # a CMYK profile says nothing of RGB
        return replace(colour, icc=None), [(Fate.DAMAGED, "")]
    if len(colour.icc) > form.most.get(Feature.PROFILE, math.inf):
        return replace(colour, icc=None), [(Fate.LOST, f"of {len(colour.icc)} bytes")]
    if colour.cicp and colour.cicp.known and not (Feature.CICP in form.keeps and form.cicp_rules):
        return replace(colour, icc=None), [(Fate.CONVERTED, "left out, because CICP colour tags rule over it")]
    icc = profile_for(colour.icc, grey=grey) or colour.icc
    return replace(colour, icc=icc), [(Fate.KEPT, "")]


def _cicp(colour: Colour, form: Format, grey: bool) -> _Step:
    codes = colour.cicp and colour.cicp.known
    if not codes:
        return replace(colour, cicp=None), []
    if Feature.CICP in form.keeps:
        return colour, [(Fate.KEPT, "")]
    without = replace(colour, cicp=None, gamma=None, chromaticities=None)
    if codes.srgb:
        return without, [(Fate.KEPT, "")]  # as what values mean without tags
    hdr = ", which few programs show as HDR" if codes.hdr else ""
    icc = cicp_profile(codes, grey=grey, peak=colour.peak)
    return replace(without, icc=icc), [(Fate.CONVERTED, _TO_PROFILE + hdr)]


def _gamma(colour: Colour, form: Format, grey: bool) -> _Step:
    if not (colour.gamma or colour.chromaticities):
        return colour, []
    without = replace(colour, gamma=None, chromaticities=None)
    if colour.srgb_gamma and Feature.GAMMA not in form.keeps:
        return without, []  # as what values mean without tags
    try:
        icc = gamma_profile(colour.gamma, colour.chromaticities, grey=grey)
    except ValueError:
        return without, [(Fate.DAMAGED, "")]
    if Feature.GAMMA in form.keeps:
        return colour, [(Fate.KEPT, "")]
    if colour.icc or colour.cicp or colour.intent is not None:
        return without, []  # they do not rule, so that nothing is lost
    return replace(without, icc=icc), [(Fate.CONVERTED, _TO_PROFILE)]


def _mastering(colour: Colour, form: Format, grey: bool) -> _Step:
    del grey
    if not (colour.mastering or colour.light):
        return colour, []
    if Feature.HDR in form.keeps:
        return colour, [(Fate.KEPT, "")]
    return replace(colour, mastering=None, light=None), [(Fate.LOST, "")]


def as_rgb(picture: Picture) -> Picture:
    """Return a grey picture with three equal channels."""
    return replace(picture, pixels=np.repeat(picture.pixels, 3, axis=2))


def _in_srgb(picture: Pictured, icc: bytes) -> Pictured:
    """Convert the pixels to sRGB; grey stays grey through a profile for grey."""
    exif = picture.metadata.exif and exif_as_srgb(picture.metadata.exif)
    described = replace(picture, metadata=replace(picture.metadata, exif=exif))
    return described.converted(lambda part: replace(part, pixels=to_srgb(part.pixels, icc)))
