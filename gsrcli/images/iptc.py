"""IPTC, and the Photoshop image resources that hold it in JPEG, TIFF and PNG files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

__all__ = [
    "IPTC",
    "RESOLUTION",
    "Resource",
    "iptc_resources",
    "photoshop_resolution",
    "photoshop_resources",
    "sound_iptc",
]

RESOLUTION, IPTC = 0x03ED, 0x0404

_SIGNATURES = (b"8BIM", b"MeSa", b"PHUT", b"AgHg", b"DCSR")


class Resource(NamedTuple):
    """A Photoshop image resource."""

    identifier: int
    data: bytes


def photoshop_resources(block: bytes) -> Iterator[Resource]:
    """Return the Photoshop image resources in a block, which starts with the first one's signature.

    Raises:
        ValueError: the block is malformed; this comes after the resources before that place.
    """
    at = 0
    while block[at : at + 12].strip(b"\0"):
        if block[at : at + 4] not in _SIGNATURES or at + 12 > len(block):
            raise ValueError("not an image resource")
        data_at = at + 7 + block[at + 6]  # past the name
        data_at += data_at - at & 1
        size = int.from_bytes(block[data_at : data_at + 4], "big")
        end = data_at + 4 + size
        if end > len(block):
            raise ValueError("an image resource is cut short")
        yield Resource(struct.unpack_from(">H", block, at + 4)[0], block[data_at + 4 : end])
        at = end + (size & 1)


def iptc_resources(iptc: bytes) -> bytes:
    """Return a block of Photoshop image resources that holds IPTC datasets alone."""
    return b"8BIM" + struct.pack(">HHI", IPTC, 0, len(iptc)) + iptc + b"\0" * (len(iptc) & 1)


def photoshop_resolution(data: bytes) -> tuple[float, float] | None:
    """Return the pixels per inch in the data of a resolution resource, horizontal and vertical."""
    if len(data) < 16:
        return None
    x, _, _, y = struct.unpack(">IHHI", data[:12])
    return (x / 65536, y / 65536) if x and y else None


def sound_iptc(datasets: bytes) -> bytes:
    """Return IPTC datasets up to the first that is malformed, without the padding after the last."""
    at = 0
    while datasets[at : at + 1] == b"\x1c" and at + 5 <= len(datasets):
        size = int.from_bytes(datasets[at + 3 : at + 5], "big")
        start = at + 5
        if size & 0x8000:  # an extended dataset: the size of its size
            start += size & 0x7FFF
            size = int.from_bytes(datasets[at + 5 : start], "big")
        if start + size > len(datasets):
            break
        at = start + size
    return datasets[:at]
