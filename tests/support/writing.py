"""What encoders write, as bytes, and pictures that come in strips."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gsrcli.images import Picture
from gsrcli.images.description import Description
from gsrcli.images.strips import Strip, Strips, in_strips

__all__ = ["once", "write_to", "written"]


def written(encode: Callable[..., None], pictures: Description | Iterable[Description], *how: object) -> bytes:
    """Return the file that an encoder writes of a picture, or of several, and how they are to be written."""
    file = io.BytesIO()
    encode(file, in_strips(pictures) if isinstance(pictures, Description) else map(in_strips, pictures), *how)
    return file.getvalue()


def once(picture: Picture, cuts: Sequence[int]) -> Strips:
    """Return a picture as strips that end at rows, and at its last one, which can be iterated over once."""
    ends = sorted({0, *cuts, picture.size.height})
    whole = Strip(picture.pixels, picture.alpha)
    strips = iter([whole.cut(start, stop) for start, stop in pairwise(ends)])

    def source() -> Iterator[Strip]:
        first = next(strips, None)
        assert first is not None, "the strips were iterated over already"
        yield first
        yield from strips

    return replace(in_strips(picture), source=source)


def write_to(monkeypatch: pytest.MonkeyPatch, kind: type[io.FileIO]) -> None:
    """Let the files that are written, and no others, be of this kind."""
    opened = Path.open

    def open_(self: Path, mode: str = "r", **how: Any) -> Any:
        return kind(self, mode.replace("b", "")) if "x" in mode else opened(self, mode, **how)

    monkeypatch.setattr(Path, "open", open_)
