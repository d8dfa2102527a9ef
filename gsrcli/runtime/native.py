"""Catch what native libraries write to standard error.

Some decoders report damage there and nowhere else. Standard error belongs to the process: while it is caught, lines
of others end up in the same place. Those that do not look like a picture library's are passed on, unless the program's
own messages take another way, as those of ``gsr`` do (:func:`reserve_standard_error`): then they are dropped.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["native_output", "reserve_standard_error"]

_STANDARD_ERROR = 2
_MOST_BYTES = 1 << 16
_MODULES = rb"_?tiff|_?TIFF|Fax|LZW|PackBits|ZIP|PixarLog|LZMA|ZSTD|WebP|O?JPEG|LibJpeg|Thunder|NeXT|LogLu?v?"
_LIBTIFF = rb"(" + _MODULES + rb")\w*:|tempfile\.tif:|: "
_MESSAGE = re.compile(_LIBTIFF + rb"|\[ *(WARN|ERROR|INFO)|OpenCV|libpng |Corrupt JPEG")

_catching = threading.Lock()
_reserved = False


def reserve_standard_error() -> None:
    """Give Python's standard error a descriptor of its own, so that the usual one is left to native libraries."""
    global _reserved
    try:
        own = os.dup(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):  # it is no file
        return
    encoding = sys.stderr.encoding
    sys.stderr = os.fdopen(own, "w", encoding=encoding, errors="backslashreplace", buffering=1)
    _reserved = True


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
    with _catching, tempfile.TemporaryFile() as file:
        if not _reserved and sys.stderr is not None:
            with suppress(OSError, ValueError):
                sys.stderr.flush()
        try:
            own = os.dup(_STANDARD_ERROR)
        except OSError:  # it is closed
            own = None
        os.dup2(file.fileno(), _STANDARD_ERROR)
        try:
            yield output
        finally:
            if own is None:
                os.close(_STANDARD_ERROR)
            else:
                os.dup2(own, _STANDARD_ERROR)
                os.close(own)
            file.seek(0)
            caught = file.read(_MOST_BYTES)
            lines = caught.splitlines(keepends=True)
            output.text = b"".join(line for line in lines if _MESSAGE.match(line)).decode(errors="replace")
            foreign = b"".join(line for line in lines if not _MESSAGE.match(line))
            if foreign and not _reserved and own is not None:
                with suppress(OSError):
                    os.write(_STANDARD_ERROR, foreign)
