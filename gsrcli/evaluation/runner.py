"""Scoring: originals shrunk, restored and compared, picture by picture.

Originals, and pictures that are given rather than computed, are decoded ahead by threads. Each original is decoded
once, and shrunk once for each scale, whatever the number of models.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from gsrcli.degradation.photo import degrade
from gsrcli.errors import GsrError, PictureError, UsageError, is_out_of_memory
from gsrcli.evaluation.datasets import Collection
from gsrcli.evaluation.methods import Restorer
from gsrcli.evaluation.protocols import Protocol
from gsrcli.evaluation.scales import Scale, label
from gsrcli.evaluation.versions import Folder, Shot, read_rgb
from gsrcli.images import to_eight_bits
from gsrcli.images.picture import Pixels
from gsrcli.metrics.perceptual import Compare
from gsrcli.metrics.psnr_ssim import from_integers
from gsrcli.resize.downscale import Downscaling, downscale
from gsrcli.runtime.memory import peak_memory
from gsrcli.size import Size

__all__ = ["Evaluation", "Failure", "Outcome", "Row"]

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 2


@dataclass(frozen=True)
class Row:
    """How well one model restored one picture.

    Attributes:
        dataset: the data set's or folder's name.
        picture: its name in there.
        model: the model's name, an interpolation's, or that of a folder of restored pictures.
        scale: of the height and of the width, as asked for.
        low_size: height and width of the small picture.
        size: height and width of the restored picture.
        scores: by metric.
        seconds: from small picture to large one, in memory; None where it was given.
        memory_bytes: the most in use meanwhile, see :func:`gsrcli.runtime.memory.peak_memory`; None where that cannot
            be told, where the picture was given, and of what computes elsewhere than the models.
    """

    dataset: str
    picture: str
    model: str
    scale: Scale
    low_size: Size
    size: Size
    scores: Mapping[str, float]
    seconds: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Failure:
    """A picture that could not be scored, at any scale or at one, by all models or by one."""

    dataset: str
    picture: str
    scale: Scale | None
    model: str | None
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        where = f"{self.dataset}/{self.picture}" + (f" ×{label(self.scale)}" if self.scale else "")
        return f"{where}, {self.model}: {self.message}" if self.model else f"{where}: {self.message}"

    @classmethod
    def of(
        cls, error: Exception, dataset: str, picture: str, scale: Scale | None = None, model: str | None = None
    ) -> Failure:
        if isinstance(error, GsrError):
            return cls(dataset, picture, scale, model, str(error), error.hint)
        return cls(dataset, picture, scale, model, "memory ran out", "try a smaller --tile")


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one picture at one scale.

    Attributes:
        rows: one for each model that could be scored.
        failures: the others.
        shot: the pictures themselves; None where there is nothing to show.
        cases: of how many scales it is the outcome: of all, where the original cannot be read.
    """

    rows: Sequence[Row] = ()
    failures: Sequence[Failure] = ()
    shot: Shot | None = None
    cases: int = 1


