"""Methods that restore LR pictures: networks, and interpolation to compare them with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from gsrcli.images import Picture
from gsrcli.images.picture import Pixels, from_unit
from gsrcli.runtime.precision import Precision
from gsrcli.size import Size
from gsrcli.upscaling.upscaler import Upscaler

if TYPE_CHECKING:
    from gsrcli.download.http import Progress

__all__ = ["INTERPOLATIONS", "Interpolation", "Network", "Restorer", "load"]

INTERPOLATIONS = {
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}
"""Interpolation methods, computed by Pillow on the CPU."""


class Restorer(Protocol):
    """A method that restores LR pictures."""

    @property
    def name(self) -> str:
        """Name in tables."""

    @property
    def device(self) -> torch.device:
        """Device on which it computes."""

    def restore(self, low: Pixels, size: Size) -> Pixels:
        """Upscale ``(h, w, 3)`` uint8 to ``(*size, 3)`` uint8, or uint16 over its whole range."""


@dataclass(frozen=True)
class Interpolation:
    """One of INTERPOLATIONS.

    Attributes:
        name: its key in INTERPOLATIONS.
        rounded: whether to return Pillow's 8-bit result, rather than 16 bits computed in float32.
    """

    name: str
    rounded: bool

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def restore(self, low: Pixels, size: Size) -> Pixels:
        if self.rounded:
            return self._resize(low, size)
        planes = [self._resize(plane, size) for plane in np.moveaxis(low.astype(np.float32), 2, 0)]
        return from_unit(np.stack(planes, 2) / np.float32(255), np.uint16)

    def _resize(self, pixels: NDArray[Any], size: Size) -> NDArray[Any]:
        """Resize ``(h, w, 3)`` uint8 or ``(h, w)`` float32, keeping the type."""
        return np.array(Image.fromarray(pixels).resize(size.for_pillow, INTERPOLATIONS[self.name]))


@dataclass(frozen=True)
class Network:
    """A network.

    Attributes:
        name: name in tables.
        upscaler: runs the network in tiles.
        rounded: whether to return the 8-bit result of ``gsr upscale``, rather than 16 bits.
        ensemble: whether to return the mean over the eight symmetries of the square, each undone again (geometric
            self-ensemble: Timofte, Rothe and Van Gool, CVPR 2016, section 3.5), in 16 bits.
    """

    name: str
    upscaler: Upscaler
    rounded: bool
    ensemble: bool = False

    @property
    def device(self) -> torch.device:
        return self.upscaler.device

    def restore(self, low: Pixels, size: Size) -> Pixels:
        if self.ensemble:
            return self._mean(low, size)
        return self._enlarge(low if self.rounded else _in_sixteen_bits(low), size)

    def _mean(self, low: Pixels, size: Size) -> Pixels:
        total = np.zeros((*size, 3), np.uint32)
        deep = _in_sixteen_bits(low)
        for turns in range(4):
            for flipped in (False, True):
                turned = np.rot90(deep[:, ::-1] if flipped else deep, turns)
                restored = self._enlarge(turned, size if turns % 2 == 0 else size.transposed)
                upright = np.rot90(restored, -turns)
                total += upright[:, ::-1] if flipped else upright
        return ((total + 4) // 8).astype(np.uint16)

    def _enlarge(self, pixels: Pixels, size: Size) -> Pixels:
        return self.upscaler.enlarge(Picture(np.ascontiguousarray(pixels)), size).pixels


def load(
    names: Sequence[str],
    device: torch.device,
    precision: Precision = "auto",
    tile: int | None = None,
    rounded: bool = True,
    ensemble: bool = False,
    report: Progress | None = None,
    memory: int | None = None,
) -> list[Restorer]:
    """Load interpolations and networks, without repetitions.

    Args:
        names: interpolations, names of weights, or paths of checkpoints, also as ``NAME=PATH``.
        device: where networks run.
        precision: arithmetic of the networks.
        tile: side of the networks' tiles, in LR pixels; None for what memory allows.
        rounded: whether to return 8 bits rather than 16.
        ensemble: whether to average networks over eight symmetries.
        report: is called with the progress of downloads.
        memory: bytes of the computer's memory that the whole process may use; None for what is free.

    Raises:
        ModelError: there is no such model, or its weights are damaged.
        DownloadError: its weights cannot be downloaded.
        UsageError: the precision, tile or memory is invalid.
    """
    restorers: list[Restorer] = []
    for name in dict.fromkeys(names):
        if name in INTERPOLATIONS:
            restorers.append(Interpolation(name, rounded))
            continue
        label, path = _labelled(name)
        upscaler = Upscaler.load(path, device, precision, tile, report, memory)
        restorers.append(Network(f"{label}+" if ensemble else label, upscaler, rounded, ensemble))
    return restorers


def _labelled(name: str) -> tuple[str, str]:
    """Return the name of a model in tables, and its own name or path."""
    if Path(name).is_file():
        return Path(name).stem, name
    label, equals, path = name.partition("=")
    return (label, path) if equals else (name, name)


def _in_sixteen_bits(pixels: Pixels) -> Pixels:
    """Convert uint8 to the same values in uint16, so that results are rounded 257 times as finely."""
    deep: Pixels = pixels.astype(np.uint16) * 257
    return deep
