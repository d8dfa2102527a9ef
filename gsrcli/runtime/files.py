"""Files that appear whole or not at all, where a user's are kept, and those that come with the package."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gsrcli.errors import GsrError

__all__ = ["encoded", "filling", "locked", "shipped", "user_folder", "write_whole"]

_PACKAGE = Path(__file__).parents[1]


def shipped(name: str) -> Path:
    """A file of the repository's top: an installed package holds it, a checkout has it one level up."""
    inside = _PACKAGE / name
    return inside if inside.exists() else _PACKAGE.parent / name


def user_folder(name: str) -> Path:
    """Where one kind of data is kept: below GSRCLI_HOME, or else where the system keeps a user's data."""
    from platformdirs import user_data_path

    home = os.environ.get("GSRCLI_HOME")
    return (Path(home).expanduser().absolute() if home else user_data_path("gsrcli", appauthor=False)) / name


def encoded(text: str) -> bytes:
    """A text in UTF-8, with what is undecodable in names of files spelled out."""
    return text.encode(errors="backslashreplace")


@contextmanager
def filling(folder: Path, failure: type[GsrError]) -> Iterator[None]:
    """Turn failures to write into a user's folder into messages.

    Raises:
        GsrError: of this class, in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        hint = "free some space there, or set GSRCLI_HOME to a folder that can be written to"
        reason = error.strerror or error
        raise failure(f"cannot write to {error.filename or folder}: {reason}", hint=hint) from error


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Keep other processes from something, by a lock at ``path``; its folder is made.

    Raises:
        OSError: the folder cannot be written to.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        warnings.warn(f"another process is at work on {what}; waiting for it", stacklevel=3)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def write_whole(path: str | os.PathLike[str], content: bytes | memoryview, *, overwrite: bool = True) -> None:
    """Write beside the target and rename: whoever reads it finds all of the old content or all of the new.

    Whatever goes wrong, Ctrl-C included, leaves no trace. Where ``path`` is a link, what it points to is replaced.

    Raises:
        FileExistsError: there is such a file, and ``overwrite`` is not set.
        OSError: it cannot be written.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".gsr-{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as file:
            file.write(content)
        with suppress(FileNotFoundError):
            shutil.copymode(target, temporary)  # who may read the old one may read the new
        if not overwrite and os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(path))
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
