from __future__ import annotations

import dataclasses
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.fields import draw, overlap
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gsrcli.gaussians import Gaussians
from gsrcli.models import build, lite
from gsrcli.models.base import STRIP_PIXELS
from gsrcli.models.lite import Lite, LiteConfig
from gsrcli.models.render import render
from gsrcli.rasterizer import EPSILON, rasterize
from gsrcli.resize import bicubic
from gsrcli.size import Box, Size
from gsrcli.weights.checkpoint import save_model

_NAMES = ("centre", "sigma", "rho", "value")
_SMALL = LiteConfig(width=8, blocks=2, head_width=12, density=2)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def scales(*pairs: tuple[float, float]) -> Tensor:
    return torch.tensor(pairs)


def assert_same_field(field: Gaussians, expected: Gaussians, tolerance: float = 1e-5) -> None:
    """Assert that fields are equal but for rounding; where it differs, a centre moves by a step of 2^-13 pixel."""
    for name in _NAMES:
        atol = 1.01 * 2**-13 if name == "centre" else tolerance
        torch.testing.assert_close(getattr(field, name), getattr(expected, name), atol=atol, rtol=tolerance)


def model_of(config: LiteConfig | None = None, *, stir: float = 0.1) -> Lite:
    """Build a model whose weights are moved off their initial values, as by training: initially it draws nothing."""
    torch.manual_seed(0)
    model = Lite(config).requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(stir * torch.randn_like(parameter) / max(1, parameter[0].numel()) ** 0.5)
    return model


def reference_positions(rows: int, columns: int, density: int) -> Tensor:
    """Return the reference positions of a picture's Gaussians, in the order that models must use."""
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
    """This also checks the order of the Gaussians: row-major over the finer grid."""
    model, where = model_of(_SMALL), (9, 20)
    image = noise(1, 3, 26, 30)
    changed = image.clone()
    changed[0, :, where[0], where[1]] += 0.5
    before, after = model(image, scales((3, 3))), model(changed, scales((3, 3)))
    moved = (before.value != after.value).any(-1)[0].view(52, 60).nonzero()
    radius = model.traits.halo
    assert moved.amin(0).tolist() == [2 * (where[0] - radius), 2 * (where[1] - radius)]
    assert moved.amax(0).tolist() == [2 * (where[0] + radius) + 1, 2 * (where[1] + radius) + 1]


def driven(sign: int, rho: float = 0.0) -> Lite:
    """Build a model with every activation except the correlation at its limit, so that it draws as far as it can."""
    model = model_of(_SMALL)
    model.head.weight.zero_()
    ends = torch.tensor([100.0 * sign, 100.0 * sign, 100, 100, rho, 1, 1, 1])
    model.head.bias.copy_(ends.repeat_interleave(_SMALL.density**2))
    return model


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("rho", [0.0, 100.0, -100.0])
@pytest.mark.parametrize("scale", [(1.0, 1.0), (1.0, 4.0), (40.0, 40.0)])
def test_a_gaussian_weighs_nothing_beyond_the_reach(sign: int, rho: float, scale: tuple[float, float]) -> None:
    """At a scale of 1, where footprints are widest, the reach is no longer than necessary."""
    model = driven(sign, rho)
    # Gaussian 0 belongs to (0.25, 0.25). It is sampled on a finer grid, as those pixels see it.
    seen = model.seen(model(noise(1, 3, 1, 1), scales(scale)), scale).select(torch.tensor([0]))
    weight = torch.from_numpy(draw(seen, (480, 480), (40, 40), (-200, -200))[0, 0]) / seen.value[0, 0, 0].double()
    place = (torch.arange(480) - 200 + 0.5) / 40 - 0.25
    distance = torch.maximum(place.abs()[:, None], place.abs())
    assert weight[distance > model.traits.reach].max() < EPSILON
    farthest = float(distance[weight >= EPSILON].max())
    assert farthest > model.traits.reach - (0.05 if min(scale) == 1 else 0.3)


