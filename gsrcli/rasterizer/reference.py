"""The rasterizer in plain torch: any device, any floating-point type, differentiable by autograd.

It is the reference for the compiled backends, and the fallback where none of them runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gsrcli.gaussians import Gaussians
from gsrcli.rasterizer.view import SMALLEST_SIGMA, View

__all__ = ["rasterize"]

_PAIRS_AT_ONCE = 1 << 22


def rasterize(gaussians: Gaussians, view: View) -> Tensor:
    """Draw B fields of N Gaussians with C channels as ``(B, C, *view.size)``, in the fields' dtype."""
    size, images = view.size, []
    for b in range(gaussians.batch):
        image = gaussians.value.new_zeros(size[0] * size[1], gaussians.channels)
        for boxes in _boxes(_project(gaussians[b : b + 1], view), view):
            index, weight = _weights(boxes, view)
            drawn = weight[..., None] * boxes.value[:, None, None]  # (n, rows, columns, C)
            image = image.index_add(0, index.flatten(), drawn.flatten(0, 2))
        images.append(image.T.reshape(gaussians.channels, *size))
    image = torch.stack(images) if images else gaussians.value.new_zeros(0, gaussians.channels, *size)
    # If nothing is drawn, the graph and with it the zero gradients would be missing.
    nothing = sum(getattr(gaussians, name)[:, :0].sum() for name in ("centre", "sigma", "rho", "value"))
    return image + nothing


class _Boxes(NamedTuple):
    """Gaussians in pixels of the region, each with a box of pixels; all boxes have the same extent."""

    centre: Tensor  # (n, 2)
    sigma: Tensor  # (n, 2)
    rho: Tensor  # (n,)
    value: Tensor  # (n, C)
    first: Tensor  # (n, 2), the box's first column and row
    extent: tuple[int, int]  # columns and rows


def _project(field: Gaussians, view: View) -> Gaussians:
    """Return the field in pixels of the region: pixel X lies at X."""
    factor = field.centre.new_tensor(view.scale[::-1])
    first = field.centre.new_tensor([view.origin[1] + 0.5, view.origin[0] + 0.5])
    return Gaussians(field.centre * factor - first, field.sigma * factor, field.rho, field.value)


def _boxes(field: Gaussians, view: View) -> Iterator[_Boxes]:
    """Yield the field in chunks of Gaussians with boxes of similar extent, without Gaussians that reach no pixel."""
    (centre, sigma, rho, value) = (field.centre[0], field.sigma[0], field.rho[0], field.value[0])
    limit = centre.new_tensor(view.size[::-1])
    with torch.no_grad():
        # σ is the marginal deviation: the box of the ellipse q <= q_max has half-sides σ·√q_max.
        reach = torch.minimum(math.sqrt(view.q_max) * sigma, centre.new_tensor(view.window[::-1]))
        first = (centre - reach).ceil().maximum(torch.zeros_like(limit))
        last = (centre + reach).floor().minimum(limit - 1)
        drawable = ((last >= first) & (sigma > SMALLEST_SIGMA) & sigma.isfinite()).all(-1) & (rho.abs() < 1)
        extent = torch.where(drawable[:, None], last - first + 1, 0).long()
        order = torch.argsort(extent[:, 1], stable=True)
        order = order[torch.argsort(extent[order, 0].float().log2().ceil(), stable=True)]
        order = order[drawable[order]]
    while len(order):
        # Boxes of similar columns, then similar rows: take as many from the end as fit at a common extent.
        candidates = order[-max(1, _PAIRS_AT_ONCE // int(extent[order[-1]].prod())) :].flip(0)
        hulls = extent[candidates].cummax(0).values
        fit = hulls.prod(-1) * torch.arange(1, len(hulls) + 1, device=hulls.device) <= _PAIRS_AT_ONCE
        chunk = candidates[: max(1, int(fit.sum()))]
        order = order[: -len(chunk)]
        columns, rows = hulls[len(chunk) - 1].tolist()
        yield _Boxes(centre[chunk], sigma[chunk], rho[chunk], value[chunk], first[chunk].long(), (columns, rows))


def _weights(boxes: _Boxes, view: View) -> tuple[Tensor, Tensor]:
    """Return the flat pixel index and exp(-q/2) at each place of each box, both (n, rows, columns)."""
    (columns, rows), (height, width) = boxes.extent, view.size
    x = boxes.first[:, :1] + torch.arange(columns, device=boxes.first.device)  # (n, columns)
    y = boxes.first[:, 1:] + torch.arange(rows, device=boxes.first.device)  # (n, rows)
    dx = (x - boxes.centre[:, :1])[:, None, :]
    dy = (y - boxes.centre[:, 1:])[:, :, None]
    rho = boxes.rho[:, None, None]
    # q in whitened coordinates, as in csrc/gaussian.h.
    v = dy / boxes.sigma[:, 1, None, None]
    t = (dx / boxes.sigma[:, 0, None, None] - rho * v) / ((1 - rho) * (1 + rho)).sqrt()
    q = t.square() + v.square()
    seen = (q <= view.q_max) & (dx.abs() <= view.window[1]) & (dy.abs() <= view.window[0])
    seen &= (x < width)[:, None, :] & (y < height)[:, :, None]
    weight = torch.where(seen, torch.exp(-q / 2), torch.zeros_like(q))
    index = (y.clamp(max=height - 1) * width)[:, :, None] + x.clamp(max=width - 1)[:, None, :]
    return index, weight
