"""Realistic low-resolution images: the blur of lenses, sensor noise, sharpening in the camera, and JPEG.

The chain is that of BSRGAN (arXiv:2103.14006) and Real-ESRGAN (arXiv:2107.10833), applied once instead of twice, in a
camera's order, and milder: those restore severely degraded pictures, while most photographs, scans and pictures on web
sites have one or two slight faults.

Sensor noise is Poisson and Gaussian in linear light: its variance is proportional to the value, plus a constant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gsrcli.degradation.jpeg import round_trip, tables
from gsrcli.resize import bicubic
from gsrcli.runtime.devices import send
from gsrcli.size import Size

__all__ = ["PHOTOGRAPHS", "Strengths", "degrade"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Strengths:
    """Probabilities and strengths of the degradations. Lengths are in LR pixels.

    Pairs are ranges. Strengths of sensor and Gaussian noise are log-uniform, because weak noise is the most common.
    """

    clean: float = 0.18
    """Share of samples that are only downscaled bicubically, so that a network leaves clean pictures alone."""

    kernels: tuple[float, float, float] = (0.6, 0.2, 0.2)
    """Shares of the kernels that programs downscale with: bicubic, box and triangle."""

    blurred: float = 0.7
    blur: float = 1.0
    """Largest standard deviation of the blur, at most 1, drawn uniformly from 0. Lens and sensor together blur sharp
    pictures by 0.5 to 0.8, and pictures that were downscaled before by less."""
    elongated: float = 0.4
    roundness: tuple[float, float] = (0.42, 1.0)
    """Ratio of narrow to wide deviation of elongated blurs, from camera shake and the corners of lenses; for the lower
    limit see :func:`_split_blur`."""

    sensor: float = 0.6
    shot: tuple[float, float] = (5e-5, 2e-3)
    """Variance of shot noise at white: one over the number of electrons. Small pixels hold 5,000; high sensitivities
    use a tenth of them."""
    read: tuple[float, float] = (2e-4, 2e-3)
    """Standard deviation of read noise, which remains in the dark, where 1 is white."""

    gaussian: float = 0.35
    strength: tuple[float, float] = (0.5 / 255, 8 / 255)
    """Standard deviation of noise that does not depend on light: film grain, scanners, and noise after editing."""
    grey: float = 0.4
    """Share of that noise without colour, which denoisers remove first."""
    smoothed: float = 0.5
    grain: tuple[float, float] = (0.5, 1.1)
    """Standard deviation of the blur of noise: demosaicing and denoisers leave blotches 2 to 3 pixels wide."""

    sharpened: float = 0.4
    amount: tuple[float, float] = (0.1, 0.8)
    radius: tuple[float, float] = (0.6, 1.2)
    """Cameras always sharpen, mostly to undo their own blur; from these amounts and radii on, edges have halos."""

    compressed: float = 0.8
    quality: tuple[int, int] = (20, 98)
    """JPEG quality: cameras use 90 and above, web sites 60 to 90, messengers less; half of the samples are above 75."""
    subsampled: float = 0.65
    again: float = 0.25
    """Share of the JPEG files that were cropped from an earlier JPEG file, whose blocks were aligned differently."""


PHOTOGRAPHS = Strengths()

_RADIUS = 3
"""Radius of the kernels that smooth noise and sharpen: 2.5 deviations of the widest."""


@torch.no_grad()
def degrade(high: Tensor, size: Size, seed: int, odds: Strengths = PHOTOGRAPHS) -> Tensor:
    """Downscale images and degrade each at random, as photographs are.

    The same arguments on the same device give the same result. The settings of a sample depend on the seed and its
    index in the batch, not on the other samples or how many follow; its noise also depends on the batch's shape. The
    offset of an earlier JPEG's blocks is the same for all samples.

    Args:
        high: float32 ``(B, 3, H, W)`` in [0, 1].
        size: (h, w), at most (H, W).
        seed: random seed, from 0 to 2³² − 1.
        odds: probabilities and strengths of the degradations.

    Returns:
        float32 ``(B, 3, h, w)`` in [0, 1], multiples of 1/255. Clean samples equal
        :func:`gsrcli.resize.bicubic.downscale_rounded`.
    """
    with torch.autocast(high.device.type, enabled=False):
        drawn = _draw(high.shape[0], seed, odds)
        rows = send(drawn.rows, high.device)
        order, place = rows[:, :2].long().unbind(1)
        ordered = high[order]
        made = []
        if drawn.clean:
            made.append(bicubic.downscale_rounded(ordered[: drawn.clean], size))
        if drawn.clean < len(high):
            generator = torch.Generator(high.device).manual_seed(seed)
            made.append(_degraded(ordered[drawn.clean :], size, _Settings(rows[drawn.clean :]), drawn, generator))
        return torch.cat(made)[place]


def _degraded(high: Tensor, size: Size, settings: _Settings, drawn: _Drawn, generator: torch.Generator) -> Tensor:
    """Apply the chain of degradations to samples, none of them clean, by their settings."""
    low = _blurred_along_diagonals(_downscaled(high, size, settings), settings)
    low = _sharpened(_noisy(low, settings, generator), settings)
    low = (low * 255).clamp_(0, 255).round_()
    count, (top, left) = len(low), drawn.shift
    if drawn.again:
        last = slice(count - drawn.again, None)
        larger = F.pad(low[last], (left, 0, top, 0), mode="replicate")
        before = round_trip(larger, settings.tables_before[last], settings.subsampled_before[last])
        low[last] = before[:, :, top:, left:]
    if drawn.compressed:
        last = slice(count - drawn.compressed, None)
        low[last] = round_trip(low[last], settings.tables[last], settings.subsampled[last])
    return low / 255


_LAYOUT = {
    "order": (2,),  # index of this row's sample in the batch, and row of the sample with this row's index
    "kernel": (1,),
    "flags": (2,),  # subsampled, subsampled before
    "inverse": (2,),  # -1/2 divided by the blur's variance along y and x
    "diagonal": (3, 3),
    "noise": (4,),  # shot and read variance, deviation of coloured and of grey noise
    "grain": (2 * _RADIUS + 1,) * 2,
    "amount": (1,),
    "unsharp": (2 * _RADIUS + 1,) * 2,
    "tables": (4, 8, 8),
    "tables_before": (4, 8, 8),
}
"""Names and shapes of the settings in each sample's row, in order."""


