"""Score models: downscale originals, restore and compare them, case by case.

Threads read ahead the originals, and the pictures that are given rather than computed. Each original is read once, and
downscaled once for each scale, whatever the number of models.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gsrcli.degradation.photo import degrade
from gsrcli.errors import GsrError, PictureError, UsageError, is_out_of_memory
from gsrcli.evaluation.cases import Case, CaseResults, Result, ScoreFailure
from gsrcli.evaluation.config import Degradation
from gsrcli.evaluation.datasets import Collection
from gsrcli.evaluation.methods import Restorer
from gsrcli.evaluation.protocols import Protocol
from gsrcli.evaluation.scales import Scale, label
from gsrcli.evaluation.versions import Folder, read_rgb
from gsrcli.images import to_eight_bits
from gsrcli.images.picture import Pixels
from gsrcli.metrics.perceptual import Compare
from gsrcli.metrics.psnr_ssim import from_integers
from gsrcli.resize.downscale import downscale
from gsrcli.runtime.memory import peak_memory
from gsrcli.runtime.seeds import seed_of
from gsrcli.size import Size

__all__ = ["Evaluation"]

_AHEAD = 2
"""Number of threads that read pictures, and of pictures that wait to be scored."""

_Restored = tuple[Pixels, float | None, int | None]
"""A restored picture, ``(H, W, 3)`` uint8 or uint16, and the seconds and bytes that it took."""


@dataclass(frozen=True)
class Evaluation:
    """Models to score, and the way to score them.

    Attributes:
        protocol: sizes, channels, border and rounding.
        degradation: how LR pictures are made.
        scales: upscaling factors.
        restorers: models and interpolations to score.
        folders: pictures restored by other programs, to score as well.
        lows: LR pictures to use instead of making them.
        metrics: names of the scores: ``psnr`` and ``ssim``, as the protocol defines them, and those of ``perceptual``.
        perceptual: perceptual metrics, applied within the protocol's border.
        device: where scores are computed.

    Raises:
        UsageError: two models or folders have the same name, or one has a name that no folder can have.
    """

    protocol: Protocol
    degradation: Degradation
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
                raise UsageError(f"{count} models or folders are called {name!r}", hint="name them: NAME=PATH")
            if name in ("", ".", "..") or "/" in name or "\\" in name:
                raise UsageError(f"invalid name {name!r} of a model or folder", hint="give another name: NAME=PATH")

    @property
    def models(self) -> list[str]:
        """The names of all models and folders."""
        return [*(restorer.name for restorer in self.restorers), *(folder.name for folder in self.folders)]

    def rounded(self, model: str) -> bool:
        """Return whether a model's pictures have 8 bits: by the protocol, or because they come from a folder."""
        return self.protocol.rounded or any(folder.name == model for folder in self.folders)

    def run(self, collections: Sequence[Collection]) -> Iterator[CaseResults]:
        """Yield the results of each picture at each scale, in order. Failures are among them and stop nothing.

        Raises:
            UsageError: two datasets have the same name.
            ModelError: the output of a model is not finite.
        """
        for name, count in Counter(collection.name for collection in collections).items():
            if count > 1:
                raise UsageError(f"{count} datasets are called {name!r}", hint="score them one after the other")
        for restorer in self.restorers:  # keeps one-time work out of the timings
            restorer.restore(np.zeros((48, 48, 3), np.uint8), Size(96, 96))
        with ThreadPoolExecutor(_AHEAD, "decode") as pool:
            for files in self._read_ahead(collections, pool):
                yield from self._run_picture(files)

    def _read_ahead(self, collections: Sequence[Collection], pool: ThreadPoolExecutor) -> Iterator[_Files]:
        """Yield the files of each picture, with the next ones being read meanwhile."""
        begun: deque[_Files] = deque()
        folders = [*self.folders, *([self.lows] if self.lows else [])]
        for collection in collections:
            for picture, path in collection.pictures.items():
                original = pool.submit(read_rgb, path)
                given = {
                    (folder, scale): pool.submit(folder.read, path, collection.names, scale)
                    for folder in folders
                    for scale in self.scales
                }
                begun.append(_Files(collection.name, picture, path, original, given))
                if len(begun) > _AHEAD:
                    yield begun.popleft()
        yield from begun

    def _run_picture(self, files: _Files) -> Iterator[CaseResults]:
        """Yield the results of one picture at each scale."""
        try:
            original = files.original.result()
        except GsrError as error:
            failure = ScoreFailure.of(error, files.dataset, files.picture)
            yield CaseResults(failures=[failure], count=len(self.scales))
            return
        for scale in self.scales:
            try:
                case = self._case(files, original, scale)
            except GsrError as error:
                yield CaseResults(failures=[ScoreFailure.of(error, files.dataset, files.picture, scale)])
            else:
                yield self._run_case(case, files)

    def _case(self, files: _Files, original: Pixels, scale: Scale) -> Case:
        """Crop an original ``(H, W, 3)`` and make or take its LR picture.

        Raises:
            PictureError: the original is too small for the scale, or the given LR picture is missing or does not fit.
        """
        low_size = self.protocol.low_size(Size.of(original), scale)
        size = self.protocol.high_size(low_size, scale)
        cropped = original[: size.height, : size.width]
        if self.lows:
            low = files.given[self.lows, scale].result()
            _require_size(low, low_size, f"{self.lows.path}: the LR picture of {files.path.name}")
        else:
            low = _downscale(cropped, low_size, self.degradation, seed_of(files.picture, label(scale)))
        return Case(files.dataset, files.picture, scale, cropped, low)

    def _run_case(self, case: Case, files: _Files) -> CaseResults:
        """Restore and score one case by all models."""
        original = torch.from_numpy(case.original).permute(2, 0, 1).to(self.device)
        methods: dict[str, Callable[[], _Restored]] = {
            **{restorer.name: partial(_restore, restorer, case, self.device) for restorer in self.restorers},
            **{folder.name: partial(_take, folder, case, files) for folder in self.folders},
        }
        results: list[Result] = []
        failures: list[ScoreFailure] = []
        where = case.dataset, case.picture
        for model, restore in methods.items():
            try:
                pixels, seconds, memory = restore()
                scores = self._score(pixels, original, case)
            except Exception as error:
                if not isinstance(error, GsrError) and not is_out_of_memory(error):
                    raise
                failures.append(ScoreFailure.of(error, *where, case.scale, model))
                continue
            case.restored[model] = to_eight_bits(pixels)
            low_size = Size.of(case.low)
            results.append(Result(*where, model, case.scale, low_size, case.size, scores, seconds, memory))
        return CaseResults(results, failures, case if case.restored else None)

    def _score(self, restored: Pixels, original: Tensor, case: Case) -> dict[str, float]:
        """Compare ``(H, W, 3)`` uint8 or uint16 with uint8 ``(3, H, W)`` on the device; return scores by metric."""
        integers = torch.from_numpy(restored.astype(np.int32)).to(self.device)  # devices lack uint16
        pictures = from_integers(integers, np.iinfo(restored.dtype).max).permute(2, 0, 1), original
        scores = dict(self.protocol.score(*pictures, case.scale, case.dataset))
        if self.perceptual:
            scores |= self.perceptual(*self.protocol.compared(*pictures, case.scale, case.dataset))
        return {name: scores[name] for name in self.metrics}


