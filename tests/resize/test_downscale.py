"""Downscaling as MATLAB and as Pillow do it."""

from __future__ import annotations

import itertools
import math
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from gsrcli.metrics.psnr_ssim import luma, psnr
from gsrcli.resize.downscale import downscale, imresize
from gsrcli.size import Size


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=random, dtype=torch.uint8)


# By hand

# Halved, a sample in the middle sees its neighbours at 1/4, 3/4, 5/4 and 7/4 of the stretched kernel, which is there
# 111/128, 29/128, −9/128 and −3/128.
HALVING = [Fraction(n, 256) for n in (-3, -9, 29, 111, 111, 29, -9, -3)]


def test_an_impulse_halved() -> None:
    for at in range(8):
        row = torch.zeros(1, 24, dtype=torch.float64)
        row[0, 8 + at] = 1
        halved = imresize(row.expand(3, 4, 24), Size(4, 12))
        expected = np.zeros(12)
        for out in range(12):  # sees samples 2·out − 3 to 2·out + 4
            if 0 <= (tap := 8 + at - (2 * out - 3)) < 8:
                expected[out] = HALVING[tap]
        np.testing.assert_array_equal(halved[0, 0].numpy(), expected)


def test_the_edge_is_mirrored_with_the_edge() -> None:
    row = torch.tensor([[200.0, 10, 30, 50, 70, 90, 110, 130]], dtype=torch.float64)
    mirrored = [30, 10, 200, 200, 10, 30, 50, 70]  # what the first sample of the halved row sees
    expected = sum(weight * value for weight, value in zip(HALVING, mirrored, strict=True))
    assert imresize(row, Size(1, 4))[0, 0].item() == float(expected)


def test_halves_are_rounded_upwards() -> None:
    pair = torch.tensor([[[80, 81], [81, 82]]], dtype=torch.uint8).expand(3, 2, 2)
    assert downscale(pair, Size(2, 1), "matlab")[0].tolist() == [[81], [82]]


def test_smaller_than_the_kernel() -> None:
    """Downscaling three samples by ten spans 40 samples, so the image is mirrored several times."""
    row = torch.tensor([[0.0, 60, 120]], dtype=torch.float64)
    assert imresize(row, Size(1, 1)).item() == pytest.approx(60)
    single = torch.full((1, 1), 7.0, dtype=torch.float64)
    np.testing.assert_allclose(imresize(single, Size(2, 3)), np.full((2, 3), 7.0), atol=1e-14)


def keys(x: Fraction) -> Fraction:
    x = abs(x)
    if x <= 1:
        return Fraction(3, 2) * x**3 - Fraction(5, 2) * x**2 + 1
    return -Fraction(1, 2) * x**3 + Fraction(5, 2) * x**2 - 4 * x + 2 if x <= 2 else Fraction(0)


def exact_weights(before: int, after: int) -> list[list[Fraction]]:
    """Resample as MATLAB documents it, sample by sample, in exact arithmetic."""
    scale = Fraction(after, before)
    kernel = min(scale, Fraction(1))
    reach = math.ceil(2 / kernel) + 1
    rows = []
    for out in range(after):
        centre = (out + Fraction(1, 2)) / scale - Fraction(1, 2)
        row = [Fraction(0)] * before
        for tap in range(math.floor(centre) - reach, math.floor(centre) + reach + 1):
            folded = tap % (2 * before)
            row[folded if folded < before else 2 * before - 1 - folded] += keys(kernel * (centre - tap))
        rows.append([weight / sum(row) for weight in row])
    return rows


def is_dyadic(value: Fraction) -> bool:
    """Return whether floating point represents it exactly."""
    return value.denominator & (value.denominator - 1) == 0


@settings(max_examples=25, deadline=None)
@example(before=(1, 6), parts=(1.0, 0.125), seed=201)  # a half of sixths
@given(
    before=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    parts=st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)),
    seed=st.integers(0, 1000),
)
def test_it_downscales_as_exact_arithmetic_does(before: tuple[int, int], parts: tuple[float, float], seed: int) -> None:
    after = tuple(max(1, round(side * part)) for side, part in zip(before, parts, strict=True))
    plane = picture(*before, seed)[0].tolist()
    along_y, along_x = (exact_weights(b, a) for b, a in zip(before, after, strict=True))
    low = downscale(torch.tensor(plane, dtype=torch.uint8).expand(3, *before), Size(after[0], after[1]), "matlab")
    assert low.shape == (3, *after)
    for y, x in itertools.product(*map(range, after)):
        value = sum(
            wy * wx * plane[i][j]
            for (i, wy), (j, wx) in itertools.product(enumerate(along_y[y]), enumerate(along_x[x]))
            if wy and wx
        )
        rounded = min(max(math.floor(value + Fraction(1, 2)), 0), 255)
        is_near_a_half = abs(value % 1 - Fraction(1, 2)) < Fraction(1, 10**9)
        has_exact_weights = all(is_dyadic(weight) for weight in (*along_y[y], *along_x[x]))
        assert low[:, y, x].tolist() == [rounded] * 3 or (is_near_a_half and not has_exact_weights)


# By MATLAB itself, as the tests of Octave's image package record what its imresize gave

