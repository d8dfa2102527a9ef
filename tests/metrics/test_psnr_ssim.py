from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from gsrcli.metrics.psnr_ssim import from_integers, luma, psnr, ssim


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_luma_is_the_studio_range_y() -> None:
    picture = noise(3, 9, 11)
    expected = rgb2ycbcr(picture.double().permute(1, 2, 0).numpy())[..., 0] / 255
    np.testing.assert_allclose(luma(picture)[0].numpy(), expected, atol=1e-6)
    ends = luma(torch.tensor([0.0, 1.0]).expand(3, 1, 2))
    np.testing.assert_allclose(ends.numpy(), np.array([[[16, 235]]]) / 255, atol=1e-6)


@pytest.mark.parametrize("lead", [(), (2,), (2, 4)])
def test_luma_of_batches(lead: tuple[int, ...]) -> None:
    pictures = noise(*lead, 3, 5, 6)
    y = luma(pictures)
    assert y.shape == (*lead, 1, 5, 6)
    one_by_one = torch.stack([luma(picture) for picture in pictures.view(-1, 3, 5, 6)])
    torch.testing.assert_close(y.view(-1, 1, 5, 6), one_by_one)


def test_luma_is_the_same_in_every_memory_layout() -> None:
    picture = noise(2, 3, 61, 43).double()
    for layout in (torch.contiguous_format, torch.channels_last):
        assert torch.equal(luma(picture.contiguous(memory_format=layout)), luma(picture))
    assert torch.equal(luma(picture[..., 5:-5, 7:-7]), luma(picture)[..., 5:-5, 7:-7])


def test_the_same_fraction_is_the_same_number() -> None:
    eight = torch.arange(256, dtype=torch.uint8)
    values = from_integers(eight, 255)
    assert torch.equal(values, from_integers(eight.int() * 257, 65535))
    assert values.tolist() == [value / 255 for value in range(256)]


@pytest.mark.parametrize("border", [0, 1, 4])
@pytest.mark.parametrize("amount", [1e-4, 0.03, 1.0])
def test_psnr(border: int, amount: float) -> None:
    first = noise(3, 20, 17)
    second = (first + amount * (noise(3, 20, 17, seed=1) - 0.5)).clamp(0, 1)
    second[:, :4] = 0  # seen without the border only, in part
    inside = np.s_[:, border : 20 - border, border : 17 - border]
    expected = peak_signal_noise_ratio(first.double().numpy()[inside], second.double().numpy()[inside], data_range=1)
    assert psnr(first, second, border) == pytest.approx(expected, abs=1e-9)
    assert psnr(first[None], second[None], border) == pytest.approx(expected, abs=1e-9)


def test_psnr_of_equal_pictures_is_infinite() -> None:
    assert psnr(noise(3, 8, 8), noise(3, 8, 8)) == math.inf


def test_psnr_refuses_shapes_that_would_broadcast() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        psnr(noise(3, 8, 8), noise(1, 8, 8))


@pytest.mark.parametrize("border", [4, 5])
def test_psnr_refuses_a_border_that_leaves_nothing(border: int) -> None:
    with pytest.raises(ValueError, match="border"):
        psnr(noise(3, 8, 9), noise(3, 8, 9, seed=1), border)


def ssim_of_scikit_image(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the mean over windows within planes ``(C, H, W)``."""
    _, similarity = structural_similarity(
        first.double().numpy(),
        second.double().numpy(),
        data_range=1,
        channel_axis=0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    return similarity[:, 5:-5, 5:-5].mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(11, 11), (11, 30), (40, 23)])
@pytest.mark.parametrize("amount", [1e-4, 0.03, 1.0])
def test_ssim(size: tuple[int, int], amount: float, dtype: torch.dtype) -> None:
    first = noise(3, *size).to(dtype)
    first[:, : size[0] // 2] = 0.9  # where all is flat, constants decide
    second = (first + amount * (noise(3, *size, seed=1) - 0.5)).clamp(0, 1)
    expected = ssim_of_scikit_image(first, second)
    assert ssim(first, second) == pytest.approx(expected, abs=1e-12)
    assert ssim(first[None], second[None]) == pytest.approx(expected, abs=1e-12)


def test_ssim_by_the_formula() -> None:
    """The formula is written out for one window."""
    first, second = noise(1, 11, 11)[0].double().numpy(), noise(1, 11, 11, seed=1)[0].double().numpy()
    window = np.exp(-(np.arange(-5, 6)[:, None] ** 2 + np.arange(-5, 6) ** 2) / 4.5)
    window /= window.sum()
    a, b = (window * first).sum(), (window * second).sum()
    aa, bb, ab = ((window * product).sum() for product in (first * first, second * second, first * second))
    light = (2 * a * b + 0.01**2) / (a * a + b * b + 0.01**2)
    shape = (2 * (ab - a * b) + 0.03**2) / (aa - a * a + bb - b * b + 0.03**2)
    assert ssim(torch.tensor(first)[None], torch.tensor(second)[None]) == pytest.approx(light * shape, abs=1e-14)


def test_ssim_of_equal_and_of_inverted_pictures() -> None:
    picture = noise(3, 20, 30)
    assert ssim(picture, picture) == pytest.approx(1, abs=1e-15)
    assert ssim(picture, 1 - picture) < -0.5


def test_ssim_refuses_what_it_cannot_compare() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        ssim(noise(3, 20, 20), noise(1, 20, 20))
    with pytest.raises(ValueError, match="no window of 11×11 pixels fits"):
        ssim(noise(3, 10, 40), noise(3, 10, 40))
