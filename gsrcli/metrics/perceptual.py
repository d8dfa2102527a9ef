"""Perceptual metrics: LPIPS and DISTS, which compare two images by the features of a network. 0 means equal.

The networks' weights are downloaded and kept like those of models (``gsr weights``). The metrics' own weights, one for
each feature, come with the package.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from gsrcli.errors import PictureError, UsageError, nearest
from gsrcli.models.feature_extractors import ARCHITECTURES
from gsrcli.runtime.devices import autocast
from gsrcli.weights.checkpoint import read_backbone
from gsrcli.weights.store import Store

if TYPE_CHECKING:
    from gsrcli.download.http import Progress

__all__ = ["DISTS", "LPIPS", "METRICS", "Compare", "load_perceptual"]

Compare = Callable[[Tensor, Tensor], dict[str, float]]
"""Function that compares a restored and an original image, both float ``(3, H, W)`` RGB in [0, 1], by several metrics.

It returns scores by metric, and raises PictureError if the images are too small for the network.
"""


class LPIPS(nn.Module):
    """Learned perceptual image patch similarity (arXiv:1801.03924), version 0.1, ``lin``.

    Args:
        backbone: feature extractor.
        architecture: name of its architecture.
        heads: weights of the features, ``(C,)`` for each stage.
    """

    def __init__(self, backbone: nn.Sequential, architecture: str, heads: Sequence[Tensor]) -> None:
        super().__init__()
        self.smallest = ARCHITECTURES[architecture].smallest
        self._stages = nn.ModuleList(ARCHITECTURES[architecture].split(backbone))
        self._heads = nn.ParameterList([nn.Parameter(head, requires_grad=False) for head in heads])

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the distance of two images ``(3, H, W)`` in [0, 1], a scalar (equation 1)."""
        distances = [
            torch.einsum("c,chw->hw", head, (_unit(one) - _unit(other)).square()).mean()
            for head, (one, other) in zip(self._heads, _features(self._stages, first, second), strict=True)
        ]
        return torch.stack(distances).sum()


class DISTS(nn.Module):
    """Deep image structure and texture similarity (arXiv:2004.07728), without resizing the images first.

    Args:
        backbone: VGG-16.
        alpha: ``(3 + C…,)``, weights of the texture similarity of each channel, the image's own three first.
        beta: likewise, weights of the structure similarity.
    """

    smallest = 1

    def __init__(self, backbone: nn.Sequential, alpha: Tensor, beta: Tensor) -> None:
        super().__init__()
        architecture = ARCHITECTURES["vgg16"]
        first, *others = architecture.split(backbone)
        self._stages = nn.ModuleList([first, *(nn.Sequential(_RootMeanSquare(), *list(stage)[1:]) for stage in others)])
        self._weights = nn.Parameter(torch.stack((alpha, beta)), requires_grad=False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the distance of two images ``(3, H, W)`` in [0, 1], a scalar."""
        pairs = itertools.chain([(first, second)], _features(self._stages, first, second))
        dissimilarity = torch.cat([_dissimilarity(*pair) for pair in pairs], 1)
        return (self._weights * dissimilarity).sum() / self._weights.sum()


class _RootMeanSquare(nn.Module):
    """The pooling of DISTS: the root of Hanning-weighted mean squares, with stride 2, in place of max-pooling."""

    def forward(self, features: Tensor) -> Tensor:
        channels = features.shape[-3]
        window = features.new_tensor([0.25, 0.5, 0.25])
        window = (window[:, None] * window).expand(channels, 1, 3, 3)
        return (F.conv2d(features.square(), window, stride=2, padding=1, groups=channels) + 1e-12).sqrt()


def load_perceptual(
    names: Sequence[str], device: str | torch.device = "cpu", report: Progress | None = None
) -> Compare:
    """Load metrics and return the function that computes them. Download missing weights.

    Args:
        names: keys of :data:`METRICS`.
        device: where to compute.
        report: is called with the progress of downloads.

    Raises:
        UsageError: there is no such metric.
        ModelError: weights are damaged.
        DownloadError: weights cannot be downloaded.
    """
    for name in names:
        if name not in METRICS:
            raise UsageError(f"there is no perceptual metric called {name!r}", hint=f"try {nearest(name, METRICS)}")
    device = torch.device(device)
    metrics = {name: METRICS[name](report).to(device).eval() for name in names}

    @torch.inference_mode()
    def compare(restored: Tensor, original: Tensor) -> dict[str, float]:
        height, width = restored.shape[1:]
        for name, metric in metrics.items():
            if min(height, width) < metric.smallest:
                size = f"{metric.smallest}x{metric.smallest}"
                raise PictureError(f"a picture of {width}x{height} pixels is too small for {name}, which needs {size}")
        pictures = restored.float().to(device), original.float().to(device)
        with autocast(device, torch.float32):
            return {name: metric(*pictures).item() for name, metric in metrics.items()}

    return compare


def _load_lpips(network: str, report: Progress | None) -> LPIPS:
    learned = _load_learned("lpips")
    heads = [learned[f"{network}.{stage}"] for stage in range(len(ARCHITECTURES[network].stages))]
    return LPIPS(_load_backbone(network, report), network, heads)


def _load_dists(report: Progress | None) -> DISTS:
    learned = _load_learned("dists")
    return DISTS(_load_backbone("vgg16", report), learned["alpha"], learned["beta"])


METRICS: dict[str, Callable[[Progress | None], LPIPS | DISTS]] = {
    "lpips": lambda report: _load_lpips("alexnet", report),
    "lpips-vgg": lambda report: _load_lpips("vgg16", report),
    "dists": _load_dists,
}
"""Functions that load the metrics, by name. Papers on super-resolution use LPIPS with AlexNet, as GSASR does."""


def _load_backbone(name: str, report: Progress | None) -> nn.Sequential:
    return read_backbone(name, Store().entry(name).locate(report))


def _load_learned(metric: str) -> dict[str, Tensor]:
    """Load a metric's own weights, which come with the package: vectors by name."""
    return load_file(Store().entry(metric).locate())


def _features(stages: nn.ModuleList, first: Tensor, second: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the features of two images ``(3, H, W)`` in [0, 1] after each stage: pairs of ``(C, h, w)``."""
    first, second = _normalised(first), _normalised(second)
    for stage in stages:
        first, second = stage(first), stage(second)
        yield first, second


def _normalised(picture: Tensor) -> Tensor:
    """Normalise an image in [0, 1] as networks trained on ImageNet expect it. LPIPS has equal constants for [-1, 1]."""
    mean, deviation = picture.new_tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    return (picture - mean) / deviation


def _unit(features: Tensor) -> Tensor:
    """Scale the features at each place to length 1; zeros stay zeros."""
    return features / (features.norm(dim=0, keepdim=True) + 1e-10)


def _dissimilarity(first: Tensor, second: Tensor) -> Tensor:
    """Return the dissimilarity of texture and structure of each channel of two ``(C, h, w)``: ``(2, C)`` in [0, 2].

    DISTS subtracts similarities (2xy + c) / (x² + y² + c) from 1; as (x − y)² / (x² + y² + c), nothing cancels.
    """
    means = first.mean((1, 2)), second.mean((1, 2))
    first, second = first - means[0][:, None, None], second - means[1][:, None, None]
    variances = first.square().mean((1, 2)) + second.square().mean((1, 2))
    texture = (means[0] - means[1]).square() / (means[0].square() + means[1].square() + 1e-6)
    return torch.stack((texture, (first - second).square().mean((1, 2)) / (variances + 1e-6)))
