"""Memory: keep it, return it, measure it. Does not import torch at the top."""

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

# From malloc.h. The second is the number of blocks that may be mapped from the system individually.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_MOST = 2**31 - 1

_STATUS = Path("/proc/self/status")
_FORGET_PEAK = Path("/proc/self/clear_refs"), "5"


def keep_freed_memory() -> None:
    """Make the C library keep and reuse freed memory for the rest of the process.

    A network's activations are tens of megabytes each. By default glibc maps each of them from the system and returns
    it when it is freed, so the system clears every page again for the next one: as much work as a light network's own.
    With other C libraries this does nothing.
    """
    if library := _glibc():
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, _MOST)


def return_freed_memory() -> None:
    """Return freed memory to the system, so that it no longer counts as the process's."""
    if library := _glibc():
        library.malloc_trim(ctypes.c_size_t(0))


def free_memory(device: torch.device) -> float:
    """Return the bytes that can still be allocated, including those that torch caches for reuse."""
    if device.type == "cuda":
        import torch

        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + kept)
    import psutil

    return float(psutil.virtual_memory().available)


def peak_memory(work: Callable[[], object], device: torch.device) -> int | None:
    """Run some work and return the peak memory in use during it, in bytes.

    On a GPU: the memory of tensors, including weights and inputs. On the CPU under Linux: the memory of the whole
    process, including Python and torch. Elsewhere: None.
    """
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device)
    measurable = device.type == "cpu" and _forget_peak()
    work()
    return _peak() if measurable else None


def _forget_peak() -> bool:
    """Reset the system's record of the process's peak memory; return False if that is not possible."""
    path, code = _FORGET_PEAK
    return_freed_memory()  # freed by earlier work
    with suppress(OSError):
        path.write_text(code)
        return True
    return False


def _peak() -> int:
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


@functools.cache  # finding out which library it is reads the interpreter's file
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
