"""The trunk of HAT-L (arXiv:2205.04437), with rotary positions instead of its relative position biases.

This follows the model that GSASR's authors released, in which shifted windows have no mask either.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gsrcli.models.attention import (
    OverlappingWindowAttention,
    RotaryPosition,
    ShiftedWindowAttention,
    TokenConv,
    shift_distance,
)
from gsrcli.models.encoders.transformer import TransformerLayer, TransformerTrunk

__all__ = ["HAT"]

_CONV_SCALE = 0.01
_COMPRESS, _SQUEEZE = 3, 32


class ChannelGate(nn.Module):
    """Scales every channel of ``(B, h, w, d)`` by a function of all channels' means over the picture."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze = TokenConv(width, width // _SQUEEZE, 1)
        self.excite = TokenConv(width // _SQUEEZE, width, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        mean = tokens.mean((1, 2), keepdim=True)
        return tokens * self.excite(self.squeeze(mean).relu()).sigmoid()


class HybridAttention(ShiftedWindowAttention):
    """Attention in windows, plus 0.01 times two convolutions with channel attention over the whole picture."""

    def __init__(self, width: int, heads: int, position: nn.Module, window: int, distance: int) -> None:
        super().__init__(width, heads, position, window, distance)
        self.channels = nn.Sequential(
            TokenConv(width, width // _COMPRESS, 3, padding=1),
            nn.GELU(),
            TokenConv(width // _COMPRESS, width, 3, padding=1),
            ChannelGate(width),
        )

    def forward(self, picture: Tensor, mask: Tensor | None = None) -> Tensor:
        return torch.add(super().forward(picture, mask), self.channels(picture), alpha=_CONV_SCALE)


class HAT(TransformerTrunk):
    """HAT before its upsampler: ``(B, 3, h, w)`` -> ``(B, channels, h, w)``; h and w are multiples of ``window``.

    Every group has ``layers`` layers of hybrid attention, every other one in windows shifted by half a window, and one
    layer of windows that overlap by half.
    """

    def __init__(
        self, channels: int = 64, width: int = 192, heads: int = 6, window: int = 16, groups: int = 12, layers: int = 6
    ) -> None:
        def position(side: int) -> RotaryPosition:
            return RotaryPosition(side, heads, width // heads)

        def attentions() -> Iterator[nn.Module]:
            for i in range(layers):
                yield HybridAttention(width, heads, position(window), window, shift_distance(i, window))
            margin = window // 4
            yield OverlappingWindowAttention(width, heads, position(window + 2 * margin), window, margin)

        def group() -> Iterator[TransformerLayer]:
            return (TransformerLayer(width, attention) for attention in attentions())

        super().__init__(width, (group() for _ in range(groups)), channels)
