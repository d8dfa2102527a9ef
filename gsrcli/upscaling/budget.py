"""Memory: how large tiles and strips may be, and what is done where it runs out all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, ParamSpec, TypeVar

import torch

from gsrcli.errors import LimitError, is_out_of_memory
from gsrcli.images import Picture
from gsrcli.models.base import Traits
from gsrcli.runtime.memory import free_memory
from gsrcli.size import Size
from gsrcli.upscaling.tiling import SMALLEST_TILE

__all__ = ["DEFAULT_TILE", "SMALLEST_STRIP", "Plan", "attempt", "plan", "require_memory", "way_out"]

DEFAULT_TILE = 512
SMALLEST_STRIP = 64  # rows
_STRIP_PIXELS = 1 << 23
_WORKSPACE_BYTES = 64  # what a rasterizer makes of a Gaussian
_OUTPUT_PIXEL_BYTES = 64  # a strip in float32, its bicubic base and the steps towards it, and its integers

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Plan(NamedTuple):
    """The side of the tiles' cores, in LR pixels, and the rows of a strip."""

    tile: int
    rows: int


def plan(padded: Size, size: Size, traits: Traits, halo: int, free: float) -> Plan:
    """Choose tiles and strips that fit into memory.

    A third of what is free is for the network's tile, a third for the Gaussians of a row of tiles, and a third for a
    strip. These are estimates: where memory runs out all the same, smaller tiles and strips are tried.

    Args:
        padded: of the LR picture.
        size: of the enlargement.
        traits: of the model.
        halo: round a tile, in LR pixels.
        free: memory of the device, in bytes.
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


def require_memory(picture: Picture, size: Size) -> None:
    """Refuse an enlargement that this machine cannot hold, together with its file, before anything is computed.

    Raises:
        LimitError: it needs more memory than is free.
    """
    needed = size.area * picture.bytes_per_pixel * 1.5
    free = free_memory(torch.device("cpu"))
    if needed > free:
        raise LimitError(
            f"{size} pixels need {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free",
            hint="choose a smaller size",
        )


def attempt(
    compute: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result | None:
    """Return what a function gives, or None where memory ran out.

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


def way_out(device: torch.device) -> str:
    """Return what helps where there is too little memory."""
    return "close other programs" if device.type == "cpu" else "try --device cpu"