class _Drawn(NamedTuple):
    """The random settings of a batch, drawn on the host.

    Samples are sorted by what is done to them, so that each operation applies to a slice: clean samples first, then
    those never compressed, compressed once, and compressed twice.

    Attributes:
        rows: ``(B, K)`` float32, the settings of the sorted samples.
        clean: number of clean samples.
        compressed: number of samples compressed as JPEG.
        again: number of these that were compressed before.
        shift: rows and columns by which that earlier file's blocks were cropped.
    """

    rows: Tensor
    clean: int
    compressed: int
    again: int
    shift: tuple[int, int]


class _Settings:
    """Settings of the sorted samples on the device, as views of one tensor, except for integers and flags."""

    def __init__(self, rows: Tensor) -> None:
        parts = rows.split([math.prod(shape) for shape in _LAYOUT.values()], 1)
        views = {name: part.unflatten(1, shape) for (name, shape), part in zip(_LAYOUT.items(), parts, strict=True)}
        self.kernel = views["kernel"][:, 0].long()
        self.subsampled, self.subsampled_before = (views["flags"] > 0.5).unbind(1)
        self.inverse, self.diagonal = views["inverse"], views["diagonal"]
        self.noise, self.grain = views["noise"], views["grain"]
        self.amount, self.unsharp = views["amount"], views["unsharp"]
        self.tables, self.tables_before = views["tables"], views["tables_before"]