@dataclass(frozen=True)
class Evaluation:
    """What is scored how.

    Attributes:
        protocol: sizes, channels, border and rounding.
        degradation: how small pictures are made: shrunk, or with the faults of photographs too.
        scales: enlargements.
        restorers: what is scored.
        folders: pictures that other programs restored, to be scored too.
        lows: the small pictures, where they are given rather than made.
        metrics: what is told: ``psnr`` and ``ssim``, as the protocol has them, and what ``perceptual`` gives.
        perceptual: compares pictures as people see them, within the protocol's border.
        device: where scores are computed.

    Raises:
        UsageError: two of what is scored have one name, or one has a name that no folder can have.
    """

    protocol: Protocol
    degradation: Downscaling | Literal["photo"]
    scales: Sequence[Scale]
    restorers: Sequence[Restorer]
    folders: Sequence[Folder] = ()
    lows: Folder | None = None
    metrics: Sequence[str] = ("psnr", "ssim")
    perceptual: Compare | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        for name, count in Counter(self.models).items():
            if count > 1:
                raise UsageError(
                    f"{count} of what is to be scored are called {name}", hint="tell them apart: NAME=PATH"
                )
            if name in ("", ".", "..") or "/" in name or "\\" in name:
                raise UsageError(f"what is scored cannot be called {name!r}", hint="give it another name: NAME=PATH")

    @property
    def models(self) -> list[str]:
        """The names of all that is scored."""
        return [*(restorer.name for restorer in self.restorers), *(folder.name for folder in self.folders)]

    def rounded(self, model: str) -> bool:
        """Whether what is scored under this name has 8 bits: as the protocol says, or as it is given."""
        return self.protocol.rounded or any(folder.name == model for folder in self.folders)

    def run(self, collections: Sequence[Collection]) -> Iterator[Outcome]:
        """An outcome for each picture at each scale, in order. What fails is told in it, and the rest go on.

        Raises:
            UsageError: two data sets have one name.
            ModelError: what a model makes is not finite.
        """
        for name, count in Counter(collection.name for collection in collections).items():
            if count > 1:
                raise UsageError(f"{count} data sets are called {name}", hint="score them one after the other")
        for restorer in self.restorers:
            restorer.restore(np.zeros((48, 48, 3), np.uint8), Size(96, 96))  # what is done once is not timed
        originals = (
            _Original(collection, picture, path)
            for collection in collections
            for picture, path in collection.pictures.items()
        )
        with ThreadPoolExecutor(_AHEAD, "decode") as pool:
            for original, decoding in _ahead(self._decode, originals, pool):
                try:
                    decoded = decoding.result()
                    pixels = torch.from_numpy(decoded.pixels).permute(2, 0, 1).to(self.device)
                except GsrError as error:
                    yield original.failed(error, cases=len(self.scales))
                    continue
                for scale in self.scales:
                    try:
                        yield self._evaluate(self._case(original, decoded, pixels, scale))
                    except GsrError as error:
                        yield original.failed(error, scale)

    def _decode(self, original: _Original) -> _Decoded:
        """An original and all that is given with it."""
        pixels = read_rgb(original.path)
        given: dict[tuple[Folder, Scale], Pixels | GsrError] = {}
        for folder in (*self.folders, *([self.lows] if self.lows else [])):
            for scale in self.scales:
                try:
                    given[folder, scale] = folder.read(original.path, original.collection.names, scale)
                except GsrError as error:
                    given[folder, scale] = error
        return _Decoded(pixels, given)

    def _case(self, original: _Original, decoded: _Decoded, pixels: Tensor, scale: Scale) -> _Case:
        """The original cropped, and the small picture.

        Raises:
            PictureError: the original is too small for the scale, or the small picture that is given is not of it.
        """
        low_size = self.protocol.low_size(Size.of_tensor(pixels), scale)
        size = self.protocol.high_size(low_size, scale)
        cropped = pixels[:, : size.height, : size.width]
        if self.lows:
            low = decoded.take(self.lows, scale)
            _require_size(low, low_size, f"{self.lows.path}: the small picture of {original.path.name}")
        elif self.degradation == "photo":
            low = _on_host(_photographed(cropped, low_size, f"{original.picture} {label(scale)}"))
        else:
            low = _on_host(downscale(cropped, low_size, self.degradation))
        return _Case(original, scale, decoded, cropped, low)

    def _evaluate(self, case: _Case) -> Outcome:
        """Restore and score one picture at one scale by all models."""
        dataset, picture = case.original.collection.name, case.original.picture
        rows: list[Row] = []
        failures: list[Failure] = []
        restored: dict[str, Pixels] = {}
        makers: dict[str, Callable[[], _Made]] = {
            **{restorer.name: partial(_restore, restorer, case, self.device) for restorer in self.restorers},
            **{folder.name: partial(_take, folder, case) for folder in self.folders},
        }
        for model, make in makers.items():
            try:
                made = make()
                scores = self._score(made.pixels, case)
            except Exception as error:
                if not isinstance(error, GsrError) and not is_out_of_memory(error):
                    raise
                failures.append(Failure.of(error, dataset, picture, case.scale, model))
                continue
            restored[model] = to_eight_bits(made.pixels)
            low_size, size = Size.of(case.low), Size.of(made.pixels)
            rows.append(
                Row(dataset, picture, model, case.scale, low_size, size, scores, made.seconds, made.memory_bytes)
            )
        shot = Shot(dataset, picture, case.scale, _on_host(case.cropped), case.low, restored) if restored else None
        return Outcome(rows, failures, shot)

    def _score(self, restored: Pixels, case: _Case) -> dict[str, float]:
        integers = torch.from_numpy(restored.astype(np.int32)).to(self.device)  # of 16 bits devices know int16 alone
        pictures = from_integers(integers, np.iinfo(restored.dtype).max).permute(2, 0, 1), case.cropped
        where = case.scale, case.original.collection.name
        scores = dict(self.protocol.score(*pictures, *where))
        if self.perceptual:
            scores |= self.perceptual(*self.protocol.compared(*pictures, *where))
        return {name: scores[name] for name in self.metrics}


