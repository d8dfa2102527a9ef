"""Flat areas: their value is kept exactly, and nothing else is touched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.checkpoints import tiny_model

from gsrcli.images import Picture
from gsrcli.images.strips import in_strips
from gsrcli.models.base import Model
from gsrcli.size import Box, Size
from gsrcli.upscaling.flat import restore_flat
from gsrcli.upscaling.rows import Rows
from gsrcli.upscaling.tiling import Plane
from gsrcli.upscaling.transfer import upload_bits
from gsrcli.upscaling.upscaler import Upscaler

CPU = torch.device("cpu")
MODEL = tiny_model()
PRECISIONS = pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16], ids=str)
DEPTHS = pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0), (255, 255, 255), (3, 3, 3), (254, 1, 128)]


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


def uniform(colour: tuple[int, ...], dtype: type = np.uint8, height: int = 17, width: int = 14) -> np.ndarray:
    """Return a picture of one colour, given in 8 bits; in 16 bits it is no multiple of 257."""
    top = np.iinfo(dtype).max
    level = [value if dtype is np.uint8 else min(value * 257 + 101, top) for value in colour]
    return np.broadcast_to(np.array(level, dtype), (height, width, len(colour))).copy()


def enlarge(model: Model, pixels: np.ndarray, size: Size, **settings: object) -> np.ndarray:
    return Upscaler(model, **settings).enlarge(Picture(pixels), size).pixels  # type: ignore[arg-type]


def as_drawn(model: Model, pixels: np.ndarray, size: Size, **settings: object) -> np.ndarray:
    """Return the enlargement without any care for flat areas."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gsrcli.upscaling.upscaler.restore_flat", lambda strip, *_: strip)
        return enlarge(model, pixels, size, **settings)


def plane(pixels: np.ndarray) -> Plane:
    picture = in_strips(Picture(pixels))
    return Plane(Rows(picture), picture.raster, MODEL, None, alpha=False)


