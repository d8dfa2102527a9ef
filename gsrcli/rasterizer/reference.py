"""The rasterizer in plain torch: any device, any floating-point type, differentiable by autograd.

It is the yardstick of the compiled backends and what runs where none of them does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gsrcli.gaussians import Gaussians

__all__ = ["rasterize"]

_PAIRS_AT_ONCE = 1 << 22
_SMALLEST_SIGMA = 1e-12  # output pixels, as in csrc/gaussian.h


def rasterize(
    gaussians: Gaussians,
    size: tuple[int, int],
    scale: tuple[float, float],
    origin: tuple[int, int] = (0, 0),
    *,
    q_max: float = math.inf,
    window: tuple[float, float] = (math.inf, math.inf),
) -> Tensor:
    """Draw the field. Pairs are (y, x).

    Args:
        gaussians: B fields of N Gaussians with C channels.
        size: height and width of the region drawn, in output pixels.
        scale: output pixels per LR pixel.
        origin: the region's first pixel within the whole output.
        q_max: pixels where q exceeds this are skipped.
        window: and so are those farther than this from the centre, in output pixels.

    Returns:
        ``(B, C, *size)`` in the field's dtype.
    """
    images = []
    for b in range(gaussians.batch):
        image = gaussians.value.new_zeros(size[0] * size[1], gaussians.channels)
        for boxes in _boxes(_project(gaussians[b : b + 1], scale, origin), size, q_max, window):
            index, weight = _weights(boxes, size, q_max, window)
            drawn = weight[..., None] * boxes.value[:, None, None]  # (n, rows, columns, C)
            image = image.index_add(0, index.flatten(), drawn.flatten(0, 2))
        images.append(image.T.reshape(gaussians.channels, *size))
    image = torch.stack(images) if images else gaussians.value.new_zeros(0, gaussians.channels, *size)
    # Where nothing is drawn the graph would be missing, and with it the zero gradients.
    nothing = sum(getattr(gaussians, name)[:, :0].sum() for name in ("centre", "sigma", "rho", "value"))
    return image + nothing


class _Boxes(NamedTuple):
    """Gaussians in pixels of the region, each with a box of pixels of one common extent."""

    centre: Tensor  # (n, 2)
    sigma: Tensor  # (n, 2)
    rho: Tensor  # (n,)
    value: Tensor  # (n, C)
    first: Tensor  # (n, 2), the box's first column and row
    extent: tuple[int, int]  # columns and rows


def _project(field: Gaussians, scale: tuple[float, float], origin: tuple[int, int]) -> Gaussians:
    """A field in pixels of the region: pixel X lies at X."""
    factor = field.centre.new_tensor([scale[1], scale[0]])
    first = field.centre.new_tensor([origin[1] + 0.5, origin[0] + 0.5])
    return Gaussians(field.centre * factor - first, field.sigma * factor, field.rho, field.value)


def _boxes(field: Gaussians, size: tuple[int, int], q_max: float, window: tuple[float, float]) -> Iterator[_Boxes]:
    """The field in chunks of Gaussians with boxes of similar extent. What reaches no pixel is in none."""
    (centre, sigma, rho, value) = (field.centre[0], field.sigma[0], field.rho[0], field.value[0])
    limit = centre.new_tensor([size[1], size[0]])
    with torch.no_grad():
        # σ is the marginal deviation: the box of the ellipse q <= q_max has half-sides σ·√q_max.
        reach = torch.minimum(math.sqrt(q_max) * sigma, centre.new_tensor([window[1], window[0]]))
        first = (centre - reach).ceil().maximum(torch.zeros_like(limit))
        last = (centre + reach).floor().minimum(limit - 1)
        drawable = ((last >= first) & (sigma > _SMALLEST_SIGMA) & sigma.isfinite()).all(-1) & (rho.abs() < 1)
        extent = torch.where(drawable[:, None], last - first + 1, 0).long()
        order = torch.argsort(extent[:, 1], stable=True)
        order = order[torch.argsort(extent[order, 0].float().log2().ceil(), stable=True)]
        order = order[drawable[order]]
    while len(order):
        # Boxes of similar columns, then similar rows: take as many from the end as fit at their common extent.
        candidates = order[-max(1, _PAIRS_AT_ONCE // int(extent[order[-1]].prod())) :].flip(0)
        hulls = extent[candidates].cummax(0).values
        fit = hulls.prod(-1) * torch.arange(1, len(hulls) + 1, device=hulls.device) <= _PAIRS_AT_ONCE
        chunk = candidates[: max(1, int(fit.sum()))]
        order = order[: -len(chunk)]
        columns, rows = hulls[len(chunk) - 1].tolist()
        yield _Boxes(centre[chunk], sigma[chunk], rho[chunk], value[chunk], first[chunk].long(), (columns, rows))


def _weights(boxes: _Boxes, size: tuple[int, int], q_max: float, window: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """The flat pixel index of each place of each box, and the Gaussian's exp(-q/2) there: both (n, rows, columns)."""
    columns, rows = boxes.extent
    x = boxes.first[:, :1] + torch.arange(columns, device=boxes.first.device)  # (n, columns)
    y = boxes.first[:, 1:] + torch.arange(rows, device=boxes.first.device)  # (n, rows)
    dx = (x - boxes.centre[:, :1])[:, None, :]
    dy = (y - boxes.centre[:, 1:])[:, :, None]
    rho = boxes.rho[:, None, None]
    # q in the whitened coordinates of csrc/gaussian.h.
    v = dy / boxes.sigma[:, 1, None, None]
    t = (dx / boxes.sigma[:, 0, None, None] - rho * v) / ((1 - rho) * (1 + rho)).sqrt()
    q = t.square() + v.square()
    seen = (q <= q_max) & (dx.abs() <= window[1]) & (dy.abs() <= window[0])
    seen &= (x < size[1])[:, None, :] & (y < size[0])[:, :, None]
    weight = torch.where(seen, torch.exp(-q / 2), torch.zeros_like(q))
    index = (y.clamp(max=size[0] - 1) * size[1])[:, :, None] + x.clamp(max=size[1] - 1)[:, None, :]
    return index, weight
