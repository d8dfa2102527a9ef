"""IPTC, and the Photoshop image resources that hold it in JPEG, TIFF and PNG files."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

__all__ = [
    "IPTC",
    "RESOLUTION",
    "Dataset",
    "datasets_of",
    "iptc_is_blank",
    "iptc_resources",
    "lost_resources",
    "photoshop_resolution",
    "photoshop_resources",
    "sound_iptc",
]

RESOLUTION, IPTC = 0x03ED, 0x0404
"""Numbers of resources."""

_SIGNATURES = (b"8BIM", b"MeSa", b"PHUT", b"AgHg", b"DCSR")
_PATHS = range(2000, 2999)
_STRUCTURAL = ((1, 90), (2, 0), (2, 60))  # encoding, version, and the time, which goes with the date


def photoshop_resources(block: bytes) -> tuple[dict[int, bytes], bool]:
    """Return the Photoshop image resources in a block, the first of each number, and whether all of it is sound.

    Those before a malformed one are returned.
    """
    found, at = dict[int, bytes](), 0
    while block[at : at + 12].strip(b"\0"):
        if block[at : at + 4] not in _SIGNATURES or at + 12 > len(block):
            return found, False
        data_at = at + 7 + block[at + 6]  # past the name
        data_at += data_at - at & 1
        size = int.from_bytes(block[data_at : data_at + 4], "big")
        end = data_at + 4 + size
        if end > len(block):
            return found, False
        found.setdefault(int.from_bytes(block[at + 4 : at + 6], "big"), block[data_at + 4 : end])
        at = end + (size & 1)
    return found, True


def lost_resources(resources: Mapping[int, bytes]) -> list[str]:
    """Return what is lost with Photoshop image resources that pictures have no place for, if anybody would miss it."""
    return ["clipping path"] if any(number in _PATHS for number in resources) else []


def iptc_resources(iptc: bytes) -> bytes:
    """Return a block of Photoshop image resources that holds IPTC datasets alone."""
    return b"8BIM" + struct.pack(">HHI", IPTC, 0, len(iptc)) + iptc + b"\0" * (len(iptc) & 1)


def photoshop_resolution(data: bytes) -> tuple[float, float] | None:
    """Return the pixels per inch in the data of a resolution resource, horizontal and vertical."""
    if len(data) < 16:
        return None
    x, _, _, y = struct.unpack(">IHHI", data[:12])
    return (x / 65536, y / 65536) if x and y else None


class Dataset(NamedTuple):
    """An IPTC-IIM dataset: record, number, value, and where it ends."""

    record: int
    number: int
    value: bytes
    end: int


def datasets_of(iptc: bytes) -> Iterator[Dataset]:
    """Yield the datasets up to the first that is malformed."""
    at = 0
    while iptc[at : at + 1] == b"\x1c" and at + 5 <= len(iptc):
        size = int.from_bytes(iptc[at + 3 : at + 5], "big")
        start = at + 5
        if size & 0x8000:  # an extended dataset: the size of its size
            start += size & 0x7FFF
            size = int.from_bytes(iptc[at + 5 : start], "big")
        end = start + size
        if end > len(iptc):
            break
        yield Dataset(iptc[at + 1], iptc[at + 2], iptc[start:end], end)
        at = end


def sound_iptc(iptc: bytes) -> tuple[bytes, bool]:
    """Return the sound datasets, without padding, and whether these are all."""
    end = 0
    for dataset in datasets_of(iptc):
        end = dataset.end
    return iptc[:end], not iptc[end:].strip(b"\0")


def iptc_is_blank(iptc: bytes) -> bool:
    """Return whether IPTC-IIM datasets say nothing but their version and encoding."""
    datasets = list(datasets_of(iptc))
    return bool(datasets) and all((each.record, each.number) in _STRUCTURAL or not each.value for each in datasets)
