"""The rasterizer as a torch operator, so that it composes with autograd, autocast, torch.compile and DDP.

``gsrcli::rasterize`` wraps the compiled backends; plain torch needs no operator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gsrcli.gaussians import Gaussians
from gsrcli.rasterizer import cpu, cuda
from gsrcli.rasterizer.view import View
from gsrcli.size import Size

__all__ = ["rasterize"]

_LIBRARY = torch.library.Library("gsrcli", "FRAGMENT")  # its operators live as long as this object

Fields = tuple[Tensor, Tensor, Tensor, Tensor]


def _operator(kernel: Callable[..., Any]) -> Any:
    """Register a function on CPU and CUDA tensors as the torch operator of its name.

    ``torch.library.custom_op`` does the same, but imports ``torch._dynamo`` and sympy: one second and 70 MiB that
    upscaling does not need.
    """
    name, schema = kernel.__name__, torch.library.infer_schema(kernel, mutates_args=())
    _LIBRARY.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
    for device in ("CPU", "CUDA"):
        _LIBRARY.impl(name, kernel, device)
    return getattr(torch.ops.gsrcli, name).default


@_operator
def rasterize(
    centre: Tensor,
    sigma: Tensor,
    rho: Tensor,
    value: Tensor,
    size: Sequence[int],
    scale: Sequence[float],
    origin: Sequence[int],
    q_max: float,
    window: Sequence[float],
) -> Tensor:
    """Draw float32 ``(B, N, 2)``, ``(B, N, 2)``, ``(B, N)``, ``(B, N, C)`` as ``(B, C, *size)``.

    The other arguments are those of :class:`gsrcli.rasterizer.View`.
    """
    backend = cuda if value.is_cuda else cpu
    return backend.forward(_contiguous(centre, sigma, rho, value), _view(size, scale, origin, q_max, window))


@_operator
def rasterize_backward(
    image_gradient: Tensor,
    centre: Tensor,
    sigma: Tensor,
    rho: Tensor,
    value: Tensor,
    size: Sequence[int],
    scale: Sequence[float],
    origin: Sequence[int],
    q_max: float,
    window: Sequence[float],
) -> Fields:
    """Return the gradients of centre, sigma, rho and value."""
    view = _view(size, scale, origin, q_max, window)
    backend = cuda if value.is_cuda else cpu
    return backend.backward(_contiguous(centre, sigma, rho, value), view, image_gradient.contiguous())


@torch.library.register_fake(rasterize)
def _(centre, sigma, rho, value, size, *_):  # type: ignore[no-untyped-def]
    return value.new_empty(value.shape[0], value.shape[2], *size)


@torch.library.register_fake(rasterize_backward)
def _(image_gradient, centre, sigma, rho, value, *view):  # type: ignore[no-untyped-def]
    return tuple(torch.empty_like(t, memory_format=torch.contiguous_format) for t in (centre, sigma, rho, value))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.view = inputs[4:]


def _backward(ctx: Any, image_gradient: Tensor) -> tuple[Any, ...]:
    gradients = rasterize_backward(image_gradient, *ctx.saved_tensors, *ctx.view)
    return (*gradients, None, None, None, None, None)


def _refuse_backward(ctx: Any, *gradients: Tensor) -> None:
    raise RuntimeError("the compiled rasterizers have no second derivatives; draw in float64 to get them")


torch.library.register_autograd(rasterize, _backward, setup_context=_setup_context)
torch.library.register_autograd(rasterize_backward, _refuse_backward)


def _view(
    size: Sequence[int], scale: Sequence[float], origin: Sequence[int], q_max: float, window: Sequence[float]
) -> View:
    """Return the view from its members, which torch's schemas pass as lists."""
    return View(Size(size[0], size[1]), (scale[0], scale[1]), (origin[0], origin[1]), q_max, (window[0], window[1]))


def _contiguous(centre: Tensor, sigma: Tensor, rho: Tensor, value: Tensor) -> Fields:
    """Return tensors that the kernels can read through bare pointers.

    Raises:
        ValueError: the shapes or devices do not match, or a tensor is not float32.
    """
    Gaussians(centre, sigma, rho, value)
    if any(tensor.dtype != torch.float32 for tensor in (centre, sigma, rho, value)):
        raise ValueError("the compiled rasterizers draw float32 only")
    return centre.contiguous(), sigma.contiguous(), rho.contiguous(), value.contiguous()
