"""Picture quality in numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["luma", "psnr"]

_BT601 = (65.481, 128.553, 24.966)


def luma(rgb: Tensor) -> Tensor:
    """BT.601 studio-range Y of ``(..., 3, H, W)`` RGB in [0, 1]: ``(..., 1, H, W)`` in [16, 235]/255.

    As MATLAB's rgb2ycbcr has it.
    """
    weights = rgb.new_tensor(_BT601)
    return (torch.einsum("...chw,c->...hw", rgb, weights).unsqueeze(-3) + 16) / 255


def psnr(first: Tensor, second: Tensor, border: int = 0) -> float:
    """Peak signal-to-noise ratio in dB of two pictures in [0, 1] of equal shape, with a border left out of each side.

    Returns infinity for equal pictures.
    """
    if first.shape != second.shape:
        raise ValueError(f"pictures differ in shape: {tuple(first.shape)} and {tuple(second.shape)}")
    if 2 * border >= min(first.shape[-2:]):
        raise ValueError(f"a border of {border} leaves nothing of {tuple(first.shape)}")
    difference = (first - second).double()
    if border:
        difference = difference[..., border:-border, border:-border]
    error = difference.square().mean().item()
    return -10 * math.log10(error) if error else math.inf
