"""Take RIFF containers (WebP) apart into chunks, and put them together."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from gsrcli.size import Size

__all__ = ["Chunk", "chunks", "pack_chunk", "pack_riff", "webp_header"]


@dataclass(frozen=True)
class Chunk:
    """A chunk: its four-character kind, its body, and whether all of it is there."""

    kind: bytes
    body: bytes
    whole: bool


def chunks(data: bytes, start: int = 12) -> Iterator[Chunk]:
    """Yield the chunks from an offset on; a cut last one is not whole."""
    while len(data) - start >= 8:
        kind, length = struct.unpack_from("<4sI", data, start)
        start += 8
        yield Chunk(kind, data[start : start + length], start + length <= len(data))
        start += length + length % 2


def pack_chunk(kind: bytes, *parts: bytes) -> bytes:
    """Return a chunk."""
    body = b"".join(parts)
    return struct.pack("<4sI", kind, len(body)) + body + b"\0" * (len(body) % 2)


def pack_riff(form: bytes, *packed: bytes) -> bytes:
    """Return a file of packed chunks."""
    body = b"".join(packed)
    return struct.pack("<4sI4s", b"RIFF", 4 + len(body), form) + body


def webp_header(size: Size, flags: int) -> bytes:
    """Return the chunk of an extended WebP file's canvas and flags."""
    sides = (size.width - 1).to_bytes(3, "little") + (size.height - 1).to_bytes(3, "little")
    return pack_chunk(b"VP8X", bytes([flags, 0, 0, 0]), sides)
