"""Walk through the chunks of a PNG file (https://www.w3.org/TR/png-3/), as far as they are sound."""

from __future__ import annotations

import zlib
from typing import NamedTuple

from gsrcli.images.content import Content, Part
from gsrcli.images.ledger import Entry, Fate
from gsrcli.images.readers.source import appended

__all__ = ["Chunk", "chunks_of"]

_SIGNATURE_BYTES = 8
_MAX_LENGTH = 2**31 - 1


class Chunk(NamedTuple):
    """A chunk of a PNG file.

    Attributes:
        name: its type, four letters.
        body: its data, which may be shorter than it should be in a file that was cut short.
        sound: whether its data are complete and match their checksum.
    """

    name: str
    body: Part
    sound: bool

    @property
    def critical(self) -> bool:
        """Whether a decoder that does not know it must not go on."""
        return self.name[0].isupper()


def chunks_of(data: Content) -> tuple[list[Chunk], list[Entry]]:
    """Return the chunks of a PNG file up to its end or the first place where there is none, and what is wrong there."""
    found: list[Chunk] = []
    at = _SIGNATURE_BYTES
    while at < len(data):
        head = data[at : at + 8]
        length, name = int.from_bytes(head[:4], "big"), head[4:]
        if len(name) < 4 or not name.isalpha() or length > _MAX_LENGTH:
            return found, [Entry("file", Fate.DAMAGED, f"from byte {at + 1} on")]
        body = Part(data, at + 8, at + 8 + length)
        sound = data[body.stop : body.stop + 4] == _checksum(name, body)
        found.append(Chunk(name.decode(), body, sound))
        at = body.stop + 4
        if name == b"IEND":
            return found, appended(data, at)
    return found, [Entry("file", Fate.DAMAGED, "whose end is missing")]


def _checksum(name: bytes, body: Part) -> bytes:
    checksum = zlib.crc32(name)
    for block in body.blocks():
        checksum = zlib.crc32(block, checksum)
    return checksum.to_bytes(4, "big")
