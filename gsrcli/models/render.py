"""Render a model's field: draw it and add it to the model's base."""

from __future__ import annotations

from torch import Tensor

from gsrcli.gaussians import Gaussians
from gsrcli.models.base import Model
from gsrcli.resize import bicubic
from gsrcli.size import Size

__all__ = ["render", "with_base"]


def render(model: Model, field: Gaussians, image: Tensor, size: Size) -> Tensor:
    """Render the whole enlargement of a picture to ``size``.

    Args:
        model: the model that predicted the field.
        field: the picture's Gaussians.
        image: ``(B, 3, h, w)`` in [0, 1], the LR picture without padding.
        size: size of the enlargement.

    Returns:
        ``(B, 3, *size)``, float32, not clamped.
    """
    return with_base(model, model.draw(field, Size.of_tensor(image), size), image)


def with_base(model: Model, drawn: Tensor, image: Tensor) -> Tensor:
    """Add what was drawn of a model's field to the model's base, made from the LR picture ``image``."""
    if model.traits.base == "none":
        return drawn
    return drawn + bicubic.resize(image.float(), Size.of_tensor(drawn))
