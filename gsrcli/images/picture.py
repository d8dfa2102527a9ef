"""A decoded picture, and the conversion between its integers and the unit range."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gsrcli.images.description import Description, Origin, Raster
from gsrcli.images.opencv import load_cv2
from gsrcli.size import Size

__all__ = [
    "Origin",
    "Picture",
    "Pixels",
    "bleed_alpha",
    "from_unit",
    "levels",
    "to_eight_bits",
    "to_unit",
    "unmultiplied",
    "white",
]

Pixels = NDArray[Any]
"""An array of uint8, uint16 or float32."""

_BLOCK_PIXELS = 1 << 20


@dataclass(frozen=True, eq=False)
class Picture(Description):
    """A decoded picture in memory: upright, with its transparency, colour tags and metadata; see also `Description`.

    Attributes:
        pixels: ``(H, W, C)``, uint8 or uint16 over their whole range, or finite float32 of any range; C is 1 (grey) or
            3 (red, green, blue). Colours are not premultiplied by alpha.
        alpha: ``(H, W)`` of the same type, 0 for transparent, and 1 for opaque in float32; None for a picture without
            transparency.

    Raises:
        ValueError: shapes or types are unsupported or do not match.
    """

    pixels: Pixels
    alpha: Pixels | None = None

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if len(shape) != 3:
            raise ValueError(f"expected (H, W, 1 or 3) uint8, uint16 or float32, got {shape} {dtype}")
        self.raster.check()
        if self.alpha is not None and (self.alpha.shape != shape[:2] or self.alpha.dtype != dtype):
            raise ValueError(f"expected alpha {shape[:2]} {dtype}, got {self.alpha.shape} {self.alpha.dtype}")

    @property
    def raster(self) -> Raster:
        height, width, channels = self.pixels.shape
        return Raster(Size(height, width), channels, self.pixels.dtype, self.alpha is not None)

    @property
    def opaque(self) -> bool:
        return self.alpha is None or bool(self.alpha.min() >= white(self.alpha.dtype))

    @property
    def extremes(self) -> tuple[float, float] | None:
        if self.pixels.dtype != np.float32:
            return None
        seen = self.seen if self.seen.size else self.pixels
        return float(seen.min()), float(seen.max())

    @property
    def seen(self) -> Pixels:
        """The colours that count: all, ``(H, W, C)``, or those that are not fully transparent, ``(N, C)``."""
        return self.pixels if self.alpha is None or self.alpha_is_data else self.pixels[self.alpha > 0]

    def converted(self, convert: Callable[[Picture], Picture]) -> Picture:
        """Return what ``convert`` makes of the picture; see `Strips.converted`, which does this with one in strips."""
        return convert(self)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        quality: int | None = None,
        lossless: bool = False,
        background: tuple[int, int, int] | str | None = None,
        overwrite: bool = True,
    ) -> None:
        """Write the picture in the format given by the file's suffix; see `gsrcli.images.write_picture`."""
        from gsrcli.images.write import write_picture  # which imports this module

        write_picture(self, path, quality=quality, lossless=lossless, background=background, overwrite=overwrite)

    def enlarged(self, pixels: Pixels, alpha: Pixels | None = None) -> Picture:
        """Return the enlargement of this picture, given its pixels and alpha; see :meth:`metadata_enlarged`.

        Args:
            pixels: ``(H, W, C)``.
            alpha: ``(H, W)``, or None.
        """
        return replace(self, pixels=pixels, alpha=alpha, metadata=self.metadata_enlarged(Size.of(pixels)))


def white(dtype: DTypeLike) -> int:
    """Return the value of white, or of opaque: the largest of uint8 and uint16, 1 for float32."""
    return int(np.iinfo(np.dtype(dtype)).max) if np.issubdtype(dtype, np.integer) else 1


def to_unit(pixels: Pixels) -> NDArray[np.float32]:
    """Convert uint8 or uint16 of any shape to float32 in [0, 1]; float32 is returned as it is."""
    return pixels if pixels.dtype == np.float32 else np.divide(pixels, white(pixels.dtype), dtype=np.float32)


def from_unit(values: NDArray[np.floating[Any]], dtype: DTypeLike) -> Pixels:
    """Convert finite values of any shape to uint8 or uint16: clip to [0, 1], scale, and round half to even.

    ``from_unit(to_unit(x), x.dtype)`` is ``x``, also for float32, which is neither clipped nor rounded.
    """
    if np.dtype(dtype) == np.float32:
        return values.astype(np.float32, copy=False)
    top = white(dtype)
    scaled = np.multiply(values, top, dtype=np.float32)
    np.rint(scaled, out=scaled)
    np.clip(scaled, 0, top, out=scaled)
    rounded: Pixels = scaled.astype(dtype)
    return rounded


def to_eight_bits(pixels: Pixels) -> Pixels:
    """Convert pixels of any shape to uint8: scaled, clipped and rounded; 8 bits are returned as they are."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.float32:
        return from_unit(pixels, np.uint8)
    table = ((np.arange(65536) + 128) // 257).astype(np.uint8)  # 257 = 65535 / 255
    rounded: Pixels = table[pixels]
    return rounded


def levels(most: int, dtype: DTypeLike) -> Pixels:
    """Return what the integers from 0 to ``most`` become over the whole range of uint8 or uint16, rounded."""
    top = white(dtype)
    return ((np.arange(most + 1, dtype=np.uint64) * top + most // 2) // most).astype(dtype)


def unmultiplied(pixels: Pixels, alpha: Pixels) -> Pixels:
    """Divide colours that are multiplied by alpha by it, rounded.

    Args:
        pixels: ``(H, W, C)`` of uint8 or uint16.
        alpha: ``(H, W)`` of the same type.
    """
    top = white(pixels.dtype)
    straight = np.empty(pixels.shape, pixels.dtype)
    step = max(1, _BLOCK_PIXELS // pixels.shape[1])
    for start in range(0, len(pixels), step):  # by blocks, because products take more memory than pixels
        rows = slice(start, start + step)
        divisor = np.maximum(alpha[rows], 1)[..., None].astype(np.uint32)
        straight[rows] = np.minimum((pixels[rows].astype(np.uint32) * top + divisor // 2) // divisor, top)
    return straight


def bleed_alpha(pixels: Pixels, alpha: Pixels, reach: float = math.inf) -> Pixels:
    """Give fully transparent pixels the colour of the nearest visible one.

    Colours under alpha 0 are arbitrary, often black, and upscaling would mix them into the visible edge as a
    dark fringe.

    Args:
        pixels: ``(H, W, C)`` of any type.
        alpha: ``(H, W)``; 0 is transparent.
        reach: pixels farther from all visible ones stay as they are. Which colour a pixel gets depends on nothing
            beyond that distance.

    Returns:
        ``pixels`` itself if all pixels are visible or none is, otherwise a changed copy.
    """
    visible = alpha > 0
    if visible.all() or not visible.any():
        return pixels
    cv2 = load_cv2()
    # Every visible pixel is a zero in the mask and gets its own label; other pixels get the label of the nearest zero.
    distances, labels = cv2.distanceTransformWithLabels(
        (~visible).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    colours = np.zeros((int(labels.max()) + 1, pixels.shape[2]), pixels.dtype)
    colours[labels[visible]] = pixels[visible]
    filled: Pixels = np.where((distances <= reach)[..., None], colours[labels], pixels)
    return filled