def test_it_begins_as_the_bicubic_enlargement() -> None:
    torch.manual_seed(0)
    model = build("gsasr-lite")
    image = noise(2, 3, 9, 11)
    field = model(image, scales((2, 2), (2, 2)))
    assert not field.value.any()
    assert field.sigma.std() > 0  # the other parameters vary, so that gradients can break the symmetry
    drawn = render(model, field, image, Size(23, 31))
    assert torch.equal(drawn, bicubic.resize(image, Size(23, 31)))
    drawn.square().mean().backward()
    assert model.head.weight.grad is not None
    assert model.head.weight.grad.any()


def test_the_base_is_left_out_for_a_model_without_one() -> None:
    model = model_of(_SMALL)
    image = noise(1, 3, 6, 7)
    field = model(image, scales((2, 2)))
    whole = render(model, field, image, Size(12, 14))
    model.traits = dataclasses.replace(model.traits, base="none")
    alone = render(model, field, image, Size(12, 14))
    torch.testing.assert_close(alone + bicubic.resize(image, Size(12, 14)), whole)
    torch.testing.assert_close(alone, rasterize(field.seen_through((0.15, 0.15)), (12, 14), 2.0))


def test_the_field_does_not_depend_on_the_scale() -> None:
    """It is the same bit for bit: one field serves all enlargements of a picture."""
    model, image = model_of(_SMALL), noise(1, 3, 8, 9)
    expected = model(image, scales((1, 1)))
    for pair in ((2, 2), (4, 2), (2, 4), (3.7, 30.1)):
        field = model(image, scales(pair))
        for name in _NAMES:
            assert torch.equal(getattr(field, name), getattr(expected, name)), (pair, name)


@pytest.mark.parametrize("scale", [(1, 1), (2, 3), (4, 1)])
def test_a_pixel_sees_the_mean_of_the_field_over_its_footprint(scale: tuple[int, int]) -> None:
    """Compare with ten by ten points per pixel, weighted by hand with a Gaussian of 0.3 pixels."""
    model, fine, around = model_of(_SMALL), 10, 3
    field = model(noise(1, 3, 6, 7), scales(scale)).to(dtype=torch.float64)
    size = (6 * scale[0], 7 * scale[1])
    drawn = model.draw(field, Size(6, 7), Size(*size))
    points = draw(
        field,
        tuple(fine * (side + 2 * around) for side in size),
        tuple(float(fine * side) for side in scale),
        (-fine * around, -fine * around),
    )
    weights = []
    for side in size:
        places = (np.arange(fine * (side + 2 * around)) + 0.5) / fine - around  # in pixels
        weight = np.exp(-(((np.arange(side)[:, None] + 0.5 - places) / 0.3) ** 2) / 2)
        weights.append(weight / weight.sum(1, keepdims=True))
    expected = torch.from_numpy(weights[0] @ points @ weights[1].T)
    pixels = (float(scale[0]), float(scale[1]))
    skipped = EPSILON * torch.from_numpy(overlap(model.seen(field, pixels), size, pixels))
    assert ((drawn - expected).abs() <= skipped + 1e-6).all()
    assert (torch.from_numpy(draw(field, size, pixels)) - expected).abs().max() > 10 * (drawn - expected).abs().max()


def test_fields_of_a_batch_do_not_mix() -> None:
    model, images = model_of(), noise(3, 3, 9, 12)
    together = model(images, scales((2, 2), (3, 3), (2, 5)))
    for i, pair in enumerate([(2, 2), (3, 3), (2, 5)]):
        alone = model(images[i : i + 1], scales(pair))
        assert_same_field(alone, together[i : i + 1])


# ---- tiles ---------------------------------------------------------------------------------------------


