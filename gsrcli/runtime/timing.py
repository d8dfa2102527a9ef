"""Points in the work of a device, and the times between them."""

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
    """A point in the work of a device: what of :class:`torch.cuda.Event` is used here."""

    def query(self) -> bool: ...

    def synchronize(self) -> object: ...

    def elapsed_time(self, end: Any, /) -> float: ...


Interval = tuple[Mark, Mark]


class _HostMark:
    """A reading of a clock of the host's, which is past when it is taken."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: _HostMark) -> float:
        """Milliseconds until a later one."""
        return 1000 * (end._seconds - self._seconds)


def mark(device: torch.device) -> Mark:
    """The end of all the work given to a device so far.

    On a GPU it is an event in torch's current stream, which costs the device nothing and stops nobody; other devices
    are waited for.
    """
    if device.type == "cuda":
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(device))
        return event
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return _HostMark(time.perf_counter())


def seconds_between(begin: Mark, end: Mark) -> float:
    """The time between two marks of one device; waits for the second."""
    end.synchronize()
    return begin.elapsed_time(end) / 1000


class StageTimer:
    """Where time went, by stage.

    On a CUDA device a stage lies between two events in its stream, and the host waits for them only when the times
    are read: to wait for every stage would leave the device idle between them. Other devices are waited for, which
    costs little, as every tile's check and every strip's copy wait for them anyway.

    Args:
        stages: their names.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self._spent = dict.fromkeys(stages, 0.0)
        self._under_way: deque[tuple[str, Mark, Mark]] = deque()

    @contextmanager
    def of(self, stage: str, device: torch.device) -> Iterator[None]:
        """Add the time of a block of code to a stage, unless it raises."""
        begin = mark(device)
        yield
        self._under_way.append((stage, begin, mark(device)))
        while self._under_way and self._under_way[0][2].query():
            self._settle()

    def read(self) -> dict[str, float]:
        """The seconds spent in each stage so far, once the device has come to their end."""
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
    """Times the work of a device, again and again.

    Args:
        device: whose work is timed.
        processor: on a CPU, read the processor time of all threads instead, which other programs disturb little.
    """

    def __init__(self, device: torch.device, *, processor: bool = False) -> None:
        self.device = device
        self._processor = processor and device.type == "cpu"
        self._matrix: torch.Tensor | None = None

    @property
    def name(self) -> str:
        """What it reads, for people."""
        if self.device.type == "cuda":
            return "CUDA events"
        return "processor time of all threads" if self._processor else "wall clock"

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
        return _HostMark(time.process_time()) if self._processor else mark(self.device)

    def samples(self, work: Callable[[], object], repeats: int) -> list[float]:
        """The seconds of each of several runs, after one that does not count."""
        spans: list[Interval] = []
        for _ in range(repeats + 1):
            self.wait()
            begin = self.mark()
            work()
            spans.append((begin, self.mark()))
        return [seconds_between(*span) for span in spans[1:]]
