"""``gsasr-lite``: our compact model, GSASR's idea at a fiftieth of its cost.

A convolutional trunk at LR resolution predicts four Gaussians per LR pixel. They are a residual over the bicubic
enlargement, so the network does not have to learn what interpolation already gives.

The field does not depend on the scale. In LR pixels, antialiased downscaling is the same at every scale; only the size
of the output's pixels differs, and drawing accounts for it through their footprint.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsrcli.gaussians import Gaussians
from gsrcli.models.base import Model, Traits, strip_pixels
from gsrcli.rasterizer import CUTOFF_SIGMAS

__all__ = ["Lite", "LiteConfig"]

_SIGMA_MIN, _SIGMA_MAX = 0.02, 0.85
_SIGMA_START = 0.28
_RHO_MAX = 0.95
_FIELDS = (2, 2, 1, 3)  # centre offset, sigma, rho, value
_TRUNK_PIXELS = 1 << 16
"""Pixels that a block works on at a time on a CPU, at least; but it cuts a picture into four strips at most, because
more of them take longer."""
_ROUNDING = 1.5 * 2.0**11  # adding it to a float32 rounds that to a multiple of 2^-12


@dataclass(frozen=True)
class LiteConfig:
    """The shape of the network.

    Attributes:
        width: channels of the trunk.
        blocks: residual blocks of the trunk.
        head_width: channels of the hidden layer that turns features into Gaussians.
        density: Gaussians along each side of an LR pixel.
        footprint: standard deviation of the Gaussian over which an output pixel averages the field, in output pixels.
    """

    width: int = 64
    blocks: int = 13
    head_width: int = 192
    density: int = 2
    footprint: float = 0.3


class Lite(Model):
    """The compact model. See the module's docstring and :class:`LiteConfig`."""

    def __init__(self, config: LiteConfig | None = None) -> None:
        super().__init__()
        config = config or LiteConfig()
        self.config = config
        width, density = config.width, config.density
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.trunk = nn.Sequential(*(ResidualBlock(width) for _ in range(config.blocks)))
        self.expand = nn.Conv2d(width, config.head_width, 1)
        self.head = nn.Conv2d(config.head_width, sum(_FIELDS) * density**2, 1)
        self._start_as_bicubic()
        convolutions = 1 + 2 * config.blocks
        self.traits = Traits(
            density=density,
            base="bicubic",
            multiple=1,
            halo=convolutions,
            # A centre's offset, plus the cutoff at a scale of 1, where an output pixel's footprint is widest.
            reach=1 / density + CUTOFF_SIGMAS * math.hypot(_SIGMA_MAX, config.footprint),
            bytes_per_pixel=650,
            footprint=config.footprint,
        )

    def _start_as_bicubic(self) -> None:
        """Initialise to equal Gaussians that contribute nothing, so that training starts from the base."""
        density = self.config.density
        bias = torch.zeros(sum(_FIELDS))
        bias[2:4] = torch.logit(torch.tensor((_SIGMA_START - _SIGMA_MIN) / (_SIGMA_MAX - _SIGMA_MIN)))
        with torch.no_grad():
            # Channel c of grid point p is c·density² + p: pixel_shuffle's order.
            _bias(self.head).copy_(bias.repeat_interleave(density**2))
            self.head.weight[-3 * density**2 :].zero_()

    def forward(self, image: Tensor, scale: Tensor) -> Gaussians:
        """See :class:`Model`. On a CPU in float32, a pixel's Gaussians have the same bits in every window around it.

        The window must hold ``traits.halo`` pixels around the pixel, or reach the picture's edge. Centres have the same
        bits after a shift from a window of at most 2048 pixels a side.
        """
        image = (image - 0.5) * 2
        start = self.stem(image)
        if torch.is_grad_enabled():
            return self._gaussians(self._fields(self.trunk(start) + start))
        features = self.trunk(start)  # overwrites it: to compute it again is cheaper than to keep it
        del start
        strips = []
        for top, bottom in _row_strips(image, strip_pixels(image.device)):
            rows = image[:, :, max(0, top - 1) : bottom + 1]
            start = _convolved(self.stem, rows, top=top == 0, bottom=bottom == image.shape[2])
            fields = self._fields(_add(start, features[:, :, top:bottom]))
            strips.append(self._gaussians(fields, top).tensors)
        del features
        return Gaussians(*(torch.cat(parts, dim=1) for parts in zip(*strips, strict=True)))

    def _fields(self, features: Tensor) -> Tensor:
        """Turn features into the Gaussians' parameters before their activations: ``(B, 8·density², h, W)``, float32."""
        hidden = _silu(self.expand(features))
        with torch.autocast(features.device.type, enabled=False):
            return F.conv2d(hidden.float(), self.head.weight.float(), _bias(self.head).float())

    def trunk_weights(self) -> list[nn.Parameter]:
        """Return the kernels of the residual blocks."""
        return list(self.trunk.parameters())

    def _gaussians(self, fields: Tensor, first_row: int = 0) -> Gaussians:
        """Turn ``(B, 8·density², h, W)`` into Gaussians within ``traits.reach`` of their reference positions."""
        density = self.config.density
        fields = F.pixel_shuffle(fields, density)
        rows, columns = fields.shape[2:]
        offset, sigma, rho, value = fields.permute(0, 2, 3, 1).flatten(1, 2).split(_FIELDS, dim=-1)
        # The sum with a reference position is then exact, and so is the same, shifted, in every tile.
        offset = (offset.tanh() + _ROUNDING) - _ROUNDING
        return Gaussians(
            centre=(_grid(density * first_row, rows, columns, fields.device) + offset) / density,
            sigma=_SIGMA_MIN + (_SIGMA_MAX - _SIGMA_MIN) * sigma.sigmoid(),
            rho=_RHO_MAX * rho.squeeze(-1).tanh(),
            value=value,
        )


