"""Walk through the chunks of a PNG file (https://www.w3.org/TR/png-3/), as far as they are sound."""

from __future__ import annotations

import zlib
from typing import NamedTuple

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
    body: memoryview
    sound: bool

    @property
    def critical(self) -> bool:
        """Whether a decoder that does not know it must not go on."""
        return self.name[0].isupper()


def chunks_of(data: bytes) -> tuple[list[Chunk], list[Entry]]:
    """Return the chunks of a PNG file up to its end or the first place where there is none, and what is wrong there.

    Chunk bodies are views of ``data``; nothing is copied.
    """
    found: list[Chunk] = []
    view, at = memoryview(data), _SIGNATURE_BYTES
    while at < len(data):
        length, name = int.from_bytes(view[at : at + 4], "big"), bytes(view[at + 4 : at + 8])
        if len(name) < 4 or not name.isalpha() or length > _MAX_LENGTH:
            return found, [Entry("file", Fate.DAMAGED, f"from byte {at + 1} on")]
        end = at + 8 + length
        checksum = int.from_bytes(view[end : end + 4], "big")
        sound = end + 4 <= len(data) and zlib.crc32(view[at + 4 : end]) == checksum
        found.append(Chunk(name.decode(), view[at + 8 : end], sound))
        at = end + 4
        if name == b"IEND":
            return found, appended(data[at:])
    return found, [Entry("file", Fate.DAMAGED, "whose end is missing")]