def _draw(count: int, seed: int, odds: Strengths) -> _Drawn:
    """Draw the settings of each sample."""
    random = np.random.Generator(np.random.Philox(seed))
    top, left = random.integers(1, 8, 2)
    chance = iter(random.random((count, 24)).T)  # a row for each sample, so that it is the same in a larger batch

    def happens(share: float) -> Array:
        return (next(chance) < share).astype(np.float64)

    def between(least: float, most: float) -> Array:
        return least + (most - least) * next(chance)

    def scaled(least: float, most: float) -> Array:
        return least * (most / least) ** next(chance)

    dirty = 1 - happens(odds.clean)
    compressed = happens(odds.compressed) * dirty
    again = happens(odds.again) * compressed
    order = np.argsort(dirty + compressed + again, kind="stable")
    kernel = np.searchsorted(np.cumsum(odds.kernels[:-1]), next(chance), side="right")
    wide = happens(odds.blurred) * odds.blur * next(chance)
    narrow = wide * np.where(happens(odds.elongated) > 0, between(*odds.roundness), 1)
    inverse, diagonal = _split_blur(wide, narrow, math.pi * next(chance))
    sensor = happens(odds.sensor)
    light = sensor * scaled(*odds.shot), sensor * scaled(*odds.read) ** 2
    strength, grey = happens(odds.gaussian) * scaled(*odds.strength), happens(odds.grey)
    grain = _gaussians(happens(odds.smoothed) * between(*odds.grain))
    amount, unsharp = happens(odds.sharpened) * between(*odds.amount), _gaussians(between(*odds.radius))
    rows = {
        "kernel": kernel,
        "flags": np.stack((happens(odds.subsampled), happens(odds.subsampled)), 1),
        "inverse": inverse,
        "diagonal": diagonal,
        "noise": np.stack((*light, strength * (1 - grey), strength * grey), 1),
        # Smoothing must not weaken the noise.
        "grain": grain / np.sqrt((grain**2).sum((1, 2), keepdims=True)),
        "amount": amount[:, None],
        "unsharp": unsharp,
        "tables": _tables(next(chance), odds),
        "tables_before": _tables(next(chance), odds),
    }
    parts = [rows[name].reshape(count, -1)[order] for name in [*_LAYOUT][1:]]
    together = np.concatenate((np.stack((order, np.argsort(order)), 1), *parts), 1, dtype=np.float32)
    clean, once, twice = (int(share.sum()) for share in (1 - dirty, compressed, again))
    return _Drawn(torch.from_numpy(together), clean, once, twice, (int(top), int(left)))


def _tables(chance: Array, odds: Strengths) -> Array:
    """Draw qualities, high ones more often, and return their tables."""
    worst, best = odds.quality
    quality = np.round(best - (best - worst) * chance**1.75)
    return tables(torch.from_numpy(quality)).numpy()


def _split_blur(along: Array, across: Array, angle: Array) -> tuple[Array, Array]:
    """Split rotated Gaussian blurs into a blur along the axes, which is separable, and one along a diagonal.

    A covariance [[a, c], [c, b]] is the sum of diag(a − |c|, b − |c|) and |c|·[[1, ±1], [±1, 1]]. The variances of the
    first are not negative at any angle if the narrow deviation is at least √2 − 1 of the wide one. The second is a blur
    along a diagonal, whose variance three values match exactly because it is below 1/2.

    Args:
        along: ``(B,)``, standard deviations along the wide axis, in pixels.
        across: ``(B,)``, standard deviations along the narrow axis.
        angle: ``(B,)``, angles of the wide axis, in radians.

    Returns:
        −1/2 divided by the variances along y and x, ``(B, 2)``, and the diagonal kernels, ``(B, 3, 3)``.
    """
    a, b, sin, cos = along**2, across**2, np.sin(angle), np.cos(angle)
    both = (a - b) * sin * cos
    variances = np.stack((a * sin**2 + b * cos**2, a * cos**2 + b * sin**2), 1) - np.abs(both)[:, None]
    falling, rising = (np.maximum(part, 0)[:, None, None] for part in (both, -both))
    line = np.diag([0.5, -1, 0.5])
    kernels = falling * line + rising * line[::-1]
    kernels[:, 1, 1] += 1
    return -0.5 / np.maximum(variances, 1e-4), kernels


