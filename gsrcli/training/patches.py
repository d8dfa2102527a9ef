"""Training pairs: batches of random patches, cropped and downscaled together on the device.

The host draws which patches to crop from the seed and the step alone, so they are the same on every device and in a
resumed run. The device does the rest, and the host does not wait for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gsrcli.degradation import photo
from gsrcli.resize import bicubic
from gsrcli.size import Size
from gsrcli.training.config import Degradation
from gsrcli.training.dataset import PictureBank

__all__ = ["Pairs", "PatchSampler", "Scales"]

_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Pairs:
    """Training examples of one size.

    Attributes:
        low: ``(B, 3, p, p)`` in [0, 1], multiples of 1/255 as in files.
        high: ``(B, 3, H, W)`` in [0, 1], from which ``low`` was made.
    """

    low: Tensor
    high: Tensor

    @property
    def scale(self) -> tuple[float, float]:
        """The factors along y and x by which ``low`` must be upscaled to the size of ``high``."""
        return Size.of_tensor(self.high).scale_from(Size.of_tensor(self.low))


@dataclass(frozen=True)
class Scales:
    """The distribution of scales: uniform on [low, high], except for a share ``far_share`` on [high, far].

    A share ``unequal`` of the pairs has an x scale drawn independently of the y scale.
    """

    low: float
    high: float
    far: float
    far_share: float
    unequal: float

    def at(self, quantile: float, generator: np.random.Generator) -> tuple[float, float]:
        """Return the scales (y, x) at a quantile in [0, 1) of the distribution; an independent x scale is random."""
        y = self._one(quantile)
        chance, other = generator.random(2)
        return y, self._one(float(other)) if chance < self.unequal else y

    def _one(self, quantile: float) -> float:
        if quantile < self.far_share:
            return self.high + (self.far - self.high) * quantile / self.far_share
        return self.low + (self.high - self.low) * (quantile - self.far_share) / (1 - self.far_share)


class PatchSampler:
    """Random batches of patches that depend on the seed and the step alone.

    Each patch is the more detailed of two candidates, because much of any photograph is flat and teaches nothing.
    Quantiles of the scales follow the golden ratio, so that a few consecutive steps cover the whole distribution.

    Args:
        bank: training pictures.
        patch: side of the LR patches, in pixels.
        scales: distribution of the scales between LR and HR patches.
        groups: number of scales in a batch, each used for an equal part of it.
        degradation: how LR patches are made from HR patches.
        seed: random seed.
        reduce: largest factor to downscale pictures by before cropping, as far as the smallest allows.
    """

    def __init__(
        self,
        bank: PictureBank,
        patch: int,
        scales: Scales,
        groups: int,
        degradation: Degradation,
        seed: int,
        reduce: float = 1.0,
    ) -> None:
        self.bank = bank
        self.patch = patch
        self.scales = scales
        self.groups = groups
        self.degradation = degradation
        self.seed = seed
        self.reduce = reduce

    def batch(self, step: int, size: int) -> list[Pairs]:
        """Return the groups of a step's batch, which have ``size`` pairs together."""
        generator = np.random.Generator(np.random.Philox(key=[self.seed, step]))
        offset = np.random.Generator(np.random.Philox(key=[self.seed, 2**63])).random()
        groups = []
        for group in range(self.groups):
            quantile = (offset + _GOLDEN * (step * self.groups + group)) % 1.0
            scale = self.scales.at(quantile, generator)
            groups.append(self._pairs(scale, size // self.groups, generator))
        return groups

    def _pairs(self, scale: tuple[float, float], count: int, generator: np.random.Generator) -> Pairs:
        size = Size(round(self.patch * scale[0]), round(self.patch * scale[1]))
        read = self._read_size(size, generator)
        first, down, right = map(self.bank.send, self._places(read, count, generator))
        high = self.bank.crop(first, down, right, read)
        if read != size:
            high = bicubic.downscale_rounded(high, size)
        low_size = Size(self.patch, self.patch)
        if self.degradation == "photo":
            return Pairs(photo.degrade(high, low_size, int(generator.integers(2**32))), high)
        return Pairs(bicubic.downscale_rounded(high, low_size), high)

    def _read_size(self, size: Size, generator: np.random.Generator) -> Size:
        """Return the size to crop, before downscaling, for HR patches of a size."""
        if self.reduce == 1:
            return size
        largest = max(1.0, min(self.reduce, self.bank.shortest_side / max(size)))
        factor = 1 + (largest - 1) * generator.random()
        return Size(int(size.height * factor), int(size.width * factor))

    def _places(
        self, size: Size, count: int, generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Draw where patches begin in the bank, and the steps down and right, which flip and turn each at random."""
        bank = self.bank
        picture = generator.integers(len(bank), size=(2, count))
        turned, flipped, mirrored = generator.integers(2, size=(3, 1, count)).astype(bool)
        height, width = (np.where(turned, *sides) for sides in (size.transposed, size))  # before turning
        top, left = (
            (generator.random((2, count)) * (sides[picture] - side + 1)).astype(np.int64)
            for sides, side in ((bank.heights, height), (bank.widths, width))
        )
        detail = bank.detail(picture.ravel(), top.ravel(), left.ravel(), Size(min(size), min(size)))
        chosen = detail.reshape(2, count).argmax(0), np.arange(count)
        picture, top, left = picture[chosen], top[chosen], left[chosen]
        turned, flipped, mirrored, height, width = (part[0] for part in (turned, flipped, mirrored, height, width))
        stride = bank.widths[picture]
        first = bank.starts[picture] + top * stride + left
        first = first + flipped * (height - 1) * stride + mirrored * (width - 1)
        down, right = np.where(flipped, -stride, stride), np.where(mirrored, -1, 1)
        return first, np.where(turned, right, down), np.where(turned, down, right)
