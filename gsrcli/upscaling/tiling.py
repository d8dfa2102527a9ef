"""The LR picture in tiles: where they are cut, what the network reads of each, and which Gaussians stay."""

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
from gsrcli.upscaling.transfer import upload

__all__ = ["SMALLEST_TILE", "Box", "Grid", "PaddedPicture", "cuts"]

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
        """Return the part of the box that lies in a picture of this size."""
        return Box(max(0, self.top), min(size.height, self.bottom), max(0, self.left), min(size.width, self.right))

    def grown(self, halo: int) -> Box:
        """Return the box with so many more pixels on every side."""
        return Box(self.top - halo, self.bottom + halo, self.left - halo, self.right + halo)

    def seen_from(self, window: Box) -> Box:
        """Return the box counted from the top left corner of a window round it."""
        return Box(self.top - window.top, self.bottom - window.top, self.left - window.left, self.right - window.left)

    def quarters(self, multiple: int) -> list[Box] | None:
        """Return the box cut in four at multiples, or None where it is small already."""
        tile = -(-max(self.size) // 2)
        if tile < max(SMALLEST_TILE, multiple):
            return None
        rows = [(self.top + a, self.top + b) for a, b in cuts(self.size.height, tile, multiple)]
        columns = [(self.left + a, self.left + b) for a, b in cuts(self.size.width, tile, multiple)]
        return [Box(*row, *column) for row in rows for column in columns]


class PaddedPicture:
    """The LR picture as the network reads it: windows of it in float, padded to the model's multiple.

    Padding mirrors the picture at its right and bottom edge, and repeats the edge where it is too small to mirror.

    Attributes:
        pixels: ``(h, w, 1 or 3)``, uint8 or uint16.
        size: without padding.
        padded: with it.
    """

    def __init__(self, pixels: Pixels, model: Model) -> None:
        self.pixels = pixels
        self.size = Size.of(pixels)
        self.padded = Size(*(round_up(side, model.traits.multiple) for side in self.size))
        self._device = model.device

    def window(self, box: Box) -> Tensor:
        """Return ``(1, 3, *box.size)`` in [0, 1], channels last, float32, on the model's device."""
        rows = _mirrored(box.top, box.bottom, self.size.height)
        columns = _mirrored(box.left, box.right, self.size.width)
        image = upload(self.pixels[rows][:, columns], self._device).permute(2, 0, 1)[None]
        return image.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Grid:
    """Gaussians by their reference positions, as a model orders them.

    Attributes:
        gaussians: row-major.
        width: in LR pixels.
        density: Gaussians a side of an LR pixel.
    """

    gaussians: Gaussians
    width: int
    density: int

    def crop(self, box: Box) -> Gaussians:
        """Return the Gaussians with reference positions in a box."""
        top, bottom, left, right = (self.density * edge for edge in box)

        def cut(tensor: Tensor) -> Tensor:
            grid = tensor.unflatten(1, (-1, self.density * self.width))
            return grid[:, top:bottom, left:right].flatten(1, 2)

        return self.gaussians.map(cut)


def round_up(length: int, multiple: int) -> int:
    """Return the least multiple that is no less than a length."""
    return math.ceil(length / multiple) * multiple


def cuts(length: int, tile: int, multiple: int) -> list[tuple[int, int]]:
    """Cut a side, itself a multiple, into nearly equal parts no longer than a tile, at multiples."""
    units, unit_tile = length // multiple, max(1, tile // multiple)
    parts = -(-units // unit_tile)
    edges = [units * i // parts * multiple for i in range(parts + 1)]
    return list(pairwise(edges))


def _mirrored(begin: int, end: int, length: int) -> slice | np.ndarray:
    """Return the indices [begin, end) into a side; those beyond its end are reflected, or stay at the end."""
    if end <= length:
        return slice(begin, end)
    index = np.arange(begin, end)
    reflected = 2 * (length - 1) - index
    return np.where(index < length, index, np.where(reflected >= 0, reflected, length - 1))
