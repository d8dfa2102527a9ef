"""AlexNet and VGG-16 as far as they find features: what perceptual metrics look at pictures through.

Layers are numbered as in the checkpoints that PyTorch hosts. AlexNet is that of arXiv:1404.5997, VGG-16 configuration D
of arXiv:1409.1556.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from gsrcli.errors import ModelError

__all__ = ["ARCHITECTURES", "Architecture", "backbone_bytes", "load_backbone", "state_of_features"]


@dataclass(frozen=True)
class Architecture:
    """How a backbone is built, and where it is looked into.

    Attributes:
        build: makes it, with random weights: RGB ``(B, 3, H, W)``, normalised as for ImageNet, to features.
        stages: where each stage ends: the number of the layer after the ReLU that gives these features.
        smallest: the shortest side of a picture that reaches the last stage.
    """

    build: Callable[[], nn.Sequential]
    stages: tuple[int, ...]
    smallest: int

    def split(self, backbone: nn.Sequential) -> list[nn.Sequential]:
        """The stages of a backbone of this architecture, each to be given what the one before it gives."""
        layers = list(backbone)
        return [nn.Sequential(*layers[begin:end]) for begin, end in itertools.pairwise((0, *self.stages))]


def backbone_bytes(backbone: nn.Sequential, name: str) -> bytes:
    """A backbone's weights as a safetensors file."""
    from safetensors.torch import save

    return save(backbone.state_dict(), {"format": "gsrcli", "backbone": name})


def load_backbone(name: str, path: Path) -> nn.Sequential:
    """A backbone with the weights that :func:`backbone_bytes` made, ready to use.

    Raises:
        ModelError: they are damaged, or another backbone's.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    backbone = ARCHITECTURES[name].build()
    try:
        backbone.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ModelError(f"{path} does not fit {name}: {error}", hint=f"gsr weights remove {name}") from error
    return backbone.eval().requires_grad_(False)


def state_of_features(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of a released network's state dict, what finds features; the rest tells what is in the picture."""
    prefix = "features."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


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
"""By the names that weights.toml gives their weights."""
