"""A model's field as a picture: rasterized, and added to what the model takes as its base."""

from __future__ import annotations

from torch import Tensor

from gsrcli import bicubic
from gsrcli.gaussians import Gaussians
from gsrcli.models.base import Traits
from gsrcli.rasterizer import rasterize

__all__ = ["render"]


def render(field: Gaussians, image: Tensor, size: tuple[int, int], traits: Traits) -> Tensor:
    """The enlargement of a picture to ``size``, whole.

    Args:
        field: the picture's Gaussians.
        image: ``(B, 3, h, w)`` in [0, 1], the LR picture without padding.
        size: height and width wanted.
        traits: of the model that made the field.

    Returns:
        ``(B, 3, *size)``, float32, not clamped.
    """
    drawn = rasterize(field, size, (size[0] / image.shape[2], size[1] / image.shape[3]))
    return drawn + bicubic.resize(image.float(), size) if traits.base == "bicubic" else drawn
