"""Keep the pictures of an evaluation for its page: compressed, and within a budget of bytes."""

from __future__ import annotations

import base64
import io
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from gsrcli.evaluation.gallery.crops import Window, choose_windows
from gsrcli.evaluation.runner import Row
from gsrcli.evaluation.scales import Scale, label
from gsrcli.evaluation.versions import Shot
from gsrcli.images.picture import Pixels
from gsrcli.metrics.psnr_ssim import psnr

__all__ = ["LONGEST_SIDE", "QUALITY", "Comparison", "EncodedPicture", "Gallery"]

QUALITY = 90
"""Of lossy WebP, up to 100."""

LONGEST_SIDE = 16383
"""Pixels; longer ones do not fit into WebP."""

_LOW, _BICUBIC, _ORIGINAL = "LR, nearest", "bicubic", "original"


class Gallery:
    """The comparisons of an evaluation, added one by one and reduced where they take too much.

    Everything is lossless while it fits into the budget. Beyond that the full pictures of the earliest comparisons
    become lossy, as many as it takes; when that is not enough the latest lose them, and at last their crops.

    Attributes:
        budget: bytes that the pictures and crops may take in base64.
        comparisons: in the order in which they were added.
    """

    def __init__(self, budget: int = 60_000_000) -> None:
        self.budget = budget
        self.comparisons: list[Comparison] = []
        self._weight = 0
        self._full = False
        self._lossless: deque[Comparison] = deque()
        self._pictured: list[Comparison] = []
        self._cropped: list[Comparison] = []

    def add(self, shot: Shot, rows: Iterable[Row]) -> None:
        """Keep a picture at one scale, with the rows that score it; rows of other scales are passed over.

        Raises:
            ValueError: a restored picture is not as large as the original.
        """
        for name, picture in shot.restored.items():
            if picture.shape != shot.original.shape:
                raise ValueError(f"{name} made {picture.shape} of what was {shot.original.shape}")
        scores = [{"model": row.model, "scores": row.scores} for row in rows if row.scale == shot.scale]
        comparison = Comparison.of(shot, scores, with_pictures=not self._full)
        for kept in (self.comparisons, self._lossless, self._pictured, self._cropped):
            kept.append(comparison)
        self._weight += comparison.weight
        self._keep_budget()

    def _keep_budget(self) -> None:
        """Give up first what matters least."""
        while self._lossless and self._weight > self.budget:
            self._reduce(self._lossless.popleft(), Comparison.make_lossy)
        self._full |= self._weight > self.budget
        while self._pictured and self._weight > self.budget:
            self._reduce(self._pictured.pop(), Comparison.drop_pictures)
        while self._cropped and self._weight > self.budget:
            self._reduce(self._cropped.pop(), Comparison.drop_crops)

    def _reduce(self, comparison: Comparison, reduction: Callable[[Comparison], None]) -> None:
        before = comparison.weight
        reduction(comparison)
        self._weight += comparison.weight - before


@dataclass(frozen=True)
class EncodedPicture:
    """A picture as WebP.

    Attributes:
        label: what made it.
        content: the file.
        psnr: between a crop and the original's, in dB of RGB; None where it is not compared.
    """

    label: str
    content: bytes
    psnr: float | None = None

    @property
    def weight(self) -> int:
        """Bytes in base64."""
        return 4 * math.ceil(len(self.content) / 3)

    @property
    def uri(self) -> str:
        """A data URI that holds the picture."""
        return "data:image/webp;base64," + base64.b64encode(self.content).decode()


@dataclass
class Comparison:
    """One picture at one scale, as the page shows it.

    Attributes:
        dataset, picture, scale: which.
        low_size, size: (height, width) of the LR picture and of the original.
        scores: for each model ``{"model": name, "scores": {metric: score}}``.
        pictures: LR first, original last; empty where they take too much.
        crops: the same pictures within each window; None where they take too much.
        lossless: whether all pictures are.
    """

    dataset: str
    picture: str
    scale: Scale
    low_size: tuple[int, ...]
    size: tuple[int, ...]
    scores: list[dict[str, Any]]
    pictures: list[EncodedPicture]
    crops: list[tuple[Window, list[EncodedPicture]]] | None
    lossless: bool = True

    @classmethod
    def of(cls, shot: Shot, scores: list[dict[str, Any]], with_pictures: bool) -> Comparison:
        """Compress crops without loss, and the full pictures where they are wanted and fit into WebP."""
        size = shot.original.shape[:2]
        models = {_BICUBIC: _enlarged(shot.low, size, Image.Resampling.BICUBIC)} | dict(shot.restored)
        enlarged = {_LOW: _enlarged(shot.low, size, Image.Resampling.NEAREST)} | models
        crops = [(window, _cut(window, enlarged, shot.original)) for window in choose_windows(models, shot.original)]
        shown = [(_LOW, shot.low), *models.items(), (_ORIGINAL, shot.original)]
        with ThreadPoolExecutor() as pool:  # compression releases the interpreter's lock
            wanted = shown if with_pictures and max(size) <= LONGEST_SIDE else []
            pictures = list(pool.map(lambda each: EncodedPicture(each[0], _lossless(each[1])), wanted))
        return cls(shot.dataset, shot.picture, shot.scale, shot.low.shape[:2], size, scores, pictures, crops)

    @property
    def name(self) -> str:
        """The data set, the picture and the scale."""
        return f"{self.dataset}/{self.picture} ×{label(self.scale)}"

    @property
    def weight(self) -> int:
        """Bytes of all pictures and crops in base64."""
        crops = (pictures for _, pictures in self.crops or ())
        return sum(picture.weight for picture in itertools.chain(self.pictures, *crops))

    def make_lossy(self) -> None:
        """Encode the pictures with loss, except for the small LR one. Do it once: a second time makes them worse."""
        self.pictures[1:] = [replace(picture, content=_lossy(picture.content)) for picture in self.pictures[1:]]
        self.lossless = False

    def drop_pictures(self) -> None:
        """Keep the crops alone."""
        self.pictures.clear()

    def drop_crops(self) -> None:
        """Keep the full pictures alone, if there are any left."""
        self.crops = None


def _cut(window: Window, enlarged: Mapping[str, Pixels], original: Pixels) -> list[EncodedPicture]:
    truth = window.cut(original)
    parts = {name: window.cut(picture) for name, picture in enlarged.items()}
    crops = [
        EncodedPicture(name, _lossless(part), psnr(torch.tensor(part) / 255, torch.tensor(truth) / 255))
        for name, part in parts.items()
    ]
    return [*crops, EncodedPicture(_ORIGINAL, _lossless(truth))]


def _enlarged(low: Pixels, size: tuple[int, ...], method: Image.Resampling) -> Pixels:
    return np.asarray(Image.fromarray(low).resize((size[1], size[0]), method))


def _lossless(picture: Pixels) -> bytes:
    return _webp(Image.fromarray(picture), lossless=True, quality=25, method=2)  # of 6; more takes long and saves 1 %


def _lossy(content: bytes) -> bytes:
    with Image.open(io.BytesIO(content)) as picture:
        return _webp(picture, quality=QUALITY)


def _webp(picture: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, "WEBP", **options)
    return file.getvalue()
