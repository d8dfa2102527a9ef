"""The published rasterization as CUDA kernels, for comparison; see ``paper_kernel.cu``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gsrcli.gaussians import Gaussians
from gsrcli.rasterizer import nvrtc
from gsrcli.size import Size

__all__ = ["RATIO", "SOURCE", "kernels", "rasterize"]

SOURCE = Path(__file__).with_name("paper_kernel.cu")

RATIO = 0.1
"""Ratio of a window's sides to the picture's, as in the paper and the released programs for inference."""

_BLOCK = 256


def kernels(device: torch.device) -> nvrtc.Module:
    """Compile the kernels for a device.

    Raises:
        UnavailableError: they cannot be compiled.
    """
    return nvrtc.load(_source(), device)


@functools.cache  # so that timed drawings read no file
def _source() -> str:
    return SOURCE.read_text(encoding="utf-8")


def rasterize(gaussians: Gaussians, size: Size, scale: tuple[float, float]) -> Tensor:
    """Draw one field of three channels in float32, on a GPU; differentiable. See :func:`gsrcli.rasterizer.rasterize`.

    Raises:
        UnavailableError: the kernels cannot be compiled.
    """
    window = (RATIO * (size.height - 1) / 2, RATIO * (size.width - 1) / 2)
    parameters = (gaussians.centre, gaussians.sigma, gaussians.rho, gaussians.value)
    fields = (tensor.contiguous() for tensor in parameters)
    return _Rasterize.apply(*fields, size, (*scale, *window))  # type: ignore[no-untyped-call]


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        centre: Tensor,
        sigma: Tensor,
        rho: Tensor,
        value: Tensor,
        size: Size,
        view: tuple[float, float, float, float],
    ) -> Tensor:
        ctx.save_for_backward(centre, sigma, rho, value)
        ctx.view = view
        image = value.new_zeros(1, 3, *size)
        count = rho.shape[1]
        grid = -(-count // _BLOCK)
        kernels(value.device).launch(
            "published_draw", grid, _BLOCK, centre, sigma, rho, value, image, count, *size, *view
        )
        return image

    @staticmethod
    def backward(ctx: Any, image_gradient: Tensor) -> tuple[Tensor | None, ...]:
        fields = ctx.saved_tensors
        gradients = tuple(torch.empty_like(tensor) for tensor in fields)
        image_gradient = image_gradient.contiguous()
        count, size = fields[2].shape[1], image_gradient.shape[2:]
        grid = -(-count // _BLOCK)
        kernels(image_gradient.device).launch(
            "published_gather", grid, _BLOCK, image_gradient, *fields, *gradients, count, *size, *ctx.view
        )
        return (*gradients, None, None)
