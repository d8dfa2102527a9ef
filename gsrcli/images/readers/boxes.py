"""Name what the readers of AVIF, HEIC and JPEG XL leave out of a file: boxes, and what follows the last of them."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from gsrcli.images.ledger import Entry, Fate

__all__ = ["box_name", "entries_of_boxes"]

_C2PA = UUID("d8fec3d6-1b0e-483c-9297-5828877ec481")
_CREDENTIALS, _VIDEO = "content credentials (C2PA)", "video of the motion photo"
_NAMES = {b"mpvd": _VIDEO, b"moov": "image sequence", b"jhgm": "gain map", b"jumb": "JUMBF metadata"}
_PADDING = b"\0\t\n\r "
_MOST_ENTRIES = 16


def box_name(kind: bytes, body: bytes) -> str:
    """Return what a box is, given its kind and content."""
    if kind == b"uuid" and len(body) >= 16:
        uuid = UUID(bytes=body[:16])
        return _CREDENTIALS if uuid == _C2PA else f"uuid box ({uuid})"
    if kind == b"jumb" and b"c2pa" in body:
        return _CREDENTIALS
    name = kind.decode("latin-1").strip()
    return _NAMES.get(kind) or f"{name if name.isalnum() else 'unknown'} box"


def entries_of_boxes(names: Iterable[str], rest: bytes) -> list[Entry]:
    """Return entries for boxes that are left out, each once, and for what follows the last box of a file."""
    different = list(dict.fromkeys(names))
    shown, more = different[:_MOST_ENTRIES], len(different) - _MOST_ENTRIES
    if more > 0:
        shown.append(f"{more} other boxes")
    rest = rest.strip(_PADDING)
    if b"ftyp" in rest[:8] or b"MotionPhoto_Data" in rest:
        shown.append(_VIDEO)
    elif rest:
        shown.append(f"{len(rest)} bytes after the picture")
    return [Entry(name, Fate.LOST) for name in dict.fromkeys(shown)]
