from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio

from gsrcli.metrics import luma, psnr


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


@pytest.mark.parametrize("border", [0, 1, 4])
@pytest.mark.parametrize("amount", [1e-4, 0.03, 1.0])
def test_psnr(border: int, amount: float) -> None:
    first = noise(3, 20, 17)
    second = (first + amount * (noise(3, 20, 17, seed=1) - 0.5)).clamp(0, 1)
    second[:, :4] = 0  # seen without the border only, in part
    inside = np.s_[:, border : 20 - border, border : 17 - border]
    expected = peak_signal_noise_ratio(first.double().numpy()[inside], second.double().numpy()[inside], data_range=1)
    assert psnr(first, second, border) == pytest.approx(expected, abs=1e-4)
    assert psnr(first[None], second[None], border) == pytest.approx(expected, abs=1e-4)


def test_psnr_of_equal_pictures_is_infinite() -> None:
    assert psnr(noise(3, 8, 8), noise(3, 8, 8)) == math.inf


def test_psnr_refuses_shapes_that_would_broadcast() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        psnr(noise(3, 8, 8), noise(1, 8, 8))


@pytest.mark.parametrize("border", [4, 5])
def test_psnr_refuses_a_border_that_leaves_nothing(border: int) -> None:
    with pytest.raises(ValueError, match="border"):
        psnr(noise(3, 8, 9), noise(3, 8, 9, seed=1), border)