SAMPLES = [
    [116, 227, 153, 69, 146, 194, 59, 130, 139, 106],
    [2, 47, 137, 249, 90, 75, 16, 24, 158, 44],
    [155, 68, 46, 84, 166, 156, 69, 204, 32, 152],
    [71, 221, 137, 230, 210, 153, 192, 115, 30, 118],
    [107, 143, 108, 52, 51, 73, 101, 21, 175, 90],
    [54, 158, 143, 77, 26, 168, 113, 229, 165, 225],
    [9, 47, 133, 135, 130, 207, 236, 43, 19, 73],
    [129, 60, 59, 243, 64, 181, 249, 56, 32, 86],
]
HALVED_BY_MATLAB = [
    [105, 140, 126, 81, 109],
    [110, 134, 153, 114, 93],
    [108, 108, 94, 127, 146],
    [67, 126, 162, 149, 62],
]


def test_it_halves_as_matlab_does() -> None:
    """MATLAB rounds 8-bit images after each axis, rows first; datasets use im2double, which does not round."""
    samples = torch.tensor(SAMPLES, dtype=torch.uint8).expand(3, 8, 10)
    axis_by_axis = downscale(downscale(samples, Size(4, 10), "matlab"), Size(4, 5), "matlab")
    assert axis_by_axis[0].tolist() == HALVED_BY_MATLAB
    at_once = downscale(samples, Size(4, 5), "matlab")
    assert (at_once.int() - axis_by_axis.int()).abs().max() <= 1


def test_it_enlarges_as_matlab_does() -> None:
    row = torch.tensor([[10.0, 6.0]], dtype=torch.float64)
    expected = [[10.27777777777777, 8, 5.72222222222222]] * 3
    np.testing.assert_allclose(imresize(row, Size(3, 3)).numpy(), expected, atol=1e-13)


# Pillow, and what both have in common


@pytest.mark.parametrize("after", [(20, 27), (7, 9), (39, 54), (1, 1), (40, 55)])
def test_pillow_is_pillow(after: tuple[int, int]) -> None:
    original = picture(40, 55)
    image = Image.fromarray(original.permute(1, 2, 0).numpy()).resize(after[::-1], Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(
        downscale(original, Size(*after), "pillow").permute(1, 2, 0).numpy(), np.asarray(image)
    )


@pytest.mark.parametrize("kind", ["matlab", "pillow"])
def test_away_from_the_edge_both_agree_but_for_rounding(kind: str) -> None:
    original = picture(60, 90)
    low = downscale(original, Size(20, 30), kind)  # type: ignore[arg-type]
    assert (low.dtype, low.shape, low.is_contiguous()) == (torch.uint8, (3, 20, 30), True)
    other = downscale(original, Size(20, 30), "pillow" if kind == "matlab" else "matlab")
    difference = (low.int() - other.int()).abs()
    assert difference[:, 2:-2, 2:-2].max() <= 1
    assert difference.max() > 1
    assert torch.equal(downscale(original, Size(60, 90), kind), original)  # type: ignore[arg-type]


def test_other_ways_are_refused() -> None:
    with pytest.raises(ValueError, match="invalid kind 'nearest'"):
        downscale(picture(8, 8), Size(4, 4), "nearest")  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", ["matlab", "pillow"])
def test_a_gpu_gives_the_same_bytes(kind: str) -> None:
    original = picture(61, 83)
    low = downscale(original.cuda(), Size(17, 20), kind)  # type: ignore[arg-type]
    assert low.device.type == "cuda"
    assert torch.equal(low.cpu(), downscale(original, Size(17, 20), kind))  # type: ignore[arg-type]


# The test sets of the papers, where they are at hand

FLOOR = {
    ("set5", 2): 33.682,
    ("set5", 3): 30.405,
    ("set5", 4): 28.431,
    ("set14", 2): 30.330,
    ("set14", 3): 27.634,
    ("set14", 4): 26.092,
    ("bsd100", 2): 29.565,
    ("bsd100", 3): 27.211,
    ("bsd100", 4): 25.963,
}
"""Mean PSNR of bicubic there and back, in dB on Y with a border of the scale; for Set5, 33.66, 30.39 and 28.42 are
published."""


@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "scale"), FLOOR)
def test_there_and_back(dataset: str, scale: int) -> None:
    folder = Path(os.environ.get("GSRCLI_BENCHMARK", "")) / dataset
    if "GSRCLI_BENCHMARK" not in os.environ or not folder.is_dir():
        pytest.skip("GSRCLI_BENCHMARK has no such data set")
    scores = []
    for path in sorted(folder.glob("*.webp")):
        pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)
        low_size = (pixels.shape[1] // scale, pixels.shape[2] // scale)
        size = (low_size[0] * scale, low_size[1] * scale)
        original = pixels[:, : size[0], : size[1]]
        low = downscale(original, Size(*low_size), "matlab")
        restored = (imresize(low.double(), Size(*size)).clamp(0, 255) + 0.5).floor()
        scores.append(psnr(luma(restored / 255), luma(original.double() / 255), scale))
    assert sum(scores) / len(scores) == pytest.approx(FLOOR[dataset, scale], abs=0.005)
