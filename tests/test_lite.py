from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gsrcli import bicubic
from gsrcli.gaussians import Gaussians
from gsrcli.models import build
from gsrcli.models.lite import Lite, LiteConfig
from gsrcli.rasterizer import rasterize
from gsrcli.rendering import render

_NAMES = ("centre", "sigma", "rho", "value")
_SMALL = LiteConfig(width=8, blocks=2, conditioned_blocks=1, head_width=12, density=2)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def scales(*pairs: tuple[float, float]) -> Tensor:
    return torch.tensor(pairs)


def model_of(config: LiteConfig | None = None, *, stir: float = 0.1) -> Lite:
    """A model whose weights are moved off their start, as training would: fresh ones draw nothing."""
    torch.manual_seed(0)
    model = Lite(config).requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(stir * torch.randn_like(parameter) / max(1, parameter[0].numel()) ** 0.5)
    return model


def reference_positions(rows: int, columns: int, density: int) -> Tensor:
    """Of a picture's Gaussians, in the order a model must give them."""
    y, x = torch.meshgrid(torch.arange(rows * density), torch.arange(columns * density), indexing="ij")
    return (torch.stack((x, y), -1).flatten(0, 1) + 0.5) / density


# ---- what it predicts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("density", [1, 2, 3])
@pytest.mark.parametrize("size", [(1, 1), (5, 7)])
def test_gaussians_lie_near_their_reference_positions(density: int, size: tuple[int, int]) -> None:
    model = model_of(dataclasses.replace(_SMALL, density=density), stir=1.0)
    field = model(noise(2, 3, *size), scales((2, 2), (3, 4)))
    assert (field.batch, len(field), field.channels) == (2, density**2 * size[0] * size[1], 3)
    assert {getattr(field, name).dtype for name in _NAMES} == {torch.float32}
    offset = field.centre - reference_positions(*size, density)
    assert 0.01 / density < offset.abs().max() <= 1 / density + 1e-6
    assert 0 < field.sigma.min() < field.sigma.max() < 1
    assert field.rho.abs().max() < 1


def test_a_gaussian_depends_on_the_picture_around_it_alone() -> None:
    """Also the order of the Gaussians: row-major over the finer grid."""
    model, where = model_of(_SMALL), (9, 20)
    image = noise(1, 3, 26, 30)
    changed = image.clone()
    changed[0, :, where[0], where[1]] += 0.5
    before, after = model(image, scales((3, 3))), model(changed, scales((3, 3)))
    moved = (before.value != after.value).any(-1)[0].view(52, 60).nonzero()
    radius = model.traits.exact_halo
    assert radius is not None
    assert moved.amin(0).tolist() == [2 * (where[0] - radius), 2 * (where[1] - radius)]
    assert moved.amax(0).tolist() == [2 * (where[0] + radius) + 1, 2 * (where[1] + radius) + 1]


@pytest.mark.parametrize("sign", [1, -1])
def test_nothing_is_drawn_beyond_the_reach(sign: int) -> None:
    """With every activation driven to its end, and at the scale where a pixel is finest."""
    model = model_of(_SMALL)
    model.head.weight.zero_()
    model.head.bias.copy_(torch.tensor([100.0 * sign, 100.0 * sign, 100, 100, 0, 1, 1, 1]).repeat_interleave(4))
    first = model(noise(1, 3, 1, 1), scales((40, 40))).select(torch.tensor([0]))
    image = rasterize(first, (480, 480), 40, (-200, -200))
    drawn = (image[0, 0].nonzero().float() - 200 + 0.5) / 40  # in LR pixels; Gaussian 0 belongs to (0.25, 0.25)
    distance = (drawn - 0.25).abs().max()
    assert model.traits.reach - 0.05 < distance <= model.traits.reach


def test_it_begins_as_the_bicubic_enlargement() -> None:
    torch.manual_seed(0)
    model = build("gsasr-lite")
    image = noise(2, 3, 9, 11)
    field = model(image, scales((2, 2), (2, 2)))
    assert not field.value.any()
    assert field.sigma.std() > 0  # the rest is not degenerate, so that gradients can break the symmetry
    drawn = render(model, field, image, (23, 31))
    assert torch.equal(drawn, bicubic.resize(image, (23, 31)))
    drawn.square().mean().backward()
    assert model.head.weight.grad is not None
    assert model.head.weight.grad.any()


def test_the_base_is_left_out_for_a_model_without_one() -> None:
    model = model_of(_SMALL)
    image = noise(1, 3, 6, 7)
    field = model(image, scales((2, 2)))
    whole = render(model, field, image, (12, 14))
    model.traits = dataclasses.replace(model.traits, base="none")
    alone = render(model, field, image, (12, 14))
    torch.testing.assert_close(alone + bicubic.resize(image, (12, 14)), whole)
    torch.testing.assert_close(alone, rasterize(field, (12, 14), 2.0))


