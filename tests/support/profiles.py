"""Colour profiles, made byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Mapping

__all__ = ["cmyk_profile", "grey_profile", "icc_profile"]

_D50 = struct.pack(">3i", 63190, 65536, 54061)
_WHITE = b"XYZ \0\0\0\0" + _D50


def icc_profile(space: bytes, kind: bytes, pcs: bytes, tags: Mapping[bytes, bytes]) -> bytes:
    """Build a version 2 profile."""
    body, table = b"", struct.pack(">I", len(tags))
    for name, value in tags.items():
        value = value.ljust(-len(value) % 4 + len(value), b"\0")
        table += name + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(body), len(value))
        body += value
    header = struct.pack(">I4sI4s4s4s", 132 + 12 * len(tags) + len(body), b"lcms", 0x02400000, kind, space, pcs)
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + _D50
    return header.ljust(128, b"\0") + table + body


def grey_profile(gamma: float = 1) -> bytes:
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    return icc_profile(b"GRAY", b"mntr", b"XYZ ", {b"wtpt": _WHITE, b"kTRC": curve})


def cmyk_profile() -> bytes:
    """Whatever the inks, black from 0 is the lightness: L* is 100 at K = 0, and 0 at K = 255."""
    ramp = bytes(range(256))
    grid = b"".join(bytes([0 if ink & 1 else 255, 128, 128]) for ink in range(16))  # black is the last ink
    identity = struct.pack(">9i", *(65536 * int(i % 4 == 0) for i in range(9)))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + ramp * 4 + grid + ramp * 3
    return icc_profile(b"CMYK", b"prtr", b"Lab ", {b"A2B0": table})
