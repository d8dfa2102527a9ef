"""Memory: how much may be used; keep it, return it, measure it. Does not import torch at the top."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import math
import mmap
import platform
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gsrcli.errors import GsrError, UsageError
from gsrcli.runtime import cgroups

if TYPE_CHECKING:
    import torch

__all__ = [
    "Limit",
    "free_memory",
    "in_bytes",
    "keep_freed_memory",
    "limits",
    "memory_apart",
    "memory_hint",
    "parse_memory",
    "peak_memory",
    "peak_so_far",
    "require_room_for_libraries",
    "return_freed_memory",
    "tightest_limit",
]

# From malloc.h. The second is the number of blocks that may be mapped from the system individually.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_MOST = 2**31 - 1

# Of control groups in versions 1 and 2: the limits, the usage, and in memory.stat the parts of it that are cached files
_GROUP_FILES = {
    1: (("memory.limit_in_bytes",), "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
    2: (("memory.max", "memory.high"), "memory.current", ("inactive_file", "active_file")),
}

# What gsr takes before it computes: address space beyond the files of torch's libraries, and memory to write to.
_ROOM_BESIDE_TORCH = 490 << 20
_ROOM_FOR_DATA = 300 << 20

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


class Limit(NamedTuple):
    """A limit on memory.

    Attributes:
        name: what sets it.
        allowed: bytes in all.
        used: bytes of them that are taken, by whomever they are shared with.
    """

    name: str
    allowed: float
    used: float

    @property
    def free(self) -> float:
        """Bytes that are left; below 0 if a limit is set below what is used already."""
        return self.allowed - self.used

    def __str__(self) -> str:
        return f"{self.name} allows {in_bytes(self.allowed)}"


def memory_apart(length: int) -> mmap.mmap:
    """Return zeroed memory that goes back to the system as soon as nothing refers to it, for large long-lived arrays.

    Among kept memory, one of them leaves a gap that smaller blocks break up, so that the next one needs new memory.
    """
    if hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, max(1, length), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mmap.mmap(-1, max(1, length))


def free_memory(device: torch.device, budget: int | None = None) -> float:
    """Return the bytes that can still be allocated, including those that torch or the C library keeps for reuse.

    Args:
        device: a GPU, or for all else the computer's memory: the least that any of the limits leaves.
        budget: see :func:`limits`; it is not about a GPU's memory.
    """
    if device.type == "cuda":
        import torch

        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + kept)
    # Freed memory that the C library keeps is still mapped, which ulimit counts, but the upscaler has it returned.
    kept = _kept_by_the_c_library()
    return max(0.0, min(limit.free + kept * limit.name.startswith("ulimit") for limit in limits(budget)))


def require_room_for_libraries() -> None:
    """Check, before numpy and torch are loaded, that ``ulimit`` leaves them the room to.

    Without it some of them end the process, with messages that say something else or nothing.

    Raises:
        GsrError: there is less.
    """
    for limit in _process_limits(cgroups.PROC):
        least = _ROOM_FOR_DATA if limit.name == "ulimit -d" else _size_of_torch() + _ROOM_BESIDE_TORCH
        if limit.allowed < least:
            raise GsrError(
                f"{limit} of memory; gsr and its libraries need {in_bytes(least)}",
                hint="allow more memory",
            )


def _size_of_torch() -> int:
    """Return the size of torch's libraries, which are mapped as a whole. A build for GPUs may bring others besides."""
    found = importlib.util.find_spec("torch")
    libraries = Path(found.origin).parent.glob("lib/*.so*") if found and found.origin else ()
    return sum(path.stat().st_size for path in libraries)


def tightest_limit(budget: int | None = None) -> Limit:
    """Return the limit that leaves the least; see :func:`limits`."""
    return min(limits(budget), key=lambda limit: limit.free)


