"""A decoded picture, and the arithmetic between its integers and the unit range."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gsrcli.images.opencv import load_cv2
from gsrcli.size import Size

__all__ = ["Picture", "Pixels", "bleed_alpha", "from_unit", "to_eight_bits", "to_unit"]

Pixels = NDArray[Any]
"""An array of uint8 or uint16."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as it is seen: upright, with its transparency and its metadata.

    Attributes:
        pixels: ``(H, W, C)``, uint8 or uint16 over their whole range; C is 1 (grey) or 3 (red, green, blue).
            Colours are not multiplied by alpha.
        alpha: ``(H, W)`` of the same type, 0 transparent, or None where the picture has no transparency.
        icc: the colour profile, byte for byte, or None (by custom sRGB).
        exif: the EXIF block, from its byte-order mark on; its orientation is 1 and its thumbnail is gone.
        xmp: the XMP packet; its orientation is 1.
        dpi: pixels per inch, horizontal and vertical.

    Raises:
        ValueError: shapes or types that do not fit together.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if len(shape) != 3 or shape[2] not in (1, 3) or 0 in shape or dtype not in (np.uint8, np.uint16):
            raise ValueError(f"expected (H, W, 1 or 3) uint8 or uint16, got {shape} {dtype}")
        if self.alpha is not None and (self.alpha.shape != shape[:2] or self.alpha.dtype != dtype):
            raise ValueError(f"expected alpha {shape[:2]} {dtype}, got {self.alpha.shape} {self.alpha.dtype}")

    @property
    def size(self) -> Size:
        return Size.of(self.pixels)

    @property
    def channels(self) -> int:
        """Channels of colour: 1 or 3."""
        return int(self.pixels.shape[2])

    @property
    def grey(self) -> bool:
        """Whether there is one channel of colour."""
        return self.channels == 1

    @property
    def bits(self) -> int:
        """Bits a channel: 8 or 16."""
        return 8 * self.pixels.dtype.itemsize

    @property
    def bytes_per_pixel(self) -> int:
        """Of all channels, alpha included."""
        return (self.channels + (self.alpha is not None)) * self.bits // 8

    @property
    def opaque(self) -> bool:
        """Whether dropping alpha would change nothing that is seen."""
        return self.alpha is None or bool(self.alpha.min() == np.iinfo(self.alpha.dtype).max)

    def save(self, path: str | os.PathLike[str], *, quality: int | None = None) -> None:
        """Write the picture in the format of the file's suffix; see `gsrcli.images.write_picture`."""
        from gsrcli.images.encode import write_picture  # which imports this module

        write_picture(self, path, quality=quality)

    def without_metadata(self) -> Picture:
        """The same picture without EXIF and XMP. The colour profile stays: it is part of the colours."""
        return replace(self, exif=None, xmp=None)


def to_unit(pixels: Pixels) -> NDArray[np.float32]:
    """Integers of any shape, uint8 or uint16, as float32 in [0, 1]."""
    return np.divide(pixels, np.iinfo(pixels.dtype).max, dtype=np.float32)


def from_unit(values: NDArray[np.floating[Any]], dtype: DTypeLike) -> Pixels:
    """Finite values of any shape as uint8 or uint16: clipped to [0, 1], scaled, rounded half to even.

    ``from_unit(to_unit(x), x.dtype)`` is ``x``.
    """
    top = np.iinfo(np.dtype(dtype)).max
    scaled = np.multiply(values, top, dtype=np.float32)
    np.rint(scaled, out=scaled)
    np.clip(scaled, 0, top, out=scaled)
    rounded: Pixels = scaled.astype(dtype)
    return rounded


def to_eight_bits(pixels: Pixels) -> Pixels:
    """Integers of any shape, uint8 or uint16, as uint8 over the same range: 16 bits rounded, 8 as they are."""
    if pixels.dtype == np.uint8:
        return pixels
    table = ((np.arange(65536) + 128) // 257).astype(np.uint8)  # 257 = 65535 / 255
    rounded: Pixels = table[pixels]
    return rounded


def bleed_alpha(pixels: Pixels, alpha: Pixels) -> Pixels:
    """Give the fully transparent pixels the colour of the nearest visible one.

    What stands under alpha 0 is arbitrary, often black, and would be filtered into the visible edge as a
    dark fringe.

    Args:
        pixels: ``(H, W, C)``, uint8 or uint16.
        alpha: ``(H, W)``; 0 is transparent.

    Returns:
        ``pixels`` itself where all of it is visible or none is, otherwise a changed copy.
    """
    visible = alpha > 0
    if visible.all() or not visible.any():
        return pixels
    cv2 = load_cv2()
    # Every visible pixel is a zero of the mask and gets a label of its own, which its surroundings inherit.
    _, labels = cv2.distanceTransformWithLabels(
        (~visible).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    colours = np.zeros((int(labels.max()) + 1, pixels.shape[2]), pixels.dtype)
    colours[labels[visible]] = pixels[visible]
    filled: Pixels = colours[labels]
    return filled
