"""The feature layers of AlexNet and VGG-16: the backbones of perceptual metrics.

Layers are numbered as in the checkpoints that PyTorch hosts. AlexNet is from arXiv:1404.5997, VGG-16 is configuration
D of arXiv:1409.1556.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

__all__ = ["ARCHITECTURES", "Architecture"]


@dataclass(frozen=True)
class Architecture:
    """How to build a backbone, and where to take its features.

    Attributes:
        build: function that builds it with random weights; it maps RGB ``(B, 3, H, W)``, normalised as for ImageNet,
            to features.
        stages: end of each stage: the number of the layer after the ReLU that gives these features.
        smallest: shortest side of a picture that still reaches the last stage, in pixels.
    """

    build: Callable[[], nn.Sequential]
    stages: tuple[int, ...]
    smallest: int

    def split(self, backbone: nn.Sequential) -> list[nn.Sequential]:
        """Cut a backbone of this architecture into its stages; each takes the output of the one before."""
        layers = list(backbone)
        return [nn.Sequential(*layers[begin:end]) for begin, end in itertools.pairwise((0, *self.stages))]


def _alexnet() -> nn.Sequential:
    return nn.Sequential(
        *_layer(3, 64, 11, stride=4, padding=2),
        nn.MaxPool2d(3, 2),
        *_layer(64, 192, 5, padding=2),
        nn.MaxPool2d(3, 2),
        *_layer(192, 384, 3, padding=1),
        *_layer(384, 256, 3, padding=1),
        *_layer(256, 256, 3, padding=1),
        nn.MaxPool2d(3, 2),
    )


def _vgg16() -> nn.Sequential:
    layers: list[nn.Module] = []
    before = 3
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            layers += _layer(before, width, 3, padding=1)
            before = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def _layer(before: int, width: int, kernel: int, *, stride: int = 1, padding: int) -> tuple[nn.Conv2d, nn.ReLU]:
    return nn.Conv2d(before, width, kernel, stride, padding), nn.ReLU(inplace=True)


ARCHITECTURES = {
    "alexnet": Architecture(_alexnet, (2, 5, 8, 10, 12), smallest=31),
    "vgg16": Architecture(_vgg16, (4, 9, 16, 23, 30), smallest=16),
}
"""The backbones, by the names of their weights in weights.toml."""
