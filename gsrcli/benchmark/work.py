"""How much there is to draw, and the least time it can take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import itemgetter

import torch

from gsrcli.benchmark.ceilings import Ceilings
from gsrcli.gaussians import Gaussians
from gsrcli.rasterizer import EPSILON, q_at
from gsrcli.size import Size

__all__ = ["Floors", "count_pairs", "in_float64"]

_INSTRUCTIONS = 12  # about, per pair: its position, the exponent, the exponential, and a multiply-add per channel
_GAUSSIANS_AT_ONCE = 1 << 20


def count_pairs(field: Gaussians, scale: tuple[float, float], size: Size) -> int:
    """Count the (Gaussian, pixel) pairs that any rasterizer must draw: those with exp(-q/2) >= EPSILON.

    The count is exact, from where each ellipse begins and ends on each row of pixels.

    Args:
        field: one field.
        scale: output pixels per LR pixel, (y, x).
        size: size of the output.
    """
    total = 0
    for first in range(0, len(field), _GAUSSIANS_AT_ONCE):
        some = field.map(itemgetter((slice(None), slice(first, first + _GAUSSIANS_AT_ONCE))))
        total += _pairs(in_float64(some), scale, size)
    return total


def _pairs(field: Gaussians, scale: tuple[float, float], size: Size) -> int:
    q_max = q_at(EPSILON)
    factor = field.centre.new_tensor([scale[1], scale[0]])
    (x, y), (sx, sy), rho = (field.centre[0] * factor - 0.5).T, (field.sigma[0] * factor).T, field.rho[0]
    reach = math.sqrt(q_max) * sy
    row, last = (y - reach).ceil().clamp(min=0), (y + reach).floor().clamp(max=size.height - 1)
    ellipses = torch.stack((row, last, x, y, sx, sy, rho))
    total = 0
    while ellipses.shape[1]:  # the ellipses' first rows, their second ones, ...
        row, last, x, y, sx, sy, rho = ellipses
        v = (row - y) / sy
        middle, half = x + rho * sx * v, sx * ((1 - rho * rho) * (q_max - v * v)).clamp(min=0).sqrt()
        columns = (middle + half).floor().clamp(max=size.width - 1) - (middle - half).ceil().clamp(min=0) + 1
        total += int(columns[row <= last].clamp(min=0).sum())
        row += 1
        ellipses = ellipses[:, row <= last]
    return total


@dataclass(frozen=True)
class Floors:
    """The least time that drawing a field can take, in milliseconds.

    Attributes:
        traffic: time to read the Gaussians and write the picture once, in float32.
        arithmetic: time of about 12 instructions per pair, or None if the device's rate is unknown.
    """

    traffic: float
    arithmetic: float | None

    @staticmethod
    def of(field: Gaussians, pairs: int, size: Size, ceilings: Ceilings) -> Floors:
        numbers = sum(tensor.numel() for tensor in (field.centre, field.sigma, field.rho, field.value))
        traffic = 4 * (numbers + field.channels * size.height * size.width) / ceilings.copy_bytes_per_s
        rate = ceilings.fp32_instructions_per_s
        return Floors(1e3 * traffic, 1e3 * pairs * _INSTRUCTIONS / rate if rate else None)


def in_float64(field: Gaussians) -> Gaussians:
    """Return a field in float64, on its device if that supports the type, else on the CPU."""
    return field.to(device="cpu" if field.device.type == "mps" else None, dtype=torch.float64)
