"""Cut the LR picture into tiles, read the network's input for each, and crop its Gaussians."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gsrcli.gaussians import Gaussians
from gsrcli.images.picture import Pixels
from gsrcli.models.base import Model
from gsrcli.size import Size
from gsrcli.upscaling.stretch import Stretch
from gsrcli.upscaling.transfer import quantize, upload

__all__ = ["SMALLEST_TILE", "Box", "Grid", "PaddedPicture", "cuts", "round_up"]

SMALLEST_TILE = 48


class Box(NamedTuple):
    """Rows [top, bottom) and columns [left, right), in LR pixels."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> Size:
        return Size(self.bottom - self.top, self.right - self.left)

    def within(self, size: Size) -> Box:
        """Return the part of the box inside a picture of this size."""
        return Box(max(0, self.top), min(size.height, self.bottom), max(0, self.left), min(size.width, self.right))

    def grown(self, halo: int) -> Box:
        """Return the box grown by ``halo`` pixels on every side."""
        return Box(self.top - halo, self.bottom + halo, self.left - halo, self.right + halo)

    def seen_from(self, window: Box) -> Box:
        """Return the box in the coordinates of a window that contains it."""
        return Box(self.top - window.top, self.bottom - window.top, self.left - window.left, self.right - window.left)

    def quarters(self, multiple: int) -> list[Box] | None:
        """Cut the box into four at multiples; return None if it is too small."""
        tile = -(-max(self.size) // 2)
        if tile < max(SMALLEST_TILE, multiple):
            return None
        rows = [(self.top + a, self.top + b) for a, b in cuts(self.size.height, tile, multiple)]
        columns = [(self.left + a, self.left + b) for a, b in cuts(self.size.width, tile, multiple)]
        return [Box(*row, *column) for row in rows for column in columns]


class PaddedPicture:
    """The LR picture, read in windows as the network's input and padded to the model's multiple.

    Floating-point pictures are brought into [0, 1] and back, as `Stretch` describes.

    Padding mirrors the picture at its right and bottom edges, or repeats the edge of a picture too small to mirror.

    Attributes:
        pixels: ``(h, w, 1 or 3)``, uint8, uint16 or float32.
        size: size without padding.
        padded: size with padding.
    """

    def __init__(self, pixels: Pixels, model: Model) -> None:
        self.pixels = pixels
        self.size = Size.of(pixels)
        self.padded = Size(*(round_up(side, model.traits.multiple) for side in self.size))
        self._device = model.device
        self._stretch = Stretch.of(pixels) if pixels.dtype == np.float32 else None

    def window(self, box: Box) -> Tensor:
        """Return ``(1, 3, *box.size)`` in [0, 1], channels last, float32, on the model's device."""
        rows = _mirrored(box.top, box.bottom, self.size.height)
        columns = _mirrored(box.left, box.right, self.size.width)
        pixels = self.pixels[rows][:, columns]
        if self._stretch:
            pixels = self._stretch.to_unit(pixels)
        image = upload(pixels, self._device).permute(2, 0, 1)[None]
        return image.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)

    def quantize(self, values: Tensor) -> Tensor:
        """Turn values as :meth:`window` returns them, in any shape, into bits of the picture's type; clip to its range.

        The range of float32 is [0, 1], or that of the picture where it goes beyond.
        """
        return quantize(self._stretch.from_unit(values) if self._stretch else values, self.pixels.dtype)


@dataclass(frozen=True)
class Grid:
    """Gaussians on the grid of their reference positions, in the order that models return.

    Attributes:
        gaussians: Gaussians in row-major order.
        width: width of the grid, in LR pixels.
        density: Gaussians per side of an LR pixel.
    """

    gaussians: Gaussians
    width: int
    density: int

    def crop(self, box: Box) -> Gaussians:
        """Return the Gaussians whose reference positions lie in a box."""
        top, bottom, left, right = (self.density * edge for edge in box)

        def cut(tensor: Tensor) -> Tensor:
            grid = tensor.unflatten(1, (-1, self.density * self.width))
            return grid[:, top:bottom, left:right].flatten(1, 2)

        return self.gaussians.map(cut)


def round_up(length: int, multiple: int) -> int:
    """Round a length up to a multiple."""
    return math.ceil(length / multiple) * multiple


def cuts(length: int, tile: int, multiple: int) -> list[tuple[int, int]]:
    """Cut a side, itself a multiple, at multiples into nearly equal parts of at most a tile or one multiple."""
    units, unit_tile = length // multiple, max(1, tile // multiple)
    parts = -(-units // unit_tile)
    edges = [units * i // parts * multiple for i in range(parts + 1)]
    return list(pairwise(edges))


def _mirrored(begin: int, end: int, length: int) -> slice | np.ndarray:
    """Return the indices [begin, end) into a side, reflected or clamped beyond its end."""
    if end <= length:
        return slice(begin, end)
    index = np.arange(begin, end)
    reflected = 2 * (length - 1) - index
    return np.where(index < length, index, np.where(reflected >= 0, reflected, length - 1))
