"""LR picture → tiles → one field of Gaussians → strips of the enlargement.

The network is tiled, the output is not. Each tile is read with a halo, and only Gaussians whose reference positions lie
in the tile's core are kept. Together they are the field of the whole picture, which is rasterized on one grid of
pixels, so there are no seams to blend at any scale. Tiles are computed row by row, and rows of the enlargement are
drawn as soon as no later tile can reach them, so that a row of tiles and a strip of pixels bound the memory, whatever
the picture's height.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

import numpy as np
import torch
from torch import Tensor

from gsrcli.errors import LimitError, ModelError, UsageError, is_out_of_memory
from gsrcli.gaussians import Gaussians
from gsrcli.images import Picture, bleed_alpha, white
from gsrcli.images.picture import Pixels
from gsrcli.models.base import Model
from gsrcli.resize import bicubic
from gsrcli.runtime.devices import autocast, pick_device, pick_precision, precision_name
from gsrcli.runtime.memory import free_memory, memory_hint
from gsrcli.runtime.precision import Precision
from gsrcli.runtime.timing import StageTimer
from gsrcli.size import Size
from gsrcli.upscaling.alpha import AlphaMeaning
from gsrcli.upscaling.budget import SMALLEST_STRIP, attempt, plan, require_memory
from gsrcli.upscaling.flat import restore_flat
from gsrcli.upscaling.target import require_enlargement
from gsrcli.upscaling.tiling import Box, Grid, PaddedPicture, cuts, round_up
from gsrcli.upscaling.transfer import Readback, SideStream
from gsrcli.weights.load import DEFAULT_MODEL, load_model

if TYPE_CHECKING:
    from gsrcli.download.http import Progress

__all__ = ["STAGES", "Upscaler"]

STAGES = ("network", "rasterizer")
"""Timed stages: from tiles to Gaussians, and from Gaussians to pixels, including the bicubic base."""

_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Upscaler:
    """Enlarges pictures with one model.

    Attributes:
        model: the model, on the device to compute on.
        dtype: arithmetic of the network. A tile whose result is not finite is computed again in float32.
        tile: side of the tiles' cores, in LR pixels; None for DEFAULT_TILE, or less if memory is scarce.
        memory: bytes of the computer's memory that the whole process may use; None for what is free.
    """

    model: Model
    dtype: torch.dtype = torch.float32
    tile: int | None = None
    memory: int | None = None

    def __post_init__(self) -> None:
        if self.tile is not None and self.tile < 1:
            raise UsageError(f"invalid tile {self.tile}: use at least 1 pixel")
        if self.memory is not None and self.memory < 1:
            raise UsageError(f"invalid memory {self.memory}: use at least 1 byte")

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] | Model = DEFAULT_MODEL,
        device: str | torch.device = "auto",
        precision: Precision = "auto",
        tile: int | None = None,
        report: Progress | None = None,
        memory: int | None = None,
    ) -> Upscaler:
        """Load a model and choose its arithmetic by the model and the device.

        Args:
            model: a name that ``gsr weights list`` shows, the path of a checkpoint, or a model, which stays on its own
                device.
            device: auto, cpu, cuda, cuda:1 or mps.
            precision: arithmetic of the network; auto is bfloat16 if the hardware and the model support it, else
                float32.
            tile: side of the network's tiles, in LR pixels; None chooses by the free memory.
            report: see :func:`gsrcli.weights.load.load_model`.
            memory: bytes of the computer's memory that the whole process may use; None for what is free.

        Raises:
            ModelError: the model is unknown, or its weights are missing, damaged or do not fit.
            DownloadError: the weights cannot be downloaded.
            UsageError: the device, the precision, the tile or the memory is invalid.
        """
        if not isinstance(model, Model):
            where = pick_device(device) if isinstance(device, str) else device
            model = load_model(model, where, report)
        return cls(model, pick_precision(model.device, precision, model.traits.precision), tile, memory)

    @property
    def device(self) -> torch.device:
        """The device to compute on."""
        return self.model.device

    @property
    def precision(self) -> str:
        """Name of the network's arithmetic, such as bfloat16."""
        return precision_name(self.dtype)

    def enlarge(
        self,
        picture: Picture,
        size: Size,
        advance: Callable[[int], object] = lambda pixels: None,
        seconds: StageTimer | None = None,
        alpha: AlphaMeaning = "transparency",
    ) -> Picture:
        """Enlarge a picture, keeping its metadata.

        Args:
            picture: any :class:`Picture`; grey stays grey, its type is kept, alpha is enlarged like colour.
            size: output size, neither side shorter than the picture's.
            advance: called with the number of LR pixels just done; they add up to :meth:`work`.
            seconds: accumulates the time by STAGES.
            alpha: what alpha is. Colours under full transparency are replaced, so that they do not show at the visible
                edge; under data, they are enlarged as they are.

        Raises:
            UsageError: a side would become shorter, or ``alpha`` is unknown.
            LimitError: there is too little memory.
            ModelError: the network's result is not finite even in float32.
        """
        if alpha not in get_args(AlphaMeaning):
            raise UsageError(f"invalid alpha {alpha!r}: use transparency or data")
        require_enlargement(picture.size, size)
        require_memory(picture, size, self.memory)
        seconds = seconds or StageTimer(STAGES)

        def enlarge_plane(pixels: Pixels) -> Pixels:
            return _Enlargement(self, PaddedPicture(pixels, self.model), size, advance, seconds).pixels()

        try:
            return _enlarge_planes(picture, size, enlarge_plane, alpha)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise LimitError(f"memory ran out for an output of {size} pixels", hint="try a smaller --tile") from error

    @staticmethod
    def work(picture: Picture) -> int:
        """Return the number of LR pixels to process, alpha included, for progress bars."""
        return picture.size.area * (1 if picture.opaque else 2)


