"""Marks in the work of a device, and the times between them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

__all__ = ["Clock", "Interval", "Mark", "StageTimer", "Timing", "mark", "seconds_between"]


class Mark(Protocol):
    """A point in the work of a device: the part of :class:`torch.cuda.Event` that is used here."""

    def query(self) -> bool: ...

    def synchronize(self) -> object: ...

    def elapsed_time(self, end: Any, /) -> float: ...


Interval = tuple[Mark, Mark]
"""The begin and the end of some work."""


class _HostMark:
    """A reading of one of the host's clocks, which has passed as soon as it is taken."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: _HostMark) -> float:
        """Return the milliseconds from this mark to a later one."""
        return 1000 * (end._seconds - self._seconds)


def mark(device: torch.device) -> Mark:
    """Mark the end of all work submitted to a device so far.

    On a CUDA GPU, the mark is an event in torch's current stream, which costs next to nothing and blocks nothing; other
    devices are synchronized.
    """
    if device.type == "cuda":
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(device))
        return event
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return _HostMark(time.perf_counter())


def seconds_between(begin: Mark, end: Mark) -> float:
    """Return the seconds between two marks of one device; wait for the second mark."""
    end.synchronize()
    return begin.elapsed_time(end) / 1000


class StageTimer:
    """Sums up the time spent in each stage of some work.

    On a CUDA device a stage lies between two events in its stream, and the host waits for them only when the times
    are read: waiting after every stage would leave the device idle. Other devices are synchronized after every stage;
    this costs little, as every tile's check and every strip's copy wait for them anyway.

    Args:
        stages: names of the stages.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self._spent = dict.fromkeys(stages, 0.0)
        self._under_way: deque[tuple[str, Mark, Mark]] = deque()

    @contextmanager
    def of(self, stage: str, device: torch.device) -> Iterator[None]:
        """Add the time of a ``with`` block to a stage, unless the block raises."""
        begin = mark(device)
        yield
        self._under_way.append((stage, begin, mark(device)))
        while self._under_way and self._under_way[0][2].query():
            self._settle()

    def read(self) -> dict[str, float]:
        """Wait for the stages so far to end, and return the seconds spent in each."""
        while self._under_way:
            self._settle()
        return dict(self._spent)

    def _settle(self) -> None:
        stage, begin, end = self._under_way.popleft()
        self._spent[stage] += seconds_between(begin, end)


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
    """Times repeated work on a device.

    Args:
        device: the device that does the work.
        processor: on a CPU, measure the processor time of all threads instead, which other programs disturb little.
    """

    def __init__(self, device: torch.device, *, processor: bool = False) -> None:
        self.device = device
        self._processor = processor and device.type == "cpu"
        self._matrix: torch.Tensor | None = None

    @property
    def name(self) -> str:
        """What the clock measures, for people."""
        if self.device.type == "cuda":
            return "CUDA events"
        return "processor time of all threads" if self._processor else "wall clock"

    def wait(self) -> None:
        """Wait for the device, so that the following work is timed from an idle device, including Python's overhead."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)

    def head_start(self) -> None:
        """Keep a GPU busy for some milliseconds, so that the work queued behind is timed without Python's overhead."""
        if self.device.type == "cuda":
            if self._matrix is None:
                self._matrix = torch.ones(4096, 4096, device=self.device)
            self._matrix @ self._matrix

    def mark(self) -> Mark:
        """Mark the end of the work submitted so far."""
        return _HostMark(time.process_time()) if self._processor else mark(self.device)

    def samples(self, work: Callable[[], object], repeats: int) -> list[float]:
        """Return the seconds of each of several runs, after one warm-up run."""
        intervals: list[Interval] = []
        for _ in range(repeats + 1):
            self.wait()
            begin = self.mark()
            work()
            intervals.append((begin, self.mark()))
        return [seconds_between(*interval) for interval in intervals[1:]]
