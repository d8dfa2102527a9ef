"""Alpha as transparency, and as data of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.checkpoints import tiny_model
from typer.testing import Result

import gsrcli
from gsrcli.errors import UsageError
from gsrcli.images import Picture
from gsrcli.models.base import Model
from gsrcli.size import Size
from gsrcli.upscaling.upscaler import Upscaler


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


def packed(dtype: type) -> Picture:
    """Return a texture whose colours go on under an alpha of 0, with every kind of alpha."""
    top = 1.0 if dtype is np.float32 else np.iinfo(dtype).max
    random = np.random.default_rng(3)
    alpha = np.zeros((20, 24), dtype)
    alpha[5:15, 5:15] = top
    alpha[15:, :] = random.random((5, 24)) * top
    return Picture((random.random((20, 24, 3)) * top).astype(dtype), alpha)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_data_is_enlarged_as_a_channel_of_its_own(model: Model, dtype: type) -> None:
    picture, size = packed(dtype), Size(50, 60)
    assert picture.alpha is not None
    enlarged = Upscaler(model).enlarge(picture, size, alpha="data")
    assert enlarged.alpha is not None
    assert np.array_equal(enlarged.pixels, Upscaler(model).enlarge(Picture(picture.pixels), size).pixels)
    alone = Upscaler(model).enlarge(Picture(picture.alpha[..., None]), size).pixels[..., 0]
    assert np.array_equal(enlarged.alpha, alone)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_colours_under_transparency_are_replaced(model: Model, dtype: type) -> None:
    picture = packed(dtype)
    assert picture.alpha is not None
    other = picture.pixels.copy()
    other[picture.alpha == 0] = 0
    size = Size(50, 60)
    ours = Upscaler(model).enlarge(picture, size)
    theirs = Upscaler(model).enlarge(Picture(other, picture.alpha), size)
    assert np.array_equal(ours.pixels, theirs.pixels)
    as_data = Upscaler(model).enlarge(picture, size, alpha="data")
    assert not np.array_equal(ours.pixels, as_data.pixels)
    assert np.array_equal(ours.alpha, as_data.alpha)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_opaque_alpha_stays_opaque(model: Model, dtype: type) -> None:
    picture = packed(dtype)
    opaque = np.full_like(picture.alpha, 1 if dtype is np.float32 else np.iinfo(dtype).max)
    for meaning in ("transparency", "data"):
        enlarged = Upscaler(model).enlarge(Picture(picture.pixels, opaque), Size(40, 48), alpha=meaning)  # type: ignore[arg-type]
        assert enlarged.alpha is not None
        assert enlarged.alpha.dtype == dtype
        assert (enlarged.alpha == opaque[0, 0]).all()


def test_another_meaning_is_refused(model: Model) -> None:
    with pytest.raises(UsageError, match="invalid alpha 'mask': use transparency or data"):
        Upscaler(model).enlarge(packed(np.uint8), Size(40, 48), alpha="mask")  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_the_command_keeps_the_colours_of_data(
    upscale: Callable[..., Result], tiny_path: Path, tmp_path: Path, suffix: str
) -> None:
    """The reference is the same picture without alpha, read back with Pillow."""
    picture = packed(np.uint8)
    assert picture.alpha is not None
    rgba = np.dstack((picture.pixels, picture.alpha))
    source, plain = tmp_path / f"packed{suffix}", tmp_path / f"plain{suffix}"
    Image.fromarray(rgba).save(source)
    Image.fromarray(picture.pixels).save(plain)
    assert upscale(source, plain, "--scale", 2, "--alpha", "data", "-o", tmp_path / "out").exit_code == 0
    written = np.asarray(Image.open(tmp_path / "out" / f"packed_x2{suffix}"))
    assert np.array_equal(written[..., :3], np.asarray(Image.open(tmp_path / "out" / f"plain_x2{suffix}")))
    assert np.array_equal(written, gsrcli.upscale(rgba, 2, model=tiny_path, alpha="data"))
    assert not np.array_equal(written, gsrcli.upscale(rgba, 2, model=tiny_path))
