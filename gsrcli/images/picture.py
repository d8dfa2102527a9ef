"""A decoded picture, and the conversion between its integers and the unit range."""

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
    """A decoded picture: upright, with its transparency and metadata.

    Attributes:
        pixels: ``(H, W, C)``, uint8 or uint16 over their whole range; C is 1 (grey) or 3 (red, green, blue).
            Colours are not premultiplied by alpha.
        alpha: ``(H, W)`` of the same type, 0 for transparent; None for a picture without transparency.
        icc: colour profile, unchanged, or None, which means sRGB by convention.
        exif: EXIF block, starting at its byte-order mark, with orientation 1 and without thumbnail.
        xmp: XMP packet, with orientation 1.
        dpi: pixels per inch, horizontal and vertical.

    Raises:
        ValueError: shapes or types are unsupported or do not match.
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
        """Number of colour channels: 1 or 3."""
        return int(self.pixels.shape[2])

    @property
    def grey(self) -> bool:
        """Whether there is one colour channel."""
        return self.channels == 1

    @property
    def bits(self) -> int:
        """Bits per channel: 8 or 16."""
        return 8 * self.pixels.dtype.itemsize

    @property
    def bytes_per_pixel(self) -> int:
        """Bytes of all channels of a pixel, alpha included."""
        return (self.channels + (self.alpha is not None)) * self.bits // 8

    @property
    def opaque(self) -> bool:
        """Whether all pixels are opaque, so that alpha can be dropped."""
        return self.alpha is None or bool(self.alpha.min() == np.iinfo(self.alpha.dtype).max)

    def save(self, path: str | os.PathLike[str], *, quality: int | None = None) -> None:
        """Write the picture in the format given by the file's suffix; see `gsrcli.images.write_picture`."""
        from gsrcli.images.encode import write_picture  # which imports this module

        write_picture(self, path, quality=quality)

    def without_metadata(self) -> Picture:
        """Return the picture without EXIF and XMP. The colour profile stays, because it defines the colours."""
        return replace(self, exif=None, xmp=None)


def to_unit(pixels: Pixels) -> NDArray[np.float32]:
    """Convert uint8 or uint16 of any shape to float32 in [0, 1]."""
    return np.divide(pixels, np.iinfo(pixels.dtype).max, dtype=np.float32)


def from_unit(values: NDArray[np.floating[Any]], dtype: DTypeLike) -> Pixels:
    """Convert finite values of any shape to uint8 or uint16: clip to [0, 1], scale, and round half to even.

    ``from_unit(to_unit(x), x.dtype)`` is ``x``.
    """
    top = np.iinfo(np.dtype(dtype)).max
    scaled = np.multiply(values, top, dtype=np.float32)
    np.rint(scaled, out=scaled)
    np.clip(scaled, 0, top, out=scaled)
    rounded: Pixels = scaled.astype(dtype)
    return rounded


def to_eight_bits(pixels: Pixels) -> Pixels:
    """Convert uint8 or uint16 of any shape to uint8: 16 bits are scaled and rounded, 8 bits returned as they are."""
    if pixels.dtype == np.uint8:
        return pixels
    table = ((np.arange(65536) + 128) // 257).astype(np.uint8)  # 257 = 65535 / 255
    rounded: Pixels = table[pixels]
    return rounded


def bleed_alpha(pixels: Pixels, alpha: Pixels) -> Pixels:
    """Give the fully transparent pixels the colour of the nearest visible one.

    Colours under alpha 0 are arbitrary, often black, and upscaling would mix them into the visible edge as a
    dark fringe.

    Args:
        pixels: ``(H, W, C)``, uint8 or uint16.
        alpha: ``(H, W)``; 0 is transparent.

    Returns:
        ``pixels`` itself if all pixels are visible or none is, otherwise a changed copy.
    """
    visible = alpha > 0
    if visible.all() or not visible.any():
        return pixels
    cv2 = load_cv2()
    # Every visible pixel is a zero in the mask and gets its own label; other pixels get the label of the nearest zero.
    _, labels = cv2.distanceTransformWithLabels(
        (~visible).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    colours = np.zeros((int(labels.max()) + 1, pixels.shape[2]), pixels.dtype)
    colours[labels[visible]] = pixels[visible]
    filled: Pixels = colours[labels]
    return filled
