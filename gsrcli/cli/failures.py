"""From exceptions to messages, hints and exit codes."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gsrcli.cli.console import Console, leave_standard_output
from gsrcli.errors import GsrError, is_out_of_memory

__all__ = ["INTERRUPTED", "Failure", "explain", "reporting"]

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""

BROKEN_PIPE = 141
"""Likewise where nobody reads the output to its end."""

_OS_ERRORS = {
    errno.ENOSPC: ("the disk is full", "free some space, or choose another folder with --output"),
    errno.EDQUOT: ("your disk quota is used up", "free some space, or choose another folder with --output"),
    errno.EACCES: ("permission denied", None),
    errno.EROFS: ("the file system is read-only", "choose another folder with --output"),
}


@dataclass(frozen=True)
class Failure:
    """What to tell of an exception."""

    message: str
    hint: str | None
    exit_code: int


def explain(error: BaseException) -> Failure:
    """The failure behind an exception; what is not known here is a bug of ours."""
    if isinstance(error, GsrError):
        return Failure(str(error), error.hint, error.exit_code)
    if isinstance(error, OSError) and error.errno in _OS_ERRORS:
        reason, hint = _OS_ERRORS[error.errno]
        return Failure(f"{error.filename}: {reason}" if error.filename else reason, hint, 1)
    if is_out_of_memory(error):
        return Failure("memory ran out", "try a smaller --tile, or close other programs", 1)
    if isinstance(error, ImportError) or (
        isinstance(error, OSError) and error.errno is None
    ):  # as of torch's libraries
        return Failure(f"an installed library does not work: {error}", "gsr doctor says what to do", 1)
    return Failure(f"unexpected {type(error).__name__}: {error}", "this is a bug in gsr; --debug shows where", 1)


@contextmanager
def reporting(console: Console, debug: bool, resume: str | None = None) -> Iterator[None]:
    """Turn exceptions into messages and exit codes; with ``debug`` let them pass, traceback and all.

    Warnings go through the console too. ``resume`` says how to go on after Ctrl-C.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: console.warn(str(message))
            warnings.filterwarnings("ignore", module="PIL")  # of damaged metadata, which is none of its reader's fault
            yield
    except KeyboardInterrupt:
        console.error("interrupted", resume)
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:  # whoever read the output wanted no more of it
        leave_standard_output()
        raise SystemExit(BROKEN_PIPE) from None
    except Exception as error:
        if debug:
            raise
        failure = explain(error)
        console.error(failure.message, failure.hint)
        raise SystemExit(failure.exit_code) from None
