"""Strips of the LR picture → tiles → one field of Gaussians → strips of the enlargement.

The network is tiled, the output is not. Each tile is read with a halo, and only Gaussians whose reference positions lie
in the tile's core are kept. Together they are the field of the whole picture, which is rasterized on one grid of
pixels, so there are no seams to blend at any scale.

Nothing is ever whole. Rows of the LR picture are read as tiles need them, pixels are drawn as soon as no later tile can
reach them, Gaussians are kept until then, and a row of tiles makes a strip of the enlargement, or several, which can be
written before the next one is computed. So the memory is bounded, whatever the picture's size.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
from torch import Tensor

from gsrcli.errors import LimitError, ModelError, UsageError, is_out_of_memory
from gsrcli.gaussians import Gaussians
from gsrcli.images import Picture, white
from gsrcli.images.description import Description
from gsrcli.images.picture import Pixels
from gsrcli.images.strips import Strip, Strips, in_strips
from gsrcli.models.base import Model
from gsrcli.resize import bicubic
from gsrcli.runtime.devices import autocast, pick_device, pick_precision, precision_name
from gsrcli.runtime.memory import free_memory, memory_apart, memory_hint, return_freed_memory
from gsrcli.runtime.precision import Precision
from gsrcli.runtime.timing import StageTimer
from gsrcli.size import Box, Size
from gsrcli.upscaling.alpha import AlphaMeaning
from gsrcli.upscaling.budget import SMALLEST_PART, Plan, attempt, least_memory, plan, require_memory
from gsrcli.upscaling.flat import restore_flat
from gsrcli.upscaling.rows import Rows, bled
from gsrcli.upscaling.stretch import Stretch
from gsrcli.upscaling.target import require_enlargement
from gsrcli.upscaling.tiling import Field, Plane, cuts, padded, quarters, round_up, surroundings
from gsrcli.upscaling.transfer import Readback, SideStream
from gsrcli.weights.load import DEFAULT_MODEL, load_model

if TYPE_CHECKING:
    from gsrcli.download.http import Progress

__all__ = ["STAGES", "Upscaler"]

STAGES = ("network", "rasterizer")
"""Timed stages: from tiles to Gaussians, and from Gaussians to pixels, including the bicubic base."""

_LUMA = (0.299, 0.587, 0.114)
_LEAST_WINDOW = 1024
"""LR pixels of the network's windows, if the picture has as many: torch adds up convolutions of fewer than about 400 in
another order, so that the last bits of the output would depend on the tiles."""
_INTERPOLATION_REACH = 6  # LR rows above those not yet drawn, with half a pixel of rounding


@dataclass(frozen=True)
class Upscaler:
    """Enlarges pictures with one model.

    Attributes:
        model: the model, on the device to compute on.
        dtype: arithmetic of the network. A tile whose result is not finite is computed again in float32.
        tile: side of the tiles' cores, in LR pixels, longer at the picture's edges by the halo that they do not need
            there; None for DEFAULT_TILE, or less if memory is scarce.
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
            tile: side of the network's tiles, in LR pixels; None chooses by the model and the free memory.
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
        """Enlarge a picture in memory; see :meth:`stream`.

        Raises:
            LimitError: there is too little memory for all of the enlargement.
        """
        require_enlargement(picture.size, size)
        require_memory(size.area * picture.bytes_per_pixel, f"an output of {size} pixels", self.memory)
        return self.stream(picture, size, advance, seconds, alpha).picture()

    def stream(
        self,
        picture: Description,
        size: Size,
        advance: Callable[[int], object] = lambda pixels: None,
        seconds: StageTimer | None = None,
        alpha: AlphaMeaning = "transparency",
    ) -> Strips:
        """Enlarge a picture, keeping its metadata, while the strips of the enlargement are asked for.

        The strips of the picture are asked for as they are needed, and its rows are forgotten when they are not needed
        any more.

        Args:
            picture: any picture; grey stays grey, its type is kept, alpha is enlarged like colour.
            size: output size, neither side shorter than the picture's.
            advance: called with the number of LR pixels just done; they add up to :meth:`work`.
            seconds: accumulates the time by STAGES.
            alpha: what alpha is. Colours under full transparency are replaced, so that they do not show at the visible
                edge; under data, they are enlarged as they are.

        Raises:
            UsageError: a side would become shorter, or ``alpha`` is unknown.
            LimitError: there is too little memory. This, and what follows, is raised by asking for strips.
            ModelError: the network's result is not finite even in float32.
        """
        if alpha not in get_args(AlphaMeaning):
            raise UsageError(f"invalid alpha {alpha!r}: use transparency or data")
        require_enlargement(picture.size, size)
        least = least_memory(picture.size, size, self.model.traits, picture.bytes_per_pixel)
        require_memory(least, f"an output of {size} pixels", self.memory)
        low = replace(in_strips(picture), alpha_is_data=alpha == "data")
        seconds = seconds or StageTimer(STAGES)

        def source() -> Iterator[Strip]:
            try:
                yield from _enlarged(self, low, size, advance, seconds)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                hint = "try a smaller --tile"
                raise LimitError(f"memory ran out for an output of {size} pixels", hint=hint) from error

        described = {**low.described(), "metadata": low.metadata_enlarged(size)}
        return Strips(low.raster._replace(size=size), source, low.opaque, **described)

    @staticmethod
    def work(picture: Description) -> int:
        """Return the number of LR pixels to process, alpha included, for progress bars."""
        return picture.size.area * (1 if picture.opaque else 2)


