"""Turn pictures upright, and what is said about them."""

from __future__ import annotations

from dataclasses import replace

from gsrcli.images.exif import exif_orientation, exif_upright
from gsrcli.images.ledger import Entry, Fate
from gsrcli.images.metadata import Metadata
from gsrcli.images.picture import Pixels
from gsrcli.images.readers.source import owned
from gsrcli.images.regions import kinds_of_regions, turned_regions, without_regions
from gsrcli.images.xmp import xmp_orientation, xmp_upright

__all__ = ["UPRIGHT_ROWS", "stated_orientation", "upright", "upright_metadata", "upright_packet"]

UPRIGHT_ROWS = (1, 2)
"""The orientations in which rows stay where they are, so that a strip can be turned by itself."""


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


def upright_metadata(stored: Metadata, orientation: int | None) -> tuple[Metadata, list[Entry]]:
    """Return the metadata of a picture that is turned upright, and entries for what could not be turned.

    They have orientation 1, and both directions are exchanged. See `upright_packet`.
    """
    turned = (orientation or 1) > 4
    packet, entries = upright_packet(stored.xmp, orientation)
    metadata = replace(
        stored,
        exif=stored.exif and exif_upright(stored.exif),
        xmp=packet,
        dpi=stored.dpi[::-1] if stored.dpi and turned else stored.dpi,
        aspect=1 / stored.aspect if stored.aspect and turned else stored.aspect,
    )
    return metadata, entries


def upright_packet(packet: bytes | None, orientation: int | None) -> tuple[bytes | None, list[Entry]]:
    """Return the XMP packet of a picture that is turned upright, and an entry for regions that could not be turned.

    Args:
        packet: XMP as stored, or None.
        orientation: the orientation by which the picture is turned, or None if it is not turned by that alone.
    """
    if not packet:
        return packet, []
    turned = xmp_upright(packet)
    turned = turned_regions(turned, orientation) if orientation else without_regions(turned)
    lost = kinds_of_regions(packet) - kinds_of_regions(turned)
    return turned, [Entry("image regions", Fate.LOST, "of the picture before it was turned")] if lost else []
