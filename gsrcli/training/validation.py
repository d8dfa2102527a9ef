"""How good a model is while it is trained: PSNR on pictures in memory. For tables there is `gsrcli.evaluation`."""

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
    """Mean PSNR on Y over pictures, uint8 ``(3, H, W)``, shrunk bicubically by an integer ``scale``; border = scale.

    Pictures are cropped so that the shrunk ones' sides are multiples of the model's; see :func:`smallest_side`. Those
    that are restored exactly, as flat ones are, do not count, unless all are.
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
    """The shortest side of a picture that :func:`mean_psnr_y` can score: something is left within the border."""
    return scale * max(3, model.traits.multiple)


@torch.inference_mode()
def enlarge(model: Model, image: Tensor, size: Size, dtype: torch.dtype = torch.float32) -> Tensor:
    """``(B, 3, h, w)`` in [0, 1], sides multiples of ``model.traits.multiple``, enlarged whole to size; in [0, 1]."""
    scale = image.new_tensor([size.scale_from(Size.of_tensor(image))]).expand(image.shape[0], 2)
    with autocast(image.device, dtype):
        field = model(image.contiguous(memory_format=torch.channels_last), scale)
        return render(model, field, image, size).clamp(0, 1)


def crop_to_multiple(picture: Tensor, multiple: int) -> Tensor:
    """``(3, H, W)`` without the rows and columns, at its right and bottom, that exceed a multiple."""
    height, width = (side // multiple * multiple for side in picture.shape[1:])
    return picture[:, :height, :width]
