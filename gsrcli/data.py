"""Training pairs: random crops of pictures, each shrunk by a scale of its own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from gsrcli import bicubic
from gsrcli.errors import PictureError
from gsrcli.images import INPUT_SUFFIXES, read_picture, to_eight_bits

__all__ = ["Crops", "Pair", "Scales", "Span", "find_pictures", "load_pictures", "mix"]


@dataclass(frozen=True)
class Pair:
    """One training example.

    Attributes:
        low: ``(3, p, p)`` in [0, 1], quantised to 8 bits as files are.
        high: ``(3, H, W)`` in [0, 1], what ``low`` was shrunk from.
    """

    low: Tensor
    high: Tensor

    @property
    def scale(self) -> Tensor:
        """``(2,)``: enlargement along y and x."""
        return torch.tensor(self.high.shape[1:]) / torch.tensor(self.low.shape[1:])


@dataclass(frozen=True)
class Scales:
    """The distribution scales are drawn from: uniform on [low, high], a share of them on [high, far] instead.

    A share ``unequal`` of the pairs draws its x scale apart from its y scale.
    """

    low: float
    high: float
    far: float
    far_share: float
    unequal: float

    def draw(self, generator: torch.Generator) -> tuple[float, float]:
        """One (y, x) pair of scales."""
        y = self._draw_one(generator)
        return y, self._draw_one(generator) if _uniform(generator) < self.unequal else y

    def _draw_one(self, generator: torch.Generator) -> float:
        low, high = (self.high, self.far) if _uniform(generator) < self.far_share else (self.low, self.high)
        return low + (high - low) * _uniform(generator)


class Crops(Dataset[Pair]):
    """An endless, repeatable stream: example ``i`` depends on the seed and ``i`` alone.

    Of two random crops the one with more detail is taken: much of any photograph is flat, and teaches nothing.

    Args:
        pictures: uint8 ``(3, H, W)``, as :func:`load_pictures` gives them.
        patch: side of the LR crops, in pixels.
        scales: how much larger the HR crops are.
        seed: of the stream.
    """

    def __init__(self, pictures: Sequence[Tensor], patch: int, scales: Scales, seed: int) -> None:
        self.pictures = pictures
        self.patch = patch
        self.scales = scales
        self.seed = seed

    def __getitem__(self, index: int) -> Pair:
        generator = torch.Generator().manual_seed(mix(self.seed, index))
        scale = self.scales.draw(generator)
        candidates = [self._crop(scale, generator) for _ in range(2)]
        high = _turn(max(candidates, key=_detail), generator).float() / 255
        return Pair(bicubic.shrink(high[None], (self.patch, self.patch))[0], high)

    def _crop(self, scale: tuple[float, float], generator: torch.Generator) -> Tensor:
        picture = self.pictures[_below(len(self.pictures), generator)]
        height, width = (min(round(self.patch * s), side) for s, side in zip(scale, picture.shape[1:], strict=True))
        top = _below(picture.shape[1] - height + 1, generator)
        left = _below(picture.shape[2] - width + 1, generator)
        return picture[:, top : top + height, left : left + width]


class Span(Sampler[int]):
    """The indices from ``begin`` to ``end``: an endless dataset read in order."""

    def __init__(self, begin: int, end: int) -> None:
        self.begin, self.end = begin, end

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.begin, self.end))

    def __len__(self) -> int:
        return self.end - self.begin


def find_pictures(folder: Path) -> list[Path]:
    """The pictures below a folder, sorted.

    Raises:
        PictureError: there are none, or no such folder.
    """
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in INPUT_SUFFIXES and p.is_file())
    if not found:
        raise PictureError(f"no pictures found below {folder}")
    return found


def load_pictures(paths: Sequence[Path], smallest: int) -> list[Tensor]:
    """Decode pictures into memory as uint8 ``(3, H, W)``, leaving out those with a side below ``smallest``.

    Raises:
        PictureError: one cannot be read, or none is large enough.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pictures = [p for p in pool.map(_load, paths) if min(p.shape[1:]) >= smallest]
    if not pictures:
        raise PictureError(f"none of {len(paths)} pictures has {smallest} pixels on its short side")
    return pictures


def _load(path: Path) -> Tensor:
    pixels = torch.from_numpy(to_eight_bits(read_picture(path).pixels))
    return pixels.permute(2, 0, 1).expand(3, -1, -1).contiguous()


def _turn(picture: Tensor, generator: torch.Generator) -> Tensor:
    """One of the square's eight symmetries."""
    pick = _below(8, generator)
    picture = picture.flip(-1) if pick & 1 else picture
    picture = picture.flip(-2) if pick & 2 else picture
    return picture.transpose(-1, -2) if pick & 4 else picture


def _detail(picture: Tensor) -> float:
    """Mean absolute difference of neighbouring pixels in green."""
    green = picture[1].to(torch.int16)
    return float(green.diff(dim=0).abs().float().mean() + green.diff(dim=1).abs().float().mean())


def mix(seed: int, index: int) -> int:
    """A seed for each index of a stream: 32 bits, which is all that torch's CPU generator takes from a seed."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {index}".encode(), digest_size=4).digest(), "little")


def _uniform(generator: torch.Generator) -> float:
    return torch.rand((), generator=generator).item()


def _below(limit: int, generator: torch.Generator) -> int:
    return int(torch.randint(limit, (), generator=generator))
