"""Gaussians to pixels.

``rasterize`` draws a field at any size; :func:`backend` reports which implementation draws it, and why.
"""

from __future__ import annotations

import functools
import math
import warnings

import torch
from torch import Tensor

from gsrcli.errors import UnavailableError
from gsrcli.gaussians import Gaussians
from gsrcli.rasterizer import cpu, cuda, op, reference
from gsrcli.rasterizer.view import CUTOFF_SIGMAS, EPSILON, View, q_at
from gsrcli.size import Size

__all__ = ["CUTOFF_SIGMAS", "EPSILON", "View", "backend", "q_at", "rasterize"]

_LEAST_WEIGHT = torch.finfo(torch.float32).tiny  # anything smaller is denormal in float32 and counts as zero


def rasterize(
    gaussians: Gaussians,
    size: tuple[int, int],
    scale: float | tuple[float, float],
    origin: tuple[int, int] = (0, 0),
    *,
    epsilon: float = EPSILON,
    window: tuple[float, float] | None = None,
) -> Tensor:
    """Draw the field as pixels: additive, in no particular order, differentiable in all four parameters.

    The order of the Gaussians changes the result by no more than rounding, but a GPU is fastest when neighbours in the
    field are neighbours in the picture, as in the fields that models predict.

    Pixel ``(X, Y)`` of the result samples ``((X + origin_x + 0.5) / scale_x, (Y + origin_y + 0.5) / scale_y)`` of the
    field, in LR pixels (GSASR, arXiv:2501.06838, section 3.3, but with a bound on skipped contributions, not windows).

    Args:
        gaussians: B fields of N Gaussians with C channels. float64 is drawn in float64, everything else in float32.
        size: height and width of the region drawn, in output pixels.
        scale: output pixels per LR pixel, one number or (y, x). For a whole picture of height h drawn at height H,
            this is exactly H/h.
        origin: (y, x) of the region's first pixel in the whole output; it allows drawing a strip on its own.
        epsilon: skip a Gaussian at pixels where ``exp(-q/2) < epsilon``; 0 skips only what float32 cannot represent.
            The error of a pixel is below epsilon times the sum of the |values| of the Gaussians near it.
        window: (y, x): skip pixels farther than this from a centre, in output pixels; replaces epsilon. The
            released GSASR programs use (r(H - 1)/2, r(W - 1)/2) with r = 0.1 for H x W outputs, 0.5 in training.

    Returns:
        ``(B, C, *size)``, not clamped.

    Raises:
        ValueError: the size is negative, the scale is not positive and finite, or epsilon is outside [0, 1).
    """
    height, width = size
    scale_y, scale_x = scale if isinstance(scale, tuple) else (scale, scale)
    if height < 0 or width < 0 or not (0 < scale_y < math.inf and 0 < scale_x < math.inf) or not 0 <= epsilon < 1:
        raise ValueError(f"cannot draw size {size} at scale {scale} with epsilon {epsilon}")
    least_weight = _LEAST_WEIGHT if window is not None else max(epsilon, _LEAST_WEIGHT)
    view = View(Size(height, width), (scale_y, scale_x), origin, q_at(least_weight), window or (math.inf, math.inf))
    gaussians = gaussians.to(dtype=gaussians.dtype if gaussians.dtype == torch.float64 else torch.float32)
    if backend(gaussians.device, gaussians.dtype)[0] == "torch":
        return reference.rasterize(gaussians, view)
    return op.rasterize(*gaussians.tensors, *view)


def backend(device: torch.device | str, dtype: torch.dtype = torch.float32) -> tuple[str, str]:
    """Return which implementation draws fields on this device in this dtype, and a remark for people.

    If float32 has to be drawn in plain torch, one RuntimeWarning says so and gives the reason.

    Returns:
        The name (``cpu`` and ``cuda`` for the compiled ones, ``torch`` for plain torch), and the variant in use, or the
        reason why nothing faster is available.
    """
    return _backend(torch.device(device), dtype)


# What torch.compiler.assume_constant_result does, without importing torch._dynamo.
backend._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def _backend(device: torch.device, dtype: torch.dtype) -> tuple[str, str]:
    if dtype != torch.float32:
        return "torch", "the compiled rasterizers draw float32 only"
    try:
        if device.type == "cpu":
            return "cpu", cpu.instruction_set()
        if device.type == "cuda":
            return "cuda", cuda.describe(device)
        reason = f"there is no compiled rasterizer for {device.type} devices"
    except UnavailableError as error:
        reason = str(error)
    warnings.warn(f"drawing in plain torch, which is slow: {reason}", RuntimeWarning, stacklevel=4)
    return "torch", reason
