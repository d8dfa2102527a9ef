"""Keep the pictures of an evaluation for its page: encoded, and within a budget of bytes."""

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

from gsrcli.evaluation.cases import Case, Result
from gsrcli.evaluation.gallery.crops import Window, choose_windows
from gsrcli.evaluation.scales import Scale, label
from gsrcli.images.picture import Pixels
from gsrcli.metrics.psnr_ssim import psnr

__all__ = ["LONGEST_SIDE", "QUALITY", "Comparison", "EncodedPicture", "Gallery"]

QUALITY = 90
"""Quality of lossy WebP, up to 100."""

LONGEST_SIDE = 16383
"""Largest side of a WebP picture, in pixels."""

_LOW, _BICUBIC, _ORIGINAL = "LR, nearest", "bicubic", "original"


class Gallery:
    """The comparisons of an evaluation, added one by one and reduced to keep within a budget.

    Everything is lossless while it fits. Beyond that, the full pictures of the earliest comparisons become lossy, as
    many as it takes. If that is not enough, the latest comparisons lose their full pictures, and finally their crops.

    Attributes:
        budget: largest number of bytes of pictures and crops in base64.
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

    def add(self, case: Case, results: Iterable[Result]) -> None:
        """Keep the pictures of a case with their scores; results at other scales are ignored.

        Raises:
            ValueError: a restored picture is not as large as the original.
        """
        for name, picture in case.restored.items():
            if picture.shape != case.original.shape:
                raise ValueError(f"{name} restored {picture.shape}, but the original is {case.original.shape}")
        scores = [{"model": result.model, "scores": result.scores} for result in results if result.scale == case.scale]
        comparison = Comparison.of(case, scores, with_pictures=not self._full)
        for kept in (self.comparisons, self._lossless, self._pictured, self._cropped):
            kept.append(comparison)
        self._weight += comparison.weight
        self._keep_budget()

    def _keep_budget(self) -> None:
        """Reduce comparisons until they fit, giving up first what matters least."""
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
        label: name of the model or interpolation, or "original".
        content: the WebP file.
        psnr: RGB PSNR between a crop and the original's, in dB; None for full pictures and originals.
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
    """One case, encoded for the page.

    Attributes:
        dataset, picture, scale: the case.
        low_size, size: (height, width) of the LR picture and of the original.
        scores: for each model ``{"model": name, "scores": {metric: score}}``.
        pictures: LR first, original last; empty if they take too much.
        crops: the same pictures within each window; None if they take too much.
        lossless: whether all pictures are lossless.
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
    def of(cls, case: Case, scores: list[dict[str, Any]], with_pictures: bool) -> Comparison:
        """Encode crops losslessly, and the full pictures too if they are wanted and fit into WebP."""
        size = case.original.shape[:2]
        models = {_BICUBIC: _enlarged(case.low, size, Image.Resampling.BICUBIC)} | dict(case.restored)
        enlarged = {_LOW: _enlarged(case.low, size, Image.Resampling.NEAREST)} | models
        crops = [(window, _cut(window, enlarged, case.original)) for window in choose_windows(models, case.original)]
        shown = [(_LOW, case.low), *models.items(), (_ORIGINAL, case.original)]
        with ThreadPoolExecutor() as pool:  # encoding releases the interpreter's lock
            wanted = shown if with_pictures and max(size) <= LONGEST_SIDE else []
            pictures = list(pool.map(lambda each: EncodedPicture(each[0], _lossless(each[1])), wanted))
        return cls(case.dataset, case.picture, case.scale, case.low.shape[:2], size, scores, pictures, crops)

    @property
    def name(self) -> str:
        """Name of the dataset, of the picture, and the scale."""
        return f"{self.dataset}/{self.picture} ×{label(self.scale)}"

    @property
    def weight(self) -> int:
        """Bytes of all pictures and crops in base64."""
        crops = (pictures for _, pictures in self.crops or ())
        return sum(picture.weight for picture in itertools.chain(self.pictures, *crops))

    def make_lossy(self) -> None:
        """Encode all pictures but LR with loss. Call it once: a second time makes them worse."""
        self.pictures[1:] = [replace(picture, content=_lossy(picture.content)) for picture in self.pictures[1:]]
        self.lossless = False

    def drop_pictures(self) -> None:
        """Drop the full pictures and keep the crops."""
        self.pictures.clear()

    def drop_crops(self) -> None:
        """Drop the crops."""
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