def limits(budget: int | None = None, proc: Path = cgroups.PROC) -> Iterator[Limit]:
    """Yield every limit on this process's memory: the computer's, those of control groups and ``ulimit``, a budget.

    Args:
        budget: bytes that the whole process may use, Python and libraries included; None for no such limit.
        proc: folder of the process in /proc.
    """
    import psutil

    system = psutil.virtual_memory()
    yield Limit("the computer", system.total, system.total - system.available)
    for version, folder in cgroups.folders("memory", proc):
        yield _group_limit(version, folder)
    yield from _process_limits(proc)
    if budget is not None:
        yield Limit("--memory", budget, psutil.Process().memory_info().rss)


def _group_limit(version: int, folder: Path) -> Limit:
    """Return the limit of a control group. Cached files are not counted as used: the system drops them when it must."""
    limiting, usage, cached = _GROUP_FILES[version]
    stat = cgroups.numbers(folder / "memory.stat")
    allowed = [cgroups.numbers(folder / name).get("", math.inf) for name in limiting]
    # Version 1 tells the least limit of all the groups above, seen or unseen.
    allowed.append(stat.get("hierarchical_memory_limit", math.inf))
    used = cgroups.numbers(folder / usage).get("", 0)
    return Limit("the container", min(allowed), max(0, used - sum(stat.get(name, 0) for name in cached)))


def _process_limits(proc: Path) -> Iterator[Limit]:
    """Yield the limits of ``ulimit -v`` and ``ulimit -d``, where the system tells what counts against them."""
    with suppress(ImportError, OSError):
        import resource

        pages = [int(field) for field in (proc / "statm").read_text().split()]
        for flag, number, used in (("v", resource.RLIMIT_AS, pages[0]), ("d", resource.RLIMIT_DATA, pages[5])):
            allowed = resource.getrlimit(number)[0]
            if allowed != resource.RLIM_INFINITY:
                yield Limit(f"ulimit -{flag}", allowed, used * resource.getpagesize())


def parse_memory(text: str) -> int:
    """Return the bytes that a size such as 600M, 1.5GiB or 2000000000 means.

    K, M, G and T are powers of 1024, as are KiB to TiB; KB to TB are powers of 1000.

    Raises:
        UsageError: the text is no size above 0.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(I?B)?)?", text.strip().upper())
    size = 0
    if found:
        number, prefix, unit = found.groups("")
        size = int(float(number) * (1000 if unit == "B" else 1024) ** " KMGT".index(prefix or " "))
    if not size:
        raise UsageError(f"invalid size of memory: {text!r}", hint="use a size such as 600M or 1.5G")
    return size


def memory_hint(device: torch.device | None = None, budget: int | None = None) -> str:
    """Return what to do when the memory of a device, or of the computer, is too little; see :func:`free_memory`."""
    if device and device.type != "cpu":
        return "try --device cpu"
    limit = tightest_limit(budget)
    if limit.name == "the computer":
        return "close other programs"
    return f"allow more memory: {limit}"


def in_bytes(number: float) -> str:
    """Return a number of bytes for people, such as 600 MiB or 1.5 GiB."""
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"


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
    return peak_so_far() if measurable else None


def _forget_peak() -> bool:
    """Reset the system's record of the process's peak memory; return False if that is not possible."""
    path, code = _FORGET_PEAK
    return_freed_memory()  # freed by earlier work
    with suppress(OSError):
        path.write_text(code)
        return True
    return False


def peak_so_far() -> int:
    """Return the largest resident memory of this process, under Linux, in bytes.

    What `getrusage` says is no measure of it: a new program there inherits the peak of the process that started it.
    """
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def _kept_by_the_c_library() -> int:
    """Return the bytes of freed memory that glibc holds for reuse, 0 with others and before glibc 2.33."""
    info = getattr(_glibc(), "mallinfo2", None)
    if info is None:
        return 0
    info.restype = _Mallinfo
    return int(info().fordblks)


@functools.cache  # finding out which library it is reads the interpreter's file
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
