"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path

__all__ = ["write_whole"]


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
        if not overwrite and os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(path))
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
