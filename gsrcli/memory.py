"""The host's memory."""

from __future__ import annotations

import ctypes
import platform

__all__ = ["keep_freed_memory"]

# Of malloc.h. The second is the number of blocks that may be mapped from the system, each by itself.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_MOST = 2**31 - 1


def keep_freed_memory() -> None:
    """Have the C library keep what is freed, and give it out again, for the rest of the process.

    The arrays that a network passes on are tens of megabytes each. By default glibc maps each from the system and
    returns it when it is freed, so that the system clears every page again for the next one: as much work as the
    network's own where that is light. With other C libraries this does nothing.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _MOST)
