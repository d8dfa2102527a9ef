"""What the upscaler may know about a model: data, never its name."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from gsrcli.gaussians import Extent, Gaussians
from gsrcli.rasterizer import rasterize
from gsrcli.size import Size

__all__ = ["Model", "Traits"]


@dataclass(frozen=True)
class Traits:
    """The properties of a model that its callers plan with.

    Attributes:
        density: Gaussians a side of an LR pixel; a picture of h x w yields ``(density*h) * (density*w)``.
        base: what the rendered field is added to: nothing, or the picture's bicubic enlargement.
        multiple: LR height and width must be multiples of this (see ``pad_to_multiple``), and tiles start
            at multiples of it.
        halo: LR pixels of context around a tile that make tiled output equal to untiled, or nearly equal for networks
            in which every pixel depends on all others.
        reach: a Gaussian touches nothing farther than this from its reference position, in LR pixels; infinite
            where every pixel depends on all of them.
        bytes_per_pixel: working memory of the network for an LR pixel, in float32, measured.
        channels: numbers in a Gaussian's value: its colour, or features.
        precision: the lowest that its network is computed in unless another is asked for.
        footprint: standard deviation of what an output pixel sees of the field, in output pixels; 0 where it sees a
            point, as the published models have it.
    """

    density: int
    base: Literal["none", "bicubic"]
    multiple: int
    halo: int
    reach: float
    bytes_per_pixel: int
    channels: int = 3
    precision: torch.dtype = torch.bfloat16
    footprint: float = 0.0


class Model(nn.Module, abc.ABC):
    """A network that turns an LR picture into Gaussians, which :meth:`draw` turns into pixels."""

    traits: Traits

    @abc.abstractmethod
    def forward(self, image: Tensor, scale: Tensor) -> Gaussians:
        """Predict the Gaussian field of a picture.

        Args:
            image: ``(B, 3, h, w)``, RGB in [0, 1]; h and w multiples of ``traits.multiple``.
            scale: ``(B, 2)``, the intended enlargement along y and x. It conditions the network; the field
                is in LR pixels whatever it is.

        Returns:
            Gaussians in float32, ordered row-major over a grid of ``(density*h, density*w)``. The reference
            position of grid place ``(i, j)`` is ``((j + 0.5)/density, (i + 0.5)/density)``.
        """

    def draw(self, field: Gaussians, picture: Size, size: Size, rows: tuple[int, int]) -> Tensor:
        """Draw some rows of an enlargement, without its base.

        The values of most models are colours, and are rasterized. Where they are features, this decodes them too.

        Args:
            field: the picture's Gaussians in any order, at least those within ``traits.reach`` of the rows.
            picture: size of the LR picture, without padding.
            size: of the whole enlargement.
            rows: first and one-past-last row wanted.

        Returns:
            ``(B, 3, rows, size.width)`` in float32, not clamped.
        """
        scale = size.scale_from(picture)
        return rasterize(self.seen(field, scale), (rows[1] - rows[0], size.width), scale, (rows[0], 0))

    def seen(self, field: Gaussians, scale: tuple[Extent, Extent]) -> Gaussians:
        """The field as the pixels of an enlargement see it, by scales (y, x); see ``traits.footprint``."""
        if not self.traits.footprint:
            return field
        return field.seen_through((self.traits.footprint / scale[0], self.traits.footprint / scale[1]))

    def trunk_weights(self) -> list[nn.Parameter]:
        """Weights from features to features, of two or more axes, for an optimizer that treats those by themselves."""
        return []

    def __call__(self, image: Tensor, scale: Tensor) -> Gaussians:
        return super().__call__(image, scale)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device
