"""The size that a picture is to become."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gsrcli.errors import LimitError, UsageError
from gsrcli.size import Size

__all__ = ["Target"]

_BEYOND_REASON = 1e15  # pixels a side; what a format or memory can hold ends long before


@dataclass(frozen=True)
class Target:
    """The enlargement asked for: exactly one of a scale, a size, a width or a height.

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
    size: Size | None = None
    width: int | None = None
    height: int | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.scale, self.size, self.width, self.height) if value is not None]
        if not given:
            raise UsageError("no scale or size is given", hint="for example --scale 4, or --size 3840x2160")
        if len(given) > 1:
            raise UsageError("give one of scale, size, width and height", hint="--size WIDTHxHEIGHT fixes both sides")
        if self.scale is not None and not 1 <= self.scale < math.inf:
            raise UsageError(f"invalid scale {self.scale:g}: use a number from 1 up; gsr only enlarges")
        sides = [side for side in (*(self.size or ()), self.width, self.height) if side is not None]
        if min(sides, default=1) < 1:
            raise UsageError("a size is at least one pixel")
        if max(sides, default=1) > _BEYOND_REASON:
            raise LimitError("a side of that many pixels is beyond any picture")

    def of(self, low: Size) -> Size:
        """Return the size that a picture of another size becomes.

        Raises:
            UsageError: that would shrink it.
            LimitError: no file format could hold it.
        """
        if self.size is not None:
            size = self.size
        elif self.scale is not None:
            size = Size(_nearest(low.height * self.scale), _nearest(low.width * self.scale))
        elif self.width is not None:
            size = Size(max(1, _nearest(low.height * self.width / low.width)), self.width)
        else:
            assert self.height is not None
            size = Size(self.height, max(1, _nearest(low.width * self.height / low.height)))
        if not size.holds(low):
            raise UsageError(f"{size} would shrink a picture of {low} pixels; gsr only enlarges")
        return size

    @property
    def label(self) -> str:
        """The part of a file name that tells the target: x6.5, 3840x2160, w3840 or h2160."""
        if self.scale is not None:
            return f"x{self.scale:.10g}"
        if self.size is not None:
            return str(self.size)
        return f"w{self.width}" if self.width is not None else f"h{self.height}"


def _nearest(length: float) -> int:
    if not length < _BEYOND_REASON:
        raise LimitError(f"a side of {length:.3g} pixels is beyond any picture")
    return math.floor(length + 0.5)
