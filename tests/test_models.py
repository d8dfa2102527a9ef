"""What every model promises the upscaler, whichever it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gsrcli.gaussians import Gaussians
from gsrcli.images import Picture
from gsrcli.models import MODEL_NAMES, Model, build, config_of
from gsrcli.upscaler import Upscaler

each_model = pytest.mark.parametrize("name", MODEL_NAMES)


def small(name: str) -> Model:
    """The model with its encoder and few blocks behind it, and weights that draw something."""
    config: dict[str, Any] = {}
    if name.startswith("gsasr-") and name != "gsasr-lite":
        config = {"width": 24, "heads": 2, "cross_blocks": 1, "self_blocks": 1, "self_layers": 2}
    torch.manual_seed(0)
    model = build(name, config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))
    return model


@each_model
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_pictures_from_one_pixel_up_at_any_scale(name: str, size: tuple[int, int], dtype: torch.dtype) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    wanted = (round(2.3 * size[0]), round(3.7 * size[1]))
    enlarged = Upscaler(small(name), dtype).enlarge(Picture(pixels), wanted)
    assert enlarged.pixels.shape == (*wanted, 3)
    assert enlarged.pixels.dtype == np.uint8


@each_model
def test_what_it_says_of_itself(name: str) -> None:
    model = small(name)
    traits, side = model.traits, 2 * model.traits.multiple
    with torch.inference_mode():
        field = model(torch.rand(2, 3, side, side + traits.multiple), torch.tensor([[2.0, 3.0], [4.0, 4.0]]))
    assert isinstance(field, Gaussians)
    assert (field.batch, field.channels) == (2, traits.channels)
    assert len(field) == traits.density**2 * side * (side + traits.multiple)
    assert field.dtype == torch.float32
    assert traits.exact_halo is None or traits.exact_halo >= traits.halo
    assert type(build(name, config_of(model))) is type(model)


# Tiling is the same whatever the encoder: the quick one will do.
@pytest.mark.parametrize("name", [name for name in MODEL_NAMES if "edsr" in name or "lite" in name])
def test_tiles_cover_the_picture(name: str) -> None:
    """Tiles smaller than the picture give one of the same size, close to the untiled one where a halo makes it so."""
    model = small(name)
    side = max(16, model.traits.multiple)
    pixels = np.random.default_rng(0).integers(0, 256, (2 * side, side + 1, 3), np.uint8)
    size = (round(3.4 * side), round(1.3 * (side + 1)))
    whole, tiled = (
        Upscaler(model, tile=tile).enlarge(Picture(pixels), size).pixels.astype(int) for tile in (2 * side, side)
    )
    assert whole.shape == tiled.shape == (*size, 3)
    if model.traits.exact_halo is not None:
        assert abs(whole - tiled).max() <= 1
