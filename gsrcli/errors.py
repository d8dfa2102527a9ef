"""Errors that a user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

__all__ = [
    "DownloadError",
    "GsrError",
    "LimitError",
    "ModelError",
    "PictureError",
    "UnavailableError",
    "UsageError",
    "is_out_of_memory",
    "nearest",
]


_OUT_OF_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",  # errno.ENOMEM
    "insufficient memory",
    "out of memory",
    "out_of_memory",
    "alloc_failed",
    "bad_alloc",
)
# Whole messages, as longer ones are about other faults: oneDNN's, and libwebp's through Pillow, which says the number.
_OUT_OF_MEMORY_TERSELY = ("could not create a primitive", "could not create a memory object", "encoding error 1")


class GsrError(Exception):
    """An error with a message for the user, shown without a traceback.

    Attributes:
        hint: what to do about it, or None.
        exit_code: exit code of the command.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class PictureError(GsrError):
    """A picture cannot be read or written."""


class LimitError(PictureError):
    """A picture exceeds a limit: of its file format, of decoding, or of memory."""


class ModelError(GsrError):
    """A model is unknown, or its weights are missing, damaged or do not fit."""


class DownloadError(ModelError):
    """A file cannot be downloaded: there is no network or no such file, or its content is not the expected one."""


class UsageError(GsrError):
    """Invalid option or argument."""

    exit_code: ClassVar[int] = 2


class UnavailableError(RuntimeError):
    """A compiled part cannot be used here, so that something slower replaces it; the message says why."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out.

    The message is searched because torch's allocators, CUDA's libraries, OpenCV and others have no exception class for
    it.
    """
    message = str(error).lower()
    told = message in _OUT_OF_MEMORY_TERSELY or any(text in message for text in _OUT_OF_MEMORY)
    return told or isinstance(error, MemoryError)


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the names most similar to a mistyped one, for a hint, or all names if none is similar."""
    names = list(names)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return " or ".join(close) if close else f"one of {', '.join(names)}"