class ResidualBlock(nn.Module):
    """``x + conv(silu(conv(x)))``, initialised near the identity. Without gradients, x is overwritten.

    Neither convolution has a bias: the stem's suffices, as a channel can carry it on, and on a GPU biases took a
    quarter of a training step.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or not x.is_cpu:
            return _add(x, self._residual(x))
        above = x[:, :, :0]
        for top, bottom in _row_strips(x, max(_TRUNK_PIXELS, x[:, 0].numel() // 4)):
            rows = x[:, :, top : bottom + 2]
            rows = torch.cat((above, rows), dim=2) if top else rows
            above = x[:, :, bottom - 2 : bottom].clone()  # as they are before the sum, for the next strip
            x[:, :, top:bottom].add_(self._residual(rows, top=top == 0, bottom=bottom == x.shape[2]))
        return x

    def _residual(self, x: Tensor, *, top: bool = True, bottom: bool = True) -> Tensor:
        """Return the residual of some rows, two fewer beyond each side of them that is not the picture's edge."""
        hidden = _silu(_convolved(self.first, x, top=top, bottom=bottom))
        return _convolved(self.second, hidden, top=top, bottom=bottom)


def _convolved(layer: nn.Conv2d, x: Tensor, *, top: bool, bottom: bool) -> Tensor:
    """Apply a 3x3 convolution, with zeros beyond those sides of the rows that are the picture's edge, and no others."""
    zeros = top or bottom  # on both sides or none: padding one would copy
    rows = F.conv2d(x, layer.weight, layer.bias, padding=(int(zeros), 1))
    return rows[:, :, int(zeros and not top) : rows.shape[2] - int(zeros and not bottom)]


def _row_strips(x: Tensor, pixels: int) -> list[tuple[int, int]]:
    """Cut ``(B, C, H, W)`` into strips of about so many pixels, with nearly equal numbers of rows, if possible two."""
    batch, _, height, width = x.shape
    count = max(1, min(math.ceil(batch * height * width / pixels), height // 2))
    edges = [height * i // count for i in range(count + 1)]
    return list(pairwise(edges))


def _add(x: Tensor, y: Tensor) -> Tensor:
    """Add y to x; without gradients, in place."""
    return x + y if torch.is_grad_enabled() else x.add_(y)


def _silu(x: Tensor) -> Tensor:
    """Apply SiLU; without gradients, in place.

    torch gives each CPU thread an equal share of the numbers, and computes those at the end of a share that do not fill
    a vector in another way. Shares of whole pixels make results independent of the shape and of the number of threads.
    """
    if torch.is_grad_enabled():
        return F.silu(x)
    if not x.is_cpu:
        return F.silu(x, inplace=True)
    batch, channels, rows, columns = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(-1, channels)  # a view of channels that are last
    even = len(pixels) - len(pixels) % torch.get_num_threads()
    F.silu(pixels[:even], inplace=True)
    F.silu(pixels[even:], inplace=True)
    return pixels.view(batch, rows, columns, channels).permute(0, 3, 1, 2)


def _grid(first_row: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """Return reference positions, x then y, in grid units: ``(rows·columns, 2)``, row-major."""
    y = torch.arange(first_row, first_row + rows, device=device, dtype=torch.float32) + 0.5
    x = torch.arange(columns, device=device, dtype=torch.float32) + 0.5
    return torch.stack((x.repeat(rows), y.repeat_interleave(columns)), dim=-1)


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias
