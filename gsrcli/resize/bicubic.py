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
from gsrcli.size import Size

__all__ = ["downscale_rounded", "keys", "resize", "resize_rows", "rows_needed"]


def resize(image: Tensor, size: Size, antialias: bool = True) -> Tensor:
    """Resample ``(B, C, h, w)`` to ``(B, C, *size)``. Overshoots are not clamped."""
    if size.width == 1:  # torch 2.13 is wrong for contiguous input resized to one column if the height changes too
        image = image.contiguous(memory_format=torch.channels_last)
    return F.interpolate(image, size, mode="bicubic", antialias=antialias, align_corners=False)


def downscale_rounded(image: Tensor, size: Size) -> Tensor:
    """Downscale ``(B, C, H, W)`` in [0, 1] to ``(B, C, *size)``, rounded to multiples of 1/255 as in files."""
    return (resize(image, size).clamp(0, 1) * 255).round() / 255


def resize_rows(
    image: Tensor, size: Size, rows: tuple[int, int], top: int, height: int, antialias: bool = True
) -> Tensor:
    """Compute some rows of an upscaled image from the source rows that they need.

    Args:
        image: ``(B, C, n, w)``, rows ``[top, top + n)`` of an image; see :func:`rows_needed`.
        size: size of the whole upscaled image; with ``antialias``, its height must be at least ``height``.
        rows: first and one-past-last row to compute.
        top: index of the first row of ``image``.
        height: number of rows of the whole source image.
        antialias: as in :func:`resize`.

    Returns:
        ``(B, C, rows, size.width)``, equal to these rows of :func:`resize` of the whole image.
    """
    taps, weights = _taps(height, size.height, *rows, antialias)
    taps, weights = send(taps - top, image.device), send(weights.to(image.dtype), image.device)
    blended = image[:, :, taps[0]] * weights[0, :, None]
    for k in range(1, 4):
        blended = torch.addcmul(blended, image[:, :, taps[k]], weights[k, :, None])
    return resize(blended, Size(rows[1] - rows[0], size.width), antialias)


def rows_needed(height: int, enlarged: int, rows: tuple[int, int], antialias: bool = True) -> tuple[int, int]:
    """Return the first and one-past-last of ``height`` source rows that some rows of the upscaled image depend on."""
    taps, _ = _taps(height, enlarged, *rows, antialias)
    return int(taps.min()), int(taps.max()) + 1


def _taps(height: int, enlarged: int, begin: int, end: int, antialias: bool) -> tuple[Tensor, Tensor]:
    """Return the four source rows of each output row, and their weights: both ``(4, end - begin)``."""
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
