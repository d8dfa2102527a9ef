"""The interface of models: callers plan with a model's traits, never with its name."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from gsrcli.gaussians import Extent, Gaussians
from gsrcli.rasterizer import rasterize
from gsrcli.size import Box, Size

__all__ = ["STRIP_PIXELS", "Model", "Traits", "strip_pixels"]

STRIP_PIXELS = {"cpu": 1 << 13, "cuda": 1 << 17}
"""Pixels that wide layers work on at a time, by device: few enough for a CPU's caches, enough to keep a GPU busy."""


def strip_pixels(device: torch.device) -> int:
    """Return the number of pixels that wide layers, which take several KB for each, should work on at a time."""
    return STRIP_PIXELS.get(device.type, STRIP_PIXELS["cuda"])


@dataclass(frozen=True)
class Traits:
    """Properties of a model that its callers plan with.

    Attributes:
        density: Gaussians along each side of an LR pixel; a picture of h x w yields ``(density*h) * (density*w)``.
        base: image to which the rendered field is added: none, or the picture's bicubic enlargement.
        multiple: LR height and width must be multiples of this (see ``pad_to_multiple``), and tiles start
            at multiples of it.
        halo: LR pixels of context around a tile that make tiled output equal to untiled, or nearly equal for networks
            in which every pixel depends on all others.
        wraps: whether every edge of the padded picture is next to the opposite one in the network, whose convolutions
            nevertheless end there. Tiles at an edge then need the pixels at the opposite one.
        tile: side of the tiles' cores, in LR pixels, if the output depends on it a little; None if any tiles give the
            same output.
        reach: distance from its reference position beyond which a Gaussian has no effect, in LR pixels; infinite
            if every pixel depends on all Gaussians.
        bytes_per_pixel: working memory of the network per LR pixel, in float32, measured.
        channels: channels of a Gaussian's value: its colour, or features.
        precision: lowest precision of the network unless another is requested.
        footprint: standard deviation of the Gaussian over which an output pixel averages the field, in output pixels;
            0 if pixels are points, as in the published models.
    """

    density: int
    base: Literal["none", "bicubic"]
    multiple: int
    halo: int
    reach: float
    bytes_per_pixel: int
    wraps: bool = False
    tile: int | None = None
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
                is in LR pixels at any scale.

        Returns:
            Gaussians in float32, ordered row-major over a grid of ``(density*h, density*w)``. The reference
            position of grid point ``(i, j)`` is ``((j + 0.5)/density, (i + 0.5)/density)``.
        """

    def draw(self, field: Gaussians, picture: Size, size: Size, part: Box | None = None) -> Tensor:
        """Draw a part of an enlargement, without its base.

        Most models' values are colours, which are rasterized. Models whose values are features also decode them here.

        Args:
            field: the picture's Gaussians in any order, at least those within ``traits.reach`` of the part.
            picture: size of the LR picture, without padding.
            size: size of the whole enlargement.
            part: the pixels to draw; None for all.

        Returns:
            ``(B, 3, *part.size)`` in float32, not clamped.
        """
        scale, part = size.scale_from(picture), part or Box.whole(size)
        return rasterize(self.seen(field, scale), part.size, scale, (part.top, part.left))

    def seen(self, field: Gaussians, scale: tuple[Extent, Extent]) -> Gaussians:
        """Return the field as the pixels of an enlargement by scales (y, x) see it; see ``traits.footprint``."""
        if not self.traits.footprint:
            return field
        return field.seen_through((self.traits.footprint / scale[0], self.traits.footprint / scale[1]))

    def trunk_weights(self) -> list[nn.Parameter]:
        """Return the weights between hidden layers, of two or more axes, which some optimizers treat separately."""
        return []

    def __call__(self, image: Tensor, scale: Tensor) -> Gaussians:
        return super().__call__(image, scale)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device
