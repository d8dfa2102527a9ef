"""Process a picture in blocks of rows on several threads, for the encoders that write as the rows come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from gsrcli.images.description import Raster
from gsrcli.runtime.threads import usable_processors

__all__ = ["DEFLATE_LEVEL", "in_threads", "rows_per_block"]

DEFLATE_LEVEL = 1  # 6 takes about seven times as long and saves a tenth of the bytes
_BLOCK_BYTES = 1 << 20  # large enough to compress well, small enough for 1 megapixel to occupy several threads
_MOST_THREADS = 16
_WAITING = 2  # blocks beside those that threads work on, so that none is idle while the next rows come

Block = TypeVar("Block")
Result = TypeVar("Result")


def rows_per_block(raster: Raster) -> int:
    """Return the number of rows in every block but the last. It depends on the picture alone."""
    return max(1, _BLOCK_BYTES // (raster.size.width * raster.layers * raster.dtype.itemsize))


def in_threads(work: Callable[[Block], Result], blocks: Iterable[Block]) -> Iterator[Result]:
    """Yield ``work(block)`` for every block in order, using threads: zlib and numpy release the GIL.

    A block is asked for when few are in work or waiting, so that memory need not hold them all. Callers give the
    iterators no names, so that a failure to write ends them at once, and with them what computes the rows.
    """
    results = deque[Future[Result]]()
    count = min(_MOST_THREADS, usable_processors())
    threads = ThreadPoolExecutor(count)
    try:
        for block in blocks:
            results.append(threads.submit(work, block))
            if len(results) == count + _WAITING:
                yield results.popleft().result()
        while results:
            yield results.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)
