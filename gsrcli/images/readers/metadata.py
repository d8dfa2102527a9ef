"""Check the blocks of metadata that files carry: a bad one costs that block alone."""

from __future__ import annotations

from gsrcli.images import exif, xmp
from gsrcli.images.exif import exif_resolution
from gsrcli.images.ledger import Entry, Fate, Feature
from gsrcli.images.metadata import Metadata
from gsrcli.images.readers.source import MAX_METADATA

__all__ = ["checked_metadata", "checked_profile"]

_SIGNATURE, _SIGNATURE_AT = b"acsp", 36


def checked_metadata(
    block: bytes | None, packet: bytes | None, *, turned: bool = False
) -> tuple[Metadata, list[Entry]]:
    """Return EXIF, XMP and the resolution in EXIF, with orientation 1, and entries for what could not be kept.

    Args:
        block: EXIF, or None.
        packet: an XMP packet, or None.
        turned: whether width and height change places when the picture is turned upright.
    """
    entries: list[Entry] = []
    block, packet = _bounded(Feature.EXIF, block, entries), _bounded(Feature.XMP, packet, entries)
    upright = exif.exif_upright(block.removeprefix(b"Exif\0\0")) if block else None
    if block and upright is None:
        entries.append(Entry(Feature.EXIF, Fate.DAMAGED))
    dpi = exif_resolution(upright or b"")
    if dpi and turned:
        dpi = dpi[::-1]
    return Metadata(exif=upright, xmp=xmp.xmp_upright(packet) if packet else None, dpi=dpi), entries


def checked_profile(icc: bytes | None) -> tuple[bytes | None, list[Entry]]:
    """Return a colour profile if it is one, and an entry if not."""
    entries: list[Entry] = []
    icc = _bounded(Feature.PROFILE, icc, entries)
    if icc and icc[_SIGNATURE_AT : _SIGNATURE_AT + 4] != _SIGNATURE:
        return None, [Entry(Feature.PROFILE, Fate.DAMAGED)]
    return icc or None, entries


def _bounded(feature: Feature, block: bytes | None, entries: list[Entry]) -> bytes | None:
    if block and len(block) > MAX_METADATA:
        entries.append(Entry(feature, Fate.LOST, f"of {len(block)} bytes"))
        return None
    return block