@dataclass(frozen=True, eq=False)
class _Files:
    """The files of a picture, as threads read them: the original at a path, and what folders hold for each scale."""

    dataset: str
    picture: str
    path: Path
    original: Future[Pixels]
    given: Mapping[tuple[Folder, Scale], Future[Pixels]]


def _downscale(picture: Pixels, size: Size, degradation: Degradation, seed: int) -> Pixels:
    """Make the LR picture of ``(H, W, 3)`` uint8 on the host, so that it is the same whatever the device."""
    planes = torch.from_numpy(picture).permute(2, 0, 1)
    if degradation == "photo":
        low = (degrade(planes[None] / 255, size, seed)[0] * 255).round().byte()
    else:
        low = downscale(planes, size, degradation)
    pixels: Pixels = low.permute(1, 2, 0).contiguous().numpy()
    return pixels


def _restore(restorer: Restorer, case: Case, device: torch.device) -> _Restored:
    """Restore a picture. The result is in the host's memory, so the host's clock serves for every device.

    Memory is only measured for what runs on the device: a GPU's memory and the host's cannot be compared.
    """
    results: list[tuple[Pixels, float]] = []

    def work() -> None:
        began = time.perf_counter()
        pixels = restorer.restore(case.low, case.size)
        results.append((pixels, time.perf_counter() - began))

    memory = peak_memory(work, restorer.device)
    return *results[0], memory if restorer.device.type == device.type else None


def _take(folder: Folder, case: Case, files: _Files) -> _Restored:
    """Return a picture that another program restored.

    Raises:
        PictureError: it is missing, cannot be read, or has another size.
    """
    pixels = files.given[folder, case.scale].result()
    _require_size(pixels, case.size, f"{folder.path}: the restored picture of {files.path.name}")
    return pixels, None, None


def _require_size(pixels: Pixels, size: Size, what: str) -> None:
    if Size.of(pixels) != size:
        raise PictureError(f"{what} is {Size.of(pixels)}, but should be {size}")
