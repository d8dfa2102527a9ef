"""Downscaling as for the test sets of papers: by MATLAB's bicubic imresize or by Pillow.

Both use Keys' kernel with a = −1/2, antialiased. They differ in rounding and at the edges, where MATLAB mirrors the
image and Pillow drops taps beyond it.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from gsrcli.resize.bicubic import keys
from gsrcli.size import Size

__all__ = ["Downscaling", "downscale", "imresize"]

Downscaling = Literal["matlab", "pillow"]


def downscale(image: Tensor, size: Size, kind: Downscaling) -> Tensor:
    """Downscale an image to 8 bits, on the host so that the result does not depend on the device.

    Args:
        image: uint8 ``(3, H, W)``.
        size: (h, w).
        kind: ``matlab``: as ``imresize(im2double(image), [h w])`` followed by ``imwrite``, used for the datasets of
            BasicSR, GSASR and most papers; ``pillow``: as ``Image.resize`` with ``BICUBIC``, used by LIIF.

    Returns:
        uint8 ``(3, h, w)``, on the image's device.

    Raises:
        ValueError: unknown kind.
    """
    if kind not in get_args(Downscaling):
        raise ValueError(f"invalid kind {kind!r}: use 'matlab' or 'pillow'")
    host = image.cpu()
    if kind == "pillow":
        low = _downscale_with_pillow(host, size)
    else:
        # In units of 1/255 rather than 1, so that halves, which MATLAB rounds up, are exact.
        low = (imresize(host.double(), size) + 0.5).floor().clamp(0, 255).byte()
    return low.to(image.device)


def imresize(image: Tensor, size: Size) -> Tensor:
    """Resample bicubically as MATLAB's imresize with an output size, antialiased along axes that become shorter.

    Args:
        image: floating point ``(..., H, W)``; MATLAB computes in float64.
        size: (h, w), smaller or larger.

    Returns:
        ``(..., h, w)``. Overshoots are not clamped.
    """
    along_y, along_x = (_weights(before, after) for before, after in zip(image.shape[-2:], size, strict=True))
    return along_y.to(image) @ image @ along_x.to(image).mT


def _weights(before: int, after: int) -> Tensor:
    """Return the matrix that resamples an axis: ``(after, before)`` float64, with rows that sum to 1.

    Samples beyond the edge are mirrored, including the edge itself (``symmetric``).
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


def _downscale_with_pillow(image: Tensor, size: Size) -> Tensor:
    import numpy as np
    from PIL import Image

    source = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    resized = np.array(source.resize(size.for_pillow, Image.Resampling.BICUBIC))
    return torch.from_numpy(resized).permute(2, 0, 1).contiguous()
