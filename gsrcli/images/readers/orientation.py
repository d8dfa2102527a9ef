"""Turn pictures upright, and what is said about them."""

from __future__ import annotations

from dataclasses import replace

from gsrcli.images.exif import exif_orientation, exif_upright
from gsrcli.images.metadata import Metadata
from gsrcli.images.picture import Pixels
from gsrcli.images.readers.source import owned
from gsrcli.images.xmp import xmp_orientation, xmp_upright

__all__ = ["stated_orientation", "upright", "upright_metadata"]


def stated_orientation(exif: bytes | None, xmp: bytes | None) -> int:
    """Return the orientation in EXIF, otherwise in XMP, 1 to 8; 1 if neither has one."""
    return exif_orientation(exif or b"") or xmp_orientation(xmp or b"") or 1


def upright(array: Pixels, orientation: int) -> Pixels:
    """Turn stored pixels upright; return them contiguous and writable."""
    if orientation > 4:
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return owned(array)


def upright_metadata(stored: Metadata, orientation: int) -> Metadata:
    """Return the metadata of a picture that is turned upright: with orientation 1, and both directions exchanged."""
    turned = orientation > 4
    return replace(
        stored,
        exif=stored.exif and exif_upright(stored.exif),
        xmp=stored.xmp and xmp_upright(stored.xmp),
        dpi=stored.dpi[::-1] if stored.dpi and turned else stored.dpi,
        aspect=1 / stored.aspect if stored.aspect and turned else stored.aspect,
    )
