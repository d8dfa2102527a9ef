"""An opened picture file, whatever its format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gsrcli.errors import LimitError, PictureError
from gsrcli.images.ledger import PIXELS, Entry, Fate
from gsrcli.images.picture import Picture, Pixels
from gsrcli.size import Size

__all__ = ["CUT", "DAMAGED", "LEAST_PART", "Limits", "Source", "appended", "as_far_as_it_goes", "owned", "shown_for"]

DAMAGED = "the file is damaged or cut short"

CUT = Entry(PIXELS, Fate.DAMAGED, "(some are missing)")
"""What to say of a picture of which a part is missing."""

LEAST_PART = 10
"""Of so many rows or pixels of a damaged picture, one must be there."""

_BELIEVED_PIXELS, _PIXELS_PER_BYTE = 1 << 25, 256
_PADDING = b"\0\xff\t\n\r\x1a "


@dataclass(frozen=True)
class Limits:
    """How much a file may ask for.

    Attributes:
        max_pixels: largest picture to decode, in pixels; None for no limit.
    """

    max_pixels: int | None

    def check(self, size: Size) -> None:
        """Check the size that a file claims, before memory is allocated for it.

        Raises:
            LimitError: the picture is too large.
        """
        if self.max_pixels is not None and size.area > self.max_pixels:
            raise LimitError(
                f"{size} is more than {_amount(self.max_pixels)}",
                hint=f"if you trust the file, add --max-pixels {size.area}",
            )

    def check_compressed(self, size: Size, compressed: int, *, bytes_per_channel: int = 1) -> None:
        """Check the size that a compressed picture claims against its number of bytes, where a few can mean any size.

        Photographs have well below 100 pixels a byte. Blank pictures may have millions.

        Raises:
            LimitError: the picture is too large, by itself or for its bytes.
        """
        self.check(size)
        believed = max(_BELIEVED_PIXELS, _PIXELS_PER_BYTE * compressed)
        if self.max_pixels is not None and size.area * bytes_per_channel > believed:
            raise LimitError(
                f"{size} is too large to be believed of {compressed} bytes",
                hint="if the picture is really that blank, convert it to PNG with another program",
            )


def _amount(pixels: int) -> str:
    return f"{pixels / 1e6:g} megapixels" if pixels >= 1e5 else f"{pixels} pixels"


def owned(array: Pixels) -> Pixels:
    """Return an array contiguous and writable, which the memory of decoders is not."""
    return np.require(array, requirements=["C", "W"])


def as_far_as_it_goes(stored: NDArray[Any], count: int) -> tuple[NDArray[Any], bool]:
    """Return ``count`` values of an uncompressed picture, 0 where the file is cut short, and whether all are there.

    Args:
        stored: one-dimensional.
        count: how many values make up the picture.

    Raises:
        PictureError: nearly all are missing.
    """
    if stored.size >= count:
        return stored[:count], True
    if stored.size * LEAST_PART < count:
        raise PictureError(DAMAGED)
    whole = np.zeros(count, stored.dtype)
    whole[: stored.size] = stored
    return whole, False


def shown_for(duration: float) -> float:
    """Return how long browsers show a frame of a stated duration, in seconds: up to 10 ms mean 100."""
    return 0.1 if duration <= 0.01 else duration


def appended(rest: bytes) -> list[Entry]:
    """Return an entry for what follows the picture in its file, unless that is padding, as transfers leave it."""
    count = len(rest.strip(_PADDING))
    return [Entry(f"{count} byte{'s' * (count > 1)} after the picture", Fate.LOST)] if count else []


class Source(ABC):
    """The pictures of one file. Opening reads headers alone.

    Attributes:
        format: name of the file format, as Pillow calls it.
        size: size of the first picture, upright.
        count: number of pictures: frames of an animation, or pages.
        animated: whether they are the frames of an animation.
        loops: how often the animation is shown; 0 for ever. None if there is none.

    Raises:
        LimitError: a picture is too large.
        PictureError: the file is unsupported or damaged. Messages do not name the file; decoders may raise anything
            else, which means damage.
    """

    format: ClassVar[str]
    size: Size
    count: int = 1
    animated: bool = False
    loops: int | None = None

    @abstractmethod
    def __init__(self, data: bytes, limits: Limits) -> None: ...

    @abstractmethod
    def picture(self, index: int = 0) -> Picture:
        """Decode one of the pictures, from 0 on. A frame of an animation is drawn over those before it."""
