"""How large a picture is to become. Sizes here are (height, width), like arrays."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from gsrcli.errors import LimitError, UsageError

__all__ = ["Target"]

_BEYOND_REASON = 1e15  # pixels a side; what a format or memory can hold ends long before


@dataclass(frozen=True)
class Target:
    """What was asked for: exactly one of a scale, a size, a width or a height.

    Attributes:
        scale: enlargement of both sides, at least 1.
        size: exact height and width.
        width: exact width; the height follows.
        height: exact height; the width follows.

    Raises:
        UsageError: none or several are given, or a value makes no sense.
        LimitError: a side is beyond reason.
    """

    scale: float | None = None
    size: tuple[int, int] | None = None
    width: int | None = None
    height: int | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.scale, self.size, self.width, self.height) if value is not None]
        if not given:
            raise UsageError("how large? give a scale, a size, a width or a height", hint="for instance --scale 4")
        if len(given) > 1:
            raise UsageError("give one of scale, size, width and height", hint="--size WIDTHxHEIGHT fixes both sides")
        if self.scale is not None and not 1 <= self.scale < math.inf:
            raise UsageError(f"a scale is a number from 1 up, not {self.scale:g}; gsr only enlarges")
        if min((*(self.size or (1,)), self.width or 1, self.height or 1)) < 1 or 0 in (self.width, self.height):
            raise UsageError("a size is at least one pixel")
        if max((*(self.size or (0,)), self.width or 0, self.height or 0)) > _BEYOND_REASON:
            raise LimitError("a side of that many pixels is beyond any picture")

    @staticmethod
    def parse_size(text: str) -> tuple[int, int]:
        """(height, width) of a text such as 3840x2160, which gives the width first, as everybody does."""
        match = re.fullmatch(r"(\d+)[x×*](\d+)", text.strip().lower())
        if match is None:
            raise UsageError(f"{text!r} is not a size", hint="write WIDTHxHEIGHT, as in 3840x2160")
        return int(match[2]), int(match[1])

    def of(self, height: int, width: int) -> tuple[int, int]:
        """The size that a picture of this height and width becomes.

        Raises:
            UsageError: that would shrink it.
            LimitError: no file format could hold it.
        """
        if self.size is not None:
            target = self.size
        elif self.scale is not None:
            target = (_nearest(height * self.scale), _nearest(width * self.scale))
        elif self.width is not None:
            target = (max(1, _nearest(height * self.width / width)), self.width)
        else:
            assert self.height is not None
            target = (self.height, max(1, _nearest(width * self.height / height)))
        if target[0] < height or target[1] < width:
            raise UsageError(
                f"{target[1]}x{target[0]} would shrink a picture of {width}x{height} pixels; gsr only enlarges"
            )
        return target

    @property
    def label(self) -> str:
        """For file names: x6.5, 3840x2160, w3840 or h2160."""
        if self.scale is not None:
            return f"x{self.scale:.10g}"
        if self.size is not None:
            return f"{self.size[1]}x{self.size[0]}"
        return f"w{self.width}" if self.width is not None else f"h{self.height}"


def _nearest(length: float) -> int:
    if not length < _BEYOND_REASON:
        raise LimitError(f"a side of {length:.3g} pixels is beyond any picture")
    return math.floor(length + 0.5)
