"""Threads: how many processors this process may keep busy. Does not import torch at the top."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gsrcli.runtime import cgroups

__all__ = ["configure", "usable_processors", "use_threads"]

_OTHER_THREADS = 16  # of Python, for reading, writing and progress

_asked_for: int | None = None


def configure() -> None:
    """Set how OpenMP's threads, which are torch's, wait and how many they are, unless the environment says it.

    Call it before torch is imported, because OpenMP reads the environment once. Threads that wait for the next piece of
    work would by default keep their processors busy meanwhile, at the cost of whatever else wants to run there, gsr's
    own threads above all.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    usable = usable_processors()
    if usable < _processors():  # torch knows of these, and of cores with two of them
        os.environ.setdefault("OMP_NUM_THREADS", str(usable))


def use_threads(number: int | None) -> None:
    """Compute with so many threads from now on: torch, the rasterizer and the encoders. None or 0 changes nothing."""
    global _asked_for
    if number:
        import torch

        torch.set_num_threads(number)
        _asked_for = number


def usable_processors(proc: Path = cgroups.PROC) -> int:
    """Return how many processors this process may keep busy.

    That is what :func:`use_threads` was told, or else what its affinity and its control groups' limits allow.
    """
    return _asked_for or max(1, min([_processors(), *_group_limits(proc)]))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _group_limits(proc: Path) -> Iterator[int]:
    """Yield what control groups allow: the time of so many processors, rounded up, and so many more threads."""
    for version, folder in cgroups.folders("cpu", proc):
        quota, period = _quota(version, folder)
        if quota > 0 and period > 0:  # -1 is no limit
            yield math.ceil(quota / period)
    for _, folder in cgroups.folders("pids", proc):
        allowed = cgroups.numbers(folder / "pids.max").get("")
        if allowed is not None:
            yield allowed - cgroups.numbers(folder / "pids.current").get("", 0) - _OTHER_THREADS


def _quota(version: int, folder: Path) -> tuple[int, int]:
    """Return the microseconds of processor time in a period, and the period; 0 for none."""
    if version == 1:
        quota, period = (cgroups.numbers(folder / f"cpu.cfs_{name}_us").get("", 0) for name in ("quota", "period"))
        return quota, period
    with suppress(OSError, ValueError):
        quota, period = map(int, (folder / "cpu.max").read_text().split())
        return quota, period
    return 0, 0
