"""Inflate streams of deflate, whole or damaged, in blocks that bound the memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

__all__ = ["BLOCK_BYTES", "inflated"]

BLOCK_BYTES = 1 << 20
"""Most bytes of a block."""

_INPUT_STEP = 1 << 16


def inflated(inflater: Any, stream: bytes | memoryview) -> Iterator[bytes]:
    """Yield what a stream inflates to, up to the byte at which damage shows.

    Args:
        inflater: a new one, of `zlib.decompressobj`. If it comes to the end of the stream, its unused data are what
            follows there, up to four bytes at least.
        stream: the stream.
    """
    for at in range(0, len(stream), _INPUT_STEP):
        step = stream[at : at + _INPUT_STEP]
        while step and not inflater.eof:
            before = inflater.copy()
            try:
                block = inflater.decompress(step, BLOCK_BYTES)
            except zlib.error:
                yield from _inflated_bytewise(before, step)
                return
            yield block
            step = inflater.unconsumed_tail
        if inflater.eof:
            inflater.decompress(stream[at + _INPUT_STEP : at + _INPUT_STEP + 4])
            return
    with suppress(zlib.error):
        yield inflater.flush()  # at most the few bytes that the last step left over


def _inflated_bytewise(inflater: Any, step: bytes | memoryview) -> Iterator[bytes]:
    """Yield what can be inflated before the byte at which an error shows."""
    block = bytearray()
    with suppress(zlib.error):
        for at in range(len(step)):
            block += inflater.decompress(step[at : at + 1])
            if len(block) >= BLOCK_BYTES:
                yield bytes(block)
                block.clear()
    yield bytes(block)
