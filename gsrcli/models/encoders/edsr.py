"""The trunk of EDSR-baseline (arXiv:1707.02921)."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["EDSR"]


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution, added to the input; no normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels, channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.relu(self.conv1(x)))


class EDSR(nn.Module):
    """EDSR-baseline before its upsampler, without the mean shift: ``(B, 3, h, w)`` -> ``(B, channels, h, w)``.

    Args:
        long_skip: add the first convolution's output to the last one's, as published. The models that GSASR's
            authors released have no such skip connection.
    """

    def __init__(self, channels: int = 64, blocks: int = 16, *, long_skip: bool = True) -> None:
        super().__init__()
        self.long_skip = long_skip
        self.conv_first = _conv(3, channels)
        self.body = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.conv_after_body = _conv(channels, channels)

    def forward(self, image: Tensor) -> Tensor:
        shallow = self.conv_first(image)
        deep = self.conv_after_body(self.body(shallow))
        return shallow + deep if self.long_skip else deep