def _gaussians(deviation: Array) -> Array:
    """Return round Gaussian kernels that sum to 1, ``(B, 7, 7)``; a single 1 for deviation 0."""
    distance = np.arange(-_RADIUS, _RADIUS + 1)
    profile = np.exp(-0.5 * (distance / np.maximum(deviation, 1e-2)[:, None]) ** 2)
    kernels = profile[:, :, None] * profile[:, None, :]
    return kernels / kernels.sum((1, 2), keepdims=True)


def _downscaled(high: Tensor, size: Size, settings: _Settings) -> Tensor:
    """Blur along the axes and downscale each sample by its own matrices, clamping overshoots to [0, 1]."""
    along_y, along_x = (
        _weights(before, after, settings.kernel, inverse)
        for before, after, inverse in zip(high.shape[2:], size, settings.inverse.unbind(1), strict=True)
    )
    narrow = (high.flatten(1, 2) @ along_x.mT).unflatten(1, high.shape[1:3])
    return (along_y[:, None] @ narrow).clamp_(0, 1)


def _weights(before: int, after: int, kernel: Tensor, inverse: Tensor) -> Tensor:
    """Return the matrices that blur and downscale an axis, one for each image: ``(B, after, before)``."""
    at = torch.arange(before, dtype=torch.float32, device=kernel.device) * (after / before)
    blur = ((at - at[:, None]).square_() * inverse[:, None, None]).clamp_(min=-60).exp_()
    blur /= blur.sum(2, keepdim=True)
    return send(_kernels(before, after), kernel.device)[kernel] @ blur


def _kernels(before: int, after: int) -> Tensor:
    """Return the matrices of the downscaling kernels: bicubic, box and triangle, ``(3, after, before)``.

    The kernels are antialiased; samples beyond the edge have no weight.
    """
    stretch = before / after
    centre = (torch.arange(after)[:, None] + 0.5) * stretch - 0.5
    distance = (centre - torch.arange(before)).abs()
    box = ((stretch + 1) / 2 - distance).clamp(0, 1)  # share of a sample within the box
    weights = torch.stack((bicubic.keys(distance / stretch, -0.5), box, (1 - distance / stretch).clamp(min=0)))
    return weights / weights.sum(2, keepdim=True)


def _blurred_along_diagonals(low: Tensor, settings: _Settings) -> Tensor:
    """Apply the diagonal blur after downscaling, where three values suffice except for the finest detail."""
    return _convolved(F.pad(low, (1,) * 4, mode="replicate").transpose(0, 1), settings.diagonal)


def _convolved(fields: Tensor, kernels: Tensor) -> Tensor:
    """Convolve ``(C, B, …)``, each sample with its own kernel, to ``(B, C, …)`` without padding."""
    return F.conv2d(fields, kernels[:, None], groups=kernels.shape[0]).transpose(0, 1)


def _noisy(low: Tensor, settings: _Settings, generator: torch.Generator) -> Tensor:
    """Add sensor noise in linear light, and noise that does not depend on light.

    Both use the same random field, so their standard deviations add up.
    """
    count, _, height, width = low.shape
    shape = 4, count, height + 2 * _RADIUS, width + 2 * _RADIUS
    field = _convolved(torch.randn(shape, generator=generator, device=low.device), settings.grain)
    shot, read, coloured, grey = settings.noise[..., None, None, None].unbind(1)
    light = _to_light(low)
    deviation = torch.addcmul(read, light, shot).sqrt_()
    low = _from_light(torch.addcmul(light, deviation, field[:, :3]).clamp_(0, 1))
    return low.addcmul_(coloured, field[:, :3]).addcmul_(grey, field[:, 3:])


def _to_light(values: Tensor) -> Tensor:
    """Convert sRGB values in [0, 1] to linear light (IEC 61966-2-1)."""
    return torch.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _from_light(light: Tensor) -> Tensor:
    """Convert linear light in [0, 1] to sRGB values."""
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def _sharpened(low: Tensor, settings: _Settings) -> Tensor:
    """Sharpen by unsharp masking, as cameras do."""
    padded = F.pad(low, (_RADIUS,) * 4, mode="replicate").transpose(0, 1)
    return torch.addcmul(low, low - _convolved(padded, settings.unsharp), settings.amount[..., None, None])
