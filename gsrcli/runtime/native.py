"""Catch what native libraries write to standard error.

Some decoders report damage there and nowhere else. Standard error belongs to the process: while it is caught, what
other threads write ends up in the same place. What does not look like a picture library's message is passed on, unless
the program's own messages take another way, as those of ``gsr`` do (:func:`reserve_standard_error`): then it is
dropped.

In a program that was started without standard error, any file may have got its descriptor; that file is left alone.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

__all__ = ["native_output", "reserve_standard_error"]

_STANDARD_ERROR = 2
_MOST_BYTES = 1 << 16
_FAMILIES = (
    rb"Fax\d|LZW|PackBits|ZIP|PixarLog|LZMA|ZSTD|WebP|LERC|O?JPEG|Thunder|NeXT|LogL\w*|DumpMode|Predictor|_?TIFF"
)
_LIBTIFF = rb"(?:" + _FAMILIES + rb")[A-Z]\w*: |(?:_TIFF\w+|InitCCITTFax3|LibJpeg|tempfile\.tif): |^: "
_OPENCV = rb"\[ *(?:FATAL|ERROR|WARN|INFO):\d+(?:@[\d.]+)?\] |OpenCV\(|libpng (?:error|warning): |Corrupt JPEG data: "
_MESSAGE = re.compile(_LIBTIFF + rb"|" + _OPENCV)
"""How a message begins, libtiff's with the name of a function; a line that another thread has begun may precede it."""

_catching = threading.Lock()
_reserved = False
_owned = False  # whether the descriptor is known to be nobody else's


def reserve_standard_error() -> None:
    """Give Python's standard error a descriptor of its own, so that the usual one is left to native libraries."""
    global _owned, _reserved
    if not _writes_to_it(sys.stderr):
        return
    own = os.dup(_STANDARD_ERROR)
    sys.stderr = os.fdopen(own, "w", encoding=sys.stderr.encoding, errors="backslashreplace", buffering=1)
    _owned = _reserved = True


class NativeOutput:
    """What picture libraries wrote.

    Attributes:
        text: their messages, complete once the context of `native_output` has ended; at most 64 KiB of them.
    """

    text: str = ""


@contextmanager
def native_output() -> Iterator[NativeOutput]:
    """Catch what native libraries write to standard error meanwhile. Threads wait for each other."""
    output = NativeOutput()
    with _catching:
        if not _is_standard_error():
            yield output
            return
        if not _reserved and sys.stderr is not None:
            with suppress(OSError, ValueError):
                sys.stderr.flush()
        with tempfile.TemporaryFile() as file:
            own = os.dup(_STANDARD_ERROR)
            try:
                os.dup2(file.fileno(), _STANDARD_ERROR)
                yield output
            finally:
                os.dup2(own, _STANDARD_ERROR)
                os.close(own)
                file.seek(0)
                output.text = _sorted_out(file)


def _sorted_out(caught: IO[bytes]) -> str:
    """Return what picture libraries wrote, and pass on the rest."""
    ours = b""
    for line in caught:
        message = _MESSAGE.search(line)
        start = message.start() if message else len(line)
        ours += line[start:][: _MOST_BYTES - len(ours)]
        if start and not _reserved:
            with suppress(OSError):
                os.write(_STANDARD_ERROR, line[:start])
    return ours.decode(errors="replace")


def _is_standard_error() -> bool:
    """Return whether the descriptor is standard error's; if it is free, the null device is opened on it first."""
    global _owned
    try:
        os.fstat(_STANDARD_ERROR)
    except OSError:
        _owned = _takes_null_device()
    return _owned or _writes_to_it(sys.__stderr__) or _writes_to_it(sys.stderr)


def _writes_to_it(stream: Any) -> bool:
    try:
        return bool(stream.fileno() == _STANDARD_ERROR)
    except (OSError, ValueError, AttributeError):  # it is closed, no file, or None
        return False


def _takes_null_device() -> bool:
    """Open the null device on the lowest free descriptors up to that of standard error; return whether it got one."""
    opened = [os.open(os.devnull, os.O_RDWR)]
    while opened[-1] < _STANDARD_ERROR:
        opened.append(os.open(os.devnull, os.O_RDWR))
    taken = opened[-1] == _STANDARD_ERROR
    for descriptor in opened[:-1] if taken else opened:
        os.close(descriptor)
    return taken