def _tile(model: Lite, image: Tensor, halo: int) -> tuple[Gaussians, Gaussians]:
    """Return the Gaussians of a tile, computed from the tile with a halo, and from the whole picture."""
    density, (top, left, side) = model.traits.density, (30, 32, 6)
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
def test_a_tile_with_the_halo_is_the_whole(config: LiteConfig) -> None:
    model = model_of(config)
    tile, whole = _tile(model, noise(1, 3, 68, 70), model.traits.halo)
    assert_same_field(tile, whole)


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_a_pixel_has_the_same_bits_in_every_window(threads: int) -> None:
    """The upscaler cuts tiles by the free memory, and the same picture must give the same file."""
    model = model_of(stir=0.5).to(memory_format=torch.channels_last)
    image = noise(1, 3, 97, 131)

    def grid(top: int, bottom: int, left: int, right: int) -> dict[str, Tensor]:
        window = image[:, :, top:bottom, left:right].contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            field = model(window, scales((2, 2))).shift(left, top)
        return {name: getattr(field, name)[0].unflatten(0, (-1, 2 * (right - left))) for name in _NAMES}

    whole, before, halo = grid(0, 97, 0, 131), torch.get_num_threads(), model.traits.halo
    torch.set_num_threads(threads)
    try:
        for top, bottom, left, right in ((0, 50, 0, 64), (40, 41, 60, 63), (33, 70, 1, 48), (60, 97, 90, 131)):
            edges = max(0, top - halo), min(97, bottom + halo), max(0, left - halo), min(131, right + halo)
            window = grid(*edges)
            for name in _NAMES:
                rows = slice(2 * (top - edges[0]), 2 * (bottom - edges[0]))
                columns = slice(2 * (left - edges[2]), 2 * (right - edges[2]))
                expected = whole[name][2 * top : 2 * bottom, 2 * left : 2 * right]
                assert torch.equal(window[name][rows, columns], expected), (name, edges)
    finally:
        torch.set_num_threads(before)


def test_centres_move_with_their_tile_exactly() -> None:
    """Positions are rounded once, at their place in the picture, also where float32 resolves 1/1024 pixel."""
    model, image = model_of(_SMALL, stir=1.0), noise(1, 3, 3, 40)
    tile = model(image, scales((2, 2)))
    fraction = tile.centre.double() - reference_positions(3, 40, 2).double()
    assert fraction.abs().max() > 0.1
    for left in (1, 1999, 10007):
        exact = reference_positions(3, 40, 2).double() + torch.tensor([left, 0.0]).double() + fraction
        assert torch.equal(tile.shift(left, 0).centre, exact.float())


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (40, 301)])
def test_without_gradients_it_computes_the_same_in_place(batch: int, size: tuple[int, int]) -> None:
    model, image = model_of(_SMALL, stir=0.5), noise(batch, 3, *size)
    given = image.clone()
    expected = model(image, scales(*[(2, 2)] * batch))
    with torch.no_grad():
        field = model(image, scales(*[(2, 2)] * batch))
    assert torch.equal(image, given)
    assert_same_field(field, expected)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("size", [(1, 9), (2, 9), (5, 7), (40, 61)])
@pytest.mark.parametrize("threads", [1, 2])
def test_strips_of_rows_change_nothing(
    monkeypatch: pytest.MonkeyPatch, batch: int, size: tuple[int, int], threads: int
) -> None:
    model, image = model_of(_SMALL, stir=0.5), noise(batch, 3, *size)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            whole = model(image, scales(*[(2, 2)] * batch))
            monkeypatch.setattr(lite, "_TRUNK_PIXELS", 1)
            monkeypatch.setitem(STRIP_PIXELS, "cpu", 30)
            in_strips = model(image, scales(*[(2, 2)] * batch))
    finally:
        torch.set_num_threads(before)
    assert_same_field(in_strips, whole)


