"""What every model promises the upscaler."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

import gsrcli
from gsrcli.gaussians import Gaussians
from gsrcli.images import Picture
from gsrcli.models import MODEL_NAMES, Model, build, config_of
from gsrcli.models.gsasr import GSASR, HEADS
from gsrcli.size import Size
from gsrcli.upscaling.upscaler import Upscaler

each_model = pytest.mark.parametrize("name", MODEL_NAMES)


def small(name: str) -> Model:
    """Build the model with its encoder and few blocks behind it, and weights that draw something."""
    config: dict[str, Any] = {}
    if name.startswith("gsasr-") and name != "gsasr-lite":
        config = {"width": 24, "heads": 2, "cross_blocks": 1, "self_blocks": 1, "self_layers": 2}
    torch.manual_seed(0)
    model = build(name, config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))
    if isinstance(model, GSASR):  # lower the opacity, so that sums are colours, and let those differ
        head = dict(zip(HEADS, model.head.third, strict=True))
        head["alpha"].bias.sub_(4.5)
        head["rgb"].weight.mul_(40)
    return model


@each_model
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_pictures_from_one_pixel_up_at_any_scale(name: str, size: tuple[int, int], dtype: torch.dtype) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    wanted = Size(round(2.3 * size[0]), round(3.7 * size[1]))
    enlarged = Upscaler(small(name), dtype).enlarge(Picture(pixels), wanted)
    assert enlarged.pixels.shape == (*wanted, 3)
    assert enlarged.pixels.dtype == np.uint8


@each_model
def test_its_traits_and_config_describe_it(name: str) -> None:
    model = small(name)
    traits, side = model.traits, 2 * model.traits.multiple
    with torch.inference_mode():
        field = model(torch.rand(2, 3, side, side + traits.multiple), torch.tensor([[2.0, 3.0], [4.0, 4.0]]))
    assert isinstance(field, Gaussians)
    assert (field.batch, field.channels) == (2, traits.channels)
    assert len(field) == traits.density**2 * side * (side + traits.multiple)
    assert field.dtype == torch.float32
    assert type(build(name, config_of(model))) is type(model)


@each_model
def test_published_models_see_points_and_ours_a_pixels_footprint(name: str) -> None:
    model = small(name)
    side = model.traits.multiple
    with torch.inference_mode():
        field = model(torch.rand(2, 3, side, side), torch.full((2, 2), 4.0))
        seen = model.seen(field, (2.0, 5.0))
        each = model.seen(field, (torch.tensor([[2.0], [4.0]]), torch.tensor([[5.0], [1.0]])))
    if name != "gsasr-lite":
        assert seen is each is field
        return
    wider = (field.sigma.square() + torch.tensor([0.3 / 5, 0.3 / 2]).square()).sqrt()  # x, then y
    torch.testing.assert_close(seen.sigma, wider)
    torch.testing.assert_close(each.sigma[0], wider[0])
    torch.testing.assert_close(each.sigma[1], (field.sigma[1].square() + torch.tensor([0.3, 0.075]).square()).sqrt())


@each_model
def test_a_trunk_is_of_matrices_that_the_model_holds_once(name: str) -> None:
    model = small(name)
    trunk = [id(weight) for weight in model.trunk_weights()]
    assert len(set(trunk)) == len(trunk)
    assert set(trunk) < {id(parameter) for parameter in model.parameters() if parameter.dim() >= 2}


# Tiling does not depend on the encoder, so the fastest one is enough.
@pytest.mark.parametrize("name", [name for name in MODEL_NAMES if "edsr" in name or "lite" in name])
def test_tiles_give_the_picture_that_the_whole_gives(name: str) -> None:
    """They agree up to what the halo leaves out; misplaced tiles would be below 25 dB."""
    model = small(name)
    side = max(16, model.traits.multiple)
    pixels = np.random.default_rng(0).integers(0, 256, (4 * side, 2 * side + 1, 3), np.uint8)
    size = (round(6.8 * side), round(2.7 * side))
    whole = Upscaler(model, tile=4 * side).enlarge(Picture(pixels), Size(*size)).pixels.astype(float)
    model.traits = dataclasses.replace(model.traits, halo=side)
    tiled = Upscaler(model, tile=side).enlarge(Picture(pixels), Size(*size)).pixels
    assert whole.shape == tiled.shape == (*size, 3)
    assert whole.std() > 2
    assert 10 * np.log10(255**2 / max(np.square(whole - tiled).mean(), 1e-9)) > 70


@pytest.mark.parametrize(("name", "precision"), [("gsasr-lite", torch.bfloat16), ("gaussiansr-edsr", torch.float32)])
def test_auto_precision_does_not_go_below_the_models(
    name: str, precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsrcli.runtime.devices._has_bfloat16", lambda device: True)
    chosen: list[torch.dtype] = []
    monkeypatch.setattr(Upscaler, "enlarge", lambda self, picture, size, **_: chosen.append(self.dtype) or picture)
    for asked in ("auto", "bfloat16"):
        gsrcli.upscale(np.zeros((5, 5, 3), np.uint8), scale=2, model=small(name), precision=asked)
    assert chosen == [precision, torch.bfloat16]
