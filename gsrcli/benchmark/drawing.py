"""Times the rasterizers alone, forward and backward, side by side on the same field."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from gsrcli import rasterizer
from gsrcli.benchmark import paper_kernel
from gsrcli.benchmark.plan import Case, Setting, Subject
from gsrcli.benchmark.work import Floors, count_pairs, in_float64
from gsrcli.errors import UnavailableError
from gsrcli.gaussians import Gaussians
from gsrcli.rasterizer import View, q_at, reference
from gsrcli.runtime.devices import autocast
from gsrcli.runtime.timing import Clock, Interval, Timing, seconds_between
from gsrcli.size import Size

__all__ = ["DrawingMeasurement", "measure"]

_Q_EXACT = q_at(1e-8)  # the float64 drawing leaves out less than 1e-8 of a Gaussian

# Plain torch keeps some 100 bytes per pair for backward, so it draws a strip of about this many pairs.
_PLAIN_PAIRS, _PLAIN_PAIRS_ON_CUDA = 4e6, 32e6


@dataclass(frozen=True)
class DrawingMeasurement:
    """The times of one implementation with one field. Unknown values are None.

    Attributes:
        model: model that predicted the field.
        weights: trained or random.
        scale: requested scale.
        backend: ``cpu`` or ``cuda`` for gsrcli's rasterizers, ``torch`` for plain torch, ``published`` for the
            paper's algorithm.
        order: order of the Gaussians: ``picture``, row by row, or ``shuffled``.
        width: width of the drawn region, in pixels.
        height: height of the drawn region, in pixels; plain torch draws a strip.
        gaussians: number of Gaussians in the field.
        pairs: pairs in the drawn region; see :func:`gsrcli.benchmark.work.count_pairs`.
        forward_ms: time of drawing with autograd.
        backward_ms: time of the gradients of all four parameters.
        forward_pairs_per_s: rate at the median time; on a CPU, per core.
        backward_pairs_per_s: likewise.
        traffic_floor_ms: least time of forward by memory traffic; see :class:`gsrcli.benchmark.work.Floors`.
        arithmetic_floor_ms: least time of forward by arithmetic.
        error: largest difference from a float64 drawing that skips almost nothing.
        forward_over_torch: rate of pairs as a multiple of plain torch's.
        backward_over_torch: likewise.
        forward_over_published: rate of pairs as a multiple of the published algorithm's.
        backward_over_published: likewise.
    """

    model: str
    weights: str
    scale: float
    backend: str
    order: str
    width: int
    height: int
    gaussians: int
    pairs: int
    forward_ms: Timing
    backward_ms: Timing
    forward_pairs_per_s: float
    backward_pairs_per_s: float
    traffic_floor_ms: float
    arithmetic_floor_ms: float | None
    error: float
    forward_over_torch: float | None = None
    backward_over_torch: float | None = None
    forward_over_published: float | None = None
    backward_over_published: float | None = None

    @property
    def summary(self) -> str:
        rates = (f"{rate / 1e9:.3g}" for rate in (self.forward_pairs_per_s, self.backward_pairs_per_s))
        return f"{self.backend}, {self.order} order: {' and '.join(rates)} G pairs/s"


@dataclass(frozen=True)
class _Contender:
    """An implementation, with the field and the height that it draws."""

    backend: str
    order: str
    field: Gaussians
    height: int
    draw: Callable[[Gaussians, Size, tuple[float, float]], Tensor]


def measure(subject: Subject, case: Case, setting: Setting) -> list[DrawingMeasurement]:
    """Time every implementation that runs here on one picture's field, seen through the footprint of its pixels."""
    scale = torch.tensor([case.ratio], device=setting.device)
    with torch.no_grad(), autocast(setting.device, subject.dtype):
        field = subject.model.seen(subject.model(case.padded, scale), case.ratio).map(Tensor.contiguous)
    height, width = case.size
    pairs = count_pairs(field, case.ratio, case.size)
    plain_pairs = _PLAIN_PAIRS_ON_CUDA if setting.device.type == "cuda" else _PLAIN_PAIRS
    strip = max(1, round(height * min(1.0, plain_pairs / max(1, pairs))))
    contenders = _contenders(field, height, strip)
    rows = []
    for contender, (forward, backward, error) in zip(contenders, _race(contenders, case, setting), strict=True):
        part = Size(contender.height, width)
        drawn = count_pairs(field, case.ratio, part)
        floors = Floors.of(field, drawn, part, setting.ceilings)
        rows.append(
            DrawingMeasurement(
                model=subject.name,
                weights=subject.weights,
                scale=case.scale,
                backend=contender.backend,
                order=contender.order,
                width=width,
                height=contender.height,
                gaussians=len(field),
                pairs=drawn,
                forward_ms=forward,
                backward_ms=backward,
                forward_pairs_per_s=drawn / forward.median * 1e3,
                backward_pairs_per_s=drawn / backward.median * 1e3,
                traffic_floor_ms=floors.traffic,
                arithmetic_floor_ms=floors.arithmetic,
                error=error,
            )
        )
    return _compared(rows)