def _enlarge_planes(
    picture: Picture, size: Size, enlarge: Callable[[Pixels], Pixels], meaning: AlphaMeaning
) -> Picture:
    """Enlarge the colour of a picture, and its alpha unless it is opaque."""
    picture = replace(picture, alpha_is_data=meaning == "data")
    if picture.alpha is None:
        return picture.enlarged(enlarge(picture.pixels))
    if picture.opaque:
        alpha = np.full(size, white(picture.alpha.dtype), picture.alpha.dtype)
        return picture.enlarged(enlarge(picture.pixels), alpha)
    colour = bleed_alpha(picture.pixels, picture.alpha) if not picture.alpha_is_data else picture.pixels
    return picture.enlarged(enlarge(colour), enlarge(picture.alpha[..., None])[..., 0])


class _Enlargement:
    """The enlargement of one plane: ``(h, w, 1 or 3)`` to ``(*size, 1 or 3)`` of the same type.

    Args:
        upscaler: the model with its settings.
        low: the LR picture.
        size: size of the enlargement.
        advance: called with the number of LR pixels just done.
        seconds: accumulates the time by STAGES.
    """

    def __init__(
        self,
        upscaler: Upscaler,
        low: PaddedPicture,
        size: Size,
        advance: Callable[[int], object],
        seconds: StageTimer,
    ) -> None:
        self._model, self._dtype, self._low, self._size = upscaler.model, upscaler.dtype, low, size
        self._memory = upscaler.memory
        self._advance, self._seconds = advance, seconds
        self._scale = size.scale_from(low.size)
        traits = upscaler.model.traits
        self._halo = round_up(traits.halo, traits.multiple)
        tile, self._rows = plan(low.padded, size, traits, self._halo, free_memory(upscaler.device, upscaler.memory))
        self._tile = upscaler.tile or tile
        self._too_large = math.inf  # LR pixels in the smallest core for which memory ran out

    @torch.inference_mode()
    def pixels(self) -> Pixels:
        """Compute the enlargement."""
        low = self._low.pixels
        enlarged = np.empty((*self._size, low.shape[2]), low.dtype)
        readback = Readback(enlarged, SideStream.of(self._model.device))
        for begin, strip in self._strips():
            readback.send(begin, strip)
        readback.finish()
        return enlarged

    def _strips(self) -> Iterator[tuple[int, Tensor]]:
        """Yield strips of the enlargement from top to bottom: the index of the first row, and :meth:`_draw`'s rows."""
        low, (scale, _) = self._low, self._scale
        multiple, reach = self._model.traits.multiple, self._model.traits.reach
        columns = cuts(low.padded.width, self._tile, multiple)
        tail: list[Gaussians] = []  # those of the tiles above that reach rows yet to be drawn
        drawn = 0
        for top, bottom in cuts(low.padded.height, self._tile, multiple):
            row = [self._field(Box(top, bottom, left, right)) for left, right in columns]
            gaussians = Gaussians.cat([*tail, *row])
            del row
            # Rows that no tile below can reach are ready; once the picture is covered, all rows are.
            covered = bottom - reach >= low.size.height or bottom == low.padded.height
            ready = self._size.height if covered else math.floor(max(drawn, (bottom - reach) * scale - 0.5))
            # Select before drawing, because the host waits for the device to count the selected.
            left_over = (gaussians.centre[0, :, 1] + reach >= ready / scale).nonzero()[:, 0]
            tail = [gaussians.select(left_over)]
            while drawn < ready:
                end = min(drawn + self._rows, ready)
                strip = attempt(self._draw, gaussians, (drawn, end))
                if strip is None:
                    self._rows = self._fewer_rows(end - drawn)
                    continue
                yield drawn, strip
                drawn = end
            del gaussians

    def _draw(self, gaussians: Gaussians, rows: tuple[int, int]) -> Tensor:
        """Draw rows [first, last) as ``(rows, width, 1 or 3)``, as bits in the sense of `gsrcli.upscaling.transfer`."""
        model, low = self._model, self._low
        with self._seconds.of("rasterizer", model.device):
            with autocast(model.device, self._dtype):
                strip = model.draw(gaussians, low.size, self._size, rows)
            if model.traits.base == "bicubic":
                top, bottom = bicubic.rows_needed(low.size.height, self._size.height, rows)
                base = low.window(Box(top, bottom, 0, low.size.width))
                strip += bicubic.resize_rows(base, self._size, rows, top, low.size.height)
            values = strip[0].permute(1, 2, 0)
            if low.pixels.shape[2] == 1:
                values = values @ _vector(_LUMA, values)[:, None]
            return restore_flat(low.quantize(values), low.pixels, self._size, rows)

    def _fewer_rows(self, rows: int) -> int:
        """Return the number of rows to try after memory ran out for a strip of ``rows``."""
        if rows > SMALLEST_STRIP:
            return max(SMALLEST_STRIP, rows // 2)
        hint = f"try a smaller --tile, or {memory_hint(self._model.device, self._memory)}"
        raise LimitError("there is too little memory to draw the smallest strip", hint=hint)

    def _field(self, core: Box) -> Gaussians:
        """Compute the Gaussians of a tile's core, a box in the padded picture.

        If memory runs out, this tile and later ones are computed in four parts, recursively down to a smallest size.
        """
        parts = core.quarters(self._model.traits.multiple)
        known_too_large = parts is not None and core.size.area >= self._too_large
        gaussians = None if known_too_large else attempt(self._predict, core)
        if gaussians is not None:
            self._advance(core.within(self._low.size).size.area)
            return gaussians
        self._too_large = min(self._too_large, core.size.area)
        if parts is None:
            hint = memory_hint(self._model.device, self._memory)
            raise LimitError("there is too little memory for the smallest tile", hint=hint)
        return Gaussians.cat([self._field(part) for part in parts])

    def _predict(self, core: Box) -> Gaussians:
        window = core.grown(self._halo).within(self._low.padded)
        with self._seconds.of("network", self._model.device):
            image = self._low.window(window)
            gaussians = self._infer(image, _vector(self._scale, image)[None])
            kept = Grid(gaussians, window.size.width, self._model.traits.density).crop(core.seen_from(window))
        return kept.shift(window.left, window.top)

    def _infer(self, image: Tensor, scale: Tensor) -> Gaussians:
        for dtype in dict.fromkeys((self._dtype, torch.float32)):
            with autocast(image.device, dtype):
                gaussians = self._model(image, scale)
            if gaussians.is_finite():
                return gaussians
        raise ModelError("the network's output is not finite: its weights may be damaged")


def _vector(numbers: Sequence[float], like: Tensor) -> Tensor:
    """Put a few numbers on a tensor's device by filling: a copy from the host would wait for the device."""
    return torch.stack([like.new_full((), number) for number in numbers])
