"""Process a picture in blocks of rows on several threads, for the PNG and TIFF encoders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from gsrcli.images.picture import Picture, Pixels
from gsrcli.runtime.threads import usable_processors

__all__ = ["DEFLATE_LEVEL", "interleaved", "map_blocks", "rows_per_block"]

DEFLATE_LEVEL = 1  # 6 takes about seven times as long and saves a tenth of the bytes
_BLOCK_BYTES = 1 << 20  # large enough to compress well, small enough for 1 megapixel to occupy several threads
_MOST_THREADS = 16

Result = TypeVar("Result")


def rows_per_block(picture: Picture) -> int:
    """Return the number of rows in every block but the last. It depends on the picture alone."""
    return max(1, _BLOCK_BYTES // (picture.size.width * picture.bytes_per_pixel))


def interleaved(picture: Picture, start: int, stop: int) -> Pixels:
    """Return rows [start, stop) as ``(rows, W, C)``, with alpha, if any, as the last channel."""
    pixels = picture.pixels[start:stop]
    if picture.alpha is None:
        return pixels
    return np.concatenate([pixels, picture.alpha[start:stop, :, None]], axis=2)


def map_blocks(work: Callable[[int, int], Result], picture: Picture) -> Iterator[Result]:
    """Yield ``work(start, stop)`` for every block of rows in order, using threads: zlib and numpy release the GIL."""
    height = picture.size.height
    step = rows_per_block(picture)
    starts = range(0, height, step)
    stops = [min(start + step, height) for start in starts]
    if len(stops) == 1:
        yield work(0, height)
        return
    with ThreadPoolExecutor(min(_MOST_THREADS, usable_processors(), len(stops))) as threads:
        yield from threads.map(work, starts, stops)
