"""Bicubic resampling as in Pillow: Keys' kernel with a = -1/2, antialiased when downscaling.

In both directions, pixel ``X`` of ``W`` has its centre at ``(X + 0.5)·w/W`` in the source; taps beyond the edge are
dropped and the rest renormalised. ``antialias=False`` does as torch and OpenCV do: a = -3/4, no antialiasing, and taps
beyond the edge repeat the edge.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gsrcli.runtime.devices import send
from gsrcli.size import Box, Size

__all__ = ["downscale_rounded", "keys", "part_needed", "resize", "resize_part"]


def resize(image: Tensor, size: Size, antialias: bool = True) -> Tensor:
    """Resample ``(B, C, h, w)`` to ``(B, C, *size)``. Overshoots are not clamped."""
    if size.width == 1:  # torch 2.13 is wrong for contiguous input resized to one column if the height changes too
        image = image.contiguous(memory_format=torch.channels_last)
    return F.interpolate(image, size, mode="bicubic", antialias=antialias, align_corners=False)


def downscale_rounded(image: Tensor, size: Size) -> Tensor:
    """Downscale ``(B, C, H, W)`` in [0, 1] to ``(B, C, *size)``, rounded to multiples of 1/255 as in files."""
    return (resize(image, size).clamp(0, 1) * 255).round() / 255


def resize_part(
    image: Tensor, source: Size, size: Size, part: Box, origin: tuple[int, int], antialias: bool = True
) -> Tensor:
    """Compute a part of an upscaled image from the part of the source that it needs.

    Args:
        image: ``(B, C, n, m)``, part of the source from ``origin`` on, at least as :func:`part_needed` says.
        source: size of the whole source.
        size: size of the whole upscaled image; with ``antialias``, no side is shorter than the source's.
        part: the pixels to compute.
        origin: (y, x) of the first pixel of ``image``.
        antialias: as in :func:`resize`.

    Returns:
        ``(B, C, *part.size)``: up to rounding, this part of :func:`resize` of the whole source. It has the same bits
        whatever other parts the upscaled image is cut into.
    """
    # Blend along the last axis but one, where whole rows are copied: columns first, as there are fewer of them.
    across = _blended(image.transpose(2, 3).contiguous(), source.width, size.width, part.columns, origin[1], antialias)
    return _blended(across.transpose(2, 3).contiguous(), source.height, size.height, part.rows, origin[0], antialias)


def part_needed(source: Size, size: Size, part: Box, antialias: bool = True) -> Box:
    """Return the part of the source that a part of the upscaled image depends on."""
    down, _ = _taps(source.height, size.height, *part.rows, antialias)
    across, _ = _taps(source.width, size.width, *part.columns, antialias)
    return Box(int(down.min()), int(down.max()) + 1, int(across.min()), int(across.max()) + 1)


def _blended(image: Tensor, length: int, enlarged: int, wanted: tuple[int, int], first: int, antialias: bool) -> Tensor:
    """Upscale the last axis but one, of which ``image`` begins at ``first``."""
    taps, weights = _taps(length, enlarged, *wanted, antialias)
    taps, weights = send(taps - first, image.device), send(weights.to(image.dtype), image.device)
    blended = image.index_select(2, taps[0]).mul_(weights[0, :, None])
    for k in range(1, 4):
        blended.addcmul_(image.index_select(2, taps[k]), weights[k, :, None])
    return blended


def _taps(height: int, enlarged: int, begin: int, end: int, antialias: bool) -> tuple[Tensor, Tensor]:
    """Return the four source rows (or columns) of each output row, and their weights: both ``(4, end - begin)``."""
    position = (torch.arange(begin, end, dtype=torch.float64) + 0.5) * height / enlarged - 0.5
    taps = position.floor().long() + torch.arange(-1, 3)[:, None]
    distance = (taps - position).abs()
    weights = keys(distance, -0.5 if antialias else -0.75)
    if antialias:
        weights = torch.where((taps >= 0) & (taps < height), weights, 0.0)
    return taps.clamp(0, height - 1), weights / weights.sum(0)


def keys(distance: Tensor, a: float) -> Tensor:
    """Evaluate Keys' cubic kernel at distances >= 0 (IEEE Trans. Acoustics, Speech, Signal Processing 29(6), 1981)."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
