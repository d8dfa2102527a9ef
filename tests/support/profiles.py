"""Colour profiles built byte by byte (ICC.1), and the colours that transicc of LittleCMS finds in floating point."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

__all__ = ["cmyk_profile", "grey_profile", "packed_profile", "table_profile", "through_transicc"]

_D50 = struct.pack(">3i", 63190, 65536, 54061)
_WHITE = b"XYZ \0\0\0\0" + _D50
_CLASSES = {b"CMYK": b"prtr", b"GRAY": b"mntr"}


def packed_profile(space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Build a profile of version 2: of printers for CMYK, of scanners for others."""
    body, table = b"", struct.pack(">I", len(tags))
    for name, value in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(value))
        body += value.ljust(-(-len(value) // 4) * 4, b"\0")
    head = struct.pack(
        ">I4xI4s4s4s", 132 + 12 * len(tags) + len(body), 0x02400000, _CLASSES.get(space, b"scnr"), space, connection
    )
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp"
    return (head.ljust(68, b"\0") + _D50).ljust(128, b"\0") + table + body


def grey_profile(gamma: float = 1) -> bytes:
    """Build a profile of grey with a gamma."""
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    return packed_profile(b"GRAY", b"XYZ ", {b"wtpt": _WHITE, b"kTRC": curve})


def cmyk_profile() -> bytes:
    """Whatever the inks, black from 0 is the lightness: L* is 100 at K = 0, and 0 at K = 255."""
    ramp = bytes(range(256))
    grid = b"".join(bytes([0 if ink & 1 else 255, 128, 128]) for ink in range(16))  # black is the last ink
    identity = struct.pack(">9i", *(65536 * int(i % 4 == 0) for i in range(9)))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + ramp * 4 + grid + ramp * 3
    return packed_profile(b"CMYK", b"Lab ", {b"A2B0": table})


def table_profile(space: bytes, lab: np.ndarray) -> bytes:
    """Build a profile with a table (lut16Type) that leads from values to colours alone.

    Args:
        space: GRAY, RGB or CMYK.
        lab: L*, a* and b* of a grid of 2 or more nodes a channel, the first channel first: ``(N, …, N, 3)``.
    """
    channels, nodes = lab.ndim - 1, len(lab)
    codes = np.rint(lab * [652.8, 256, 256] + [0, 32768, 32768]).clip(0, 65535).astype(">u2")
    identity = struct.pack(">9i", *(65536 * (at % 4 == 0) for at in range(9)))
    curves = struct.pack(">2H", 0, 65535)
    head = b"mft2\0\0\0\0" + bytes([channels, 3, nodes, 0]) + identity + struct.pack(">2H", 2, 2)
    table = head + curves * channels + codes.tobytes() + curves * 3
    text = b"text\0\0\0\0Table\0"
    description = b"desc\0\0\0\0\0\0\0\x06Table\0".ljust(100, b"\0")
    return packed_profile(space, b"Lab ", {b"cprt": text, b"desc": description, b"wtpt": _WHITE, b"A2B0": table})


def through_transicc(profile: bytes, values: np.ndarray, folder: Path, target: str = "*sRGB") -> np.ndarray:
    """Return the colours of ``(N, C)`` values of [0, 1], in [0, 1], relative to white and black."""
    if not shutil.which("transicc"):
        pytest.skip("transicc of LittleCMS is not installed")
    path = folder / "profile.icc"
    path.write_bytes(profile)
    unit = 100 if values.shape[1] == 4 else 255
    numbers = "".join(" ".join(f"{value:.9f}" for value in row) + "\n" for row in (unit * values).tolist())
    command = ["transicc", "-i", str(path), f"-o{target}", "-t1", "-b", "-n"]
    said = subprocess.run(command, input=numbers, capture_output=True, text=True, check=True).stdout
    return np.clip(np.array(said.split(), float).reshape(len(values), -1) / 255, 0, 1)
