"""JPEG artefacts, against libjpeg."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from gsrcli.degradation.jpeg import jpeg, tables

QUALITIES = (20, 35, 49, 50, 60, 75, 85, 90, 95, 98)


def clouds(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return an (h, w, 3) image with the spectrum of photographs; a third of the variance is independent by channel."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)) + 1 / max(height, width)
    fields = np.fft.irfft2(np.fft.rfft2(random.normal(size=(4, height, width))) / frequency, (height, width))
    fields /= fields.std((1, 2), keepdims=True)
    return (128 + 45 * (fields[0, :, :, None] + 0.7 * fields[1:].transpose(1, 2, 0))).clip(0, 255).astype(np.uint8)


def patches(height: int, width: int) -> np.ndarray:
    """Return flat areas with hard edges in saturated colours, as in drawings, which have many ties in rounding."""
    random = np.random.default_rng(1)
    colours = random.integers(0, 256, (height // 7 + 1, width // 5 + 1, 3))
    return colours.repeat(7, 0).repeat(5, 1)[:height, :width].astype(np.uint8)


PICTURES = {
    "clouds": clouds(96, 128),
    "odd": clouds(83, 61, 1),
    "patches": patches(90, 75),
    "grey": clouds(64, 80, 2)[..., :1].repeat(3, 2),
    "noise": np.random.default_rng(3).integers(0, 256, (50, 49, 3)).astype(np.uint8),
}


def by_libjpeg(pixels: np.ndarray, quality: int, subsampled: bool) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=2 if subsampled else 0)
    return np.asarray(Image.open(file))


def by_us(pixels: np.ndarray, qualities: tuple[int, ...], subsampled: tuple[bool, ...]) -> np.ndarray:
    images = torch.from_numpy(pixels).permute(2, 0, 1).float().expand(len(qualities), -1, -1, -1)
    coded = jpeg(images, torch.tensor(qualities), torch.tensor(subsampled))
    assert (coded.dtype, coded.shape) == (torch.float32, images.shape)
    assert torch.equal(coded, coded.round().clamp(0, 255))
    return coded.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("subsampled", [False, True], ids=["444", "420"])
@pytest.mark.parametrize("name", PICTURES)
def test_it_loses_what_libjpeg_loses(name: str, subsampled: bool) -> None:
    """All qualities in one batch; a few values differ by 1, because float32 is not libjpeg's fixed point."""
    pixels = PICTURES[name]
    coded = by_us(pixels, QUALITIES, (subsampled,) * len(QUALITIES))
    for ours, quality in zip(coded, QUALITIES, strict=True):
        theirs = by_libjpeg(pixels, quality, subsampled).astype(np.float64)
        error = np.abs(ours - theirs)
        assert (error <= 1).mean() > 0.999, quality
        assert (error == 0).mean() > 0.99, quality
        assert (error**2).mean() < 255**2 / 10**6.5, quality  # 65 dB between both


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 9), (8, 8), (15, 17), (16, 33), (18, 32)])
@pytest.mark.parametrize("subsampled", [False, True], ids=["444", "420"])
def test_any_size(size: tuple[int, int], subsampled: bool) -> None:
    """Pixels beyond the edge are repeated just as by the encoder, or edges would differ."""
    if subsampled and size == (1, 1):
        size = (1, 5)  # libjpeg uses the triangle filter for chroma from three columns on
    pixels = clouds(40, 64)[: size[0], : size[1]].copy()
    ours = by_us(pixels, (60,), (subsampled,))[0]
    assert np.abs(ours - by_libjpeg(pixels, 60, subsampled)).mean() < 0.02


def test_samples_have_their_own_settings() -> None:
    pixels = PICTURES["odd"]
    qualities, subsampled = (95, 20, 75, 75), (False, True, True, False)
    together = by_us(pixels, qualities, subsampled)
    alone = [by_us(pixels, (q,), (s,))[0] for q, s in zip(qualities, subsampled, strict=True)]
    np.testing.assert_array_equal(together, alone)
    assert (together[2] != together[3]).any()


@pytest.mark.parametrize("quality", [1, 10, 25, 49, 50, 51, 75, 99, 100])
def test_tables_are_those_in_the_file(quality: int) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", quality=quality)
    in_file = Image.open(file).quantization  # type: ignore[attr-defined]
    ours = tables(torch.tensor([quality]))[0].flatten(1).int().tolist()
    assert ours == [list(in_file[0])] + [list(in_file[1])] * 3


def test_colours_between_two_steps_are_rounded_first() -> None:
    images = 255 * torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 1.2 - 20
    settings = torch.tensor([90]), torch.tensor([True])
    assert torch.equal(jpeg(images, *settings), jpeg(images.round().clamp(0, 255), *settings))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_agrees_and_is_not_waited_for() -> None:
    images = torch.from_numpy(PICTURES["odd"]).permute(2, 0, 1).float().expand(4, -1, -1, -1)
    settings = torch.tensor([30, 60, 90, 97]), torch.tensor([True, False, True, False])
    on_device = [tensor.cuda() for tensor in (images, *settings)]
    jpeg(*on_device)  # one-time initialisation may wait
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        coded = jpeg(*on_device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    difference = (coded.cpu() - jpeg(images, *settings)).abs()
    assert (difference == 0).float().mean() > 0.99
