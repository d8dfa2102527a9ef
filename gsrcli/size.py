"""The size of a picture: height first, as in arrays. Only text and Pillow put the width first."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

from gsrcli.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Size"]


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
