"""The plan of a benchmark: pictures, sizes and models, as in the GSASR paper's comparison of costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gsrcli.errors import ModelError, UsageError, nearest
from gsrcli.images import read_picture, to_unit
from gsrcli.models import MODEL_NAMES, Model, build
from gsrcli.resize import bicubic
from gsrcli.runtime.devices import channels_last
from gsrcli.runtime.precision import Precision
from gsrcli.size import Size
from gsrcli.upscaling.upscaler import Upscaler
from gsrcli.weights.catalog import model_weights
from gsrcli.weights.store import Store

if TYPE_CHECKING:
    from gsrcli.benchmark.ceilings import Ceilings

__all__ = ["PAPER_A100", "SIDE", "Case", "Setting", "Subject", "Workload", "parse_scales", "synthetic_picture"]

SIDE = 720

PAPER_A100 = {
    2.0: (1573, 13367),
    3.0: (806, 6000),
    4.0: (543, 3420),
    6.0: (265, 1578),
    8.0: (195, 1051),
    12.0: (91, 472),
}
"""Milliseconds and MB of GSASR with EDSR to 720x720 on one A100, by scale (arXiv:2501.06838, table 3)."""


Workload = Literal["pipeline", "rasterizer"]
"""Models from LR picture to enlargement, or rasterizers alone."""


@dataclass(frozen=True)
class Setting:
    """What to time, and how.

    Attributes:
        workload: models from LR picture to enlargement, or rasterizers alone.
        device: device to time on.
        precision: precision of the networks; "auto" suits it to each model and the device.
        repeats: repetitions of each measurement.
        side: side of the square output, in pixels.
        picture: picture to enlarge, of any size, or None for a synthetic one.
        ceilings: best rates of the device.
    """

    workload: Workload
    device: torch.device
    precision: Precision
    repeats: int
    side: int
    picture: Path | None
    ceilings: Ceilings


@dataclass(frozen=True)
class Subject:
    """A model to time, with the upscaler that runs it, and whether its weights are trained or random."""

    name: str
    upscaler: Upscaler
    weights: Literal["trained", "random"]

    @property
    def model(self) -> Model:
        return self.upscaler.model

    @property
    def dtype(self) -> torch.dtype:
        """The network's dtype, the same as in ``gsr upscale``."""
        return self.upscaler.dtype

    @staticmethod
    def check(name: str) -> None:
        """Check that a name is that of weights or of a model, or the path of a checkpoint.

        Raises:
            ModelError: the name is unknown.
        """
        known = dict.fromkeys((*Store().model_names(), *MODEL_NAMES))
        if name not in known and not Path(name).is_file():
            hint = f"try {nearest(name, known)}, or the path of a checkpoint"
            raise ModelError(f"there is no model called {name!r}", hint=hint)

    @staticmethod
    def load(name: str, device: torch.device, precision: Precision = "auto") -> Subject:
        """Load a model by name or path, with random weights if its trained ones are not on this machine.

        Raises:
            ModelError: the model is unknown, or its weights are damaged.
        """
        Subject.check(name)
        store = Store()
        if store.entry(name).is_present if name in store.model_names() else name not in MODEL_NAMES:
            return Subject(Path(name).name, Upscaler.load(name, device, precision), "trained")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            listed = model_weights()
            model = build(listed[name].model if name in listed else name)
        model = channels_last(model.to(device)).eval().requires_grad_(False)
        return Subject(name, Upscaler.load(model, precision=precision), "random")


def parse_scales(text: str, side: int) -> tuple[float, ...]:
    """Parse a list of scales such as "2,3,4.5".

    Raises:
        UsageError: a scale is not a number from 1 up, or so large that nothing is left to enlarge.
    """
    scales = []
    for entry in text.split(","):
        try:
            scale = float(entry)
        except ValueError:
            raise UsageError(f"invalid scale {entry.strip()!r}", hint="write numbers like --scales 2,3,4.5") from None
        if not 1 <= scale < math.inf:
            raise UsageError(f"invalid scale {scale:g}: use a number from 1 up")
        if round(side / scale) < 1:
            raise UsageError(f"scale {scale:g} is too large for a side of {side} pixels", hint="try a larger --side")
        scales.append(scale)
    return tuple(scales)


@dataclass(frozen=True)
class Case:
    """A picture to enlarge, on the device.

    Attributes:
        scale: requested scale.
        image: ``(1, 3, h, h)`` in [0, 1], where h is side / scale, rounded.
        padded: the image, padded to the model's multiple.
        size: size of the output.
    """

    scale: float
    image: Tensor
    padded: Tensor
    size: Size

    @staticmethod
    def of(scale: float, setting: Setting, multiple: int) -> Case:
        """Make the LR picture whose enlargement is a square of ``setting.side`` pixels.

        Raises:
            PictureError: the picture cannot be read.
        """
        low = round(setting.side / scale)
        image = synthetic_picture(low) if setting.picture is None else _downscaled(setting.picture, low)
        image = image.to(setting.device)
        more = -low % multiple
        padded = F.pad(image, (0, more, 0, more), mode="reflect" if more < low else "replicate")
        padded = padded.contiguous(memory_format=torch.channels_last)
        return Case(scale, image, padded, Size(setting.side, setting.side))

    @property
    def ratio(self) -> tuple[float, float]:
        """Output pixels per LR pixel, along y and x."""
        return self.size.scale_from(Size.of_tensor(self.image))


def _downscaled(path: Path, side: int) -> Tensor:
    """Return the middle square of a picture, downscaled to ``(1, 3, side, side)``."""
    pixels = torch.from_numpy(to_unit(read_picture(path).pixels)).permute(2, 0, 1)[None]
    height, width = pixels.shape[2:]
    square = min(height, width)
    top, left = (height - square) // 2, (width - square) // 2
    pixels = pixels[:, :, top : top + square, left : left + square].expand(-1, 3, -1, -1)
    return bicubic.resize(pixels, Size(side, side)).clamp(0, 1)


def synthetic_picture(side: int) -> Tensor:
    """Draw gratings at several angles, edges, and speckle like print: ``(1, 3, side, side)`` in [0, 1]."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    grey = np.full((side, side), 0.5)
    for angle, cycles in zip(np.arange(8) * np.pi / 8, np.geomspace(3, side / 3, 8), strict=True):
        grey += 0.06 * np.sin(2 * np.pi * cycles * (x * np.cos(angle) + y * np.sin(angle)))
    grey += 0.2 * (x + 0.37 * y > 0.6) - 0.15 * (np.hypot(x - 0.3, y - 0.6) < 0.2)
    grey[side // 8 : side // 4] *= np.where(random.random((side // 4 - side // 8, side)) < 0.3, 0.1, 1.2)
    tint = 0.8 + 0.2 * np.stack((x, y, 1 - x))
    return torch.from_numpy((grey * tint).clip(0, 1)).float()[None]
