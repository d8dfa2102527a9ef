"""The trunk of SwinIR, classical configuration (arXiv:2108.10257)."""

from __future__ import annotations

import torch
from torch import Tensor

from gsrcli.models.attention import RelativePositionBias, ShiftedWindowAttention, shift_distance, shift_mask
from gsrcli.models.encoders.transformer import TransformerLayer, TransformerTrunk

__all__ = ["SwinIR"]


class SwinIR(TransformerTrunk):
    """SwinIR before its upsampler: ``(B, 3, h, w)`` -> ``(B, channels, h, w)``; h and w are multiples of ``window``.

    In every other layer windows are shifted by half a window, with a mask where they wrap around.
    """

    def __init__(
        self, channels: int = 64, width: int = 180, heads: int = 6, window: int = 8, groups: int = 6, layers: int = 6
    ) -> None:
        def layer(distance: int) -> TransformerLayer:
            attention = ShiftedWindowAttention(width, heads, RelativePositionBias(window, heads), window, distance)
            return TransformerLayer(width, attention)

        distances = [shift_distance(i, window) for i in range(layers)]
        super().__init__(width, (map(layer, distances) for _ in range(groups)), channels)
        self.window = window

    def mask(self, height: int, width: int, device: torch.device) -> Tensor:
        return shift_mask(height, width, self.window, shift_distance(1, self.window), device)
