"""The content of files: in memory if they are small, and otherwise read where it is needed."""

from __future__ import annotations

import os
import stat
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from gsrcli.errors import PictureError

__all__ = ["Content", "FileContent", "Part", "after", "content_of", "trimmed"]

_HELD_BYTES = 1 << 25  # of files that are read into memory
_STEP = 1 << 16


class Content(Protocol):
    """What `bytes` and `FileContent` have in common."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...

    def startswith(self, prefix: bytes | tuple[bytes, ...], /) -> bool: ...

    def endswith(self, suffix: bytes, /) -> bool: ...

    def find(self, part: bytes, start: int, /) -> int: ...


class FileContent:
    """The content of a file, or its rest, of which each slice is read when it is asked for.

    The file is not mapped into memory, because one that another program cuts short would then end the process.

    Args:
        descriptor: the opened file; it is closed when its content is no longer referred to.
        start: the byte from which on it is meant.

    Raises:
        PictureError: when a slice is read, the file was changed since it was opened.
    """

    def __init__(self, descriptor: int, start: int = 0) -> None:
        self._descriptor, self._start = descriptor, start
        self._state = _state(descriptor)
        weakref.finalize(self, os.close, descriptor)

    def __len__(self) -> int:
        return max(0, self._state[0] - self._start)

    def __getitem__(self, part: slice) -> bytes:
        start, stop, step = part.indices(len(self))
        parts, at = list[bytes](), start
        while at < stop:  # one call reads 2 GiB at most
            parts.append(os.pread(self._descriptor, stop - at, self._start + at))
            at += len(parts[-1])
            if not parts[-1]:
                break
        if at < stop or _state(self._descriptor) != self._state:
            raise PictureError("another program changed it while it was read")
        return b"".join(parts)[::step]

    def startswith(self, prefix: bytes | tuple[bytes, ...]) -> bool:
        most = len(prefix) if isinstance(prefix, bytes) else max(map(len, prefix))
        return self[:most].startswith(prefix)

    def endswith(self, suffix: bytes) -> bool:
        return self[max(0, len(self) - len(suffix)) :] == suffix

    def find(self, part: bytes, start: int) -> int:
        """Return where a part, much shorter than a block, is found first from ``start`` on, or -1."""
        for at in range(start, len(self), _STEP):
            found = self[at : at + _STEP + len(part) - 1].find(part)
            if found >= 0:
                return at + found
        return -1

    def after(self, start: int) -> FileContent:
        """Return the content from a byte on."""
        rest = FileContent(os.dup(self._descriptor), self._start + start)
        rest._state = self._state
        return rest


def _state(descriptor: int) -> tuple[int, int]:
    """Return what of a file changes with its content: its size, and when it was written."""
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns


def content_of(path: str | os.PathLike[str]) -> Content:
    """Return the content of a file: in memory, if it is small, or a pipe, which cannot be read in any order.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (bytes)
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode) and status.st_size >= _HELD_BYTES:
            return FileContent(os.dup(file.fileno()))
        return file.readall()


def after(content: Content, start: int) -> Content:
    """Return content from a byte on."""
    return content.after(start) if isinstance(content, FileContent) else content[start:]


def trimmed(content: Content, start: int, padding: bytes) -> tuple[int, int]:
    """Return where content from a byte on starts and ends without padding; both are the end if there is nothing else.

    Args:
        content: the content.
        start: the byte.
        padding: the bytes that may be left out at both ends.
    """
    stop = len(content)
    while start < stop and not (rest := content[start : start + _STEP].lstrip(padding)):
        start += _STEP
    if start >= stop:
        return stop, stop
    start = min(start + _STEP, stop) - len(rest)
    while not (rest := content[max(start, stop - _STEP) : stop].rstrip(padding)):
        stop -= _STEP
    return start, max(start, stop - _STEP) + len(rest)


@dataclass(frozen=True)
class Part:
    """Some bytes of a file, which are read when they are asked for.

    Attributes:
        content: the file.
        start: offset of the first byte.
        stop: offset behind the last byte; it may lie behind the end of the file, which then ends the part.
    """

    content: Content
    start: int
    stop: int

    @classmethod
    def whole(cls, content: Content) -> Part:
        """Return all of a file as a part."""
        return cls(content, 0, len(content))

    def __len__(self) -> int:
        return max(0, min(self.stop, len(self.content)) - self.start)

    def __bytes__(self) -> bytes:
        return self.content[self.start : self.stop]

    def cut(self, start: int, stop: int | None = None) -> Part:
        """Return its bytes [start, stop), as far as there are so many."""
        end = self.stop if stop is None else min(self.start + stop, self.stop)
        return Part(self.content, min(self.start + start, end), end)

    def blocks(self) -> Iterator[bytes]:
        """Read the part block by block."""
        for at in range(self.start, self.start + len(self), _STEP):
            yield self.content[at : min(at + _STEP, self.stop)]
