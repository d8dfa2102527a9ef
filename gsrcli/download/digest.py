"""Digests of files, which identify their content."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Digest", "sha256_of"]

_HEX_DIGITS = {"sha256": 64, "git-blob-sha1": 40}


@dataclass(frozen=True)
class Digest:
    """A digest and its kind.

    Attributes:
        kind: ``sha256``, or ``git-blob-sha1``, git's name for a file's content.
        value: lower-case hexadecimal.
    """

    kind: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Parse a digest written as ``kind:value``.

        Raises:
            ValueError: the kind is unknown, or the value is not of that kind.
        """
        kind, _, value = text.partition(":")
        if kind not in _HEX_DIGITS:
            raise ValueError(f"invalid digest {text!r}: it must begin with {' or '.join(f'{k}:' for k in _HEX_DIGITS)}")
        if not re.fullmatch(rf"[0-9a-f]{{{_HEX_DIGITS[kind]}}}", value):
            raise ValueError(f"invalid {kind} {text!r}: it must have {_HEX_DIGITS[kind]} lower-case hexadecimal digits")
        return cls(kind, value)

    @classmethod
    def of(cls, path: Path, kind: str = "sha256") -> Digest:
        """Compute the digest of a file.

        Raises:
            OSError: the file cannot be read.
        """
        if kind == "git-blob-sha1":
            digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        else:
            digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
        return cls(kind, digest.hexdigest())

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}"


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    return Digest.of(path).value
