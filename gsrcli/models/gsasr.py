"""GSASR: generalized and efficient 2-D Gaussian splatting for arbitrary-scale super-resolution.

Chen et al., arXiv:2501.06838. Pictures of tokens are ``(B, h, w, d)`` throughout the decoder, which is how
channels-last convolutions store their channels.

Three shortcuts compute the published function, up to rounding. The published network attends to the scale with a
multi-head attention whose keys and values all equal one vector, so its weights are uniform and it adds the same vector
to every token, whatever the query: queries, keys and the norms that only feed them have no effect and are left out.
Until they first attend to the picture, the Gaussian embeddings are equal in every window, so they are computed for one.
And the largest activations, those of the Gaussians' heads at sixteen places per pixel, only exist for a strip of the
picture at a time.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gsrcli.gaussians import Gaussians
from gsrcli.models import encoders
from gsrcli.models.attention import (
    CrossWindowAttention,
    RelativePositionBias,
    RotaryPosition,
    ShiftedWindowAttention,
    TokenConv,
    WindowAttention,
    shift,
    shift_distance,
    to_picture,
    to_windows,
)
from gsrcli.models.base import Model, Traits

__all__ = ["GSASR", "GSASR_CONFIGS", "GSASRConfig"]

DENSITY = 4
HEADS = {"sigma": 2, "rho": 1, "alpha": 1, "rgb": 3, "mean": 2}
"""The Gaussians' fields and how many numbers each has, in the order of :meth:`GSASR.fields`."""

STRIP_PLACES = {"cpu": 1 << 14, "cuda": 1 << 17}
"""Places whose heads are computed at a time, by device: few enough for a CPU's caches, enough for a GPU; 4 KB each."""

HALO = 48
"""LR pixels of context around a tile: four windows of 12, or three of 16. Through the decoder's tens of layers every
pixel depends on all others, but hardly on those farther away."""

TILE = 384
"""Side of a tile in LR pixels; with its halo it costs 1.6 times as much as without."""

BYTES_PER_PIXEL = {"edsr": 8_500, "rdn": 12_500, "swinir": 25_000, "hatl": 14_500}
"""Working memory in bytes per LR pixel, by encoder: how much a process on a CPU grows in float32, or an upper bound."""


@dataclass(frozen=True)
class GSASRConfig:
    """How the variants of GSASR differ.

    Attributes:
        encoder: a name in ``encoders.ENCODERS``.
        width: channels d of the Gaussian embeddings.
        heads: attention heads; they divide ``width``.
        window: side of an attention window, in LR pixels.
        cross_blocks: condition injection blocks, of ``cross_layers`` layers each.
        self_blocks: Gaussian interaction blocks, of ``self_layers`` layers each.
        enhanced: the authors' later version, with rotary positions and a convolution after every block,
            rather than the paper's, with a relative position bias.
        multiple: LR height and width must be multiples of this, which is a multiple of ``window`` and of the
            side of the encoder's windows.
    """

    encoder: str
    width: int
    heads: int
    window: int
    cross_blocks: int
    cross_layers: int
    self_blocks: int
    self_layers: int
    enhanced: bool
    multiple: int


_EDSR = GSASRConfig(
    encoder="edsr",
    width=192,
    heads=6,
    window=12,
    cross_blocks=1,
    cross_layers=2,
    self_blocks=6,
    self_layers=6,
    enhanced=True,
    multiple=12,
)
_SWINIR = replace(_EDSR, encoder="swinir", window=16, cross_blocks=2, cross_layers=4, multiple=16)
_PAPER = replace(_EDSR, width=180, enhanced=False)

GSASR_CONFIGS: dict[str, GSASRConfig] = {
    "gsasr-edsr": _EDSR,
    "gsasr-rdn": replace(_EDSR, encoder="rdn", cross_blocks=2),
    "gsasr-swinir": _SWINIR,
    "gsasr-hatl": replace(_SWINIR, encoder="hatl", cross_blocks=4, self_blocks=8),
    "gsasr-edsr-paper": _PAPER,
    "gsasr-rdn-paper": replace(_PAPER, encoder="rdn"),
    # SwinIR's windows have a side of 8.
    "gsasr-swinir-paper": replace(_PAPER, encoder="swinir", multiple=24),
}


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs))


