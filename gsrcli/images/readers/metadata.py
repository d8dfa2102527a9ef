"""Check the blocks of metadata that files carry: a bad one costs that block alone."""

from __future__ import annotations

from gsrcli.images.exif import exif_resolution, exif_upright
from gsrcli.images.iptc import sound_iptc
from gsrcli.images.ledger import Entry, Fate, Feature
from gsrcli.images.metadata import MAX_METADATA, Metadata
from gsrcli.images.readers.orientation import upright_metadata

__all__ = ["checked_iptc", "checked_metadata", "checked_profile"]

_SIGNATURE, _SIGNATURE_AT = b"acsp", 36


def checked_metadata(
    block: bytes | None, packet: bytes | None, orientation: int | None = 1
) -> tuple[Metadata, list[Entry]]:
    """Return EXIF, XMP and the resolution in EXIF of the upright picture, and entries for what could not be kept.

    Args:
        block: EXIF as stored, or None.
        packet: an XMP packet as stored, or None.
        orientation: the orientation by which the picture is turned upright; None if it is not turned by that alone.
    """
    entries: list[Entry] = []
    block, packet = _bounded(Feature.EXIF, block, entries), _bounded(Feature.XMP, packet, entries)
    block = block and block.removeprefix(b"Exif\0\0")
    if block and exif_upright(block) is None:
        block = None
        entries.append(Entry(Feature.EXIF, Fate.DAMAGED))
    stored = Metadata(exif=block or None, xmp=packet or None, dpi=exif_resolution(block or b""))
    metadata, of_turning = upright_metadata(stored, orientation)
    return metadata, [*entries, *of_turning]


def checked_iptc(block: bytes) -> tuple[bytes | None, list[Entry]]:
    """Return the sound IPTC datasets in a block, and an entry if there is anything else."""
    datasets, whole = sound_iptc(block)
    return datasets or None, [] if whole else [Entry(Feature.IPTC, Fate.DAMAGED)]


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
