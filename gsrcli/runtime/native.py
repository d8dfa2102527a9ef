"""Catch what native libraries write to standard error.

Some decoders report damage there and nowhere else. Standard error belongs to the process: while it is caught, lines
of others end up in the same place. Those that do not look like a picture library's are passed on, unless the program's
own messages take another way, as those of ``gsr`` do (:func:`reserve_standard_error`): then they are dropped.

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
from typing import Any

__all__ = ["native_output", "reserve_standard_error"]

_STANDARD_ERROR = 2
_MOST_BYTES = 1 << 16
_MODULES = rb"_?tiff|_?TIFF|Fax|LZW|PackBits|ZIP|PixarLog|LZMA|ZSTD|WebP|O?JPEG|LibJpeg|Thunder|NeXT|LogLu?v?"
_LIBTIFF = rb"(" + _MODULES + rb")\w*:|tempfile\.tif:|: "
_MESSAGE = re.compile(_LIBTIFF + rb"|\[ *(WARN|ERROR|INFO)|OpenCV|libpng |Corrupt JPEG")

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
        text: their lines, complete once the context of `native_output` has ended; those in the first 64 KiB.
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
            os.dup2(file.fileno(), _STANDARD_ERROR)
            try:
                yield output
            finally:
                os.dup2(own, _STANDARD_ERROR)
                os.close(own)
                file.seek(0)
                caught = file.read(_MOST_BYTES)
                lines = caught.splitlines(keepends=True)
                output.text = b"".join(line for line in lines if _MESSAGE.match(line)).decode(errors="replace")
                foreign = b"".join(line for line in lines if not _MESSAGE.match(line))
                if foreign and not _reserved:
                    with suppress(OSError):
                        os.write(_STANDARD_ERROR, foreign)


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
