"""Downscaling pictures as the papers' test sets were: by MATLAB's bicubic imresize, or by Pillow's.

Both are Keys' kernel with a = −1/2, as wide as the shrinking asks for, and differ at the edges, where MATLAB mirrors
the picture and Pillow leaves out what is beyond, and in their rounding.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from gsrcli.resize.bicubic import keys
from gsrcli.size import Size

__all__ = ["Downscaling", "downscale", "imresize"]

Downscaling = Literal["matlab", "pillow"]


def downscale(picture: Tensor, size: Size, kind: Downscaling) -> Tensor:
    """The LR picture of a picture.

    It is made on the host, so that it is the same one whatever the device.

    Args:
        picture: uint8 ``(3, H, W)``.
        size: (h, w).
        kind: ``matlab``: as ``imresize(im2double(picture), [h w])`` followed by ``imwrite``, of which the data sets of
            BasicSR, GSASR and most papers are; ``pillow``: as ``Image.resize`` with ``BICUBIC``, as LIIF does it.

    Returns:
        uint8 ``(3, h, w)``, on the picture's device.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in get_args(Downscaling):
        raise ValueError(f"invalid kind {kind!r}: use 'matlab' or 'pillow'")
    host = picture.cpu()
    if kind == "pillow":
        low = _downscale_with_pillow(host, size)
    else:
        # In units of 1/255 rather than of 1, which leaves halves, that MATLAB rounds upwards, exactly so.
        low = (imresize(host.double(), size) + 0.5).floor().clamp(0, 255).byte()
    return low.to(picture.device)


def imresize(picture: Tensor, size: Size) -> Tensor:
    """Resample bicubically as MATLAB's imresize with an output size does, antialiased along axes that shrink.

    Args:
        picture: floating point ``(..., H, W)``; float64 is what MATLAB computes in.
        size: (h, w), of either direction.

    Returns:
        ``(..., h, w)``. Overshoots are not clamped.
    """
    along_y, along_x = (_weights(before, after) for before, after in zip(picture.shape[-2:], size, strict=True))
    return along_y.to(picture) @ picture @ along_x.to(picture).mT


def _weights(before: int, after: int) -> Tensor:
    """What each of ``before`` samples adds to each of ``after``: ``(after, before)`` float64, with rows that sum to 1.

    Of samples beyond the edge, the mirrored ones are taken, with the edge itself mirrored too (``symmetric``).
    """
    scale = after / before
    stretch = max(1.0, 1 / scale)
    centre = (torch.arange(after, dtype=torch.float64) + 0.5) / scale - 0.5
    reach = int(2 * stretch) + 1
    taps = centre.floor().long()[:, None] + torch.arange(-reach, reach + 2)
    weights = keys(((centre[:, None] - taps) / stretch).abs(), -0.5)
    weights = weights / weights.sum(1, keepdim=True)
    mirrored = taps.remainder(2 * before)
    mirrored = torch.minimum(mirrored, 2 * before - 1 - mirrored)
    return torch.zeros(after, before, dtype=torch.float64).scatter_add_(1, mirrored, weights)


def _downscale_with_pillow(picture: Tensor, size: Size) -> Tensor:
    import numpy as np
    from PIL import Image

    image = Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
    resized = np.array(image.resize(size.for_pillow, Image.Resampling.BICUBIC))
    return torch.from_numpy(resized).permute(2, 0, 1).contiguous()
