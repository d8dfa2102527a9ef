"""Training pairs: a batch of random crops, all made at once on the device, and what each is shrunk to.

What is cropped is drawn on the host, by step: the same on every device, and the same whether a run was interrupted or
not. The device does the rest, and the host waits for none of it.
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
        low: ``(B, 3, p, p)`` in [0, 1], in steps of 1/255 as files are.
        high: ``(B, 3, H, W)`` in [0, 1], what ``low`` was made from.
    """

    low: Tensor
    high: Tensor

    @property
    def scale(self) -> tuple[float, float]:
        """The enlargement along y and x that leads back."""
        return self.high.shape[2] / self.low.shape[2], self.high.shape[3] / self.low.shape[3]


@dataclass(frozen=True)
class Scales:
    """The distribution scales are drawn from: uniform on [low, high], a share of them on [high, far] instead.

    A share ``unequal`` of them has an x scale drawn apart from the y scale.
    """

    low: float
    high: float
    far: float
    far_share: float
    unequal: float

    def at(self, place: float, generator: np.random.Generator) -> tuple[float, float]:
        """The pair (y, x) of scales at a place in [0, 1) of the distribution; the generator draws an x scale apart."""
        y = self._one(place)
        apart = generator.random(2)
        return y, self._one(float(apart[1])) if apart[0] < self.unequal else y

    def _one(self, place: float) -> float:
        if place < self.far_share:
            return self.high + (self.far - self.high) * place / self.far_share
        return self.low + (self.high - self.low) * (place - self.far_share) / (1 - self.far_share)


class PatchSampler:
    """An endless, repeatable stream of batches: what a step sees depends on the seed and the step alone.

    Of two random crops the one with more detail is taken: much of any photograph is flat, and teaches nothing. Places
    in the distribution of scales follow the golden ratio, so that few steps in a row cover all of it.

    Args:
        bank: the pictures.
        patch: side of the LR crops, in pixels.
        scales: how much larger the HR crops are.
        groups: how many scales a batch has, each that of an equal part of it.
        reduce: pictures are reduced by up to this factor before they are cropped, as far as their sizes allow.
        degradation: how HR crops are made small.
        seed: of the stream.
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
        """The groups of a step's batch, of ``size`` pairs together."""
        generator = np.random.Generator(np.random.Philox(key=[self.seed, step]))
        offset = np.random.Generator(np.random.Philox(key=[self.seed, 2**63])).random()
        groups = []
        for group in range(self.groups):
            place = (offset + _GOLDEN * (step * self.groups + group)) % 1.0
            scale = self.scales.at(place, generator)
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
        """The size of the crops to read for HR crops of a size, which they are reduced to."""
        if self.reduce == 1:
            return size
        largest = max(1.0, min(self.reduce, self.bank.shortest_side / max(size)))
        factor = 1 + (largest - 1) * generator.random()
        return Size(int(size.height * factor), int(size.width * factor))

    def _places(
        self, size: Size, count: int, generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Where crops begin in the bank, and the steps down and right: each has one of the square's symmetries."""
        bank = self.bank
        picture = generator.integers(len(bank), size=(2, count))
        turned, flipped, mirrored = generator.integers(2, size=(3, 1, count)).astype(bool)
        height, width = (np.where(turned, *sides) for sides in (size.transposed, size))  # as it lies in the picture
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
