"""What the AVIF and HEIC encoders share: colour tags and metadata as properties and items of a HEIF file."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction

import numpy as np

from gsrcli.images.colour import SRGB_TRANSFER, Colour
from gsrcli.images.exif import exif_with_resolution
from gsrcli.images.isobmff import Heif, Item, Property
from gsrcli.images.metadata import Metadata
from gsrcli.images.picture import Pixels

__all__ = ["code_points", "described", "tagged", "to_ten_bits"]

_UNSPECIFIED, _BT709 = 2, 1
_ALPHA = b"\0\0\0\0urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"
_MAX_SIXTEEN_BITS = 65535


def described(picture: Item, alpha: Item | None, colour: Colour, metadata: Metadata) -> Heif:
    """Return a file with a coded picture, its alpha, colour tags and metadata.

    Args:
        picture: the coded picture, with an nclx property that says its matrix and range.
        alpha: a coded grey picture of the same size, or None.
        colour: the colour tags.
        metadata: the metadata.
    """
    items = {1: tagged(picture, colour, metadata.aspect)}
    if alpha is not None:
        kept = tuple(p for p in alpha.properties if p.kind != b"colr")
        items[2] = replace(alpha, properties=(*kept, Property(b"auxC", _ALPHA)), references={b"auxl": (1,)})
    describes = {b"cdsc": (1,)}
    block = exif_with_resolution(metadata.exif, metadata.dpi)
    if block:
        items[3] = Item(b"Exif", b"\0\0\0\0" + block, references=describes)
    if metadata.xmp:
        items[4] = Item(b"mime", metadata.xmp, references=describes, media_type=b"application/rdf+xml")
    return Heif(items, 1)


def tagged(item: Item, colour: Colour, aspect: float | None) -> Item:
    """Return a coded picture with these colour tags and this aspect of its pixels, in place of those it has."""
    nclx = next(p.body for p in item.properties if p.kind == b"colr" and p.body[:4] == b"nclx")
    added = [Property(b"colr", nclx[:4] + code_points(colour) + nclx[8:])]
    if colour.icc:
        added.append(Property(b"colr", b"prof" + colour.icc))
    if colour.light:
        added.append(Property(b"clli", struct.pack(">HH", *(_nits(level) for level in colour.light))))
    if colour.mastering:
        rgb = colour.mastering  # PNG has red, green and blue; this box green, blue and red
        added.append(Property(b"mdcv", rgb[4:12] + rgb[:4] + rgb[12:]))
    if aspect:
        ratio = Fraction(aspect).limit_denominator(10_000)
        added.append(Property(b"pasp", struct.pack(">II", ratio.numerator, ratio.denominator)))
    kept = tuple(p for p in item.properties if p.kind not in (b"colr", b"clli", b"mdcv", b"pasp"))
    return replace(item, properties=(*kept, *added))


def code_points(colour: Colour) -> bytes:
    """Return primaries and transfer as in an nclx box: unspecified with a profile alone, and sRGB without tags."""
    primaries, transfer = _BT709, SRGB_TRANSFER
    if colour.cicp:
        primaries, transfer = colour.cicp.primaries, colour.cicp.transfer
    elif colour.icc:
        primaries = transfer = _UNSPECIFIED
    return struct.pack(">HH", primaries, transfer)


def _nits(level: int) -> int:
    """Return a light level in cd/m²."""
    return min(round(level / 10_000), _MAX_SIXTEEN_BITS)


def to_ten_bits(values: Pixels) -> Pixels:
    """Scale 16 bits to 10, rounded, from 0 to 1023."""
    scaled: Pixels = ((values.astype(np.uint32) * 1023 + 32767) // 65535).astype(np.uint16)
    return scaled
