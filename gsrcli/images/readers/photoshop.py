"""Read Photoshop's image resources, in which JPEG, TIFF and PNG files hold IPTC and more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gsrcli.images.captions import Property, with_properties
from gsrcli.images.iptc import IPTC, RESOLUTION, lost_resources, photoshop_resolution, photoshop_resources
from gsrcli.images.ledger import Entry, Fate

__all__ = ["Photoshop", "read_photoshop", "with_rights"]

_COPYRIGHTED, _URL = 0x040A, 0x040B


@dataclass(frozen=True)
class Photoshop:
    """What image resources say.

    Attributes:
        iptc: IPTC datasets, or nothing.
        dpi: pixels per inch, horizontal and vertical, or None.
        rights: what XMP has properties for.
        ledger: what is lost or damaged.
    """

    iptc: bytes = b""
    dpi: tuple[float, float] | None = None
    rights: tuple[Property, ...] = ()
    ledger: list[Entry] = field(default_factory=list)


def read_photoshop(block: bytes) -> Photoshop:
    """Read a block of image resources as far as it is sound."""
    resources, sound = photoshop_resources(block)
    ledger = [] if sound else [Entry("Photoshop image resources", Fate.DAMAGED)]
    ledger += [Entry(what, Fate.LOST) for what in lost_resources(resources)]
    return Photoshop(
        iptc=resources.get(IPTC, b""),
        dpi=photoshop_resolution(resources.get(RESOLUTION, b"")),
        rights=tuple(_rights(resources)),
        ledger=ledger,
    )


def _rights(resources: Mapping[int, bytes]) -> Iterator[Property]:
    if any(resources.get(_COPYRIGHTED, b"")):
        yield Property("xmpRights:Marked", "True", "copyright flag")
    if url := resources.get(_URL, b"").strip(b"\0 ").decode("latin-1"):
        yield Property("xmpRights:WebStatement", url, "copyright URL")


def with_rights(packet: bytes | None, photoshop: Photoshop) -> tuple[bytes | None, list[Entry]]:
    """Return an XMP packet that says what image resources say of rights, unless it does, and what became of them."""
    new = [right for right in photoshop.rights if right.name.encode() not in (packet or b"")]
    if not new:
        return packet, []
    packet, lost = with_properties(packet, new)
    fates = {True: (Fate.LOST, ""), False: (Fate.CONVERTED, "to XMP")}
    return packet, [Entry(right.keyword, *fates[right.keyword in lost]) for right in new]
