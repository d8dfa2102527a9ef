"""Validation during training: PSNR on images in memory. To compare models, use `gsrcli.evaluation`."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from gsrcli.metrics.psnr_ssim import luma, psnr
from gsrcli.models.base import Model
from gsrcli.models.render import render
from gsrcli.resize import bicubic
from gsrcli.runtime.devices import autocast
from gsrcli.size import Size

__all__ = ["crop_to_multiple", "enlarge", "mean_psnr_y", "smallest_side"]


def mean_psnr_y(model: Model, pictures: Iterable[Tensor], scale: int, dtype: torch.dtype = torch.float32) -> float:
    """Return the mean PSNR on Y, in dB, of images downscaled bicubically and upscaled by the model; border = scale.

    Images that are restored exactly, such as flat ones, do not count unless all are.

    Args:
        model: the model to validate.
        pictures: uint8 ``(3, H, W)``, at least :func:`smallest_side` on each side; cropped so that the sides of the
            downscaled image are multiples of ``model.traits.multiple``.
        scale: integer scale.
        dtype: precision of the network.
    """
    scores = []
    for picture in pictures:
        high = crop_to_multiple(picture, scale * model.traits.multiple).to(model.device).float()[None] / 255
        size = Size.of_tensor(high)
        low = bicubic.downscale_rounded(high, Size(size.height // scale, size.width // scale))
        restored = (enlarge(model, low, size, dtype) * 255).round() / 255
        scores.append(psnr(luma(restored), luma(high), scale))
    scores = list(filter(math.isfinite, scores)) or scores
    return sum(scores) / len(scores)


def smallest_side(model: Model, scale: int) -> int:
    """Return the shortest side that :func:`mean_psnr_y` can score: something is left within the border."""
    return scale * max(3, model.traits.multiple)


@torch.inference_mode()
def enlarge(model: Model, image: Tensor, size: Size, dtype: torch.dtype = torch.float32) -> Tensor:
    """Upscale ``(B, 3, h, w)`` in [0, 1], without tiling, to ``(B, 3, *size)`` in [0, 1].

    The sides h and w must be multiples of ``model.traits.multiple``.
    """
    scale = image.new_tensor([size.scale_from(Size.of_tensor(image))]).expand(image.shape[0], 2)
    with autocast(image.device, dtype):
        field = model(image.contiguous(memory_format=torch.channels_last), scale)
        return render(model, field, image, size).clamp(0, 1)


def crop_to_multiple(picture: Tensor, multiple: int) -> Tensor:
    """Crop ``(3, H, W)`` at the right and bottom so that both sides are multiples of ``multiple``."""
    height, width = (side // multiple * multiple for side in picture.shape[1:])
    return picture[:, :height, :width]
