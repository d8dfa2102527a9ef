"""The most memory that a process takes."""

from __future__ import annotations

__all__ = ["PEAK"]

PEAK = 'int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024'
"""Expression in Python, for a program of its own under Linux: the largest resident memory of the process, in bytes.

What `getrusage` says is no measure of it: a new program there inherits the peak of the process that started it.
"""