@torch.inference_mode()
def _enlarged(
    upscaler: Upscaler, low: Strips, size: Size, advance: Callable[[int], object], seconds: StageTimer
) -> Iterator[Strip]:
    """Yield the strips of an enlargement: its colour, and its alpha unless it is opaque, go through side by side."""
    if not low.opaque and not low.alpha_is_data:
        low = bled(low)
    rows, chosen = Rows(low), _planned(upscaler, low, size)

    def enlargement(*, alpha: bool) -> _Enlargement:
        plane = Plane(rows, low.raster, upscaler.model, _stretch(low, alpha=alpha), alpha=alpha)
        return _Enlargement(upscaler, plane, size, chosen, advance, seconds)

    colour = enlargement(alpha=False)
    planes = [colour] if low.opaque else [colour, enlargement(alpha=True)]
    for pixels, *alpha in zip(*(plane.bands() for plane in planes), strict=True):
        full = np.full(pixels.shape[:2], white(pixels.dtype), pixels.dtype) if low.raster.alpha and not alpha else None
        yield Strip(pixels, alpha[0][..., 0] if alpha else full)
        rows.forget(colour.done_with)
        return_freed_memory()  # which is in pieces by now, so that the next tiles would need more


def _planned(upscaler: Upscaler, low: Strips, size: Size) -> Plan:
    """Choose how to cut an enlargement.

    Only on a CPU do tiles follow the free memory: there the same model gives the same bits for any tile, unless its
    traits name one.
    """
    traits = upscaler.model.traits
    free = math.inf if upscaler.device.type != "cpu" else free_memory(upscaler.device, upscaler.memory)
    if not low.opaque:
        free /= 2  # colour and alpha are enlarged side by side
    chosen = plan(padded(low.size, traits.multiple), size, traits, _halo(upscaler.model), low.bytes_per_pixel, free)
    tile = upscaler.tile or traits.tile
    return chosen._replace(tile=Size(tile, tile)) if tile else chosen


def _halo(model: Model) -> int:
    """Return the context of tiles, in LR pixels."""
    return round_up(model.traits.halo, model.traits.multiple)