@pytest.mark.parametrize("scale", [(1.0, 1.0), (3.3, 1.0), (4.0, 4.0)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_strip_of_the_gaussians_within_reach_is_the_wholes(scale: tuple[float, float], sign: int) -> None:
    """Select by reference position, with Gaussians as far from it and as wide as possible."""
    model = driven(sign)
    picture = (24, 10)
    field = model(noise(1, 3, *picture), scales(scale))
    size = (round(picture[0] * scale[0]), round(picture[1] * scale[1]))
    whole = model.draw(field, Size(*picture), Size(*size))
    at = reference_positions(*picture, _SMALL.density)[:, 1]
    top, bottom = size[0] // 3, size[0] // 3 + 2

    def strip(reach: float) -> Tensor:
        first, last = ((row + 0.5) * picture[0] / size[0] for row in (top, bottom - 1))
        near = field.select((at > first - reach) & (at < last + reach))
        return model.draw(near, Size(*picture), Size(*size), Box(top, bottom, 0, size[1]))

    expected = whole[:, :, top:bottom]
    torch.testing.assert_close(strip(model.traits.reach), expected, atol=1e-5, rtol=1e-5)
    assert (strip(model.traits.reach - 1) - expected).abs().max() > 1e-4  # a smaller reach falls short by far


def test_a_tile_with_a_small_halo_is_not() -> None:
    tile, whole = _tile(model_of(_SMALL), noise(1, 3, 68, 70), 2)
    assert not torch.allclose(tile.value, whole.value, atol=1e-5)


@pytest.mark.parametrize("config", [_SMALL, LiteConfig()], ids=["small", "default"])
def test_the_halo_is_the_receptive_radius(config: LiteConfig) -> None:
    model = model_of(config, stir=1.0).double()
    radius = model.traits.halo
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


def test_it_stays_within_its_budget(tmp_path: Path) -> None:
    model = build("gsasr-lite")
    assert sum(parameter.numel() for parameter in model.parameters()) <= 1.2e6
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(noise(1, 3, 32, 32), scales((2, 2)))
    assert 1e5 < counter.get_total_flops() / 32**2 <= 3e6
    save_model(model, "gsasr-lite", tmp_path / "lite.safetensors", {})
    assert (tmp_path / "lite.safetensors").stat().st_size <= 5e6


def test_its_trunk_is_the_kernels_of_its_residual_blocks() -> None:
    """They are two 3x3 convolutions in each of 13 blocks, without biases."""
    model = build("gsasr-lite")
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    names = [named[id(weight)] for weight in model.trunk_weights()]
    blocks = [f"trunk.{i}.{which}.weight" for i in range(13) for which in ("first", "second")]
    assert sorted(names) == sorted(blocks)
    assert {tuple(weight.shape) for weight in model.trunk_weights()} == {(64, 64, 3, 3)}
    rest = {f"{layer}.{what}" for layer in ("stem", "expand", "head") for what in ("weight", "bias")}
    assert set(named.values()) - set(names) == rest


_PEAK = """
import torch
from gsrcli.runtime.memory import keep_freed_memory, peak_memory
from gsrcli.models import build, lite
from gsrcli.models.base import STRIP_PIXELS

keep_freed_memory()
cpu, scale = torch.device("cpu"), torch.tensor([[4.0, 4.0]])
model = build("gsasr-lite").eval().to(memory_format=torch.channels_last)
few, many = (torch.rand(1, 3, side, side).to(memory_format=torch.channels_last) for side in (64, 512))
with torch.inference_mode():
    model(few, scale)
    before = peak_memory(lambda: None, cpu)
    print((peak_memory(lambda: model(many, scale), cpu) - before) / 512**2 / model.traits.bytes_per_pixel)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="is measured with glibc alone")
def test_its_memory_is_as_its_traits_say() -> None:
    done = subprocess.run([sys.executable, "-c", _PEAK], capture_output=True, text=True, check=True)
    assert 0.7 < float(done.stdout) < 1.2


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_bfloat16_and_channels_last_stay_close(memory_format: torch.memory_format) -> None:
    model, image = model_of(), noise(1, 3, 24, 24)
    expected = model(image, scales((2, 2)))
    model = model.to(memory_format=memory_format)
    image = image.contiguous(memory_format=memory_format)
    plain = model(image, scales((2, 2)))
    with torch.autocast("cpu", torch.bfloat16):
        cast = model(image, scales((2, 2)))
    assert_same_field(plain, expected, 1e-4)
    for name in _NAMES:
        reference = getattr(expected, name)
        assert getattr(cast, name).dtype == torch.float32
        torch.testing.assert_close(getattr(cast, name), reference, atol=0.05 * float(reference.abs().max()), rtol=0.1)