@dataclass(frozen=True)
class _Original:
    """An original before it is decoded."""

    collection: Collection
    picture: str
    path: Path

    def failed(self, error: GsrError, scale: Scale | None = None, cases: int = 1) -> Outcome:
        return Outcome(failures=[Failure.of(error, self.collection.name, self.picture, scale)], cases=cases)


@dataclass(frozen=True, eq=False)
class _Decoded:
    """An original, ``(H, W, 3)`` uint8, and what is given of it by folder and scale, or why it is not."""

    pixels: Pixels
    given: Mapping[tuple[Folder, Scale], Pixels | GsrError]

    def take(self, folder: Folder, scale: Scale) -> Pixels:
        given = self.given[folder, scale]
        if isinstance(given, GsrError):
            raise given
        return given


@dataclass(frozen=True, eq=False)
class _Case:
    """A picture to restore: the original cropped, uint8 ``(3, H, W)`` on the device, and what it was shrunk to."""

    original: _Original
    scale: Scale
    decoded: _Decoded
    cropped: Tensor
    low: Pixels

    @property
    def size(self) -> Size:
        return Size.of_tensor(self.cropped)


@dataclass(frozen=True, eq=False)
class _Made:
    """A large picture, ``(H, W, 3)`` uint8 or uint16, and what it took to make it."""

    pixels: Pixels
    seconds: float | None = None
    memory_bytes: int | None = None


def _photographed(picture: Tensor, size: Size, name: str) -> Tensor:
    """Shrink uint8 ``(3, H, W)`` with faults that a name decides, on the host, so that it is the same on any device."""
    seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "little")
    low = degrade(picture.cpu()[None] / 255, size, seed)[0]
    return (low * 255).round().byte()


def _restore(restorer: Restorer, case: _Case, device: torch.device) -> _Made:
    """Have a picture restored. What comes back is in the host's memory, so its clock serves for every device.

    Memory is told of what computes on the device: a GPU's and the host's have nothing in common.
    """
    results: list[tuple[Pixels, float]] = []

    def work() -> None:
        began = time.perf_counter()
        pixels = restorer.restore(case.low, case.size)
        results.append((pixels, time.perf_counter() - began))

    memory = peak_memory(work, restorer.device)
    return _Made(*results[0], memory if restorer.device.type == device.type else None)


def _take(folder: Folder, case: _Case) -> _Made:
    """A picture that another program restored.

    Raises:
        PictureError: it is missing, cannot be read, or has another size.
    """
    pixels = case.decoded.take(folder, case.scale)
    _require_size(pixels, case.size, f"{folder.path}: the restored picture of {case.original.path.name}")
    return _Made(pixels)


def _require_size(pixels: Pixels, size: Size, what: str) -> None:
    if Size.of(pixels) != size:
        raise PictureError(f"{what} is {Size.of(pixels)}, and should be {size}")


def _on_host(picture: Tensor) -> Pixels:
    """uint8 ``(3, H, W)`` as ``(H, W, 3)``."""
    pixels: Pixels = picture.permute(1, 2, 0).contiguous().cpu().numpy()
    return pixels


def _ahead(work: Callable[[T], R], items: Iterable[T], pool: ThreadPoolExecutor) -> Iterator[tuple[T, Future[R]]]:
    """Each item, with the work on it begun while items before it are dealt with."""
    begun: deque[tuple[T, Future[R]]] = deque()
    for item in items:
        begun.append((item, pool.submit(work, item)))
        if len(begun) > _AHEAD:
            yield begun.popleft()
    yield from begun
