"""GaussianSR: high fidelity 2-D Gaussian splatting for arbitrary-scale image super-resolution.

Hu et al., arXiv:2407.18046. One Gaussian lies at every LR pixel and carries the encoder's 64 features; a classifier
picks its shape and opacity from a bank of kernels. At the output resolution, the first eight features are splatted and
the others resized bicubically, and a local Fourier decoder turns both into colours.

There are two renderings of the splatted features, which give different pictures; weights are trained for one of them:

- ``field`` (:class:`GaussianSR`), as in the paper: each Gaussian is drawn at its position with the kernel of its own
  pixel. It is local, so a picture can be cut into tiles.
- ``released`` (:class:`ReleasedGaussianSR`), as in the authors' program, for their checkpoint: features are drawn
  patch by patch with kernels that are means over all patches of the picture.

``released`` follows the program where it departs from the paper: kernels are sampled at five by five points and shifted
to their positions by bilinear interpolation, and the sums are clamped to [0, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gsrcli.gaussians import Gaussians
from gsrcli.models import encoders
from gsrcli.models.base import Model, Traits, strip_pixels
from gsrcli.models.encoders.edsr import EDSR
from gsrcli.rasterizer import CUTOFF_SIGMAS
from gsrcli.resize import bicubic
from gsrcli.size import Box, Size

__all__ = ["GaussianSR", "GaussianSRConfig", "ReleasedGaussianSR"]

_SPLATTED = 8  # of the 64 features
_SIGMAS = 10  # of the bank's kernels, along either axis
_SIGMA_MIN, _SIGMA_MAX = 0.1, 4.0
_RHO_MAX = 0.99
_PATCH = 7
_POINTS = 5


@dataclass(frozen=True)
class GaussianSRConfig:
    """Sizes of the networks.

    Attributes:
        blocks: residual blocks of the encoder.
        width: channels of the decoder's hidden layers, a multiple of four; half of them are cosines, half sines.
    """

    blocks: int = 16
    width: int = 256


class GaussianSR(Model):
    """GaussianSR as its paper describes it: the ``field`` rendering. See the module's docstring.

    During training, a pixel's kernel is the mean of the bank weighted by a Gumbel-softmax of temperature 1.
    """

    antialias = True  # of the features' bicubic resampling

    def __init__(self, config: GaussianSRConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or GaussianSRConfig()
        self.encoder = EDSR(encoders.CHANNELS, config.blocks, long_skip=True)
        self.classifier = nn.Conv2d(encoders.CHANNELS, _SIGMAS**2, 3, padding=1)
        # σx, σy, ρ and opacity of each kernel, used without activation functions.
        self.bank = nn.Parameter(_first_bank())
        self.decoder = LocalFourierDecoder(config.width)
        convolutions = 2 * config.blocks + 3
        self.traits = Traits(
            density=1,
            base="none",
            multiple=1,
            halo=convolutions,
            reach=CUTOFF_SIGMAS * _SIGMA_MAX + 1,  # 1 for the decoder's convolution
            bytes_per_pixel=1500,
            channels=64 + 1,  # features and opacity
            precision=torch.float32,  # in bfloat16, one pixel in a hundred picks another kernel
        )

    def forward(self, image: Tensor, scale: Tensor) -> Gaussians:
        """Predict the picture's Gaussians, which do not depend on the scale; see :meth:`Model.forward`.

        Returns:
            Gaussians at the pixels' centres with 65 channels: the pixel's features, and its opacity.
        """
        features = self.features(image)
        kernels = self._kernels(self.logits(features))
        sigma, rho, opacity = (part.permute(0, 2, 3, 1).flatten(1, 2) for part in kernels.split((2, 1, 1), dim=1))
        values = features.permute(0, 2, 3, 1).flatten(1, 2)
        batch, _, height, width = image.shape
        centre = _centres(height, width, image.device).expand(batch, -1, -1)
        return Gaussians(centre, sigma, rho.squeeze(-1), torch.cat((values, opacity), dim=-1))

    def features(self, image: Tensor) -> Tensor:
        """Return the encoder's features ``(B, 64, h, w)`` of pictures in [0, 1], in float32."""
        return self.encoder(image * 2 - 1).float()

    def logits(self, features: Tensor) -> Tensor:
        """Return the logits ``(B, 100, h, w)`` of the kernels, in float32: rounding could change which is picked."""
        with torch.autocast(features.device.type, enabled=False):
            return self.classifier(features)

    def _kernels(self, logits: Tensor) -> Tensor:
        """Return σx, σy, ρ and opacity of each pixel: ``(B, 4, h, w)``."""
        if self.training:
            with torch.autocast(logits.device.type, enabled=False):
                return torch.einsum("fk,bkhw->bfhw", self.bank, F.gumbel_softmax(logits, tau=1.0, dim=1))
        return self.bank[:, logits.argmax(1)].transpose(0, 1)

    def draw(self, field: Gaussians, picture: Size, size: Size, part: Box | None = None) -> Tensor:
        """Draw features and decode them, a strip at a time; see :meth:`Model.draw`.

        Raises:
            ValueError: the field lacks Gaussians that the part depends on.
        """
        part, whole = part or Box.whole(size), Box.whole(size)
        context = part.grown(1).meeting(whole)
        known = bicubic.part_needed(picture, size, context, self.antialias)
        order = _order(field, known)
        with torch.autocast(field.device.type, enabled=False):
            splatted = self._splat(field, picture, size, context)
        down, across = (_offsets(*sides).to(field.device) for sides in zip(picture, size, strict=True))
        cell = torch.tensor([2 * low / high for low, high in zip(picture, size, strict=True)], device=field.device)

        def strip(begin: int, end: int) -> Tensor:
            around = Box(begin - 1, end + 1, part.left - 1, part.right + 1)
            seen = around.meeting(whole)
            needed = bicubic.part_needed(picture, size, seen, self.antialias)
            top, bottom, left, right = needed.seen_from(known)
            with torch.autocast(field.device.type, enabled=False):
                smooth = _as_picture(field.value[..., _SPLATTED:-1], order[top:bottom, left:right])
                origin = (needed.top, needed.left)
                smooth = bicubic.resize_part(smooth, picture, size, seen, origin, self.antialias)
                top, bottom, left, right = seen.seen_from(context)
                features = torch.cat((splatted[:, :, top:bottom, left:right], smooth), dim=1)
            # Zeros beyond the picture.
            sides = (seen.left - around.left, around.right - seen.right, seen.top - around.top)
            features = F.pad(features, (*sides, around.bottom - seen.bottom))
            return self.decoder(features, down[begin:end], across[part.left : part.right], cell)

        step = max(1, strip_pixels(field.device) // (field.batch * part.size.width))
        strips = [(begin, min(begin + step, part.bottom)) for begin in range(*part.rows, step)]
        if torch.is_grad_enabled():
            return torch.cat([checkpoint(strip, *bounds, use_reentrant=False) for bounds in strips], dim=2)
        return torch.cat([strip(*bounds) for bounds in strips], dim=2)

    def _splat(self, field: Gaussians, picture: Size, size: Size, part: Box) -> Tensor:
        """Draw a part of the splatted features: ``(B, 8, *part.size)``."""
        visible = Gaussians(
            centre=field.centre,
            sigma=_bounded(field.sigma, _SIGMA_MIN, _SIGMA_MAX),
            rho=_bounded(field.rho, -_RHO_MAX, _RHO_MAX),
            value=field.value[..., :_SPLATTED] * field.value[..., -1:],
        )
        return super().draw(visible, picture, size, part)


class ReleasedGaussianSR(GaussianSR):
    """GaussianSR as the released program computes it: the ``released`` rendering. See the module's docstring.

    Every pixel depends on the whole picture through the mean kernels, so the whole field, 280 bytes per LR pixel, must
    be in memory before the first row is drawn. The network itself can be tiled.
    """

    antialias = False

    def __init__(self, config: GaussianSRConfig | None = None) -> None:
        super().__init__(config)
        self.traits = replace(self.traits, reach=math.inf)

    def _splat(self, field: Gaussians, picture: Size, size: Size, part: Box) -> Tensor:
        side = Size(*(round(_PATCH * large / small) for small, large in zip(picture, size, strict=True)))
        count = Size(*(-(-length // _PATCH) for length in picture))
        padded = Size(count.height * _PATCH, count.width * _PATCH)
        whole = Size(count.height * side.height, count.width * side.width)
        # From the requested pixels back to those of the drawn patches, the patches, and the pixels of the picture.
        needed = bicubic.part_needed(whole, size, part, self.antialias)
        patches = Box(
            needed.top // side.height,
            -(-needed.bottom // side.height),
            needed.left // side.width,
            -(-needed.right // side.width),
        )
        places = Box(*(_PATCH * edge for edge in patches))
        known = bicubic.part_needed(picture, padded, places, self.antialias)

        features = _as_picture(field.value[..., :_SPLATTED], _order(field, known))
        origin = (known.top, known.left)
        features = bicubic.resize_part(features, picture, padded, places, origin, self.antialias)
        features = features.unflatten(3, (-1, _PATCH)).unflatten(2, (-1, _PATCH))
        stamps = _stamps(self._mean_kernels(field, picture), side)
        drawn = torch.einsum("bcyixj,bijuv->bcyuxv", features, stamps).flatten(4, 5).flatten(2, 3).clamp(0, 1)
        origin = (patches.top * side.height, patches.left * side.width)
        return bicubic.resize_part(drawn, whole, size, part, origin, self.antialias)

    def _mean_kernels(self, field: Gaussians, picture: Size) -> Tensor:
        """Return σx, σy, ρ and opacity at each position in a patch, averaged over all patches: ``(B, 4, 7, 7)``."""
        kernels = torch.cat((field.sigma, field.rho[..., None], field.value[..., -1:]), dim=-1)
        kernels = _as_picture(kernels, _order(field, Box.whole(picture)))
        padded = Size(*(-(-side // _PATCH) * _PATCH for side in picture))
        kernels = bicubic.resize(kernels, padded, self.antialias)
        return kernels.unflatten(3, (-1, _PATCH)).unflatten(2, (-1, _PATCH)).mean((2, 4))


class LocalFourierDecoder(nn.Module):
    """Turns features at the output resolution into colours, through waves whose frequencies the features determine.

    Lengths are in half LR pixels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        # Amplitudes, frequencies along y, and frequencies along x.
        self.spectrum = nn.Conv2d(encoders.CHANNELS, 2 * width, 3)
        self.phase = nn.Linear(2, width // 2, bias=False)
        hidden = [layer for _ in range(4) for layer in (nn.Linear(width, width), nn.GELU())]
        self.mlp = nn.Sequential(*hidden, nn.Linear(width, 3))

    def forward(self, features: Tensor, down: Tensor, across: Tensor, cell: Tensor) -> Tensor:
        """Decode some rows.

        Args:
            features: ``(B, 64, n + 2, W + 2)``, with a pixel of context on every side.
            down: ``(n,)``, how far each row lies below the nearest LR pixels' centres.
            across: ``(W,)``, how far each column lies to the right of the nearest LR pixels' centres.
            cell: ``(2,)``, height and width of an output pixel.

        Returns:
            ``(B, 3, n, W)`` in float32, not clamped.
        """
        spectrum = self.spectrum(features.contiguous(memory_format=torch.channels_last)).permute(0, 2, 3, 1)
        amplitude, along_y, along_x = spectrum.split((self.width, self.width // 2, self.width // 2), dim=-1)
        phase = (self.phase.weight * cell).sum(-1)
        turns = along_y.float() * down[:, None, None] + along_x.float() * across[:, None] + phase
        waves = torch.cat((torch.cos(math.pi * turns), torch.sin(math.pi * turns)), dim=-1)
        return self.mlp(amplitude * waves).float().permute(0, 3, 1, 2) / 2 + 0.5


def _first_bank() -> Tensor:
    """Return the bank before training, ``(4, 100)``: all pairs of ten deviations, with ρ = 0 and opacity sigmoid(1)."""
    sigma = torch.linspace(0.2, 3.0, _SIGMAS)
    sigma_y, sigma_x = (grid.flatten() for grid in torch.meshgrid(sigma, sigma, indexing="ij"))
    return torch.stack((sigma_x, sigma_y, torch.zeros(_SIGMAS**2), torch.ones(_SIGMAS**2).sigmoid()))


def _centres(height: int, width: int, device: torch.device) -> Tensor:
    """Return the pixels' centres, x then y, row by row: ``(1, height·width, 2)``."""
    y, x = torch.arange(height, device=device) + 0.5, torch.arange(width, device=device) + 0.5
    return torch.stack((x.repeat(height), y.repeat_interleave(width)), dim=-1)[None]


def _order(field: Gaussians, part: Box) -> Tensor:
    """Return the index of the Gaussian at each pixel of a part of the LR picture: ``part.size``.

    Raises:
        ValueError: a pixel has no Gaussian.
    """
    x, y = field.centre[0].floor().long().unbind(-1)
    inside = (y >= part.top) & (y < part.bottom) & (x >= part.left) & (x < part.right)
    (index,) = inside.nonzero(as_tuple=True)
    order = index.new_full((part.size.area,), -1)
    order[(y[index] - part.top) * part.size.width + x[index] - part.left] = index
    if len(order) != len(index) or (order < 0).any():
        raise ValueError(f"the field lacks Gaussians of rows {part.top} to {part.bottom}")
    return order.unflatten(0, (-1, part.size.width))


def _as_picture(values: Tensor, order: Tensor) -> Tensor:
    """Arrange ``(B, N, C)`` as ``(B, C, rows, width)``, channels last, in the order of :func:`_order`."""
    return values[:, order].permute(0, 3, 1, 2)


def _offsets(length: int, enlarged: int) -> Tensor:
    """Return how far each output pixel along a side lies beyond the nearest LR pixel's centre, in half LR pixels.

    If two are equally near, rounding decides. Trained weights depend on the choice, so it is computed as in the
    released program: in float32, from coordinates in [-1, 1].
    """
    index = torch.arange(enlarged)
    coordinate = -1 + 1 / enlarged + 2 / enlarged * index.float()
    nearest = (((coordinate + 1) * length - 1) / 2).round()
    return (2 * ((index.double() + 0.5) * length / enlarged - nearest.double()) - 1).float()


def _bounded(value: Tensor, low: float, high: float) -> Tensor:
    """Clamp, but let gradients pass, so that values that training drove beyond a bound can return."""
    return value + (value.clamp(low, high) - value).detach()


def _stamps(kernels: Tensor, size: Size) -> Tensor:
    """Return the contribution of the feature at each position in a patch to the drawn patch: ``(B, 7, 7, *size)``.

    Args:
        kernels: σx, σy, ρ and opacity at each position, ``(B, 4, 7, 7)``.
        size: size of a drawn patch; each side is at least five pixels.
    """
    batch = kernels.shape[0]
    shape = _shapes(kernels.permute(0, 2, 3, 1).flatten(0, 2))
    spare = [length - _POINTS for length in size]
    margins = [margin for length in reversed(spare) for margin in (length // 2, length - length // 2)]
    place = 1 - 2 * torch.arange(_PATCH, device=kernels.device) / _PATCH
    shift = torch.stack((place.repeat(_PATCH), place.repeat_interleave(_PATCH)), dim=-1).repeat(batch, 1)
    theta = torch.cat((torch.eye(2, device=kernels.device).expand(len(shift), 2, 2), shift[:, :, None]), dim=2)
    grid = F.affine_grid(theta, [len(shift), 1, *size], align_corners=True)
    stamps = F.grid_sample(F.pad(shape, margins)[:, None], grid, align_corners=True)
    return stamps.view(batch, _PATCH, _PATCH, *size) * kernels[:, 3, :, :, None, None]


def _shapes(kernels: Tensor) -> Tensor:
    """Sample Gaussians ``(N, 4)`` at 5x5 points from -5 to 5, and divide by their largest sample: ``(N, 5, 5)``."""
    sigma_x, sigma_y, rho, _ = kernels[..., None, None].unbind(1)
    point = torch.linspace(-5, 5, _POINTS, device=kernels.device)
    x, y = point, point[:, None]
    xx, xy, yy = sigma_x.square() + 1e-5, rho * sigma_x * sigma_y, sigma_y.square() + 1e-5
    q = (yy * x.square() - 2 * xy * x * y + xx * y.square()) / (xx * yy - xy.square())
    shape = torch.exp(-q / 2)
    return shape / shape.amax((1, 2), keepdim=True)
