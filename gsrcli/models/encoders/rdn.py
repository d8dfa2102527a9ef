"""The trunk of the residual dense network, configuration B (arXiv:1802.08797)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["RDN"]


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class DenseBlock(nn.Module):
    """Each convolution sees the input and all earlier outputs; a 1x1 convolution fuses them into a residual."""

    def __init__(self, channels: int, convs: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_conv((i + 1) * channels, channels) for i in range(convs))
        self.relu = nn.ReLU(inplace=True)
        self.fusion = nn.Conv2d((convs + 1) * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        dense = x
        for conv in self.convs:
            dense = torch.cat((dense, self.relu(conv(dense))), dim=1)
        return x + self.fusion(dense)


class RDN(nn.Module):
    """RDN before its upsampler: ``(B, 3, h, w)`` -> ``(B, channels, h, w)``."""

    def __init__(self, channels: int = 64, blocks: int = 16, convs: int = 8) -> None:
        super().__init__()
        self.shallow1 = _conv(3, channels)
        self.shallow2 = _conv(channels, channels)
        self.blocks = nn.ModuleList(DenseBlock(channels, convs) for _ in range(blocks))
        self.fusion = nn.Sequential(nn.Conv2d(blocks * channels, channels, 1), _conv(channels, channels))

    def forward(self, image: Tensor) -> Tensor:
        shallow = self.shallow1(image)
        x = self.shallow2(shallow)
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return shallow + self.fusion(torch.cat(outputs, dim=1))
