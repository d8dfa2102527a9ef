"""The degradations of photographs."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from gsrcli.degradation.photo import PHOTOGRAPHS, _draw, _split_blur, degrade
from gsrcli.resize import bicubic
from gsrcli.size import Size

NOTHING = replace(PHOTOGRAPHS, clean=0, kernels=(1, 0, 0), blurred=0, sensor=0, gaussian=0, sharpened=0, compressed=0)
STEP = 1 / 255


def pictures(count: int, height: int, width: int, seed: int = 0, detail: float = 1.5) -> torch.Tensor:
    """Return smooth images with some detail and moderate contrast."""
    random = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(random.normal(size=(count, 3, height, width)), (0, 0, detail, detail))
    fields *= detail / 1.5
    return torch.from_numpy((0.5 + 0.5 * fields).clip(0, 1)).float()


def flat(values: list[float], side: int = 96) -> torch.Tensor:
    return torch.tensor(values)[:, None, None, None].expand(-1, 3, side, side).contiguous()


def assert_eight_bits(low: torch.Tensor) -> None:
    assert low.dtype == torch.float32
    assert torch.equal(low, (low * 255).round().clamp(0, 255) / 255)


# The whole chain


@pytest.mark.parametrize(
    ("before", "after"), [((144, 144), (48, 48)), ((61, 83), (17, 40)), ((40, 33), (40, 33)), ((64, 9), (5, 7))]
)
@pytest.mark.parametrize("count", [1, 3, 24])
def test_shapes_and_ranges(before: tuple[int, int], after: tuple[int, int], count: int) -> None:
    high = pictures(count, *before)
    for seed in range(6):  # with one image, each outcome comes alone
        low = degrade(high, Size(*after), seed)
        assert low.shape == (count, 3, *after)
        assert_eight_bits(low)


def test_a_seed_repeats_and_leaves_the_global_generators_alone() -> None:
    high = pictures(12, 60, 60)
    state = torch.get_rng_state()
    first = degrade(high, Size(20, 20), 7)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(1)
    assert torch.equal(degrade(high, Size(20, 20), 7), first)
    other = degrade(high, Size(20, 20), 8)
    assert (other != first).flatten(1).any(1).sum() >= 8


def test_what_a_sample_becomes_does_not_depend_on_the_others() -> None:
    """Neither on the other images nor on their order, only on its index and the seed."""
    high = pictures(12, 60, 60)
    low = degrade(high, Size(20, 20), 3)
    changed = high.flip(0)
    changed[5] = high[5]
    assert torch.equal(degrade(changed, Size(20, 20), 3)[5], low[5])


def test_settings_do_not_depend_on_how_many_follow() -> None:
    few, many = (_draw(count, 11, PHOTOGRAPHS).rows for count in (5, 40))
    few, many = (rows[rows[:, 0].argsort(), 2:] for rows in (few, many))
    assert torch.equal(few, many[:5])


def test_clean_samples_are_downscaled_and_nothing_else() -> None:
    high = pictures(200, 36, 45)
    low, shrunk = degrade(high, Size(12, 20), 5), bicubic.downscale_rounded(high, Size(12, 20))
    same = (low == shrunk).flatten(1).all(1)
    drawn = _draw(200, 5, PHOTOGRAPHS)
    assert same[drawn.rows[: drawn.clean, 0].long()].all()
    assert 0.12 < drawn.clean / 200 < 0.24
    assert same.float().mean() < 0.3
    all_clean = replace(PHOTOGRAPHS, clean=1)
    assert torch.equal(degrade(high[:3], Size(12, 20), 5, all_clean), shrunk[:3])


def test_it_is_mild_and_each_sample_stays_the_picture_it_was() -> None:
    high = pictures(64, 96, 96, detail=4)
    low, shrunk = degrade(high, Size(32, 32), 2), bicubic.downscale_rounded(high, Size(32, 32))
    error = (low - shrunk).square().mean((1, 2, 3)).sqrt()
    assert 0.005 < error.median() < 0.05
    assert error.max() < 0.15
    assert (low - shrunk).mean((1, 2, 3)).abs().max() < 0.02  # no darker, no brighter


def test_shares_are_as_configured() -> None:
    drawn = _draw(4000, 1, PHOTOGRAPHS)
    dirty = 1 - PHOTOGRAPHS.clean
    assert drawn.clean / 4000 == pytest.approx(PHOTOGRAPHS.clean, abs=0.03)
    assert drawn.compressed / 4000 == pytest.approx(dirty * PHOTOGRAPHS.compressed, abs=0.03)
    assert drawn.again / drawn.compressed == pytest.approx(PHOTOGRAPHS.again, abs=0.03)
    kernels = np.bincount(drawn.rows[:, 2].int().numpy(), minlength=3) / 4000
    np.testing.assert_allclose(kernels, PHOTOGRAPHS.kernels, atol=0.03)


# Link by link


def test_downscaling_alone_is_bicubic() -> None:
    high = pictures(3, 61, 90)
    low = degrade(high, Size(23, 31), 0, NOTHING)
    difference = (low - bicubic.downscale_rounded(high, Size(23, 31))).abs()
    assert difference.max() < 1.5 * STEP
    assert (difference == 0).float().mean() > 0.99


def test_other_kernels() -> None:
    high = pictures(2, 60, 90)
    box = degrade(high, Size(20, 30), 0, replace(NOTHING, kernels=(0, 1, 0)))
    means = high.unfold(2, 3, 3).unfold(3, 3, 3).mean((-1, -2))
    assert (box - means).abs().max() < 0.51 * STEP
    triangle = degrade(high, Size(23, 31), 0, replace(NOTHING, kernels=(0, 0, 1)))
    for plane, ours in zip(high.flatten(0, 1), triangle.flatten(0, 1), strict=True):
        theirs = np.asarray(Image.fromarray(plane.numpy()).resize((31, 23), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(ours, theirs, atol=0.51 * STEP)


def test_a_box_counts_parts_of_samples() -> None:
    high = pictures(1, 5, 5)
    box = degrade(high, Size(2, 2), 0, replace(NOTHING, kernels=(0, 1, 0)))
    parts = torch.tensor([[1, 1, 0.5, 0, 0], [0, 0, 0.5, 1, 1]]) / 2.5
    assert (box - parts @ high @ parts.mT).abs().max() < 0.51 * STEP


@pytest.mark.parametrize("elongated", [0.0, 1.0], ids=["round", "elongated"])
def test_it_blurs_before_it_downscales(elongated: float) -> None:
    """Compare with Gaussians at high resolution, by a convolution that is not split by axes and diagonals."""
    odds = replace(NOTHING, blurred=1, elongated=elongated)
    high = pictures(10, 180, 240, seed=2, detail=2.5)
    low = degrade(high, Size(60, 80), 9, odds)
    plain = bicubic.downscale_rounded(high, Size(60, 80))
    for sample, covariance in enumerate(drawn_covariances(10, 9, odds)):
        kernel = gaussian(9 * covariance)  # three times as wide
        blurred = np.stack([ndimage.convolve(plane, kernel, mode="nearest") for plane in high[sample].numpy()])
        expected = bicubic.downscale_rounded(torch.from_numpy(blurred)[None], Size(60, 80))[0]
        difference, effect = (
            (picture[sample] - expected)[:, 3:-3, 3:-3].square().mean().sqrt().item() for picture in (low, plain)
        )
        assert difference < max(0.15 * effect, 0.75 * STEP)


def drawn_covariances(count: int, seed: int, odds: object) -> list[np.ndarray]:
    """Return the covariances of samples in their original order, reassembled from their settings."""
    rows = _draw(count, seed, odds).rows.double()  # type: ignore[arg-type]
    rows = rows[rows[:, 0].argsort()]
    variances, diagonal = -0.5 / rows[:, 5:7], rows[:, 7:16].unflatten(1, (3, 3))
    falling, rising = 2 * diagonal[:, 0, 0], 2 * diagonal[:, 0, 2]
    both = falling + rising
    return [
        np.array([[y + b, f - r], [f - r, x + b]])
        for (y, x), b, f, r in zip(variances.tolist(), both.tolist(), falling.tolist(), rising.tolist(), strict=True)
    ]


def gaussian(covariance: np.ndarray) -> np.ndarray:
    radius = int(np.ceil(4 * np.sqrt(np.linalg.eigvalsh(covariance)[-1]))) + 1
    at = np.stack(np.mgrid[-radius : radius + 1, -radius : radius + 1], -1)
    kernel = np.exp(-0.5 * np.einsum("yxi,ij,yxj->yx", at, np.linalg.inv(covariance), at))
    return kernel / kernel.sum()


@pytest.mark.parametrize("roundness", [0.42, 0.7, 1.0])
def test_rotated_gaussians_are_split_without_a_remainder(roundness: float) -> None:
    angle = np.linspace(0, np.pi, 181)
    wide = np.full_like(angle, 1.0)
    inverse, diagonal = _split_blur(wide, roundness * wide, angle)
    turn = np.stack([np.stack((np.sin(angle), np.cos(angle)), 1), np.stack((np.cos(angle), -np.sin(angle)), 1)], 2)
    expected = turn @ np.diag([1, roundness**2]) @ turn.transpose(0, 2, 1)
    at = np.stack(np.mgrid[-1:2, -1:2], -1)
    moments = np.einsum("nyx,yxi,yxj->nij", diagonal, at, at)
    assert (diagonal >= 0).all()
    np.testing.assert_allclose(diagonal.sum((1, 2)), 1)
    np.testing.assert_allclose(moments + np.eye(2) * (-0.5 / inverse)[:, None], expected, atol=2e-4)


def test_blur_widens_an_edge() -> None:
    high = torch.zeros(20, 3, 90, 90)
    high[..., 45:] = 0.6
    widths = []
    for odds in (NOTHING, replace(NOTHING, blurred=1, elongated=0)):
        slope = degrade(high, Size(30, 30), 4, odds)[:, 0, 15].diff(dim=1).clamp(min=0)
        at = torch.arange(29.0)
        centre = (slope * at).sum(1) / slope.sum(1)
        widths.append((slope * (at - centre[:, None]) ** 2).sum(1) / slope.sum(1))
    drawn = torch.tensor(
        [covariance[1, 1] for covariance in drawn_covariances(20, 4, replace(NOTHING, blurred=1, elongated=0))]
    )
    wide = drawn > 0.2
    assert wide.any()
    assert (widths[1] > widths[0])[wide].all()


def to_light(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def test_a_sensors_noise_grows_with_light() -> None:
    """Its variance in linear light is proportional to the value, plus a constant."""
    shot, read = 1e-3, 4e-3
    odds = replace(NOTHING, sensor=1, shot=(shot, shot), read=(read, read), smoothed=0)
    values = [0.3, 0.45, 0.6, 0.75, 0.9]
    light = to_light(degrade(flat(values), Size(96, 96), 0, odds).double().numpy())
    deviations = light.std((1, 2, 3))
    levels = to_light(np.array(values))
    assert (np.diff(deviations) > 0).all()
    np.testing.assert_allclose(deviations, np.sqrt(shot * levels + read**2), rtol=0.04)
    np.testing.assert_allclose(light.mean((1, 2, 3)), levels, rtol=0.005)


def test_other_noise_is_as_strong_everywhere() -> None:
    odds = replace(NOTHING, gaussian=1, strength=(0.03, 0.03), grey=0, smoothed=0)
    low = degrade(flat([0.3, 0.5, 0.7]), Size(96, 96), 0, odds).double().numpy()
    np.testing.assert_allclose(low.std((1, 2, 3)), 0.03, rtol=0.03)
    np.testing.assert_allclose(low.mean((1, 2, 3)), [0.3, 0.5, 0.7], atol=0.002)
    channels = np.corrcoef(low[0].reshape(3, -1))
    assert np.abs(channels - np.eye(3)).max() < 0.05
    assert abs(neighbours(low[0])) < 0.03


def test_noise_may_be_grey_or_blotches() -> None:
    odds = replace(NOTHING, gaussian=1, strength=(0.03, 0.03), grey=1, smoothed=1, grain=(0.8, 0.8))
    low = degrade(flat([0.5, 0.5]), Size(96, 96), 0, odds).double().numpy()
    assert (low == low[:, :1]).all()
    assert (low[0] != low[1]).mean() > 0.8
    np.testing.assert_allclose(low.std((1, 2, 3)), 0.03, rtol=0.08)  # as strong as it was
    assert neighbours(low[0]) == pytest.approx(np.exp(-1 / (4 * 0.8**2)), abs=0.05)  # a Gaussian's with itself


def neighbours(picture: np.ndarray) -> float:
    left, right = picture[..., :-1].ravel(), picture[..., 1:].ravel()
    return float(np.corrcoef(left, right)[0, 1])


def test_sharpening_is_an_unsharp_mask() -> None:
    high = pictures(2, 60, 60, seed=5) * 0.6 + 0.2
    odds = replace(NOTHING, sharpened=1, amount=(0.5, 0.5), radius=(1.0, 1.0))
    sharpened = degrade(high, Size(60, 60), 0, odds).numpy()
    smooth = ndimage.gaussian_filter(high.numpy(), (0, 0, 1, 1), mode="nearest", radius=(0, 0, 3, 3))
    expected = high.numpy() + 0.5 * (high.numpy() - smooth)
    np.testing.assert_allclose(sharpened, expected.clip(0, 1), atol=0.51 * STEP)


def through_files(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=2)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("again", [0.0, 1.0], ids=["once", "twice"])
def test_files_are_jpeg_and_their_blocks_may_lie_elsewhere(again: float) -> None:
    """Compare with libjpeg, run again after cropping rows and columns."""
    odds = replace(NOTHING, compressed=1, quality=(40, 40), subsampled=1, again=again)
    high = pictures(2, 64, 80)
    low = degrade(high, Size(64, 80), 6, odds)
    top, left = _draw(2, 6, odds).shift
    assert 1 <= top <= 7
    assert 1 <= left <= 7
    for ours, plain in zip(low, (high * 255).round().byte(), strict=True):
        pixels = plain.permute(1, 2, 0).numpy()
        if again:
            larger = np.pad(pixels, ((top, 0), (left, 0), (0, 0)), mode="edge")
            pixels = through_files(larger, 40)[top:, left:].copy()
        expected = through_files(pixels, 40).astype(np.float64)
        difference = np.abs((ours * 255).permute(1, 2, 0).numpy() - expected)
        assert difference.mean() < 0.02
        assert np.abs(expected - plain.permute(1, 2, 0).numpy()).mean() > 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_repeats_and_is_not_waited_for() -> None:
    high = pictures(24, 96, 96).cuda()
    first = degrade(high, Size(32, 32), 4)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        second = degrade(high, Size(32, 32), 4)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(first, second)
    assert_eight_bits(first.cpu())
    quiet = replace(PHOTOGRAPHS, sensor=0, gaussian=0, compressed=0)
    difference = (degrade(high, Size(32, 32), 4, quiet).cpu() - degrade(high.cpu(), Size(32, 32), 4, quiet)).abs()
    assert difference.max() < 1.5 * STEP
