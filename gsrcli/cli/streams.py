"""The standard streams of the program: a result that cannot be written ends it, a message that nobody hears does not.

This holds whatever writes to them: a command, the help of typer, a progress bar or rich.
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Any

from gsrcli.runtime.native import reserve_standard_error

__all__ = ["open_standard_streams"]

_BROKEN_PIPE = 141
"""The exit code when the reader of standard output has gone: 128 + SIGPIPE, as in shells."""


class _Unfailing(io.RawIOBase):
    """The bytes of a standard stream; what cannot be written is dropped."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream  # which would close the file when it goes
        self._raw: Any = getattr(stream.buffer, "raw", stream.buffer)  # Python's -u leaves out the buffer

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return bool(self._raw.isatty())

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def write(self, data: Any) -> int:
        try:
            while (written := self._raw.write(data)) is None:  # whoever shares the file made it not wait
                select.select([], [self._raw], [])
            return int(written)
        except OSError as error:
            self._failed(error)
            return len(data)

    def _failed(self, error: OSError) -> None:
        """Take note that something could not be written."""


class _Results(_Unfailing):
    """The bytes of standard output; the first that cannot be written end the program."""

    _ended = False

    def _failed(self, error: OSError) -> None:
        if self._ended:
            return
        self._ended = True
        if isinstance(error, BrokenPipeError):
            raise SystemExit(_BROKEN_PIPE) from None
        raise SystemExit(f"error: cannot write to standard output: {(error.strerror or str(error)).lower()}") from None


def open_standard_streams() -> None:
    """Open closed standard streams on the null device, so that no other file takes their descriptors.

    Standard error gets a descriptor of its own for our messages: what native libraries write can be caught.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            free = os.open(os.devnull, os.O_RDWR)  # the lowest free one: the stream's unless it is taken
            setattr(sys, name, os.fdopen(free, "r" if name == "stdin" else "w", encoding="utf-8", closefd=False))
    reserve_standard_error()
    sys.stdout, sys.stderr = _over(sys.stdout, _Results), _over(sys.stderr, _Unfailing)


def _over(stream: Any, kind: type[_Unfailing]) -> io.TextIOWrapper:
    """Return a stream of text that writes where another does."""
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(kind(stream)), stream.encoding, stream.errors, line_buffering=stream.line_buffering
    )
