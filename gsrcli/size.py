"""Sizes of pictures and boxes in them: height first, as in arrays. Only text and Pillow put the width first."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

from gsrcli.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Box", "Size"]


class Size(NamedTuple):
    """Height and width in pixels; as text ``3840x2160``, width first."""

    height: int
    width: int

    @classmethod
    def of(cls, pixels: NDArray[Any]) -> Size:
        """Return the size of an array ``(H, W, …)``."""
        return cls(*pixels.shape[:2])

    @classmethod
    def of_tensor(cls, image: Tensor) -> Size:
        """Return the size of a tensor ``(…, H, W)``."""
        return cls(*image.shape[-2:])

    @classmethod
    def parse(cls, text: str) -> Size:
        """Parse a size such as 3840x2160, width first.

        Raises:
            UsageError: the text is not a size.
        """
        match = re.fullmatch(r"(\d+)[x×*](\d+)", text.strip().lower())
        if match is None:
            raise UsageError(f"invalid size {text!r}", hint="write WIDTHxHEIGHT, for example 3840x2160")
        return cls(int(match[2]), int(match[1]))

    @classmethod
    def from_pillow(cls, size: tuple[int, int]) -> Size:
        """Convert a size of Pillow's, (width, height)."""
        width, height = size
        return cls(height, width)

    @property
    def for_pillow(self) -> tuple[int, int]:
        """(width, height), as Pillow takes it."""
        return self.width, self.height

    @property
    def area(self) -> int:
        """The number of pixels."""
        return self.height * self.width

    @property
    def transposed(self) -> Size:
        """The size of the picture turned by 90 degrees."""
        return Size(self.width, self.height)

    def holds(self, other: Size) -> bool:
        """Return whether both sides are at least as long as those of another size."""
        return self.height >= other.height and self.width >= other.width

    def scale_from(self, low: Size) -> tuple[float, float]:
        """Return the scale factors (y, x) from the size of an LR picture to this one."""
        return self.height / low.height, self.width / low.width

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


class Box(NamedTuple):
    """Rows [top, bottom) and columns [left, right), in pixels."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def whole(cls, size: Size) -> Box:
        """Return the box of a whole picture."""
        return cls(0, size.height, 0, size.width)

    @property
    def size(self) -> Size:
        return Size(self.bottom - self.top, self.right - self.left)

    @property
    def rows(self) -> tuple[int, int]:
        """The first row, and one past the last."""
        return self.top, self.bottom

    @property
    def columns(self) -> tuple[int, int]:
        """The first column, and one past the last."""
        return self.left, self.right

    @property
    def empty(self) -> bool:
        """Whether there is no pixel in it."""
        return self.bottom <= self.top or self.right <= self.left

    def meeting(self, other: Box) -> Box:
        """Return the part that is in another box as well; it may be empty."""
        top, bottom = max(self.top, other.top), min(self.bottom, other.bottom)
        return Box(top, bottom, max(self.left, other.left), min(self.right, other.right))

    def grown(self, margin: int) -> Box:
        """Return the box grown by ``margin`` pixels on every side."""
        return Box(self.top - margin, self.bottom + margin, self.left - margin, self.right + margin)

    def seen_from(self, window: Box) -> Box:
        """Return the box in the coordinates of a window that contains it."""
        return Box(self.top - window.top, self.bottom - window.top, self.left - window.left, self.right - window.left)
