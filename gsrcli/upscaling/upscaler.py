"""LR picture → tiles → one field of Gaussians → strips of the enlargement.

The network is tiled, the picture is not: each tile is read with a halo, and of the Gaussians it yields those are kept
whose reference position lies in the tile's core. Their union is the field of the whole picture, rasterized on one grid
of pixels: there is no seam to blend, at any scale. Tiles come row by row, and rows of the enlargement are drawn as soon
as no later tile can reach them, so memory is bounded by a row of tiles and a strip of pixels, whatever the picture's
height.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from gsrcli.errors import LimitError, ModelError, UsageError, is_out_of_memory
from gsrcli.gaussians import Gaussians
from gsrcli.images import Picture, bleed_alpha
from gsrcli.models.base import Model
from gsrcli.resize import bicubic
from gsrcli.runtime.devices import autocast
from gsrcli.runtime.memory import free_memory
from gsrcli.runtime.timing import Seconds
from gsrcli.upscaling.transfer import Download, SideStream, quantize, upload

__all__ = ["DEFAULT_TILE", "Upscaler"]

DEFAULT_TILE = 512
_SMALLEST_TILE = 48
_STRIP_PIXELS = 1 << 23
_SMALLEST_STRIP = 64  # rows
_WORKSPACE_BYTES = 64  # what a rasterizer makes of a Gaussian
_OUTPUT_PIXEL_BYTES = 64  # a strip in float32, its bicubic base and the steps towards it, and its integers
_LUMA = (0.299, 0.587, 0.114)

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Upscaler:
    """Enlarges pictures with one model.

    Attributes:
        model: on the device to compute on.
        dtype: of the network's arithmetic. A tile whose result is not finite is computed again in float32.
        tile: side of the tiles' cores, in LR pixels, or None for DEFAULT_TILE, or less where memory is short.
        halo: context round a tile, in LR pixels; None for the model's own.
        seconds: filled while it works.
    """

    model: Model
    dtype: torch.dtype = torch.float32
    tile: int | None = None
    halo: int | None = None
    seconds: Seconds = field(default_factory=Seconds)

    def __post_init__(self) -> None:
        if self.tile is not None and self.tile < 1:
            raise UsageError(f"a tile of {self.tile} pixels cannot hold anything")

    def enlarge(
        self, picture: Picture, size: tuple[int, int], advance: Callable[[int], object] = lambda pixels: None
    ) -> Picture:
        """The picture at another size, with its metadata.

        Args:
            picture: any :class:`Picture`; grey stays grey, depth is kept, alpha is enlarged like colour.
            size: height and width wanted, neither below the picture's.
            advance: told of LR pixels done; they add up to :meth:`work`.

        Raises:
            UsageError: the size shrinks the picture.
            LimitError: there is no memory for the enlargement.
            ModelError: the network's result is not finite even in float32.
        """
        width, height = picture.size
        if size[0] < height or size[1] < width:
            raise UsageError(
                f"{size[1]}x{size[0]} would shrink a picture of {width}x{height} pixels; gsr only enlarges"
            )
        _check_memory(picture, size)
        try:
            return self._enlarge(picture, size, advance)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise LimitError(f"memory ran out for {size[1]}x{size[0]} pixels", hint="try a smaller --tile") from error

    def _enlarge(self, picture: Picture, size: tuple[int, int], advance: Callable[[int], object]) -> Picture:
        colour, alpha = picture.pixels, picture.alpha
        if picture.opaque:
            alpha_enlarged = None if alpha is None else np.full(size, np.iinfo(alpha.dtype).max, alpha.dtype)
        else:
            assert alpha is not None
            colour = bleed_alpha(colour, alpha)
            alpha_enlarged = self._enlarge_plane(alpha[..., None], size, advance)[..., 0]
        pixels = self._enlarge_plane(colour, size, advance)
        return replace(picture, pixels=pixels, alpha=alpha_enlarged)

    @staticmethod
    def work(picture: Picture) -> int:
        """The LR pixels that enlarging the picture takes."""
        width, height = picture.size
        return width * height * (1 if picture.opaque else 2)

    @torch.inference_mode()
    def _enlarge_plane(self, pixels: np.ndarray, size: tuple[int, int], advance: Callable[[int], object]) -> np.ndarray:
        """``(h, w, 1 or 3)`` to ``(*size, 1 or 3)`` of the same type."""
        enlarged = np.empty((*size, pixels.shape[2]), pixels.dtype)
        download = Download(enlarged, SideStream.of(self.model.device))
        for begin, strip in self._strips(Source(pixels, self.model), size, advance):
            download.send(begin, strip)
        download.finish()
        return enlarged

    def _strips(
        self, source: Source, size: tuple[int, int], advance: Callable[[int], object]
    ) -> Iterator[tuple[int, Tensor]]:
        """Rows of the enlargement from top to bottom: the first's index, and what :meth:`_draw` makes of them."""
        scale = (size[0] / source.height, size[1] / source.width)
        reach = self.model.traits.reach
        tail: list[Gaussians] = []  # of the tiles above, what reaches rows yet to be drawn
        drawn = 0
        multiple = self.model.traits.multiple
        tile, rows = self._plan(source, size)
        columns = _cuts(source.padded_width, tile, multiple)
        halvings = 0
        for top, bottom in _cuts(source.padded_height, tile, multiple):
            row = []
            for left, right in columns:
                gaussians, halvings = self._field(source, (top, bottom, left, right), scale, advance, halvings)
                row.append(gaussians)
            gaussians = Gaussians.cat([*tail, *row])
            del row
            # Rows that no tile below can reach are ready: all of them once the picture is covered.
            covered = bottom - reach >= source.height or bottom == source.padded_height
            ready = size[0] if covered else math.floor(max(drawn, (bottom - reach) * scale[0] - 0.5))
            # Found before anything is drawn: to count them the host waits for the device.
            left_over = (gaussians.centre[0, :, 1] + reach >= ready / scale[0]).nonzero()[:, 0]
            tail = [gaussians.select(left_over)]
            while drawn < ready:
                end = min(drawn + rows, ready)
                strip = _attempt(self._draw, gaussians, source, size, (drawn, end))
                if strip is None:
                    rows = self._fewer_rows(end - drawn)
                    continue
                yield drawn, strip
                drawn = end
            del gaussians

    def _draw(self, gaussians: Gaussians, source: Source, size: tuple[int, int], rows: tuple[int, int]) -> Tensor:
        """``(rows, width, 1 or 3)``, as :func:`quantize` gives them."""
        with self.seconds.of("rasterizer", self.model.device):
            with autocast(self.model.device, self.dtype):
                strip = self.model.draw(gaussians, (source.height, source.width), size, rows)
            if self.model.traits.base == "bicubic":
                top, bottom = bicubic.rows_needed(source.height, size[0], rows)
                base = source.window(top, bottom, 0, source.width)
                strip += bicubic.resize_rows(base, size, rows, top, source.height)
            values = strip[0].permute(1, 2, 0)
            if source.pixels.shape[2] == 1:
                values = values @ _vector(_LUMA, values)[:, None]
            return quantize(values, source.pixels.dtype)

    def _fewer_rows(self, rows: int) -> int:
        """The rows of a strip to try, after memory ran out for so many."""
        if rows > _SMALLEST_STRIP:
            return max(_SMALLEST_STRIP, rows // 2)
        hint = f"try a smaller --tile, or {self._way_out()}"
        raise LimitError("there is too little memory to draw the smallest strip", hint=hint)

    def _field(
        self,
        source: Source,
        core: tuple[int, int, int, int],
        scale: tuple[float, float],
        advance: Callable[[int], object],
        halvings: int,
    ) -> tuple[Gaussians, int]:
        """The Gaussians of a tile's core, (top, bottom, left, right) in LR pixels of the padded picture.

        Where memory runs out the tile is computed in four parts, down to a smallest size, and so are those after it.

        Args:
            halvings: how often tiles are halved in height and width before memory suffices, as far as is known.

        Returns:
            The Gaussians, and the halvings as they are known now.
        """
        parts = _quarters(core, self.model.traits.multiple)
        gaussians = None if halvings and parts else _attempt(self._predict, source, core, scale)
        if gaussians is not None:
            top, bottom, left, right = core
            advance((min(bottom, source.height) - top) * (min(right, source.width) - left))
            return gaussians, halvings
        if parts is None:
            raise LimitError("there is too little memory for the smallest tile", hint=self._way_out())
        fields = []
        for part in parts:
            one, further = self._field(source, part, scale, advance, max(halvings - 1, 0))
            fields.append(one)
            halvings = max(halvings, further + 1)
        return Gaussians.cat(fields), halvings

    def _predict(self, source: Source, core: tuple[int, int, int, int], scale: tuple[float, float]) -> Gaussians:
        top, bottom, left, right = core
        halo = self._halo()
        window_top, window_left = max(0, top - halo), max(0, left - halo)
        window_bottom, window_right = min(source.padded_height, bottom + halo), min(source.padded_width, right + halo)
        with self.seconds.of("network", self.model.device):
            image = source.window(window_top, window_bottom, window_left, window_right)
            gaussians = self._infer(image, _vector(scale, image)[None])
            grid = Grid(gaussians, window_right - window_left, self.model.traits.density)
            kept = grid.crop(top - window_top, bottom - window_top, left - window_left, right - window_left)
        return kept.shift(window_left, window_top)

    def _infer(self, image: Tensor, scale: Tensor) -> Gaussians:
        for dtype in dict.fromkeys((self.dtype, torch.float32)):
            with autocast(image.device, dtype):
                gaussians = self.model(image, scale)
            if gaussians.is_finite():
                return gaussians
        raise ModelError("the network's result is not finite: its weights may be damaged")

    def _halo(self) -> int:
        halo, multiple = self.halo if self.halo is not None else self.model.traits.halo, self.model.traits.multiple
        return math.ceil(halo / multiple) * multiple

    def _plan(self, source: Source, size: tuple[int, int]) -> tuple[int, int]:
        """The side of the tiles' cores, in LR pixels, and the rows of a strip.

        A third of the free memory is for the network's tile, a third for the Gaussians of a row of tiles, and a third
        for a strip. These are estimates: where memory runs out all the same, smaller tiles and strips are tried.
        """
        traits, halo = self.model.traits, self._halo()
        share = free_memory(self.model.device) / 3

        def fits(tile: int) -> bool:
            height, width = (min(tile + 2 * halo, side) for side in (source.padded_height, source.padded_width))
            gaussians = traits.density**2 * min(tile, source.padded_height) * source.padded_width
            # The field, and a copy while tiles are joined: geometry and value in float32.
            gaussian_bytes = 2 * 4 * (5 + traits.channels) + _WORKSPACE_BYTES
            return max(height * width * traits.bytes_per_pixel, gaussians * gaussian_bytes) <= share

        tile = DEFAULT_TILE
        while tile > _SMALLEST_TILE and not fits(tile):
            tile //= 2
        pixels = min(_STRIP_PIXELS, int(share) // _OUTPUT_PIXEL_BYTES)
        return self.tile or tile, max(1, pixels // size[1])

    def _way_out(self) -> str:
        """What helps where there is too little memory."""
        return "close other programs" if self.model.device.type == "cpu" else "try --device cpu"


class Source:
    """The LR picture as the network reads it: windows of it in float, padded to the model's multiple.

    Padding mirrors the picture at its right and bottom edge, and repeats the edge where it is too small to mirror.
    """

    def __init__(self, pixels: np.ndarray, model: Model) -> None:
        self.pixels = pixels
        self.device = model.device
        self.height, self.width = pixels.shape[:2]
        multiple = model.traits.multiple
        self.padded_height, self.padded_width = (-(-side // multiple) * multiple for side in pixels.shape[:2])

    def window(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        """``(1, 3, bottom - top, right - left)`` in [0, 1], channels last, float32."""
        rows = _mirrored(top, bottom, self.height)
        columns = _mirrored(left, right, self.width)
        image = upload(self.pixels[rows][:, columns], self.device).permute(2, 0, 1)[None]
        return image.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Grid:
    """Gaussians by their reference positions, as a model orders them."""

    gaussians: Gaussians
    width: int
    density: int

    def crop(self, top: int, bottom: int, left: int, right: int) -> Gaussians:
        """Those with reference positions in a box of LR pixels."""
        k = self.density

        def cut(tensor: Tensor) -> Tensor:
            grid = tensor.unflatten(1, (-1, k * self.width))
            return grid[:, k * top : k * bottom, k * left : k * right].flatten(1, 2)

        return self.gaussians.map(cut)


def _mirrored(begin: int, end: int, length: int) -> slice | np.ndarray:
    """Indices [begin, end) into a side, where those beyond its end are reflected, or stay at the end."""
    if end <= length:
        return slice(begin, end)
    index = np.arange(begin, end)
    reflected = 2 * (length - 1) - index
    return np.where(index < length, index, np.where(reflected >= 0, reflected, length - 1))


def _cuts(length: int, tile: int, multiple: int) -> list[tuple[int, int]]:
    """Cut a side, itself a multiple, into nearly equal parts no longer than a tile, at multiples."""
    units, unit_tile = length // multiple, max(1, tile // multiple)
    parts = -(-units // unit_tile)
    edges = [units * i // parts * multiple for i in range(parts + 1)]
    return list(pairwise(edges))


def _quarters(core: tuple[int, int, int, int], multiple: int) -> list[tuple[int, int, int, int]] | None:
    """A box cut in four, or None where it is small already."""
    top, bottom, left, right = core
    tile = -(-max(bottom - top, right - left) // 2)
    if tile < max(_SMALLEST_TILE, multiple):
        return None
    rows = [(top + a, top + b) for a, b in _cuts(bottom - top, tile, multiple)]
    columns = [(left + a, left + b) for a, b in _cuts(right - left, tile, multiple)]
    return [(*row, *column) for row in rows for column in columns]


def _attempt(
    compute: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result | None:
    """What a function gives, or None where memory ran out.

    By then what it held is free. While an exception is being handled, its traceback keeps the tensors of every
    function that it left, and what is tried again would find no more memory than before.
    """
    try:
        return compute(*args, **kwargs)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    torch.cuda.empty_cache()  # nothing where CUDA is not in use
    return None


def _vector(numbers: Sequence[float], like: Tensor) -> Tensor:
    """A few numbers on a tensor's device, filled in there: copying them from the host would wait for the device."""
    return torch.stack([like.new_full((), number) for number in numbers])


def _check_memory(picture: Picture, size: tuple[int, int]) -> None:
    """Refuse an enlargement that this machine cannot hold, together with its file, before anything is computed."""
    needed = size[0] * size[1] * picture.bytes_per_pixel * 1.5
    free = free_memory(torch.device("cpu"))
    if needed > free:
        raise LimitError(
            f"{size[1]}x{size[0]} pixels need {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free",
            hint="choose a smaller size",
        )
