"""The host's memory."""

from __future__ import annotations

import ctypes
import platform

__all__ = ["keep_freed_memory", "return_freed_memory"]

# Of malloc.h. The second is the number of blocks that may be mapped from the system, each by itself.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_MOST = 2**31 - 1


def keep_freed_memory() -> None:
    """Have the C library keep what is freed, and give it out again, for the rest of the process.

    The arrays that a network passes on are tens of megabytes each. By default glibc maps each from the system and
    returns it when it is freed, so that the system clears every page again for the next one: as much work as the
    network's own where that is light. With other C libraries this does nothing.
    """
    if library := _glibc():
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, _MOST)


def return_freed_memory() -> None:
    """Give the system what has been freed so far, so that it no longer counts as the process's."""
    if library := _glibc():
        library.malloc_trim(ctypes.c_size_t(0))


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
