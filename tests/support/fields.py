"""Fields to draw, and a reference drawing in float64, Gaussian by Gaussian, by GSASR's eq. 5 (arXiv:2501.06838)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from gsrcli.gaussians import Gaussians

Array = NDArray[np.float64]
Pair = tuple[float, float]
UNBOUNDED = (math.inf, math.inf)


def random_field(
    count: int = 50,
    channels: int = 3,
    batch: int = 1,
    *,
    extent: Pair = (12.0, 14.0),
    sigma: Pair = (0.1, 1.0),
    rho: float = 0.95,
    seed: int = 0,
) -> Gaussians:
    """Return Gaussians on a picture of size ``extent`` (y, x), some just outside; sigma is log-uniform in its range."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(batch, count, *shape, generator=generator)

    return Gaussians(
        centre=(uniform(2) * 1.2 - 0.1) * torch.tensor([extent[1], extent[0]]),
        sigma=sigma[0] * (sigma[1] / sigma[0]) ** uniform(2),
        rho=(uniform() * 2 - 1) * rho,
        value=uniform(channels) * 2 - 1,
    )


def single(centre: Pair, sigma: Pair = (1.0, 1.0), rho: float = 0.0, value: tuple[float, ...] = (1.0,)) -> Gaussians:
    """Return a field of one Gaussian."""
    return Gaussians(*(torch.tensor([[entry]], dtype=torch.float32) for entry in (centre, sigma, rho, value)))


def paper_weights(
    field: Gaussians,
    size: tuple[int, int],
    scale: Pair,
    origin: tuple[int, int] = (0, 0),
    *,
    epsilon: float = 0.0,
    window: Pair = UNBOUNDED,
) -> Iterator[tuple[int, int, Array, dict[str, Array]]]:
    """Yield for each Gaussian its index (batch, n), exp(-q/2) at every pixel (H, W), and dq/d(parameter) there."""
    centres, sigmas, rhos = (t.detach().double().numpy() for t in (field.centre, field.sigma, field.rho))
    ys, xs = np.mgrid[: size[0], : size[1]].astype(np.float64)
    for place in np.ndindex(rhos.shape):
        (cx, cy), (sx, sy), rho = centres[place], sigmas[place], rhos[place]
        # In output pixels from the centre, and in LR pixels.
        across, down = xs + origin[1] + 0.5 - cx * scale[1], ys + origin[0] + 0.5 - cy * scale[0]
        dx, dy = across / scale[1], down / scale[0]
        rest = 1 - rho**2
        q = (dx**2 / sx**2 - 2 * rho * dx * dy / (sx * sy) + dy**2 / sy**2) / rest
        weight = np.exp(-q / 2)
        weight = weight * ((weight >= epsilon) & (abs(across) <= window[1]) & (abs(down) <= window[0]))
        slopes = {
            "cx": -2 * (dx / sx**2 - rho * dy / (sx * sy)) / rest,
            "cy": -2 * (dy / sy**2 - rho * dx / (sx * sy)) / rest,
            "sx": -2 * (dx**2 / sx**3 - rho * dx * dy / (sx**2 * sy)) / rest,
            "sy": -2 * (dy**2 / sy**3 - rho * dx * dy / (sx * sy**2)) / rest,
            "rho": 2 * (rho * q - dx * dy / (sx * sy)) / rest,
        }
        yield place[0], place[1], weight, slopes


def draw(field: Gaussians, size: tuple[int, int], scale: Pair, *view: tuple[int, int], **cut: float | Pair) -> Array:
    """Draw a field as (B, C, H, W)."""
    image = np.zeros((field.batch, field.channels, *size))
    values = field.value.detach().double().numpy()
    for b, n, weight, _ in paper_weights(field, size, scale, *view, **cut):
        image[b] += values[b, n][:, None, None] * weight
    return image


def differentiate(
    image_gradient: Array, field: Gaussians, scale: Pair, *view: tuple[int, int], **cut: float | Pair
) -> tuple[Array, Array, Array, Array]:
    """Return the gradients of centre, sigma, rho and value from that of the picture, by the chain rule."""
    values = field.value.detach().double().numpy()
    centre, sigma = np.zeros((*field.rho.shape, 2)), np.zeros((*field.rho.shape, 2))
    rho, value = np.zeros(field.rho.shape), np.zeros(values.shape)
    for b, n, weight, slopes in paper_weights(field, image_gradient.shape[2:], scale, *view, **cut):
        value[b, n] = (image_gradient[b] * weight).sum((1, 2))
        by_q = -weight / 2 * np.tensordot(values[b, n], image_gradient[b], 1)
        centre[b, n] = [(by_q * slopes[name]).sum() for name in ("cx", "cy")]
        sigma[b, n] = [(by_q * slopes[name]).sum() for name in ("sx", "sy")]
        rho[b, n] = (by_q * slopes["rho"]).sum()
    return centre, sigma, rho, value


def doubt(
    field: Gaussians, size: tuple[int, int], scale: Pair, origin: tuple[int, int] = (0, 0), *, epsilon: float
) -> Array:
    """Bound the error at each pixel (B, 1, H, W) from pairs that rounding can put on either side of the cutoff."""
    bound = np.zeros((field.batch, 1, *size))
    largest = field.value.detach().double().abs().amax(-1).numpy()
    for b, n, weight, _ in paper_weights(field, size, scale, origin):
        bound[b] += largest[b, n] * weight * (abs(weight - epsilon) < 0.01 * epsilon)
    return bound


def overlap(field: Gaussians, size: tuple[int, int], scale: Pair, origin: tuple[int, int] = (0, 0)) -> Array:
    """Return the sum of the |values| of the Gaussians with a weight over 1e-6 at each pixel (B, C, H, W)."""
    bound = np.zeros((field.batch, field.channels, *size))
    values = field.value.detach().double().abs().numpy()
    for b, n, weight, _ in paper_weights(field, size, scale, origin):
        bound[b] += values[b, n][:, None, None] * (weight > 1e-6)
    return bound


def assert_gradients_close(
    actual: tuple[torch.Tensor, ...], expected: tuple[Array, ...], *, relative: float = 1e-4, slack: float = 1e-4
) -> None:
    """Compare a float32 gradient with its float64 reference in five ways, each blind to errors that another finds.

    The elementwise bound finds one wrong entry; the norms find an error spread over all of them; the cosine a wrong
    direction; the bias errors that do not cancel. NaN fails them all.

    Args:
        relative: relative bound on all but the elementwise error.
        slack: elementwise bound, relative to the sum of the entry and the largest entry.
    """
    for name, gradient, reference in zip(("centre", "sigma", "rho", "value"), actual, expected, strict=True):
        assert gradient.shape == reference.shape, name
        error, norm = gradient.double().numpy() - reference, np.linalg.norm(reference)
        assert np.isfinite(error).all(), name
        if norm == 0:
            assert not error.any(), name
            continue
        scale = abs(reference)
        assert (abs(error) <= slack * (scale + scale.max())).all(), (name, (abs(error) / (scale + scale.max())).max())
        assert abs(error).sum() <= relative * scale.sum(), (name, "L1", abs(error).sum() / scale.sum())
        assert np.linalg.norm(error) <= relative * norm, (name, "L2", np.linalg.norm(error) / norm)
        product = np.vdot(reference, reference + error)
        assert product >= (1 - relative) * norm * np.linalg.norm(reference + error), (name, "cosine")
        assert abs(error.sum()) <= relative * scale.sum(), (name, "bias")
