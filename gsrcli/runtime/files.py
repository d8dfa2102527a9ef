"""Atomic writes, the folders of a user's files, and the files that come with the package."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from gsrcli.errors import GsrError

__all__ = ["encoded", "filling", "locked", "replacing", "shipped", "user_folder", "write_whole"]

_PACKAGE = Path(__file__).parents[1]


def shipped(name: str) -> Path:
    """Return the path of a file from the repository's root: inside an installed package, above it in a checkout."""
    inside = _PACKAGE / name
    return inside if inside.exists() else _PACKAGE.parent / name


def user_folder(name: str) -> Path:
    """Return the folder of one kind of data: under GSRCLI_HOME if it is set, else in the system's user data folder."""
    from platformdirs import user_data_path

    home = os.environ.get("GSRCLI_HOME")
    return (Path(home).expanduser().absolute() if home else user_data_path("gsrcli", appauthor=False)) / name


def encoded(text: str) -> bytes:
    """Encode a text as UTF-8, escaping undecodable bytes of file names."""
    return text.encode(errors="backslashreplace")


@contextmanager
def filling(folder: Path, failure: type[GsrError]) -> Iterator[None]:
    """Turn a failure to write to a user's folder into a message.

    Raises:
        GsrError: an error of class ``failure`` in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        hint = "free some space there, or set GSRCLI_HOME to a folder that can be written to"
        reason = error.strerror or error
        raise failure(f"cannot write to {error.filename or folder}: {reason}", hint=hint) from error


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file at ``path`` that keeps other processes away from ``what``; create its folder if needed.

    Raises:
        OSError: the folder cannot be written to.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        warnings.warn(f"another process is using {what}; waiting for it to finish", stacklevel=3)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def replacing(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[BinaryIO]:
    """Give a temporary file to write to, and rename it at the end, so that readers find the old content or the new.

    A failure, including Ctrl-C, leaves nothing behind. If ``path`` is a link, the file that it points to is replaced.

    Raises:
        FileExistsError: the file exists and ``overwrite`` is not set.
        OSError: the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".gsr-{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as file:
            yield file
        with suppress(FileNotFoundError):
            shutil.copymode(target, temporary)  # keep the old file's permissions
        if not overwrite and os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(path))
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_whole(path: str | os.PathLike[str], content: bytes | memoryview, *, overwrite: bool = True) -> None:
    """Write a file whose whole content is known; see :func:`replacing`, also for what it raises."""
    with replacing(path, overwrite=overwrite) as file:
        file.write(content)