def _contenders(field: Gaussians, height: int, strip: int) -> list[_Contender]:
    """Return the implementations for this device, plain torch last; the published algorithm needs CUDA."""
    contenders = []
    backend, _ = rasterizer.backend(field.device)
    if backend != "torch":
        generator = torch.Generator().manual_seed(0)
        shuffled = field.select(torch.randperm(len(field), generator=generator).to(field.device))
        contenders += [
            _Contender(backend, "picture", field, height, rasterizer.rasterize),
            _Contender(backend, "shuffled", shuffled, height, rasterizer.rasterize),
        ]
    if field.device.type == "cuda":
        try:
            paper_kernel.kernels(field.device)
            contenders.append(_Contender("published", "picture", field, height, paper_kernel.rasterize))
        except UnavailableError as error:
            warnings.warn(f"the published algorithm is not timed: {error}", RuntimeWarning, stacklevel=2)
    return [*contenders, _Contender("torch", "picture", field, strip, _plain)]


def _plain(field: Gaussians, size: Size, scale: tuple[float, float]) -> Tensor:
    """Draw in plain torch, with the same cutoff as :func:`gsrcli.rasterizer.rasterize`."""
    return reference.rasterize(field, View(size, scale))


def _race(contenders: list[_Contender], case: Case, setting: Setting) -> list[tuple[Timing, Timing, float]]:
    """Return the times forward and backward and the error of each contender.

    They take turns in random order, as earlier work affects the caches.
    """
    clock = Clock(setting.device, processor=True)
    width = case.size.width
    with torch.no_grad():
        exact = reference.rasterize(in_float64(contenders[0].field), View(case.size, case.ratio, q_max=_Q_EXACT))
    noise = torch.randn(exact.shape, generator=torch.Generator().manual_seed(0)).to(setting.device)
    intervals: list[list[tuple[Interval, Interval]]] = [[] for _ in contenders]
    errors = [0.0 for _ in contenders]
    random = Random(0)
    for _ in range(setting.repeats + 1):
        for i in random.sample(range(len(contenders)), len(contenders)):
            contender = contenders[i]
            leaves = contender.field.map(lambda tensor: tensor.detach().requires_grad_())
            by_image = noise[:, :, : contender.height].contiguous()
            clock.head_start()
            began = clock.mark()
            drawn = contender.draw(leaves, Size(contender.height, width), case.ratio)
            between = clock.mark()
            torch.autograd.grad(drawn, (leaves.centre, leaves.sigma, leaves.rho, leaves.value), by_image)
            intervals[i].append(((began, between), (between, clock.mark())))
            difference = drawn.detach().to(exact.device).double() - exact[:, :, : contender.height]
            errors[i] = difference.abs().max().item()
    results = []
    for turns, error in zip(intervals, errors, strict=True):
        forward, backward = (
            Timing.of([seconds_between(*interval) for interval in stage[1:]]) for stage in zip(*turns, strict=True)
        )
        results.append((forward, backward, error))
    return results


def _compared(rows: list[DrawingMeasurement]) -> list[DrawingMeasurement]:
    """Add the rates relative to plain torch and to the published algorithm."""
    for against in ("torch", "published"):
        for yardstick in [row for row in rows if row.backend == against]:
            rows = [
                dataclasses.replace(
                    row,
                    **{
                        f"{stage}_over_{against}": getattr(row, f"{stage}_pairs_per_s")
                        / getattr(yardstick, f"{stage}_pairs_per_s")
                        for stage in ("forward", "backward")
                    },
                )
                for row in rows
            ]
    return rows
