"""``gsasr-lite``: our compact model, GSASR's idea at a fiftieth of its cost.

A convolutional trunk at LR resolution, conditioned on the scale near its end, predicts four Gaussians an LR pixel.
They are a residual over the bicubic enlargement: the network spends nothing on what interpolation already knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsrcli.gaussians import Gaussians
from gsrcli.models.base import Model, Traits

__all__ = ["Lite", "LiteConfig"]

_SIGMA_MIN, _SIGMA_MAX = 0.02, 0.85
_SIGMA_START = 0.28
_RHO_MAX = 0.95
_FIELDS = (2, 2, 1, 3)  # centre offset, sigma, rho, value


@dataclass(frozen=True)
class LiteConfig:
    """The shape of the network.

    Attributes:
        width: channels of the trunk.
        blocks: residual blocks before the scale is known.
        conditioned_blocks: residual blocks after it.
        head_width: channels of the hidden layer that turns features into Gaussians.
        density: Gaussians a side of an LR pixel.
    """

    width: int = 64
    blocks: int = 8
    conditioned_blocks: int = 2
    head_width: int = 192
    density: int = 2


class Lite(Model):
    """The compact model. See the module's text and :class:`LiteConfig`."""

    def __init__(self, config: LiteConfig | None = None) -> None:
        super().__init__()
        config = config or LiteConfig()
        self.config = config
        width, density = config.width, config.density
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.trunk = nn.Sequential(*(ResidualBlock(width) for _ in range(config.blocks)))
        self.modulation = Modulation(width)
        self.tail = nn.Sequential(*(ResidualBlock(width) for _ in range(config.conditioned_blocks)))
        self.expand = nn.Conv2d(width, config.head_width, 1)
        self.head = nn.Conv2d(config.head_width, sum(_FIELDS) * density**2, 1)
        self._start_as_bicubic()
        convolutions = 1 + 2 * (config.blocks + config.conditioned_blocks)
        self.traits = Traits(
            density=density,
            base="bicubic",
            multiple=1,
            halo=convolutions,
            exact_halo=convolutions,
            reach=1 / density + 3.73 * _SIGMA_MAX,  # offset, and sqrt(-2 ln EPSILON) deviations
            bytes_per_pixel=2000,
        )

    def _start_as_bicubic(self) -> None:
        """Begin with Gaussians of even size that contribute nothing, so that training starts from the base."""
        density = self.config.density
        bias = torch.zeros(sum(_FIELDS))
        bias[2:4] = torch.logit(torch.tensor((_SIGMA_START - _SIGMA_MIN) / (_SIGMA_MAX - _SIGMA_MIN)))
        with torch.no_grad():
            # Channel c of grid place p is c·density² + p: pixel_shuffle's order.
            _bias(self.head).copy_(bias.repeat_interleave(density**2))
            self.head.weight[-3 * density**2 :].zero_()

    def forward(self, image: Tensor, scale: Tensor) -> Gaussians:
        features = self.stem((image - 0.5) * 2)
        features = features + self.trunk(features)
        features = self.tail(self.modulation(features, scale))
        hidden = F.silu(self.expand(features))
        with torch.autocast(image.device.type, enabled=False):
            return self._gaussians(F.conv2d(hidden.float(), self.head.weight.float(), _bias(self.head).float()))

    def _gaussians(self, fields: Tensor) -> Gaussians:
        """Activations: ``(B, 8·density², h, w)`` to Gaussians within ``traits.reach`` of their reference position."""
        density = self.config.density
        fields = F.pixel_shuffle(fields, density)
        rows, columns = fields.shape[2:]
        offset, sigma, rho, value = fields.permute(0, 2, 3, 1).flatten(1, 2).split(_FIELDS, dim=-1)
        return Gaussians(
            centre=(_grid(rows, columns, fields.device) + offset.tanh()) / density,
            sigma=_SIGMA_MIN + (_SIGMA_MAX - _SIGMA_MIN) * sigma.sigmoid(),
            rho=_RHO_MAX * rho.squeeze(-1).tanh(),
            value=value,
        )


class ResidualBlock(nn.Module):
    """``x + conv(silu(conv(x)))``, starting near the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(x)))


class Modulation(nn.Module):
    """Scale and shift each channel by a function of the enlargement's reciprocals, 1/s_y and 1/s_x (FiLM)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2, width), nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        gain, shift = self.mlp(1 / scale)[..., None, None].chunk(2, dim=1)
        return x * (1 + gain) + shift


def _grid(rows: int, columns: int, device: torch.device) -> Tensor:
    """Reference positions, x then y, in grid units: ``(rows·columns, 2)``, row-major."""
    y = torch.arange(rows, device=device, dtype=torch.float32) + 0.5
    x = torch.arange(columns, device=device, dtype=torch.float32) + 0.5
    return torch.stack((x.repeat(rows), y.repeat_interleave(columns)), dim=-1)


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias
