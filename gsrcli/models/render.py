"""A model's field as a picture: drawn, and added to what the model takes as its base."""

from __future__ import annotations

from torch import Tensor

from gsrcli.gaussians import Gaussians
from gsrcli.models.base import Model
from gsrcli.resize import bicubic

__all__ = ["render", "with_base"]


def render(model: Model, field: Gaussians, image: Tensor, size: tuple[int, int]) -> Tensor:
    """The enlargement of a picture to ``size``, whole.

    Args:
        model: what made the field.
        field: the picture's Gaussians.
        image: ``(B, 3, h, w)`` in [0, 1], the LR picture without padding.
        size: height and width wanted.

    Returns:
        ``(B, 3, *size)``, float32, not clamped.
    """
    return with_base(model, model.draw(field, (image.shape[2], image.shape[3]), size, (0, size[0])), image)


def with_base(model: Model, drawn: Tensor, image: Tensor) -> Tensor:
    """What is drawn of a model's field, added to what the model takes as its base of the LR picture."""
    if model.traits.base == "none":
        return drawn
    return drawn + bicubic.resize(image.float(), (drawn.shape[2], drawn.shape[3]))