def expected(low: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return the value of the nearest LR pixel where the 5x5 pixels around that are equal, and else what was drawn."""
    flat = np.zeros(low.shape[:2], bool)
    for i, j in np.ndindex(flat.shape):
        flat[i, j] = (low[max(0, i - 2) : i + 3, max(0, j - 2) : j + 3] == low[i, j]).all()
    pairs = zip(flat.shape, drawn.shape[:2], strict=True)
    i, j = ((2 * np.arange(large) + 1) * small // (2 * large) for small, large in pairs)
    return np.where(flat[i][:, j, None], low[i][:, j], drawn)


def with_details(channels: int, dtype: type) -> np.ndarray:
    """Return a flat picture with a dot in the middle, marks in two corners, and a patch that differs by one step."""
    low = uniform((200, 30, 255)[:channels], dtype, 40, 37)
    low[20, 18] = 0
    low[0, 0] = 1
    low[-3:, -2:] = 9
    low[28:, 5:14, -1] -= 1
    return low


@PRECISIONS
@DEPTHS
@pytest.mark.parametrize("scale", [1, 1.5, 4])
def test_a_picture_of_one_colour_keeps_it(model: Model, precision: torch.dtype, dtype: type, scale: float) -> None:
    for colour in [*COLOURS, *((grey,) for grey in (3, 128))]:
        low = uniform(colour, dtype)
        large = enlarge(model, low, Size(round(17 * scale), round(14 * scale)), dtype=precision)
        assert large.dtype == dtype
        assert (large == low[0, 0]).all(), colour


def test_without_care_colours_change(model: Model) -> None:
    """The test above can fail."""
    changed = [(as_drawn(model, uniform(colour), Size(34, 28)) != colour).any() for colour in COLOURS]
    assert sum(changed) > len(COLOURS) / 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 3), (5, 4)])
def test_small_pictures_of_one_colour_keep_it(model: Model, shape: tuple[int, int]) -> None:
    low = uniform((0, 0, 255), np.uint8, *shape)
    assert (enlarge(model, low, Size(shape[0] * 5, shape[1] * 6)) == (0, 0, 255)).all()


def test_models_that_draw_on_nothing_keep_flat_areas_too(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a bicubic base, the network has to draw the colour itself."""
    monkeypatch.setattr(model, "traits", replace(model.traits, base="none"))
    low = uniform((255, 128, 3))
    assert (as_drawn(model, low, Size(51, 42)) != low[0, 0]).all(-1).any()
    assert (enlarge(model, low, Size(51, 42)) == low[0, 0]).all()


@PRECISIONS
@DEPTHS
@pytest.mark.parametrize("channels", [1, 3])
def test_details_stay_as_drawn_and_the_rest_is_exact(
    model: Model, precision: torch.dtype, dtype: type, channels: int
) -> None:
    low, size = with_details(channels, dtype), Size(91, 120)
    drawn = as_drawn(model, low, size, dtype=precision)
    large = enlarge(model, low, size, dtype=precision)
    assert np.array_equal(large, expected(low, drawn))
    assert 0.05 < (large == drawn).all(-1).mean() < 0.95


@pytest.mark.parametrize("size", [Size(40, 37), Size(91, 120)])
def test_flat_areas_do_not_depend_on_tiles_or_strips(model: Model, monkeypatch: pytest.MonkeyPatch, size: Size) -> None:
    low = with_details(3, np.uint8)
    large = enlarge(model, low, size)
    assert np.array_equal(large, expected(low, large))
    tiled = enlarge(model, low, size, tile=20)
    assert np.array_equal(tiled, expected(low, tiled))
    monkeypatch.setattr("gsrcli.upscaling.budget._PART_PIXELS", size.width * 7)
    monkeypatch.setattr("gsrcli.upscaling.budget.SMALLEST_PART", 1)
    assert np.array_equal(enlarge(model, low, size), large)


@DEPTHS
def test_opaque_and_transparent_areas_stay_so(model: Model, dtype: type) -> None:
    top = np.iinfo(dtype).max
    alpha = np.zeros((20, 30), dtype)
    alpha[:, 15:] = top
    large = Upscaler(model).enlarge(Picture(uniform((10, 20, 30), dtype, 20, 30), alpha), Size(60, 90)).alpha
    assert large is not None
    assert (large[:, : 13 * 3] == 0).all()
    assert (large[:, 17 * 3 :] == top).all()
    assert len(np.unique(large)) > 2


def ramp() -> np.ndarray:
    """Return bands at most four pixels wide, each one step brighter than the last."""
    return np.broadcast_to(((np.arange(32) + 2) // 4 + 100).astype(np.uint8)[None, :, None], (24, 32, 3)).copy()


def dither() -> np.ndarray:
    """Return a grey between two steps: every fourth pixel along each axis is one step brighter."""
    low = uniform((90, 90, 90), np.uint8, 25, 33)
    low[::4, ::4] += 1
    return low


def tint() -> np.ndarray:
    """Return a texture in blue alone."""
    low = uniform((90, 90, 90), np.uint8, 24, 32)
    low[::3, ::3, 2] += 1
    return low


@pytest.mark.parametrize("picture", [ramp, dither, tint])
def test_slow_ramps_and_dithering_stay_as_drawn(model: Model, picture) -> None:  # type: ignore[no-untyped-def]
    size = Size(72, 96)
    assert np.array_equal(enlarge(model, picture(), size), as_drawn(model, picture(), size))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_part_of_any_picture(data: st.DataObject) -> None:
    """Pictures are patchworks of a few values, among them those whose bits differ least or in the sign."""
    dtype = data.draw(st.sampled_from([np.uint8, np.uint16, np.float32]))
    white = 255 if dtype is np.float32 else int(np.iinfo(dtype).max)
    channels = data.draw(st.sampled_from([1, 3]))
    patches = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    integers = [0, 1, white // 2, white // 2 + 1, white - 1, white]
    values = st.sampled_from([0.0, 1e-45, -1e-45, 1.0, 1 + 2**-23, -1.0, 3e38] if dtype is np.float32 else integers)
    low = data.draw(arrays(dtype, (*patches, channels), elements=values))
    low = low.repeat(data.draw(st.integers(1, 9)), 0).repeat(data.draw(st.integers(1, 9)), 1)
    height, width = low.shape[:2]
    size = Size(data.draw(st.integers(height, 3 * height + 2)), data.draw(st.integers(width, 3 * width + 2)))
    top, left = (data.draw(st.integers(0, side - 1)) for side in size)
    part = Box(top, data.draw(st.integers(top + 1, size.height)), left, data.draw(st.integers(left + 1, size.width)))
    drawn = np.random.default_rng(0).integers(0, white, (*size, channels), endpoint=True).astype(dtype)
    within = np.s_[part.top : part.bottom, part.left : part.right]
    restored = restore_flat(upload_bits(drawn[within], CPU), plane(low), size, part)
    assert np.array_equal(restored.numpy().view(dtype), expected(low, drawn)[within])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@DEPTHS
@pytest.mark.parametrize("channels", [1, 3])
def test_a_gpu_restores_the_same_without_waiting(dtype: type, channels: int) -> None:
    low, size, part = with_details(channels, dtype), Size(91, 120), Box(13, 80, 20, 111)
    within = np.s_[part.top : part.bottom, part.left : part.right]
    drawn = np.random.default_rng(0).integers(0, 255, (*size, channels)).astype(dtype)
    strip = upload_bits(drawn[within], torch.device("cuda"))
    torch.cuda.set_sync_debug_mode("error")
    try:
        restored = restore_flat(strip, plane(low), size, part)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert np.array_equal(restored.cpu().numpy().view(dtype), expected(low, drawn)[within])
