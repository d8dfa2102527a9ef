"""Memory: choose the size of tiles, and how much to draw at a time, and recover if memory runs out anyway."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, ParamSpec, TypeVar

import torch

from gsrcli.errors import LimitError, is_out_of_memory
from gsrcli.models.base import Traits
from gsrcli.runtime.memory import free_memory, in_bytes, memory_hint
from gsrcli.size import Size
from gsrcli.upscaling.tiling import SMALLEST_TILE

__all__ = ["DEFAULT_TILE", "SMALLEST_PART", "Plan", "attempt", "least_memory", "plan", "require_memory"]

DEFAULT_TILE = 512
SMALLEST_PART = 1 << 14  # pixels
_PART_PIXELS = 1 << 19
_BAND_BYTES = 1 << 27  # at most, of what a row of tiles leaves, however much is free
_TILE_BYTES = 1 << 28  # likewise, of the network on one tile
_STEP = 16  # LR pixels
_LOWEST_TILE = 8  # LR rows; only for large scales, at which drawing takes much longer than the network
_WORKSPACE_BYTES = 32  # working memory of a rasterizer for each Gaussian
_OUTPUT_PIXEL_BYTES = 96  # a part in float32, its bicubic base with intermediate results, and its bits

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Plan(NamedTuple):
    """How to cut an enlargement.

    Attributes:
        tile: size of the tiles' cores, in LR pixels.
        band: most rows of the enlargement that are drawn for a row of tiles before they are passed on, at least as many
            as make up an LR row.
        pixels: number of output pixels to draw at a time.
    """

    tile: Size
    band: int
    pixels: int


def plan(padded: Size, size: Size, traits: Traits, halo: int, pixel_bytes: int, free: float) -> Plan:
    """Choose tiles, and how much to draw at a time, so that they fit in memory.

    A quarter of the free memory is for the network on one tile, one for the Gaussians of two windows, one for what a
    row of tiles leaves, and one for drawing. These are estimates; if memory runs out anyway, smaller tiles and parts
    are tried.

    What a row of tiles leaves is two bands of the enlargement as high as the tiles, one being passed on while the next
    is drawn; or at large scales, at which they are less, its Gaussians, of which lower bands are drawn.

    Args:
        padded: padded size of the LR picture.
        size: size of the enlargement.
        traits: traits of the model.
        halo: context around a tile, in LR pixels.
        pixel_bytes: bytes of an output pixel.
        free: free memory, in bytes.
    """
    share = free / 4
    pixels = max(SMALLEST_PART, int(min(_PART_PIXELS, share / _OUTPUT_PIXEL_BYTES)))
    # The field twice, in pieces and joined.
    gaussian_bytes = 2 * _field_bytes(traits) + traits.density**2 * _WORKSPACE_BYTES

    def too_large(tile: Size) -> bool:
        window = Size(*(min(side + 2 * halo, most) for side, most in zip(tile, padded, strict=True)))
        return window.area * max(traits.bytes_per_pixel, 2 * gaussian_bytes) > min(share, _TILE_BYTES)

    left = min(share, _BAND_BYTES)
    drawn, kept = _row_bytes(padded, size, traits, pixel_bytes)
    rows = int(left / min(drawn, kept))
    # A tile at two edges may be longer by two halos, if it is not shorter than one: see how the upscaler cuts a side.
    rows = max(rows - 2 * halo, min(rows, halo - 1))
    height, width = max(_LOWEST_TILE, min(DEFAULT_TILE, rows)), DEFAULT_TILE
    while max(height, width) > SMALLEST_TILE and too_large(Size(height, width)):
        height, width = (height, width - _STEP) if width >= height else (height - _STEP, width)
    lowest = math.ceil(size.height / padded.height)
    band = size.height if drawn <= kept else max(lowest, int(left / (2 * size.width * pixel_bytes)))
    return Plan(Size(height, width), band, pixels)


def _row_bytes(low: Size, size: Size, traits: Traits, pixel_bytes: int) -> tuple[float, float]:
    """Return the bytes of two bands of the enlargement as high as an LR row, and of the Gaussians of an LR row."""
    return 2 * size.width * pixel_bytes * size.height / low.height, low.width * _field_bytes(traits)


def _field_bytes(traits: Traits) -> int:
    """Return the bytes of the Gaussians of an LR pixel: geometry and value in float32."""
    return traits.density**2 * 4 * (5 + traits.channels)


def least_memory(low: Size, size: Size, traits: Traits, pixel_bytes: int) -> float:
    """Return the bytes that any enlargement takes: for what a row of the lowest tiles leaves, and the lowest bands."""
    drawn, kept = _row_bytes(low, size, traits, pixel_bytes)
    rows = min(_LOWEST_TILE, low.height)
    return min(rows * drawn, rows * kept + drawn)


def require_memory(needed: float, what: str, budget: int | None = None, hint: str = "choose a smaller size") -> None:
    """Check, before anything is computed, that there is memory for something.

    Args:
        needed: how much, in bytes.
        what: what needs it.
        budget: bytes of the computer's memory that the whole process may use; None for what is free.
        hint: what to do about it, besides freeing memory.

    Raises:
        LimitError: there is not.
    """
    cpu = torch.device("cpu")
    free = free_memory(cpu, budget)
    if not free:
        raise LimitError("there is no memory left for a picture", hint=memory_hint(cpu, budget))
    if needed > free:
        raise LimitError(
            f"{what} needs {in_bytes(needed)} of memory; only {in_bytes(free)} are free",
            hint=f"{hint}, or {memory_hint(cpu, budget)}",
        )


def attempt(
    compute: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result | None:
    """Call a function and return its result, or None if memory ran out; its memory is free again by then.

    While an exception is being handled, its traceback keeps alive the tensors of every function on the stack, so a
    second attempt inside the handler would find no more memory than the first.
    """
    try:
        return compute(*args, **kwargs)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    torch.cuda.empty_cache()  # does nothing unless CUDA is in use
    return None
