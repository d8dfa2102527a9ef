"""Protocols, against the same computation written out in numpy's float64."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from gsrcli.errors import PictureError
from gsrcli.evaluation.protocols import PROTOCOLS
from gsrcli.size import Size
from gsrcli.upscaling.target import Target

NAMES = pytest.mark.parametrize("name", PROTOCOLS)


def pair(height: int, width: int, amount: float = 6.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a restored picture, float32 and not rounded to 8 bits, and its original; they differ most at the edges."""
    random = torch.Generator().manual_seed(height * 1000 + width)
    original = torch.randint(0, 256, (3, height, width), generator=random, dtype=torch.uint8)
    restored = original + amount * torch.randn(original.shape, generator=random)
    restored[:, 0] = restored[:, -1] = restored[:, :, 0] = restored[:, :, -1] = 0
    return restored / 255, original


def expected(
    restored: torch.Tensor, original: torch.Tensor, channels: str, border: tuple[int, int], rounded: bool
) -> dict[str, float]:
    first, second = restored.clamp(0, 1).double().numpy() * 255, original.double().numpy()
    if rounded:
        first = np.rint(first)
    if channels == "Y":
        weights = np.array([65.481, 128.553, 24.966]) / 255
        first, second = (np.tensordot(weights, rgb, 1)[None] + 16 for rgb in (first, second))
    y, x = border
    inside = np.s_[:, y : first.shape[1] - y, x : first.shape[2] - x]
    first, second = first[inside], second[inside]
    _, similarity = structural_similarity(
        first, second, data_range=255, channel_axis=0, gaussian_weights=True, use_sample_covariance=False, full=True
    )
    error = np.mean((first - second) ** 2)
    return {"psnr": 10 * np.log10(255**2 / error), "ssim": similarity[:, 5:-5, 5:-5].mean()}


@pytest.mark.parametrize(
    ("name", "dataset", "scale", "channels", "border", "rounded"),
    [
        ("gsasr", "urban100", (2, 2), "Y", (2, 2), True),
        ("gsasr", "DIV2K", (8, 8), "Y", (8, 8), True),
        ("gsasr", "div2k", (30, 30), "Y", (8, 8), True),
        ("gsasr", "set5", (2.5, 2.5), "Y", (3, 3), True),
        ("gsasr", "set5", (7.5, 8.5), "Y", (8, 8), True),
        ("gsasr", "set5", (1.5, 4), "Y", (2, 4), True),
        ("liif", "set14", (4, 4), "Y", (4, 4), False),
        ("liif", "set14", (12, 12), "Y", (12, 12), False),
        ("liif", "div2k", (4, 4), "RGB", (10, 10), False),
        ("liif", "DIV2K-valid", (3.2, 2), "RGB", (10, 8), False),
        ("rgb", "div2k", (3, 3), "RGB", (3, 3), True),
        ("rgb", "b100", (18, 3), "RGB", (8, 3), True),
    ],
)
def test_scores(
    name: str, dataset: str, scale: tuple[float, float], channels: str, border: tuple[int, int], rounded: bool
) -> None:
    restored, original = pair(61, 75)
    scores = PROTOCOLS[name].score(restored, original, scale, dataset)
    for metric, value in expected(restored, original, channels, border, rounded).items():
        assert scores[metric] == pytest.approx(value, abs=1e-9)


def test_rounding_can_be_left_out() -> None:
    restored, original = pair(40, 40, amount=0.4)
    scores = [replace(PROTOCOLS["gsasr"], rounded=rounded).score(restored, original, (2, 2), "") for rounded in (0, 1)]
    assert abs(scores[0]["psnr"] - scores[1]["psnr"]) > 0.1
    assert scores[0]["psnr"] == pytest.approx(expected(restored, original, "Y", (2, 2), False)["psnr"], abs=1e-9)


@NAMES
def test_a_picture_restored_exactly(name: str) -> None:
    """The score does not depend on the memory layout; files have their channels last."""
    _, original = pair(50, 50)
    for restored in (original, original.permute(1, 2, 0).contiguous().permute(2, 0, 1)):
        scores = PROTOCOLS[name].score(restored.double() / 255, original, (4, 4), "set5")
        assert scores == {"psnr": math.inf, "ssim": pytest.approx(1, abs=1e-12)}


def test_what_is_compared_is_rgb_without_the_border() -> None:
    restored, original = pair(40, 50)
    restored[0, 20, 20] = 7
    first, second = PROTOCOLS["liif"].compared(restored, original, (2, 4), "div2k")
    torch.testing.assert_close(first, restored[:, 8:-8, 10:-10].clamp(0, 1).double())
    torch.testing.assert_close(second, original[:, 8:-8, 10:-10].double() / 255)
    first, _ = PROTOCOLS["gsasr"].compared(restored, original, (2, 4), "div2k")
    torch.testing.assert_close(first * 255, (restored[:, 2:-2, 4:-4].clamp(0, 1) * 255).round().double())


