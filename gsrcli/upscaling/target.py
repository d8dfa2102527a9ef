"""The output size that the user asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gsrcli.errors import LimitError, UsageError
from gsrcli.size import Size

__all__ = ["Target", "require_enlargement"]

_MAX_SIDE = 1e15  # pixels per side, far above what any format or memory can hold


@dataclass(frozen=True)
class Target:
    """The enlargement asked for: exactly one of scale, size, width and height.

    Attributes:
        scale: scale factor for both sides, at least 1.
        size: exact height and width.
        width: exact width; the height follows.
        height: exact height; the width follows.

    Raises:
        UsageError: none or several are given, or a value is invalid.
        LimitError: a side is too long for any picture.
    """

    scale: float | None = None
    size: Size | None = None
    width: int | None = None
    height: int | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.scale, self.size, self.width, self.height) if value is not None]
        if not given:
            raise UsageError("no scale or size is given", hint="for example, add --scale 4 or --size 3840x2160")
        if len(given) > 1:
            raise UsageError(
                "give only one of scale, size, width and height", hint="use --size WIDTHxHEIGHT to fix both sides"
            )
        if self.scale is not None and not 1 <= self.scale < math.inf:
            raise UsageError(f"invalid scale {self.scale:g}: use a number from 1 up; gsr only enlarges")
        sides = [side for side in (*(self.size or ()), self.width, self.height) if side is not None]
        if min(sides, default=1) < 1:
            raise UsageError("invalid size: use at least 1 pixel per side")
        if max(sides, default=1) > _MAX_SIDE:
            raise LimitError("invalid size: no picture can have a side of that many pixels")

    def of(self, low: Size) -> Size:
        """Return the size of the enlargement of a picture of size ``low``.

        Raises:
            UsageError: a side would become shorter.
            LimitError: a side would become too long for any picture.
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
        require_enlargement(low, size)
        return size

    @property
    def label(self) -> str:
        """Label for file names: x6.5, 3840x2160, w3840 or h2160."""
        if self.scale is not None:
            return f"x{self.scale:.10g}"
        if self.size is not None:
            return str(self.size)
        return f"w{self.width}" if self.width is not None else f"h{self.height}"


def require_enlargement(low: Size, size: Size) -> None:
    """Check that neither side of a picture becomes shorter.

    Raises:
        UsageError: one does.
    """
    if not size.holds(low):
        raise UsageError(f"{size} would shrink a picture of {low} pixels; gsr only enlarges")


def _nearest(length: float) -> int:
    if not length < _MAX_SIDE:
        raise LimitError(f"invalid size: no picture can have a side of {length:.3g} pixels")
    return math.floor(length + 0.5)
