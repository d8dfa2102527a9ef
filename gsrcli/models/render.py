"""A model's field as a picture: drawn, and added to what the model takes as its base."""

from __future__ import annotations

from torch import Tensor

from gsrcli.gaussians import Gaussians
from gsrcli.models.base import Model
from gsrcli.resize import bicubic
from gsrcli.size import Size

__all__ = ["render", "with_base"]


def render(model: Model, field: Gaussians, image: Tensor, size: Size) -> Tensor:
    """The enlargement of a picture to ``size``, whole.

    Args:
        model: what made the field.
        field: the picture's Gaussians.
        image: ``(B, 3, h, w)`` in [0, 1], the LR picture without padding.
        size: wanted.

    Returns:
        ``(B, 3, *size)``, float32, not clamped.
    """
    return with_base(model, model.draw(field, Size.of_tensor(image), size, (0, size.height)), image)


def with_base(model: Model, drawn: Tensor, image: Tensor) -> Tensor:
    """What is drawn of a model's field, added to what the model takes as its base of the LR picture."""
    if model.traits.base == "none":
        return drawn
    return drawn + bicubic.resize(image.float(), Size.of_tensor(drawn))
