"""The CUDA backend: ``csrc/rasterize_cuda.cu``, compiled for the device at first use. It never waits for the device."""

from __future__ import annotations

import functools
from itertools import pairwise

import torch
from torch import Tensor

from gsrcli.rasterizer import nvrtc
from gsrcli.rasterizer.view import View
from gsrcli.runtime.files import shipped

__all__ = ["backward", "describe", "forward", "source"]

_KERNELS = ("gsr_project", "gsr_bound", "gsr_draw", "gsr_draw_windowed", "gsr_gather")
_WARP = 32
_LEVELS = 4  # of boxes in the tree, including the Gaussians' own
_BOX = 4  # integers in a box
_RECORD = 8  # floats in a Gaussian's record, which gsr_project writes and gsr_draw reads
_TILE = 8  # side of the square of pixels that one warp of gsr_draw draws
_TILES_ACROSS = 2  # a block draws this number squared of tiles, one warp each
_BLOCK_SIDE = _TILES_ACROSS * _TILE
_GATHERING = 8  # lanes of gsr_gather per Gaussian
_TREE_THREADS = 256  # per block of gsr_project and gsr_bound
_DRAW_THREADS = _TILES_ACROSS**2 * _WARP
_GATHER_THREADS = 128
_MOST_CHANNELS = 16  # per pass

# Constants that the kernels share with the code below, which launches them.
_DEFINES = {
    "GSR_WARP": _WARP,
    "GSR_LEVELS": _LEVELS,
    "GSR_BOX": _BOX,
    "GSR_RECORD": _RECORD,
    "GSR_TILE": _TILE,
    "GSR_TILES_ACROSS": _TILES_ACROSS,
    "GSR_GATHERING": _GATHERING,
    "GSR_TREE_THREADS": _TREE_THREADS,
    "GSR_DRAW_THREADS": _DRAW_THREADS,
    "GSR_GATHER_THREADS": _GATHER_THREADS,
}


def describe(device: torch.device) -> str:
    """Return what the kernels are compiled with for a device: its architecture and NVRTC's version.

    Raises:
        UnavailableError: the kernels cannot be compiled or loaded for the device.
    """
    for name in _KERNELS:
        _kernels(3, device).kernel(name)
    capability = torch.cuda.get_device_capability(device)
    return f"{nvrtc.target_of(capability)[1]}, NVRTC {nvrtc.version()}"


@functools.cache
def source(channels: int) -> str:
    """Return the kernels' source for a number of channels, self-contained."""
    header, kernels = (shipped(f"csrc/{name}").read_text("utf-8") for name in ("gaussian.h", "rasterize_cuda.cu"))
    defines = "".join(f"#define {name} {value}\n" for name, value in {**_DEFINES, "GSR_CHANNELS": channels}.items())
    return defines + kernels.replace('#include "gaussian.h"', header)


def _kernels(channels: int, device: torch.device) -> nvrtc.Module:
    return nvrtc.load(source(channels), device)


def forward(fields: tuple[Tensor, Tensor, Tensor, Tensor], view: View) -> Tensor:
    """Draw centre, sigma, rho and value (contiguous float32) into a new ``(B, C, H, W)`` tensor."""
    value = fields[3]
    (batch, count, channels), (height, width) = value.shape, view.size
    image = value.new_empty(batch, channels, height, width)
    if image.numel() == 0:
        return image
    records, boxes = _tree(fields, view)
    # Blocks are aligned to multiples of their side in the whole picture.
    first_y, first_x = (-(origin % _BLOCK_SIDE) for origin in view.origin)
    blocks_y, blocks_x = _ceil(height - first_y, _BLOCK_SIDE), _ceil(width - first_x, _BLOCK_SIDE)
    name = "gsr_draw_windowed" if view.windowed else "gsr_draw"
    for begin, size in _slices(channels):
        _kernels(size, value.device).launch(
            name,
            batch * blocks_y * blocks_x,
            _DRAW_THREADS,
            *boxes,
            *(records, value[..., begin:]),
            *(count, channels, height, width, first_y, first_x, blocks_y, blocks_x, float(view.q_max)),
            image[:, begin:],
        )
    return image


def _tree(fields: tuple[Tensor, Tensor, Tensor, Tensor], view: View) -> tuple[Tensor, list[Tensor]]:
    """Build the records of the Gaussians, (B, N, 8), and the tree's boxes, int32 (B, n, 4), level by level."""
    centre, sigma, rho, value = fields
    batch, count, channels = value.shape
    counts = [count]
    while len(counts) < _LEVELS:
        counts.append(_ceil(counts[-1], _WARP))
    records = value.new_empty(batch, count, _RECORD)
    boxes = [value.new_empty(batch, level, _BOX, dtype=torch.int32) for level in counts]
    if count:
        kernels = _kernels(_slices(channels)[0][1], value.device)
        kernels.launch(
            "gsr_project",
            _ceil(batch * counts[1] * _WARP, _TREE_THREADS),
            _TREE_THREADS,
            *(centre, sigma, rho, batch, count, *view.numbers, records, boxes[0], boxes[1]),
        )
        for below, above in pairwise(boxes[1:]):
            grid = _ceil(batch * above.shape[1] * _WARP, _TREE_THREADS)
            kernels.launch("gsr_bound", grid, _TREE_THREADS, below, batch, below.shape[1], above)
    return records, boxes


def backward(
    fields: tuple[Tensor, Tensor, Tensor, Tensor], view: View, image_gradient: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of centre, sigma, rho and value from the image's gradient (contiguous float32)."""
    centre, sigma, rho, value = fields
    gradients = (torch.empty_like(centre), torch.empty_like(sigma), torch.empty_like(rho), torch.empty_like(value))
    batch, count, channels = value.shape
    if value.numel() == 0:
        return tuple(gradient.zero_() for gradient in gradients)  # type: ignore[return-value]
    for begin, size in _slices(channels):
        _kernels(size, value.device).launch(
            "gsr_gather",
            _ceil(batch * count * _GATHERING, _GATHER_THREADS),
            _GATHER_THREADS,
            *(image_gradient[:, begin:], centre, sigma, rho, value[..., begin:], batch, count, channels),
            *(*view.numbers, int(begin > 0), *gradients[:3], gradients[3][..., begin:]),
        )
    return gradients


def _slices(channels: int) -> list[tuple[int, int]]:
    """Split channels into as few passes as possible, of nearly equal size: (first channel, number) of each."""
    passes = _ceil(channels, _MOST_CHANNELS)
    edges = [channels * i // passes for i in range(passes + 1)]
    return [(begin, end - begin) for begin, end in pairwise(edges)]


def _ceil(a: int, b: int) -> int:
    return -(-a // b)
