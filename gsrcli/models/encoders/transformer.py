"""The trunk that SwinIR and HAT share: groups of transformer layers on windows of the picture.

Between the first and the last convolutions, pictures are ``(B, h, w, d)``.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gsrcli.models.attention import TokenConv

__all__ = ["TransformerLayer", "TransformerTrunk"]


class TransformerLayer(nn.Module):
    """Attention and an MLP, each with a norm before it and a skip connection.

    Args:
        attention: module from tokens and a mask to tokens.
    """

    def __init__(self, width: int, attention: nn.Module) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = attention
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        tokens = tokens + self.attention(self.attention_norm(tokens), mask)
        return tokens + self.mlp(self.mlp_norm(tokens))


class Group(nn.Module):
    """Layers and a convolution, added to their input."""

    def __init__(self, width: int, layers: Iterable[TransformerLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.conv = TokenConv(width, width, 3, padding=1)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        x = tokens
        for layer in self.layers:
            x = layer(x, mask)
        return tokens + self.conv(x)


class TransformerTrunk(nn.Module):
    """``(B, 3, h, w)`` -> ``(B, channels, h, w)``: a convolution, groups with a long skip, a convolution.

    Args:
        width: channels d of the tokens.
        groups: the layers of each group.
    """

    def __init__(self, width: int, groups: Iterable[Iterable[TransformerLayer]], channels: int = 64) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(3, width, 3, padding=1)
        self.norm_first = nn.LayerNorm(width)
        self.groups = nn.ModuleList(Group(width, layers) for layers in groups)
        self.norm = nn.LayerNorm(width)
        self.conv_after_body = TokenConv(width, width, 3, padding=1)
        self.conv_last = TokenConv(width, channels, 3, padding=1)

    def mask(self, height: int, width: int, device: torch.device) -> Tensor | None:
        """Return the mask for layers with shifted windows, or None if there is none."""
        return None

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        mask = self.mask(height, width, image.device)
        shallow = self.conv_first(image).permute(0, 2, 3, 1)
        tokens = self.norm_first(shallow)
        for group in self.groups:
            tokens = group(tokens, mask)
        features = self.conv_last(shallow + self.conv_after_body(self.norm(tokens)))
        return F.leaky_relu(features, inplace=True).permute(0, 3, 1, 2)
