"""PSNR and SSIM, computed in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["SSIM_WINDOW", "from_integers", "in_float64", "luma", "psnr", "ssim"]

SSIM_WINDOW = 11
"""Side of the window of SSIM, in pixels; smaller images have no SSIM."""

_BT601 = (65.481, 128.553, 24.966)


def luma(rgb: Tensor) -> Tensor:
    """Return BT.601 studio-range Y of ``(..., 3, H, W)`` RGB in [0, 1]: ``(..., 1, H, W)`` in [16, 235]/255.

    The values are those of MATLAB's rgb2ycbcr. The order of summation does not depend on the memory layout, so that
    equal images have equal Y.
    """
    red, green, blue = (rgb.narrow(-3, channel, 1) * weight for channel, weight in enumerate(_BT601))
    return (red + green + blue + 16) / 255


def psnr(first: Tensor, second: Tensor, border: int = 0) -> float:
    """Return the peak signal-to-noise ratio in dB of two images in [0, 1] of equal shape, infinite for equal images.

    Args:
        first, second: ``(..., H, W)``.
        border: number of pixels to leave out on each side.

    Raises:
        ValueError: the shapes differ, or the border leaves nothing.
    """
    _require_equal_shapes(first, second)
    if 2 * border >= min(first.shape[-2:]):
        raise ValueError(f"a border of {border} leaves nothing of {tuple(first.shape)}")
    difference = in_float64(first) - in_float64(second)
    if border:
        difference = difference[..., border:-border, border:-border]
    error = difference.square().mean().item()
    return -10 * math.log10(error) if error else math.inf


def ssim(first: Tensor, second: Tensor) -> float:
    """Return the mean structural similarity over all planes of two images ``(..., H, W)`` in [0, 1] of equal shape.

    Source: Wang, Bovik, Sheikh and Simoncelli, IEEE Transactions on Image Processing 13(4), 2004, section III.B. As in
    their program and BasicSR, the windows are Gaussian, of 11×11 pixels with σ = 1.5, and lie within the image.
    It is computed in float64, see :func:`in_float64`.

    Raises:
        ValueError: the shapes differ, or no window fits.
    """
    _require_equal_shapes(first, second)
    if min(first.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(f"no window of {SSIM_WINDOW}×{SSIM_WINDOW} pixels fits into {tuple(first.shape)}")
    first, second = in_float64(first), in_float64(second)
    # Four means suffice, of the sum s and the difference d: 4xy = s² − d², and 2(x² + y²) = s² + d².
    both = torch.stack((first + second, first - second))
    squared_means = _window_means(both).square()
    variances = _window_means(both.square()) - squared_means
    return (_agreement(squared_means, 0.01**2) * _agreement(variances, 0.03**2)).mean().item()


def _agreement(both: Tensor, constant: float) -> Tensor:
    """Return (2xy + c) / (x² + y² + c), given the squares of x + y and of x − y."""
    of_sum, of_difference = both
    return (of_sum - of_difference + 2 * constant) / (of_sum + of_difference + 2 * constant)


def _window_means(planes: Tensor) -> Tensor:
    """Return Gaussian means over all windows within ``(..., H, W)``, axis by axis: ``(..., H − 10, W − 10)``."""
    offsets = torch.arange(SSIM_WINDOW, dtype=torch.float64) - SSIM_WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * 1.5**2))
    for axis in (-2, -1):
        length = planes.shape[axis] - SSIM_WINDOW + 1
        means = torch.zeros_like(planes.narrow(axis, 0, length))
        for offset, weight in enumerate((weights / weights.sum()).tolist()):
            means.add_(planes.narrow(axis, offset, length), alpha=weight)  # faster than a convolution in float64
        planes = means
    return planes


def in_float64(picture: Tensor) -> Tensor:
    """Convert to float64: on the tensor's device, or on the host if that is Metal, which lacks float64."""
    return (picture.cpu() if picture.device.type == "mps" else picture).double()


def from_integers(integers: Tensor, top: int) -> Tensor:
    """Convert integers in [0, top] to float64 in [0, 1], on the device that :func:`in_float64` chooses.

    Equal fractions give equal numbers, on every device, in 8 bits as in 16.
    """
    values = in_float64(integers)
    # Divide by a tensor: CUDA does not divide by a number, but multiplies by its rounded reciprocal.
    return values / values.new_full((), top)


def _require_equal_shapes(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape:
        raise ValueError(f"images differ in shape: {tuple(first.shape)} and {tuple(second.shape)}")
