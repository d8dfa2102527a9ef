"""Turn exceptions into messages, hints and exit codes."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gsrcli.cli.console import Console
from gsrcli.errors import GsrError, ModelError, is_out_of_memory
from gsrcli.runtime.memory import memory_hint, tightest_limit

__all__ = ["INTERRUPTED", "Failure", "explain", "reporting"]

INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 + SIGINT, as in shells."""

_OS_ERRORS = {
    errno.ENOSPC: ("the disk is full", "free some space, or choose another folder with --output"),
    errno.EDQUOT: ("your disk quota is used up", "free some space, or choose another folder with --output"),
    errno.EACCES: ("permission denied", None),
    errno.EROFS: ("the file system is read-only", "choose another folder with --output"),
}


@dataclass(frozen=True)
class Failure:
    """What to tell the user about an exception.

    Attributes:
        message: what happened.
        hint: what to do about it, or None.
        exit_code: the exit code of the program.
        lines: whether the message has a line for each of several faults.
    """

    message: str
    hint: str | None
    exit_code: int
    lines: bool = False


def explain(error: BaseException) -> Failure:
    """Return the message, hint and exit code for an exception. An unknown exception is reported as a bug in gsr."""
    if isinstance(error, GsrError):
        return Failure(str(error), error.hint, error.exit_code, lines=isinstance(error, ModelError))
    if isinstance(error, OSError) and error.errno in _OS_ERRORS:
        reason, hint = _OS_ERRORS[error.errno]
        return Failure(f"{error.filename}: {reason}" if error.filename else reason, hint, 1)
    if is_out_of_memory(error) or _is_out_of_addresses(error):
        return Failure("memory ran out", f"try a smaller --tile, or {memory_hint()}", 1)
    if isinstance(error, RuntimeError) and str(error) == "can't start new thread":
        return Failure(
            "the system allows gsr too few threads", "allow more processes (ulimit -u) or memory (ulimit -v)", 1
        )
    # An OSError without a number comes from loading a shared library, such as torch's.
    if isinstance(error, ImportError) or (isinstance(error, OSError) and error.errno is None):
        return Failure(f"an installed library does not work: {error}", "run gsr doctor to find out what to do", 1)
    return Failure(f"unexpected {type(error).__name__}: {error}", "this is a bug in gsr; add --debug to see where", 1)


def _is_out_of_addresses(error: BaseException) -> bool:
    """Return whether a library could not be mapped under ``ulimit -v``; the same is said of other obstacles."""
    return "failed to map segment" in str(error) and tightest_limit().name == "ulimit -v"


@contextmanager
def reporting(console: Console, debug: bool, resume: str | None = None) -> Iterator[None]:
    """Turn exceptions into messages and exit codes; with ``debug`` let them propagate with their traceback.

    Warnings go through the console too. ``resume`` is the hint after Ctrl-C: how to resume.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: console.warn(str(message))
            # Pillow warns about damaged metadata, which the user can do nothing about.
            warnings.filterwarnings("ignore", module="PIL")
            yield
    except KeyboardInterrupt:
        console.error("interrupted", resume)
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        if debug:
            raise
        failure = explain(error)
        console.error(failure.message, failure.hint, lines=failure.lines)
        raise SystemExit(failure.exit_code) from None