def test_the_scale_conditions_the_result() -> None:
    model, image = model_of(), noise(1, 3, 8, 8).expand(4, -1, -1, -1)
    field = model(image, scales((2, 2), (2, 2), (4, 2), (2, 4)))
    for name in _NAMES:
        tensor = getattr(field, name)
        torch.testing.assert_close(tensor[0], tensor[1])
        for other in (2, 3):
            assert not torch.allclose(tensor[0], tensor[other], atol=1e-5), name
        assert not torch.allclose(tensor[2], tensor[3], atol=1e-5), "the axes are told apart"


def test_fields_of_a_batch_do_not_mix() -> None:
    model, images = model_of(), noise(3, 3, 9, 12)
    together = model(images, scales((2, 2), (3, 3), (2, 5)))
    for i, pair in enumerate([(2, 2), (3, 3), (2, 5)]):
        alone = model(images[i : i + 1], scales(pair))
        for name in _NAMES:
            torch.testing.assert_close(getattr(alone, name), getattr(together, name)[i : i + 1], atol=1e-5, rtol=1e-5)


# ---- tiles ---------------------------------------------------------------------------------------------


def _tile(model: Lite, image: Tensor, halo: int) -> tuple[Gaussians, Gaussians]:
    """The Gaussians of a tile of a picture, computed from the tile with a halo, and from the whole picture."""
    density, (top, left, side) = model.traits.density, (24, 26, 6)
    whole = model(image, scales((3, 3)))
    window = image[:, :, top - halo : top + side + halo, left - halo : left + side + halo]
    part = model(window, scales((3, 3)))

    def core(field: Gaussians, columns: int, first: int, start: int) -> Gaussians:
        y = torch.arange(density * first, density * (first + side))[:, None]
        x = torch.arange(density * start, density * (start + side))
        return field.select((y * density * columns + x).flatten())

    tile = core(part, window.shape[3], halo, halo).shift(left - halo, top - halo)
    return tile, core(whole, image.shape[3], top, left)


@pytest.mark.parametrize("config", [_SMALL, LiteConfig()], ids=["small", "default"])
def test_a_tile_with_the_exact_halo_is_the_whole(config: LiteConfig) -> None:
    model = model_of(config)
    assert model.traits.exact_halo is not None
    tile, whole = _tile(model, noise(1, 3, 56, 58), model.traits.exact_halo)
    for name in _NAMES:
        torch.testing.assert_close(getattr(tile, name), getattr(whole, name), atol=1e-5, rtol=1e-5)


def test_a_tile_with_a_small_halo_is_not() -> None:
    tile, whole = _tile(model_of(), noise(1, 3, 56, 58), 2)
    assert not torch.allclose(tile.value, whole.value, atol=1e-5)


@pytest.mark.parametrize("config", [_SMALL, LiteConfig()], ids=["small", "default"])
def test_the_exact_halo_is_the_receptive_radius(config: LiteConfig) -> None:
    model = model_of(config, stir=1.0).double()
    radius = model.traits.exact_halo
    assert radius is not None
    side = 2 * radius + 7
    image = noise(1, 3, side, side).double().requires_grad_()
    field = model(image, scales((3, 3)).double())
    middle = side // 2 * model.traits.density
    at_middle = middle * side * model.traits.density + middle
    (gradient,) = torch.autograd.grad(sum(getattr(field, name)[0, at_middle].sum() for name in _NAMES), image)
    seen = gradient[0].abs().sum(0).nonzero()
    assert seen.amin(0).tolist() == [side // 2 - radius] * 2
    assert seen.amax(0).tolist() == [side // 2 + radius] * 2


# ---- what it costs, and in which types -----------------------------------------------------------------


def test_it_keeps_to_its_budget() -> None:
    model = build("gsasr-lite")
    assert sum(parameter.numel() for parameter in model.parameters()) <= 1.2e6
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(noise(1, 3, 32, 32), scales((2, 2)))
    assert 1e5 < counter.get_total_flops() / 32**2 <= 3e6


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_bfloat16_and_channels_last_stay_close(memory_format: torch.memory_format) -> None:
    model, image = model_of(), noise(1, 3, 24, 24)
    expected = model(image, scales((2, 2)))
    model = model.to(memory_format=memory_format)
    image = image.contiguous(memory_format=memory_format)
    plain = model(image, scales((2, 2)))
    with torch.autocast("cpu", torch.bfloat16):
        cast = model(image, scales((2, 2)))
    for name in _NAMES:
        reference = getattr(expected, name)
        torch.testing.assert_close(getattr(plain, name), reference, atol=1e-4, rtol=1e-4)
        assert getattr(cast, name).dtype == torch.float32
        torch.testing.assert_close(getattr(cast, name), reference, atol=0.05 * float(reference.abs().max()), rtol=0.1)
