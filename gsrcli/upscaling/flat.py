"""Keep flat areas exact: what a network adds to them is nearly zero, but seldom zero.

An LR pixel is flat if all pixels around it, out to the two on each side that bicubic interpolation reads, have its
value. An output pixel whose centre lies in a flat pixel takes that value; all others stay as they were drawn.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gsrcli.images.picture import Pixels
from gsrcli.runtime.devices import send
from gsrcli.size import Box, Size
from gsrcli.upscaling.tiling import Plane
from gsrcli.upscaling.transfer import upload_bits

__all__ = ["restore_flat"]

_REACH = 2  # LR pixels


def restore_flat(drawn: Tensor, low: Plane, size: Size, part: Box) -> Tensor:
    """Give flat areas of an enlargement the LR picture's value.

    Args:
        drawn: ``(*part.size, C)`` as :func:`gsrcli.upscaling.transfer.quantize` returns it; changed in place.
        low: the LR picture.
        size: size of the whole enlargement.
        part: the part of the enlargement that was drawn.

    Returns:
        ``drawn``.
    """
    y = _nearest(*part.rows, low.size.height, size.height)
    x = _nearest(*part.columns, low.size.width, size.width)
    source = Box(int(y[0]), int(y[-1]) + 1, int(x[0]), int(x[-1]) + 1)
    y, x = send(y - source.top, drawn.device), send(x - source.left, drawn.device)
    surrounded = upload_bits(_surrounded(low, source), drawn.device)
    flat = _flat(surrounded)[..., None]
    # Blend by bits: on a CPU, torch.where takes several times as long.
    values = surrounded[_REACH:-_REACH, _REACH:-_REACH] * flat
    mask = (flat.to(values.dtype) - 1).expand_as(values)  # no bits where flat, elsewhere all
    # Columns first: rows are then copied whole.
    values, mask = (plane.index_select(1, x).index_select(0, y) for plane in (values, mask))
    return drawn.bitwise_and_(mask).bitwise_or_(values)


def _nearest(begin: int, end: int, length: int, enlarged: int) -> Tensor:
    """Return the LR row or column in which the centre of each output row or column [begin, end) lies."""
    return (2 * torch.arange(begin, end) + 1) * length // (2 * enlarged)


def _surrounded(low: Plane, source: Box) -> Pixels:
    """Return a part of the LR picture with the pixels around it; beyond the picture, its edge is repeated."""
    wanted = source.grown(_REACH)
    there = wanted.meeting(Box.whole(low.size))
    missing = (
        (there.top - wanted.top, wanted.bottom - there.bottom),
        (there.left - wanted.left, wanted.right - there.right),
    )
    return np.pad(low.pixels(there.rows)[:, there.left : there.right], (*missing, (0, 0)), mode="edge")


def _flat(pixels: Tensor) -> Tensor:
    """Return which pixels are flat: ``(h + 4, w + 4, C)`` to ``(h, w)``, bool."""
    across = _in_all_channels(pixels[:, 1:] == pixels[:, :-1])
    down = _in_all_channels(pixels[1:] == pixels[:-1])
    squares = across[1:] & across[:-1] & down[:, 1:]  # where 2×2 pixels are equal
    for shift in (1, 2):  # 3×3, then 5×5: squares that overlap have the same value
        squares = squares[shift:] & squares[:-shift]
        squares = squares[:, shift:] & squares[:, :-shift]
    return squares


def _in_all_channels(mask: Tensor) -> Tensor:
    first, *others = mask.unbind(-1)
    for channel in others:
        first = first & channel
    return first