def _position(config: GSASRConfig) -> nn.Module:
    if config.enhanced:
        return RotaryPosition(config.window, config.heads, config.width // config.heads)
    return RelativePositionBias(config.window, config.heads)


def _block_conv(config: GSASRConfig) -> nn.Module:
    return TokenConv(config.width, config.width, 3, padding=1) if config.enhanced else nn.Identity()


class ScaleInjection(nn.Module):
    """Injects the scale into the tokens: attention to the scale vector, then an MLP.

    Attention to copies of one vector returns that vector's value for any query.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.mlp = _mlp(width, width, width)

    def forward(self, tokens: Tensor, scale: Tensor) -> Tensor:
        """Inject the scale vector ``(B, 1, 1, d)`` into tokens ``(B, …, …, d)``."""
        tokens = tokens + self.output(self.value(scale))
        return tokens + self.mlp(self.norm(tokens))


class WindowLayer(nn.Module):
    """The parts that both kinds of layer share: scale injection, attention in windows, MLP."""

    def __init__(self, config: GSASRConfig, attention: WindowAttention) -> None:
        super().__init__()
        self.scale = ScaleInjection(config.width)
        self.attention_norm = nn.LayerNorm(config.width)
        self.attention = attention
        self.mlp_norm = nn.LayerNorm(config.width)
        self.mlp = _mlp(config.width, config.width, config.width)


class ConditionInjectionLayer(WindowLayer):
    """Gaussian embeddings attend to the scale, then to the picture's features in their window.

    The features are shifted by ``-distance``; the embeddings stay where they are.
    """

    def __init__(self, config: GSASRConfig, distance: int) -> None:
        super().__init__(config, CrossWindowAttention(config.width, config.heads, _position(config)))
        self.window, self.distance = config.window, distance

    def forward(self, tokens: Tensor, position: Tensor, features: Tensor, scale: Tensor) -> Tensor:
        tokens = self.scale(tokens, scale)
        context = to_windows(shift(features, -self.distance), self.window)
        tokens = tokens + self.attention(self.attention_norm(tokens) + position, context)
        return tokens + self.mlp(self.mlp_norm(tokens))


class ConditionInjectionBlock(nn.Module):
    """Makes Gaussian embeddings depend on the picture and the scale."""

    def __init__(self, config: GSASRConfig) -> None:
        super().__init__()
        self.window = config.window
        self.norm = nn.LayerNorm(config.width)
        distances = [shift_distance(i, config.window) for i in range(config.cross_layers)]
        self.layers = nn.ModuleList(ConditionInjectionLayer(config, distance) for distance in distances)
        self.mlp = _mlp(config.width, config.width, config.width)
        self.conv = _block_conv(config)

    def forward(self, tokens: Tensor, position: Tensor, features: Tensor, scale: Tensor) -> Tensor:
        """Inject the condition.

        Args:
            tokens: ``(B, n, m², d)``, or ``(B, 1, m², d)`` if they are the same in every window.
            position: ``(m², d)``.
            features: ``(B, h, w, d)``, cut into n windows of side m.
            scale: ``(B, 1, 1, d)``.

        Returns:
            ``(B, n, m², d)``.
        """
        x = self.norm(tokens)
        for layer in self.layers:
            x = layer(x, position, features, scale)
        x = self.conv(to_picture(self.mlp(x), *features.shape[1:3]))
        return tokens + to_windows(x, self.window)


class GaussianInteractionLayer(WindowLayer):
    """Gaussian embeddings attend to the scale, then to each other, in windows shifted by ``distance``."""

    def __init__(self, config: GSASRConfig, distance: int) -> None:
        attention = ShiftedWindowAttention(config.width, config.heads, _position(config), config.window, distance)
        super().__init__(config, attention)

    def forward(self, tokens: Tensor, scale: Tensor) -> Tensor:
        tokens = self.scale(tokens, scale)
        tokens = tokens + self.attention(self.attention_norm(tokens))
        return tokens + self.mlp(self.mlp_norm(tokens))


class GaussianInteractionBlock(nn.Module):
    """Lets Gaussian embeddings ``(B, h, w, d)`` adapt to each other."""

    def __init__(self, config: GSASRConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        distances = [shift_distance(i, config.window) for i in range(config.self_layers)]
        self.layers = nn.ModuleList(GaussianInteractionLayer(config, distance) for distance in distances)
        self.mlp = _mlp(config.width, config.width, config.width)
        self.conv = _block_conv(config)

    def forward(self, tokens: Tensor, scale: Tensor) -> Tensor:
        x = self.norm(tokens)
        for layer in self.layers:
            x = layer(x, scale)
        return tokens + self.conv(self.mlp(x))


class GaussianPrimaryHead(nn.Module):
    """Turns each pixel's embedding into sixteen, and each of those into the numbers of a Gaussian.

    Every field has its own head, Linear-ReLU-Linear-ReLU-Linear; their first layers are merged here.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.upsample1 = TokenConv(width, 4 * width, 3, padding=1)
        self.upsample2 = TokenConv(width, 4 * width, 3, padding=(0, 1))
        self.first = nn.Linear(width, len(HEADS) * width)
        self.second = nn.ModuleList(nn.Linear(width, 4 * width) for _ in HEADS)
        self.third = nn.ModuleList(nn.Linear(4 * width, size) for size in HEADS.values())

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(B, h, w, d)`` to ``(B, 4h, 4w, 9)`` in float32, in the order of :data:`HEADS`."""
        wide = self.upsample1(tokens)
        height, width = wide.shape[1:3]
        places = STRIP_PLACES.get(wide.device.type, STRIP_PLACES["cpu"])
        rows = max(1, places // (16 * wide.shape[0] * width))
        strip = self._strip
        if torch.is_grad_enabled():
            # Nothing here is random, and reading the generator's state would break a CUDA graph.
            strip = functools.partial(checkpoint, strip, use_reentrant=False, preserve_rng_state=False)
        return torch.cat([strip(wide, top, min(top + rows, height)) for top in range(0, height, rows)], dim=1)

    def _strip(self, wide: Tensor, top: int, bottom: int) -> Tensor:
        """Map rows [top, bottom) of ``(B, h, w, 4d)``, from :attr:`upsample1`, to ``(B, 4 rows, 4w, 9)``."""
        rows = wide[:, max(0, top - 1) : bottom + 1]
        context = F.pad(rows, (0, 0, 0, 0, int(top == 0), int(bottom == wide.shape[1])))
        # Of the rows above and below, the convolution reads the nearer half.
        grid = _spread(context)[:, 1:-1]
        hidden = F.relu(self.first(_spread(self.upsample2(grid))), inplace=True).split(self.width, dim=-1)
        fields = [
            third(F.relu(second(x), inplace=True))
            for x, second, third in zip(hidden, self.second, self.third, strict=True)
        ]
        return torch.cat(fields, dim=-1).float()


def _spread(tokens: Tensor) -> Tensor:
    """Shuffle pixels: ``(B, h, w, 4d)`` to ``(B, 2h, 2w, d)``."""
    spread = tokens.unflatten(-1, (-1, 2, 2)).permute(0, 1, 4, 2, 5, 3)
    return spread.flatten(3, 4).flatten(1, 2)


class GSASR(Model):
    """GSASR with any of its encoders, in the paper's version or the later "enhanced" one.

    Source: Chen et al., arXiv:2501.06838, and the models its authors released.
    """

    def __init__(self, config: GSASRConfig) -> None:
        super().__init__()
        width, tokens = config.width, config.window**2
        self.config = config
        self.encoder = encoders.build_encoder(config.encoder)
        self.traits = Traits(
            density=DENSITY,
            base="none",
            multiple=config.multiple,
            halo=HALO,
            wraps=True,  # shifted windows do, and they have no mask
            tile=TILE,
            # A Gaussian's offset from its reference position is unbounded; beyond this distance it is cut off.
            reach=8.0,
            bytes_per_pixel=BYTES_PER_PIXEL[config.encoder],
        )
        self.embedding = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.position = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.scale_embedding = _mlp(1, 4 * width, width)
        self.feature_projection = nn.Sequential(
            nn.Conv2d(encoders.CHANNELS, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.condition_injection = nn.ModuleList(ConditionInjectionBlock(config) for _ in range(config.cross_blocks))
        self.gaussian_interaction = nn.ModuleList(GaussianInteractionBlock(config) for _ in range(config.self_blocks))
        self.conv = _block_conv(config)
        self.head = GaussianPrimaryHead(width)

    def forward(self, image: Tensor, scale: Tensor) -> Gaussians:
        """Predict the Gaussian field of a picture; see :meth:`Model.forward`.

        Raises:
            ValueError: the picture's sides are not multiples of ``traits.multiple``.
        """
        height, width = image.shape[-2:]
        sigma, rho, alpha, rgb, mean = self.fields(image, scale).split(list(HEADS.values()), dim=-1)
        x, y = mean.unbind(-1)
        return Gaussians(
            centre=torch.stack((x * width, y * height), dim=-1),
            # The network's unit is 1.2 px, and its first deviation is the vertical one.
            sigma=(0.99999 * sigma.flip(-1).sigmoid() + 1e-6) / 1.2,
            rho=0.999999 * rho.squeeze(-1).tanh(),
            value=alpha.sigmoid() * rgb.sigmoid(),
        )

    def fields(self, image: Tensor, scale: Tensor) -> Tensor:
        """Return the network's raw output, before the activations.

        Args:
            image: ``(B, 3, h, w)``, RGB in [0, 1]; h and w multiples of ``traits.multiple``.
            scale: ``(B, 2)``, along y and x, > 0. The network is given their geometric mean.

        Returns:
            ``(B, 16hw, 9)`` in float32, row-major over ``(4h, 4w)`` places:
            ``[sigma_v, sigma_h, rho, alpha, r, g, b, mean_x, mean_y]``. The means are fractions of the
            picture's width and height; the other fields still need their activations.

        Raises:
            ValueError: the picture's sides are not multiples of ``traits.multiple``.
        """
        self._check(image)
        fields = self.head(self._embeddings(self.encoder(_channels_last(image)), scale))
        rows, columns = fields.shape[1:3]
        x = (torch.arange(columns, device=fields.device) + 0.5 + fields[..., 7]) / columns
        y = (torch.arange(rows, device=fields.device).unsqueeze(-1) + 0.5 + fields[..., 8]) / rows
        return torch.cat((fields[..., :7], torch.stack((x, y), dim=-1)), dim=-1).flatten(1, 2)

    def _embeddings(self, features: Tensor, scale: Tensor) -> Tensor:
        """Return one Gaussian embedding per pixel, ``(B, h, w, d)``, from the encoder's features ``(B, 64, h, w)``."""
        batch, _, height, width = features.shape
        vector = self.scale_embedding(scale.prod(1, keepdim=True).rsqrt())[:, None, None]
        features = self.feature_projection(features).permute(0, 2, 3, 1)
        tokens = self.embedding.expand(batch, 1, -1, -1)
        for injection in self.condition_injection:
            tokens = injection(tokens, self.position, features, vector)
        injected = x = to_picture(tokens, height, width)
        del tokens, features  # frees a quarter of the memory
        for interaction in self.gaussian_interaction:
            x = interaction(x, vector)
        return injected + self.conv(x)

    def _check(self, image: Tensor) -> None:
        height, width = image.shape[-2:]
        multiple = self.config.multiple
        if image.dim() != 4 or not height or not width or height % multiple or width % multiple:
            raise ValueError(
                f"expected a picture (B, 3, h, w) with h and w multiples of {multiple}, got {tuple(image.shape)}"
            )


def _channels_last(image: Tensor) -> Tensor:
    return image.contiguous(memory_format=torch.channels_last)
