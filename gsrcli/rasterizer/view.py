"""The part of the output to draw, and the contributions to skip."""

from __future__ import annotations

import math
from typing import NamedTuple

from gsrcli.size import Size

__all__ = ["CUTOFF_SIGMAS", "EPSILON", "SMALLEST_SIGMA", "View", "q_at"]

EPSILON = 1 / 1024
"""Default bound below which a Gaussian's relative contribution to a pixel is skipped: a quarter of an 8-bit step."""

CUTOFF_SIGMAS = 3.73
"""Standard deviations from its centre beyond which a Gaussian is skipped by default: √q_at(EPSILON), rounded up."""

SMALLEST_SIGMA = 1e-12
"""In output pixels: a Gaussian this small or smaller is invisible, and its whitened coordinates would overflow."""


def q_at(weight: float) -> float:
    """Return the q at which a Gaussian's weight ``exp(-q/2)`` is ``weight``, in (0, 1]."""
    return -2 * math.log(weight)


class View(NamedTuple):
    """The region to draw and the cutoffs, as every backend takes them: ``gsr::View`` in ``csrc/gaussian.h``.

    Pairs are (y, x).

    Attributes:
        size: size of the region to draw, in output pixels.
        scale: output pixels per LR pixel.
        origin: the region's first pixel in the whole output.
        q_max: largest q that is drawn; may be infinite.
        window: largest distance from the centre that is drawn, in output pixels; may be infinite.
    """

    size: Size
    scale: tuple[float, float]
    origin: tuple[int, int] = (0, 0)
    q_max: float = q_at(EPSILON)
    window: tuple[float, float] = (math.inf, math.inf)

    @property
    def windowed(self) -> bool:
        """Whether the window skips any pixel."""
        return not all(map(math.isinf, self.window))

    @property
    def numbers(self) -> tuple[int | float, ...]:
        """The members of ``gsr::View`` in order: four integers, then floats."""
        integers = (int(number) for number in (*self.size, *self.origin))
        return (*integers, *(float(number) for number in (*self.scale, self.q_max, *self.window, SMALLEST_SIGMA)))
