"""Times and memory, measured as each kind of device allows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gsrcli.memory import return_freed_memory

__all__ = ["Clock", "Mark", "Span", "Timing", "peak_memory"]

Mark = torch.cuda.Event | float
Span = tuple[Mark, Mark]

_STATUS = Path("/proc/self/status")
_FORGET_PEAK = Path("/proc/self/clear_refs"), "5"


@dataclass(frozen=True)
class Timing:
    """The median of repeated measurements and their interquartile range, in milliseconds."""

    median: float
    spread: float

    @staticmethod
    def of(seconds: Sequence[float]) -> Timing:
        lower, median, upper = np.percentile(seconds, [25, 50, 75]) * 1e3
        return Timing(float(median), float(upper - lower))


class Clock:
    """Marks points in the work of a device.

    On a GPU marks are events in torch's current stream, which cost the device nothing and stop nobody; elsewhere they
    are readings of the wall clock, taken when the work so far is done.

    Args:
        device: whose work is timed.
        processor: on a CPU, read the processor time of all threads instead, which other programs disturb little.
    """

    def __init__(self, device: torch.device, *, processor: bool = False) -> None:
        self.device = device
        self.name = "CUDA events"
        if device.type != "cuda":
            self.name = "processor time of all threads" if processor and device.type == "cpu" else "wall clock"
        self._matrix: torch.Tensor | None = None

    def wait(self) -> None:
        """Let the device finish, so that what follows is timed with all of Python that it waits for."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)

    def head_start(self) -> None:
        """Keep a GPU busy for some milliseconds, while what is to be timed without Python is queued behind."""
        if self.device.type == "cuda":
            if self._matrix is None:
                self._matrix = torch.ones(4096, 4096, device=self.device)
            self._matrix @ self._matrix

    def mark(self) -> Mark:
        """The point that the work asked for so far leads to."""
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self.device))
            return event
        if self.device.type == "cpu" and self.name != "wall clock":
            return time.process_time()
        self.wait()
        return time.perf_counter()

    @staticmethod
    def seconds(span: Span) -> float:
        """The time between two marks; waits for the second."""
        begin, end = span
        if isinstance(begin, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
            end.synchronize()
            return begin.elapsed_time(end) / 1e3
        assert isinstance(begin, float)
        assert isinstance(end, float)
        return end - begin

    def samples(self, work: Callable[[], object], repeats: int) -> list[float]:
        """The seconds of each of several runs, after one that does not count."""
        spans: list[Span] = []
        for _ in range(repeats + 1):
            self.wait()
            begin = self.mark()
            work()
            spans.append((begin, self.mark()))
        return [self.seconds(span) for span in spans[1:]]


def peak_memory(work: Callable[[], object], device: torch.device) -> int | None:
    """Do some work, and tell the most memory that was in use meanwhile, in bytes.

    On a GPU: that of tensors, weights and inputs included. On Linux without one: that of the whole process, with Python
    and torch. None elsewhere.
    """
    if device.type == "cuda":
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
