"""Memory: choose the size of tiles and strips, and recover if memory runs out anyway."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, ParamSpec, TypeVar

import torch

from gsrcli.errors import LimitError, is_out_of_memory
from gsrcli.images import Picture
from gsrcli.models.base import Traits
from gsrcli.runtime.memory import free_memory, in_bytes, memory_hint
from gsrcli.size import Size
from gsrcli.upscaling.tiling import SMALLEST_TILE

__all__ = ["DEFAULT_TILE", "SMALLEST_STRIP", "Plan", "attempt", "plan", "require_memory"]

DEFAULT_TILE = 512
SMALLEST_STRIP = 64  # rows
_STRIP_PIXELS = 1 << 23
_WORKSPACE_BYTES = 64  # working memory of a rasterizer for each Gaussian
_OUTPUT_PIXEL_BYTES = 64  # a strip in float32, its bicubic base with intermediate results, and its bits

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Plan(NamedTuple):
    """Side of the tiles' cores, in LR pixels, and number of rows in a strip."""

    tile: int
    rows: int


def plan(padded: Size, size: Size, traits: Traits, halo: int, free: float) -> Plan:
    """Choose tiles and strips that fit in memory.

    A third of the free memory is for the network on one tile, a third for the Gaussians of a row of tiles, and a third
    for a strip. These are estimates; if memory runs out anyway, smaller tiles and strips are tried.

    Args:
        padded: padded size of the LR picture.
        size: size of the enlargement.
        traits: traits of the model.
        halo: context around a tile, in LR pixels.
        free: free memory of the device, in bytes.
    """
    share = free / 3

    def fits(tile: int) -> bool:
        window = Size(*(min(tile + 2 * halo, side) for side in padded))
        gaussians = traits.density**2 * min(tile, padded.height) * padded.width
        # The field, and a copy while tiles are joined: geometry and value in float32.
        gaussian_bytes = 2 * 4 * (5 + traits.channels) + _WORKSPACE_BYTES
        return max(window.area * traits.bytes_per_pixel, gaussians * gaussian_bytes) <= share

    tile = DEFAULT_TILE
    while tile > SMALLEST_TILE and not fits(tile):
        tile //= 2
    pixels = min(_STRIP_PIXELS, int(share) // _OUTPUT_PIXEL_BYTES)
    return Plan(tile, max(1, pixels // size.width))


def require_memory(picture: Picture, size: Size, budget: int | None = None) -> None:
    """Check, before anything is computed, that the enlargement and its encoded file fit in memory.

    Args:
        picture: the LR picture.
        size: size of the enlargement.
        budget: bytes of the computer's memory that the whole process may use; None for what is free.

    Raises:
        LimitError: they need more memory than is free.
    """
    needed = size.area * picture.bytes_per_pixel * 1.5
    cpu = torch.device("cpu")
    free = free_memory(cpu, budget)
    if not free:
        raise LimitError("there is no memory left for a picture", hint=memory_hint(cpu, budget))
    if needed > free:
        raise LimitError(
            f"an output of {size} pixels needs {in_bytes(needed)} of memory; only {in_bytes(free)} are free",
            hint=f"choose a smaller size, or {memory_hint(cpu, budget)}",
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