def _halos(model: Model, padded: Size) -> Size:
    """Return the context of tiles above and below, and left and right.

    In a picture of a few rows or columns it is as long as windows have to be to have the least area, unless the output
    depends on it.
    """
    context, multiple = _halo(model), model.traits.multiple
    if model.traits.wraps:
        return Size(context, context)
    return Size(*(max(context, round_up(-(-_LEAST_WINDOW // side), multiple)) for side in reversed(padded)))


def _stretch(low: Strips, *, alpha: bool) -> Stretch | None:
    """Return how to bring the colour or the alpha of a floating-point picture into [0, 1]; None for integers."""
    if low.raster.dtype != np.float32:
        return None
    return Stretch.of((strip.layers[..., -1:] if alpha else strip.pixels for strip in low), low.size)


class _Enlargement:
    """The enlargement of one plane.

    Args:
        upscaler: the model with its settings.
        low: the colour or alpha of the LR picture.
        size: size of the enlargement.
        chosen: how to cut it: the same for all planes, so that their bands have the same rows.
        advance: called with the number of LR pixels just done.
        seconds: accumulates the time by STAGES.

    Attributes:
        done_with: LR rows above this one are not needed any more.
    """

    def __init__(
        self,
        upscaler: Upscaler,
        low: Plane,
        size: Size,
        chosen: Plan,
        advance: Callable[[int], object],
        seconds: StageTimer,
    ) -> None:
        self._model, self._dtype, self._low, self._size = upscaler.model, upscaler.dtype, low, size
        self._memory = upscaler.memory
        self._advance, self._seconds = advance, seconds
        self._scale = size.scale_from(low.size)
        self._halo = _halos(upscaler.model, low.padded)
        self._tile, self._band, self._part_pixels = chosen
        self._too_large = math.inf  # LR pixels in the smallest core for which memory ran out
        self._field = Field(upscaler.model.traits.density)
        self.done_with = 0

    def bands(self) -> Iterator[Pixels]:
        """Yield the enlargement from top to bottom in bands of rows, ``(rows, W, 1 or 3)``.

        Tiles are computed row by row. Pixels are drawn as soon as no later tile can reach them if there is one band for
        a row of tiles; if there are several, the Gaussians of the whole row are kept until the last is drawn.
        """
        stream = SideStream.of(self._model.device)
        first = 0
        for top, bottom in self._cores(axis=0):
            last = self._ready(bottom, first, axis=0)
            bands = [(first + begin, first + end) for begin, end in cuts(last - first, self._band, 1)]
            tiles: Iterable[Box] = self._computed(top, bottom)
            if len(bands) > 1:
                tiles = list(tiles)
            for rows in bands:
                band = self._drawn_band(rows, tiles, stream, forget=rows == bands[-1])
                if rows == bands[-1]:
                    self.done_with = self._lowest_row(bottom)
                if len(band):
                    yield band
            first = last

    def _computed(self, top: int, bottom: int) -> Iterator[Box]:
        """Compute the tiles of a row one by one; yield their cores."""
        for left, right in self._cores(axis=1):
            core = Box(top, bottom, left, right)
            self._compute(core)
            yield core

    def _drawn_band(
        self, rows: tuple[int, int], tiles: Iterable[Box], stream: SideStream | None, *, forget: bool
    ) -> Pixels:
        """Draw rows [first, last) of the enlargement, which no tiles below those of a row reach.

        Args:
            rows: the rows; there may be none.
            tiles: the row's tiles, each computed by the time that it is taken.
            stream: see :class:`Readback`.
            forget: whether to let go of the row's Gaussians as soon as they are drawn.
        """
        band = _array_apart((rows[1] - rows[0], self._size.width, self._low.channels), self._low.dtype)
        readback, begin = Readback(band, stream), 0
        for tile in tiles:
            end = self._ready(tile.right, begin, axis=1)
            for part, drawn in self._drawn(Box(*rows, begin, end), Box(0, tile.bottom, 0, tile.right)):
                readback.send(part.seen_from(Box(*rows, 0, 0)), drawn)
            if forget:
                self._field.keep(*self._needed_after(tile))
            begin = end
        readback.finish()
        return band

    def _cores(self, *, axis: int) -> list[tuple[int, int]]:
        """Cut the height (axis 0) or the width (1) into the cores of tiles.

        If the network wraps, there are no ends, but a side as short as a tile with its halo stays whole, as it would be
        read whole anyway. Tiles shorter than the halo are as low as memory or the user allows, and are so at the ends.
        """
        length, tile, halo, traits = self._low.padded[axis], self._tile[axis], self._halo[axis], self._model.traits
        if traits.wraps and length <= tile + 2 * halo:
            return [(0, length)]
        return cuts(length, tile, traits.multiple, 0 if traits.wraps or tile < halo else halo)

    def _ready(self, edge: int, drawn: int, *, axis: int) -> int:
        """Return how many output rows (axis 0) or columns (1) no tile beyond an LR edge reaches; all at the last edge.

        Args:
            edge: LR row or column up to which tiles are computed.
            drawn: how many rows or columns were ready before.
            axis: 0 or 1.
        """
        reach, low = self._model.traits.reach, self._low
        if edge - reach >= low.size[axis] or edge == low.padded[axis]:
            return self._size[axis]
        return math.floor(max(drawn, (edge - reach) * self._scale[axis] - 0.5))

    def _needed_after(self, tile: Box) -> tuple[Box, ...]:
        """Return where Gaussians are that reach pixels to be drawn after a tile: to its right, and below."""
        whole, reach = self._low.padded, self._model.traits.reach
        back = [2 * reach + 1 / scale + 1 for scale in self._scale]  # from the edge of what is computed
        lowest = _before(tile.bottom, back[0])
        below = Box(lowest, tile.bottom, 0, whole.width)
        beside = Box(_before(tile.top, back[0]), lowest, _before(tile.right, back[1]), whole.width)
        return (below,) if tile.right == whole.width else (below, beside)

    def _lowest_row(self, bottom: int) -> int:
        """Return the first LR row that is needed once the tiles down to ``bottom`` are drawn."""
        if self._model.traits.wraps:  # the last tiles need the first rows
            return 0
        return _before(bottom, max(self._halo.height, self._model.traits.reach + _INTERPOLATION_REACH))

    def _compute(self, core: Box) -> None:
        """Compute the Gaussians of a tile's core, a box in the padded picture.

        If memory runs out, this tile and later ones are computed in four parts, recursively down to a smallest size, or
        not at all if the output depends on the size of tiles.
        """
        parts = quarters(core, self._model.traits.multiple) if self._model.traits.tile is None else None
        known_too_large = parts is not None and core.size.area >= self._too_large
        gaussians = None if known_too_large else attempt(self._predict, core)
        if gaussians is not None:
            self._field.put(core, gaussians)
            self._advance(core.meeting(Box.whole(self._low.size)).size.area)
            return
        self._too_large = min(self._too_large, core.size.area)
        if parts is None:
            hint = memory_hint(self._model.device, self._memory)
            if self._model.traits.tile is None:
                raise LimitError("there is too little memory for the smallest tile", hint=hint)
            hint = f"try a smaller --tile, or {hint}"
            raise LimitError(f"there is too little memory for a tile of {core.size} pixels", hint=hint)
        for part in parts:
            self._compute(part)

    def _predict(self, core: Box) -> Gaussians:
        rows, columns = (
            surroundings(ends, halo, length, wraps=self._model.traits.wraps)
            for ends, halo, length in zip((core.rows, core.columns), self._halo, self._low.padded, strict=True)
        )
        top, left = int(np.searchsorted(rows, core.top)), int(np.searchsorted(columns, core.left))
        place = Box(top, top + core.size.height, left, left + core.size.width)
        with self._seconds.of("network", self._model.device):
            image = self._low.window(rows, columns)
            gaussians = self._field.crop(self._infer(image, _vector(self._scale, image)[None]), len(columns), place)
        return gaussians.shift(core.left - left, core.top - top)

    def _drawn(self, part: Box, computed: Box) -> Iterator[tuple[Box, Tensor]]:
        """Draw a part of the enlargement, some rows at a time; yield them with their places.

        Args:
            part: the part; it may be empty.
            computed: the part of the padded picture whose tiles are computed.
        """
        top = part.top
        while top < part.bottom and not part.empty:
            rows = max(1, self._part_pixels // part.size.width)
            piece = part._replace(top=top, bottom=min(top + rows, part.bottom))
            drawn = attempt(self._draw, piece, computed)
            if drawn is None:
                self._draw_less(piece)
                continue
            yield piece, drawn
            top = piece.bottom

    def _draw(self, part: Box, computed: Box) -> Tensor:
        """Draw a part as ``(*part.size, 1 or 3)``, as bits in the sense of `gsrcli.upscaling.transfer`."""
        model, low, size = self._model, self._low, self._size
        with self._seconds.of("rasterizer", model.device):
            gaussians = self._field.within(self._reaching(part).meeting(computed))
            with autocast(model.device, self._dtype):
                drawn = model.draw(gaussians, low.size, size, part)
            if model.traits.base == "bicubic":
                needed = bicubic.part_needed(low.size, size, part)
                base = low.window(np.arange(*needed.rows), np.arange(*needed.columns))
                drawn += bicubic.resize_part(base, low.size, size, part, (needed.top, needed.left))
            values = drawn[0].permute(1, 2, 0)
            if low.channels == 1:
                values = values @ _vector(_LUMA, values)[:, None]
            return restore_flat(low.quantize(values), low, size, part)

    def _reaching(self, part: Box) -> Box:
        """Return a box with the reference positions of all Gaussians that reach a part of the enlargement."""
        reach = self._model.traits.reach
        if math.isinf(reach):
            return Box.whole(self._low.padded)
        (top, bottom), (left, right) = (
            (math.floor((begin + 0.5) / scale - reach), math.ceil((end - 0.5) / scale + reach))
            for (begin, end), scale in zip((part.rows, part.columns), self._scale, strict=True)
        )
        return Box(top, bottom, left, right)

    def _draw_less(self, part: Box) -> None:
        """Draw fewer pixels at a time after memory ran out for a part."""
        if part.size.area <= SMALLEST_PART or part.size.height == 1:
            hint = f"try a smaller --tile, or {memory_hint(self._model.device, self._memory)}"
            raise LimitError("there is too little memory to draw the smallest part", hint=hint)
        self._part_pixels = max(SMALLEST_PART, part.size.area // 2)

    def _infer(self, image: Tensor, scale: Tensor) -> Gaussians:
        for dtype in dict.fromkeys((self._dtype, torch.float32)):
            with autocast(image.device, dtype):
                gaussians = self._model(image, scale)
            if gaussians.is_finite():
                return gaussians
        raise ModelError("the network's output is not finite: its weights may be damaged")


def _before(edge: int, distance: float) -> int:
    """Return the row or column at a distance, which may be infinite, before an edge, as far as there is one."""
    return math.floor(max(0.0, edge - distance))


def _array_apart(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Pixels:
    length = math.prod(shape)
    return np.frombuffer(memory_apart(length * dtype.itemsize), dtype, length).reshape(shape)


def _vector(numbers: Sequence[float], like: Tensor) -> Tensor:
    """Put a few numbers on a tensor's device by filling: a copy from the host would wait for the device."""
    return torch.stack([like.new_full((), number) for number in numbers])
