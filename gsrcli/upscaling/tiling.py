"""Cut the LR picture into tiles, read the network's input for each, and keep its Gaussians while they are needed."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gsrcli.gaussians import Gaussians
from gsrcli.images.description import Raster
from gsrcli.images.picture import Pixels
from gsrcli.models.base import Model
from gsrcli.size import Box, Size
from gsrcli.upscaling.rows import Rows
from gsrcli.upscaling.stretch import Stretch
from gsrcli.upscaling.transfer import quantize, upload

__all__ = ["SMALLEST_TILE", "Field", "Plane", "cuts", "padded", "quarters", "round_up", "surroundings"]

SMALLEST_TILE = 48

_Grid: TypeAlias = list[Tensor]
"""The four tensors of Gaussians on a grid of reference positions, each ``(1, rows, columns, …)``."""


class Plane:
    """The colour or the alpha of an LR picture, read in windows as the network's input.

    Floating-point values are brought into [0, 1] and back, as `Stretch` describes. Windows reach beyond the right and
    bottom edges as far as the model's multiple wants; there they mirror the picture, or repeat the edge of one that is
    too small to mirror.

    Attributes:
        size: size without padding.
        padded: size with padding.
        channels: 1 or 3.
        dtype: uint8, uint16 or float32.
    """

    def __init__(self, rows: Rows, raster: Raster, model: Model, stretch: Stretch | None, *, alpha: bool) -> None:
        self.size, self.dtype = raster.size, raster.dtype
        self.channels = 1 if alpha else raster.channels
        self.padded = padded(self.size, model.traits.multiple)
        self._rows, self._device, self._stretch, self._alpha = rows, model.device, stretch, alpha

    def pixels(self, rows: tuple[int, int]) -> Pixels:
        """Return rows [first, last) as they are, ``(rows, W, channels)``."""
        strip = self._rows(*rows)
        if not self._alpha:
            return strip.pixels
        assert strip.alpha is not None
        return strip.alpha[..., None]

    def window(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Tensor:
        """Return some rows and columns of the padded picture: ``(1, 3, rows, columns)``.

        They are in [0, 1], channels last, float32, on the model's device.
        """
        rows, columns = _mirrored(rows, self.size.height), _mirrored(columns, self.size.width)
        top = int(rows.min())
        pixels = _taken(self.pixels((top, int(rows.max()) + 1)), rows - top, axis=0)
        pixels = _taken(pixels, columns, axis=1)
        if self._stretch:
            pixels = self._stretch.to_unit(pixels)
        image = upload(pixels, self._device).permute(2, 0, 1)[None]
        return image.expand(-1, 3, -1, -1).clone(memory_format=torch.channels_last)

    def quantize(self, values: Tensor) -> Tensor:
        """Turn values as :meth:`window` returns them, in any shape, into bits of the picture's type; clip to its range.

        The range of float32 is [0, 1], or that of the picture where it goes beyond.
        """
        return quantize(self._stretch.from_unit(values) if self._stretch else values, self.dtype)


class Field:
    """The Gaussians of a picture's tiles, kept for as long as they may reach pixels that are yet to be drawn.

    Args:
        density: Gaussians per side of an LR pixel.
    """

    def __init__(self, density: int) -> None:
        self._density = density
        self._pieces: list[tuple[Box, _Grid]] = []

    def put(self, box: Box, gaussians: Gaussians) -> None:
        """Take in the Gaussians whose reference positions lie in a box, in row-major order."""
        self._pieces.append((box, self._grid(gaussians, box.size.width)))

    def within(self, box: Box) -> Gaussians:
        """Return the Gaussians whose reference positions lie in a box, all of them put in before, in row-major order.

        So the order in which a pixel's Gaussians are added up, and with it the last bit of the sum, does not depend on
        the tiles.
        """
        parts = [(piece.meeting(box), piece, grid) for piece, grid in self._pieces]
        parts = [part for part in parts if not part[0].empty]
        assert sum(part.size.area for part, _, _ in parts) == box.size.area
        if len(parts) == 1:
            part, piece, grid = parts[0]
            return _flat(self._cut(grid, part.seen_from(piece)))
        rows, columns = (self._density * side for side in box.size)
        joined = [tensor.new_empty((1, rows, columns, *tensor.shape[3:])) for tensor in parts[0][2]]
        for part, piece, grid in parts:
            top, bottom, left, right = (self._density * edge for edge in part.seen_from(box))
            for target, tensor in zip(joined, self._cut(grid, part.seen_from(piece)), strict=True):
                target[:, top:bottom, left:right] = tensor
        return _flat(joined)

    def crop(self, gaussians: Gaussians, width: int, core: Box) -> Gaussians:
        """Return, of Gaussians in row-major order, those whose reference positions lie in a core.

        Args:
            width: width of the window that the Gaussians fill.
            core: the core, in the window's coordinates.
        """
        return _flat(self._cut(self._grid(gaussians, width), core))

    def keep(self, *needed: Box) -> None:
        """Let go of Gaussians whose reference positions lie outside of these boxes, which do not overlap."""
        kept: list[tuple[Box, _Grid]] = []
        for piece, grid in self._pieces:
            parts = [part for part in (piece.meeting(box) for box in needed) if not part.empty]
            if parts == [piece]:
                kept.append((piece, grid))
            else:
                kept += [(part, [cut.clone() for cut in self._cut(grid, part.seen_from(piece))]) for part in parts]
        self._pieces = kept

    def _grid(self, gaussians: Gaussians, width: int) -> _Grid:
        return [tensor.unflatten(1, (-1, self._density * width)) for tensor in gaussians.tensors]

    def _cut(self, grid: _Grid, box: Box) -> _Grid:
        top, bottom, left, right = (self._density * edge for edge in box)
        return [tensor[:, top:bottom, left:right] for tensor in grid]


def _flat(grid: _Grid) -> Gaussians:
    return Gaussians(*(tensor.flatten(1, 2) for tensor in grid))


def quarters(box: Box, multiple: int) -> list[Box] | None:
    """Cut a box into four at multiples; return None if it is too small."""
    tile = -(-max(box.size) // 2)
    if tile < max(SMALLEST_TILE, multiple):
        return None
    rows = [(box.top + a, box.top + b) for a, b in cuts(box.size.height, tile, multiple)]
    columns = [(box.left + a, box.left + b) for a, b in cuts(box.size.width, tile, multiple)]
    return [Box(*row, *column) for row in rows for column in columns]


def round_up(length: int, multiple: int) -> int:
    """Round a length up to a multiple."""
    return math.ceil(length / multiple) * multiple


def padded(size: Size, multiple: int) -> Size:
    """Return a size with both sides rounded up to a multiple."""
    return Size(*(round_up(side, multiple) for side in size))


def cuts(length: int, tile: int, multiple: int, ends: int = 0) -> list[tuple[int, int]]:
    """Cut a side into the cores of tiles: equal parts at multiples, but for the last, which may be shorter.

    Args:
        length: the side, a multiple.
        tile: length of a part, at most, or one multiple.
        multiple: what every part is a multiple of.
        ends: how much longer the first and the last part are, a multiple. Cores there have a halo on one side only.
            Longer by one, they need windows of the same size as others, and for each size torch keeps some memory.
    """
    units, unit_tile = (length - 2 * ends) // multiple, max(1, tile // multiple)
    parts = max(1, math.ceil(units / unit_tile))
    longest = math.ceil(units / parts)
    return list(pairwise([0, *(ends + i * longest * multiple for i in range(1, parts)), length]))


def surroundings(core: tuple[int, int], halo: int, length: int, *, wraps: bool) -> NDArray[np.int64]:
    """Return the rows or columns that the network needs of a tile, in ascending order.

    If the network wraps around the picture's edges, those beyond an edge come from the opposite one, and the window is
    the picture without what is far from the core. So the picture's edges, and nothing else, are edges of the window and
    next to each other around it, as in the whole picture.

    Args:
        core: the first row or column of the core, and one past its last.
        halo: how many to add on either side.
        length: height or width of the padded picture.
        wraps: see :class:`gsrcli.models.base.Traits`.
    """
    around = np.arange(core[0] - halo, core[1] + halo)
    if wraps:
        return np.unique(around % length)
    return around[(around >= 0) & (around < length)]


def _taken(pixels: Pixels, index: NDArray[np.int64], axis: int) -> Pixels:
    """Take rows or columns by index, without a copy if they follow each other."""
    if (np.diff(index) == 1).all():
        part = slice(index[0], index[-1] + 1)
        return pixels[part] if axis == 0 else pixels[:, part]
    return pixels.take(index, axis)


def _mirrored(index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Return indices into a side, reflected or clamped beyond its end."""
    reflected = 2 * (length - 1) - index
    return np.where(index < length, index, np.where(reflected >= 0, reflected, length - 1))
