"""Fields to draw, each with its view, and the requirements on every backend."""

from __future__ import annotations

import dataclasses

import torch

from gsrcli.gaussians import Gaussians
from gsrcli.rasterizer import rasterize
from support import fields
from support.fields import Pair, random_field

__all__ = ["CASES", "NAMES", "WHOLE", "Case", "assert_drawn", "gradients_of", "noise"]

NAMES = ("centre", "sigma", "rho", "value")
WHOLE = (0, 0)


@dataclasses.dataclass(frozen=True)
class Case:
    """A field and how it is drawn.

    Attributes:
        tolerance: tolerance for float32, relative to the sum of the |values| at a pixel. A Gaussian's t has an error of
            about 1e-7·|t|/√(1 − ρ²) (see ``csrc/gaussian.h``), so needles get more.
    """

    field: Gaussians
    size: tuple[int, int]
    scale: Pair
    origin: tuple[int, int] = WHOLE
    tolerance: float = 1e-5

    @property
    def view(self) -> tuple[tuple[int, int], Pair, tuple[int, int]]:
        return self.size, self.scale, self.origin


# Both loops of the compiled backend: it has separate ones for Gaussians up to 16 pixels wide and for wider ones.
CASES = {
    "narrow": Case(random_field(sigma=(0.05, 0.8), seed=1), (25, 29), (2.0, 2.0)),
    "wide": Case(random_field(sigma=(2, 6), seed=2), (40, 52), (3.7, 2.5)),
    "both": Case(random_field(sigma=(0.05, 5), seed=3, batch=2), (47, 35), (4.0, 2.5)),
    "below one": Case(random_field(sigma=(0.2, 5), seed=4), (7, 6), (0.6, 0.4)),
    "one pixel": Case(random_field(sigma=(0.2, 9), seed=5, extent=(1, 1)), (1, 1), (1.0, 1.0)),
    "one column": Case(random_field(sigma=(0.1, 2), seed=6, extent=(20, 1)), (60, 1), (3.0, 1.0)),
    "one row": Case(random_field(sigma=(0.1, 9), seed=7, extent=(1, 20)), (1, 60), (1.0, 3.0)),
    "slender": Case(random_field(sigma=(0.1, 9), seed=8, extent=(20, 3)), (66, 9), (3.3, 3.0)),
    "region": Case(random_field(sigma=(0.1, 3), seed=9), (21, 19), (4.0, 4.0), (13, 22)),
    "outside": Case(random_field(sigma=(0.1, 3), seed=10), (9, 11), (4.0, 4.0), (-20, 50)),
    "huge": Case(random_field(sigma=(1e2, 1e6), seed=11), (20, 30), (2.0, 2.0)),
    "tiny": Case(random_field(sigma=(1e-4, 1e-2), seed=12, count=300), (24, 28), (2.0, 2.0)),
    "needles": Case(
        random_field(sigma=(0.2, 3), seed=13).map(lambda t: 0.999999 * t.sign() if t.dim() == 2 else t),  # rho alone
        (25, 33),
        (2.0, 2.0),
        tolerance=1e-3,
    ),
}


def gradients_of(
    field: Gaussians, image_gradient: torch.Tensor, *view: Pair | tuple[int, int], **cut: float | Pair | None
) -> tuple[torch.Tensor, ...]:
    """Return the gradients that the current backend computes from an image gradient."""
    leaves = [getattr(field, name).detach().clone().requires_grad_() for name in NAMES]
    image = rasterize(Gaussians(*leaves), tuple(image_gradient.shape[2:]), *view, **cut)
    return torch.autograd.grad(image, leaves, image_gradient)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_drawn(image: torch.Tensor, case: Case, epsilon: float) -> None:
    """Assert that an image is that of eq. 5, up to rounding and to pairs too close to the cutoff."""
    expected = fields.draw(case.field, *case.view, epsilon=epsilon)
    bound = case.tolerance * fields.overlap(case.field, *case.view) + 1e-7
    if epsilon:
        bound = bound + fields.doubt(case.field, *case.view, epsilon=epsilon)
    error = abs(image.double().numpy() - expected)
    assert image.dtype == torch.float32
    assert image.shape == expected.shape
    assert (error <= bound).all(), f"off by up to {error.max():.2e}, {(error / bound).max():.1f} times the bound"
