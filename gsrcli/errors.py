"""The failures that a user can act on."""

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


class GsrError(Exception):
    """A failure with a message for the user, shown without a traceback.

    Attributes:
        hint: what to type or try next, or None.
        exit_code: the exit status of a command that fails this way.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class PictureError(GsrError):
    """This picture cannot be read or written."""


class LimitError(PictureError):
    """A picture larger than its file format, or the limit on decoding, allows."""


class ModelError(GsrError):
    """An unknown model, or weights that are missing, corrupt or do not fit."""


class DownloadError(ModelError):
    """Weights that cannot be fetched: there is no network, no such file, or it is not the file that was meant."""


class UsageError(GsrError):
    """An option or argument that cannot be meant."""

    exit_code: ClassVar[int] = 2


class UnavailableError(RuntimeError):
    """A compiled part cannot be used here, and something slower serves in its place; the message says why."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: torch's allocators of host memory, MPS, and CUDA's libraries have no class to say so."""
    messages = ("can't allocate memory", "out of memory", "out_of_memory", "alloc_failed")
    return isinstance(error, MemoryError) or any(text in str(error).lower() for text in messages)


def nearest(name: str, names: Iterable[str]) -> str:
    """The names that a mistaken one may have meant, for a hint; all of them where none is like it."""
    names = list(names)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    return " or ".join(close) if close else f"one of {', '.join(names)}"