@NAMES
@pytest.mark.parametrize("size", [(5, 5), (1, 1), (100, 12), (26, 100)])
def test_pictures_that_are_too_small_are_refused(name: str, size: tuple[int, int]) -> None:
    restored, original = pair(*size)
    with pytest.raises(PictureError, match=rf"{size[1]}x{size[0]} pixels is too small .* 11x11 are needed"):
        PROTOCOLS[name].score(restored, original, (8, 8), "set5")


def test_the_message_has_both_borders() -> None:
    with pytest.raises(PictureError, match="a border of 3 at the sides and 2 above and below"):
        PROTOCOLS["gsasr"].score(*pair(9, 9), (2, 3), "set5")


def test_the_smallest_picture_is_scored() -> None:
    scores = PROTOCOLS["gsasr"].score(*pair(15, 15), (2, 2), "set5")
    assert all(map(math.isfinite, scores.values()))


def test_pictures_of_different_sizes_are_refused() -> None:
    restored, original = pair(40, 50)
    with pytest.raises(PictureError, match="the restored picture is 49x40, but the original is 50x40"):
        PROTOCOLS["rgb"].score(restored[:, :, 1:], original, (2, 2), "set5")


# Sizes


@pytest.mark.parametrize(
    ("size", "scale", "low", "high"),
    [
        ((481, 321), (4, 4), (120, 80), (480, 320)),
        ((250, 361), (3, 3), (83, 120), (249, 360)),
        ((33, 22), (1.1, 1.1), (30, 20), (33, 22)),
        ((100, 100), (30, 30), (3, 3), (90, 90)),
        ((100, 101), (2.5, 1.3), (40, 77), (100, 100)),
        ((13, 13), (2.5, 2.5), (5, 5), (13, 13)),
    ],
)
def test_sizes(size: tuple[int, int], scale: tuple[float, float], low: tuple[int, int], high: tuple[int, int]) -> None:
    protocol = PROTOCOLS["gsasr"]
    assert protocol.low_size(Size(*size), scale) == low
    assert protocol.high_size(Size(*low), scale) == high


@given(size=st.tuples(st.integers(64, 5000), st.integers(64, 5000)), scale=st.floats(1, 32))
def test_the_restored_size_is_within_the_original(size: tuple[int, int], scale: float) -> None:
    low = PROTOCOLS["gsasr"].low_size(Size(*size), (scale, scale))
    high = PROTOCOLS["gsasr"].high_size(Size(*low), (scale, scale))
    assert all(side - scale - 0.5 <= restored <= side for restored, side in zip(high, size, strict=True))
    assert high == Target(scale=scale).of(low)  # what gsr upscale --scale makes of it


def test_a_picture_smaller_than_the_scale_is_refused() -> None:
    with pytest.raises(PictureError, match="40x20 pixels is too small to be downscaled by ×30"):
        PROTOCOLS["gsasr"].low_size(Size(20, 40), (30, 30))
    with pytest.raises(PictureError, match="downscaled by ×2 in width and ×30 in height"):
        PROTOCOLS["gsasr"].low_size(Size(20, 40), (30, 2))


@pytest.mark.parametrize(
    ("name", "dataset", "scale", "words"),
    [
        ("gsasr", "div2k", (3.4, 3.4), "Y, border 4"),
        ("gsasr", "set5", (12, 12), "Y, border 8"),
        ("liif", "set5", (12, 12), "Y, border 12"),
        ("liif", "DIV2K_x", (3.4, 3.4), "RGB, border 10"),
        ("rgb", "set5", (2, 3), "RGB, border 3 at the sides and 2 above and below"),
    ],
)
def test_the_measure_in_words(name: str, dataset: str, scale: tuple[float, float], words: str) -> None:
    assert PROTOCOLS[name].measured(dataset, scale) == words


def test_descriptions() -> None:
    assert {name: protocol.description.partition("; LR")[0] for name, protocol in PROTOCOLS.items()} == {
        "gsasr": "Y, border = min(⌈scale⌉, 8); 8-bit results",
        "liif": "Y, border = ⌈scale⌉ (DIV2K: RGB, border = ⌈scale⌉ + 6); results not rounded to 8 bits",
        "rgb": "RGB, border = min(⌈scale⌉, 8); 8-bit results",
    }
    assert all("\n" not in protocol.description for protocol in PROTOCOLS.values())
