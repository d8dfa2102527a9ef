"""Inflate streams of deflate, whole or damaged, in blocks that bound the memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

__all__ = ["BLOCK_BYTES", "inflated"]

BLOCK_BYTES = 1 << 20
"""Most bytes of a block."""


def inflated(inflater: Any, stream: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what a stream inflates to, up to the byte at which damage shows.

    Args:
        inflater: a new one, of `zlib.decompressobj`. If it comes to the end of the stream, its unused data are what
            follows there, up to four bytes at least.
        stream: the stream, in pieces of some kilobytes.
    """
    for piece in stream:
        rest = piece
        if inflater.eof:
            inflater.decompress(rest)
        while rest and not inflater.eof:
            before = inflater.copy()
            try:
                block = inflater.decompress(rest, BLOCK_BYTES)
            except zlib.error:
                yield from _inflated_bytewise(before, rest)
                return
            yield block
            rest = inflater.unconsumed_tail
        if inflater.eof and len(inflater.unused_data) >= 4:
            return
    if not inflater.eof:
        with suppress(zlib.error):
            yield inflater.flush()  # at most the few bytes that the last step left over


def _inflated_bytewise(inflater: Any, step: bytes) -> Iterator[bytes]:
    """Yield what can be inflated before the byte at which an error shows."""
    block = bytearray()
    with suppress(zlib.error):
        for at in range(len(step)):
            block += inflater.decompress(step[at : at + 1])
            if len(block) >= BLOCK_BYTES:
                yield bytes(block)
                block.clear()
    yield bytes(block)
