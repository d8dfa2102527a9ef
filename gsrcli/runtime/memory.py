"""Memory: keeping it, giving it back, measuring it. Imports no torch by itself."""

from __future__ import annotations

import ctypes
import functools
import platform
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["free_memory", "keep_freed_memory", "peak_memory", "return_freed_memory"]

# Of malloc.h. The second is the number of blocks that may be mapped from the system, each by itself.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_MOST = 2**31 - 1

_STATUS = Path("/proc/self/status")
_FORGET_PEAK = Path("/proc/self/clear_refs"), "5"


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


def free_memory(device: torch.device) -> float:
    """Bytes that can still be had, those included that torch keeps to give out again."""
    if device.type == "cuda":
        import torch

        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + kept)
    import psutil

    return float(psutil.virtual_memory().available)


def peak_memory(work: Callable[[], object], device: torch.device) -> int | None:
    """Do some work, and tell the most memory that was in use meanwhile, in bytes.

    On a GPU: that of tensors, weights and inputs included. On Linux without one: that of the whole process, with Python
    and torch. None elsewhere.
    """
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device)
    is_told = device.type == "cpu" and _forget_peak()
    work()
    return _peak() if is_told else None


def _forget_peak() -> bool:
    """Have the system count the process's peak anew; False where it does not."""
    path, code = _FORGET_PEAK
    return_freed_memory()  # of what was done before
    with suppress(OSError):
        path.write_text(code)
        return True
    return False


def _peak() -> int:
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


@functools.cache  # to ask which library it is reads the interpreter's file
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
