"""What part of the output is drawn, and which contributions are skipped."""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["EPSILON", "SMALLEST_SIGMA", "View", "q_at"]

EPSILON = 1 / 1024
"""Default bound below which a Gaussian's relative contribution to a pixel is skipped: a quarter of an 8-bit step."""

SMALLEST_SIGMA = 1e-12
"""In output pixels: a Gaussian no larger than this cannot be seen, and its whitened coordinates would overflow."""


def q_at(weight: float) -> float:
    """Return the q at which a Gaussian weighs ``weight = exp(-q/2)``, in (0, 1]."""
    return -2 * math.log(weight)


class View(NamedTuple):
    """What every backend is told about the picture to draw; ``gsr::View`` of ``csrc/gaussian.h``. Pairs are (y, x).

    Attributes:
        size: height and width of the region drawn, in output pixels.
        scale: output pixels per LR pixel.
        origin: the region's first pixel within the whole output.
        q_max: pixels where q exceeds this are skipped; may be infinite.
        window: so are pixels farther than this from the centre, in output pixels; may be infinite.
    """

    size: tuple[int, int]
    scale: tuple[float, float]
    origin: tuple[int, int] = (0, 0)
    q_max: float = q_at(EPSILON)
    window: tuple[float, float] = (math.inf, math.inf)

    @property
    def windowed(self) -> bool:
        """Whether the window skips anything."""
        return not all(map(math.isinf, self.window))

    @property
    def numbers(self) -> tuple[int | float, ...]:
        """The members of ``gsr::View`` in their order: four integers, then floats."""
        integers = (int(number) for number in (*self.size, *self.origin))
        return (*integers, *(float(number) for number in (*self.scale, self.q_max, *self.window, SMALLEST_SIGMA)))
