"""Every backend against eq. 5 in float64, and what callers rely on: determinism, strips, autograd, torch.compile."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import emulation, fields
from support.drawing import CASES, NAMES, Case, assert_drawn, gradients_of, noise
from support.fields import UNBOUNDED, Pair, assert_gradients_close, random_field, single

from gsrcli import rasterizer
from gsrcli.gaussians import Gaussians
from gsrcli.rasterizer import CUTOFF_SIGMAS, EPSILON, View, cpu, rasterize, reference

each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
each_epsilon = pytest.mark.parametrize("epsilon", [0.0, EPSILON], ids=["whole", "cut"])


@pytest.fixture(params=["cpu", "cuda, emulated", "torch"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Draw with one backend, whichever is the default."""
    if request.param == "torch":
        monkeypatch.setattr(rasterizer, "backend", lambda *_: ("torch", "wanted by the test"))
    if request.param == "cpu":
        assert rasterizer.backend("cpu")[0] == "cpu", "the library is not built: nothing to test"
    if request.param == "cuda, emulated":
        if emulation.COMPILER is None:
            pytest.skip("needs g++")
        with emulation.emulated_cuda():
            yield request.param
    else:
        yield request.param


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


# ---- against the formula -------------------------------------------------------------------------------


@each_case
@each_epsilon
def test_forward(backend: str, case: Case, epsilon: float) -> None:
    assert_drawn(rasterize(case.field, *case.view, epsilon=epsilon), case, epsilon)


@each_case
@each_epsilon
def test_backward(backend: str, case: Case, epsilon: float) -> None:
    image_gradient = noise(case.field.batch, case.field.channels, *case.size)
    view = (case.scale, case.origin)
    actual = gradients_of(case.field, image_gradient, *view, epsilon=epsilon)
    expected = fields.differentiate(image_gradient.double().numpy(), case.field, *view, epsilon=epsilon)
    assert_gradients_close(actual, expected, relative=10 * case.tolerance, slack=10 * case.tolerance)


@pytest.mark.parametrize("channels", [*range(1, 10), 16])
@pytest.mark.parametrize("sigma", [(0.1, 0.8), (1, 6)], ids=["narrow", "wide"])
def test_channels(backend: str, channels: int, sigma: Pair) -> None:
    case = Case(random_field(30, channels, 2, sigma=sigma, seed=channels), (25, 37), (2.0, 2.5))
    assert_drawn(rasterize(case.field, *case.view), case, EPSILON)
    image_gradient = noise(2, channels, *case.size)
    expected = fields.differentiate(image_gradient.double().numpy(), case.field, case.scale, epsilon=EPSILON)
    assert_gradients_close(gradients_of(case.field, image_gradient, case.scale), expected)


@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("count", [0, 1, 20])
@pytest.mark.parametrize("size", [(0, 0), (0, 7), (7, 0), (6, 7)])
def test_any_of_batch_count_and_size_may_be_zero(backend: str, batch: int, count: int, size: tuple[int, int]) -> None:
    case = Case(random_field(count, 2, batch, extent=(3, 3)), size, (2.0, 2.0))
    assert_drawn(rasterize(case.field, *case.view), case, EPSILON)
    image_gradient = noise(batch, 2, *size)
    expected = fields.differentiate(image_gradient.double().numpy(), case.field, case.scale, epsilon=EPSILON)
    assert_gradients_close(gradients_of(case.field, image_gradient, case.scale), expected)


@pytest.mark.parametrize("window", [(3.3, 5.2), (0.4, 40.3), (40.3, 0.4), (9.1, 9.7)])
def test_window(backend: str, window: Pair) -> None:
    """Skip by the papers' rule: by distance from the centre along each axis, not by contribution."""
    case = CASES["both"]
    expected = fields.draw(case.field, *case.view, window=window)
    image = rasterize(case.field, *case.view, window=window)
    np.testing.assert_allclose(image.numpy(), expected, atol=1e-4)
    image_gradient = noise(*image.shape)
    by_hand = fields.differentiate(image_gradient.double().numpy(), case.field, case.scale, window=window)
    assert_gradients_close(gradients_of(case.field, image_gradient, case.scale, window=window), by_hand)


@each_case
def test_skipping_errs_by_less_than_epsilon_of_the_values_around(backend: str, case: Case) -> None:
    error = rasterize(case.field, *case.view) - rasterize(case.field, *case.view, epsilon=0)
    bound = (EPSILON + 2 * case.tolerance) * case.field.value.abs().sum(1)[..., None, None] + 1e-6
    assert (error.abs() <= bound).all()


def test_skipping_stays_below_an_8_bit_step_on_dense_fields(backend: str) -> None:
    """Draw sixteen Gaussians per pixel with a picture's values, as the published models predict them."""
    field = random_field(16 * 144, extent=(12, 12), sigma=(0.1, 0.8), rho=0.7)
    field = dataclasses.replace(field, value=field.value.abs() / 8)
    error = rasterize(field, (48, 48), 4) - rasterize(field, (48, 48), 4, epsilon=0)
    assert 0 < error.abs().max() < 1 / 255


def test_float64_is_drawn_in_float64() -> None:
    field = random_field().to(dtype=torch.float64)
    image = rasterize(field, (24, 28), (2, 2), epsilon=0)
    np.testing.assert_allclose(image.numpy(), fields.draw(field, (24, 28), (2, 2)), atol=1e-12)


def test_a_centre_keeps_its_fraction_of_a_pixel_far_from_the_origin() -> None:
    """At 36850 output pixels float32 resolves 1/256 pixel. In LR pixels these centres are exact."""
    near, far = single((10.3125, 7.1875), (0.2, 0.2)), single((5010.3125, 5007.1875), (0.2, 0.2))
    expected = rasterize(near, (40, 40), 7.37, (35, 55))
    assert expected.max() > 0.5
    torch.testing.assert_close(rasterize(far, (40, 40), 7.37, (36885, 36905)), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("epsilon", [0.0, EPSILON])
def test_gaussians_far_outside_touch_nothing(backend: str, epsilon: float) -> None:
    places = [-1e30, -1e18, -1e9, -500.0, 500.0, 1e9, 1e18, 1e30]
    field = Gaussians.cat([single((x, y)) for x in places for y in (*places, 5.0)])
    assert not rasterize(field, (20, 20), 2, epsilon=epsilon).double().abs().gt(1e-30).any()
    assert all(not g.abs().gt(1e-20).any() for g in gradients_of(field, torch.ones(1, 1, 20, 20), 2, epsilon=epsilon))


def test_many_shapes_at_once_take_little_memory_in_plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes of equal area can be wide or high: a chunk must not mix them under a common hull."""
    drawn = []
    weights = reference._weights

    def spy(*arguments: object) -> tuple[torch.Tensor, torch.Tensor]:
        index, weight = weights(*arguments)  # type: ignore[arg-type]
        drawn.append(weight.numel())
        return index, weight

    monkeypatch.setattr(reference, "_weights", spy)
    monkeypatch.setattr(reference, "_PAIRS_AT_ONCE", 1 << 12)
    flat, high = single((8, 8), (3.0, 0.05)), single((8, 8), (0.05, 3.0))
    reference.rasterize(Gaussians.cat([flat, high] * 100), View((64, 64), (4.0, 4.0)))
    assert max(drawn) <= 2 << 12


# ---- invalid geometry -----------------------------------------------------------------------------

_NONE = [math.nan, math.inf, -math.inf]
BROKEN = {
    **{f"centre {n}": {"centre": (n, 5.0)} for n in _NONE},
    **{f"centre y {n}": {"centre": (5.0, n)} for n in _NONE},
    **{f"sigma {n}": {"sigma": (n, 1.0)} for n in (*_NONE, 0.0, -0.0, -1.0)},
    **{f"sigma y {n}": {"sigma": (1.0, n)} for n in (*_NONE, 0.0, -0.0, -1.0)},
    **{f"rho {n}": {"rho": n} for n in (*_NONE, 1.0, -1.0, 1.5)},
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("width", [10, 40])
@each_epsilon
def test_broken_geometry_draws_nothing_and_gets_no_gradient(
    backend: str, broken: dict[str, float | Pair], width: int, epsilon: float
) -> None:
    good = single((4.0, 6.0), (1.2, 0.8), 0.3)
    field = Gaussians.cat([good, single(**{"centre": (5.5, 5.5), **broken})])
    alone = rasterize(good, (12, width), 1, epsilon=epsilon)
    torch.testing.assert_close(rasterize(field, (12, width), 1, epsilon=epsilon), alone)
    gradients = gradients_of(field, noise(1, 1, 12, width), 1, epsilon=epsilon)
    for name, gradient, expected in zip(
        NAMES, gradients, gradients_of(good, noise(1, 1, 12, width), 1, epsilon=epsilon), strict=True
    ):
        torch.testing.assert_close(gradient[:, :1], expected, msg=name)
        assert not gradient[:, 1:].any(), name


@pytest.mark.parametrize("sigma", [1e-42, 1e-38, 1e-30, 1e-10])
@pytest.mark.parametrize("centre", [(5.5, 5.5), (5.3, 5.5), (5.3, 5.2)], ids=["on a pixel", "on a row", "off"])
@pytest.mark.parametrize("width", [10, 40])
@each_epsilon
def test_a_vanishing_sigma_overflows_nothing(
    backend: str, sigma: float, centre: Pair, width: int, epsilon: float
) -> None:
    """No pixel changes with the geometry: a Gaussian covers one pixel's centre, or none."""
    field = single(centre, (sigma, sigma))
    image = rasterize(field, (12, width), 1, epsilon=epsilon)
    assert ((image >= 0) & (image <= 1.001)).all()
    *geometry, value = gradients_of(field, torch.ones_like(image), 1, epsilon=epsilon)
    assert all((gradient.abs() <= 1e-6).all() for gradient in geometry)
    assert value.isfinite().all()


def test_a_nan_value_shows_in_the_picture(backend: str) -> None:
    field = Gaussians.cat([single((5.0, 5.0)), single((6.0, 5.0), value=(math.nan,))])
    assert rasterize(field, (12, 12), 1)[0, 0, 4:6, 5:7].isnan().all()


# ---- the same bytes every time -------------------------------------------------------------------------


def _parts(length: int, *cuts: int) -> Iterator[tuple[int, int]]:
    return itertools.pairwise((0, *cuts, length))


@each_case
@pytest.mark.parametrize("cut", [{}, {"epsilon": 0.0}, {"window": (4.4, 6.7)}], ids=["cut", "whole", "window"])
def test_rectangles_are_the_whole_bit_for_bit(case: Case, cut: dict[str, float | Pair]) -> None:
    """The upscaler draws in parts and promises the same bytes as for the whole. The backend's tiles are 32 by 256."""
    height, width = 2 * case.size[0] + 71, 2 * case.size[1] + 271
    top, left = case.origin
    # Each row and column of Gaussians reaches a different set of tiles.
    field = Gaussians.cat([case.field, case.field.shift(250 / case.scale[1], 30 / case.scale[0])])
    whole = rasterize(field, (height, width), case.scale, case.origin, **cut)
    for y, bottom in _parts(height, 1, 30, 32, 33, 64, height - 3):
        for x, right in _parts(width, 1, 3, 24, 41, 255, 256, 259, width - 5):
            part = rasterize(field, (bottom - y, right - x), case.scale, (top + y, left + x), **cut)
            assert torch.equal(part, whole[:, :, y:bottom, x:right]), (y, x)


def test_gaussians_that_do_not_reach_a_part_do_not_change_it() -> None:
    """Not a bit: the upscaler draws a part with the Gaussians around it."""
    field = random_field(3000, extent=(40, 60), sigma=(0.05, 3), rho=0.9)
    scale, epsilon = 3.7, 1e-4
    whole = rasterize(field, (148, 222), scale, epsilon=epsilon)
    reach = math.sqrt(-2 * math.log(epsilon)) * field.sigma[0] + 1 / scale
    for y, x, height, width in ((0, 0, 20, 30), (40, 100, 3, 1), (101, 190, 47, 32)):
        first, last = torch.tensor([x, y]) / scale, torch.tensor([x + width, y + height]) / scale
        near = ((field.centre[0] + reach > first) & (field.centre[0] - reach < last)).all(-1)
        assert 0 < near.sum() < len(field)
        part = rasterize(field.select(near), (height, width), scale, (y, x), epsilon=epsilon)
        assert torch.equal(part, whole[:, :, y : y + height, x : x + width])


@each_epsilon
def test_a_region_is_the_crop_of_the_whole(backend: str, epsilon: float) -> None:
    field = CASES["both"].field
    whole = rasterize(field, (48, 70), (4, 5), epsilon=epsilon)
    for top, left, height, width in ((0, 0, 48, 70), (7, 13, 20, 30), (40, 66, 8, 4), (31, 0, 2, 70)):
        region = rasterize(field, (height, width), (4, 5), (top, left), epsilon=epsilon)
        crop = whole[:, :, top : top + height, left : left + width]
        torch.testing.assert_close(region, crop, atol=2 * epsilon + 2e-5, rtol=0)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("channels", [3, 5])
def test_results_do_not_depend_on_threads(channels: int) -> None:
    field = random_field(9000, channels, 2, extent=(60, 40), sigma=(0.1, 3), seed=1)
    image_gradient = noise(2, channels, 120, 80)

    def everything() -> list[torch.Tensor]:
        return [rasterize(field, (120, 80), 2), *gradients_of(field, image_gradient, 2)]

    two, two_again = everything(), everything()
    torch.set_num_threads(1)
    for first, second, third in zip(two, two_again, everything(), strict=True):
        assert torch.equal(first, second)
        assert torch.equal(first, third)


# ---- algebra -------------------------------------------------------------------------------------------

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))
scales = st.floats(0.3, 12)
seeds = st.integers(0, 2**16)
briefly = settings(max_examples=25, deadline=None)


@briefly
@given(size=sizes, scale=st.tuples(scales, scales), seed=seeds, widest=st.floats(0.1, 20), rho=st.floats(0, 0.99))
def test_any_size_and_scale(size: tuple[int, int], scale: Pair, seed: int, widest: float, rho: float) -> None:
    extent = (size[0] / scale[0], size[1] / scale[1])
    field = random_field(12, 2, extent=extent, sigma=(0.05, widest), rho=rho, seed=seed)
    case = Case(field, size, scale, tolerance=5e-5)
    assert_drawn(rasterize(field, *case.view), case, EPSILON)


@briefly
@given(size=sizes, scale=scales, seed=seeds, dy=st.integers(-30, 30), dx=st.integers(-30, 30))
def test_moving_the_field_moves_the_picture(size: tuple[int, int], scale: float, seed: int, dy: int, dx: int) -> None:
    field = random_field(12, 1, sigma=(0.1, 4), seed=seed).to(dtype=torch.float64)
    moved = rasterize(field.shift(dx / scale, dy / scale), size, scale, (dy, dx), epsilon=0)
    torch.testing.assert_close(moved, rasterize(field, size, scale, epsilon=0), atol=1e-9, rtol=0)
    shifted = field.shift(dx / scale, dy / scale).to(dtype=torch.float32)
    in_float32 = rasterize(shifted, size, scale, (dy, dx), epsilon=0)
    torch.testing.assert_close(in_float32.double(), moved, atol=5e-4, rtol=0)


@briefly
@given(size=sizes, scale=scales, seed=seeds, factor=st.floats(-1e3, 1e3))
def test_the_picture_is_linear_in_the_values(size: tuple[int, int], scale: float, seed: int, factor: float) -> None:
    assume(abs(factor) > 1e-3)
    field, other = random_field(12, 3, sigma=(0.1, 4), seed=seed), random_field(12, 3, seed=seed + 1)
    both = dataclasses.replace(field, value=factor * field.value + other.value)
    parts = factor * rasterize(field, size, scale) + rasterize(
        dataclasses.replace(field, value=other.value), size, scale
    )
    torch.testing.assert_close(rasterize(both, size, scale), parts, atol=1e-5 * max(1, abs(factor)), rtol=1e-4)


@briefly
@given(size=sizes, scale=scales, seed=seeds, count=st.integers(0, 30))
def test_the_picture_of_two_fields_is_the_sum_of_theirs(
    size: tuple[int, int], scale: float, seed: int, count: int
) -> None:
    first, second = random_field(12, 3, sigma=(0.1, 4), seed=seed), random_field(count, 3, sigma=(1, 9), seed=seed + 1)
    total = rasterize(first, size, scale) + rasterize(second, size, scale)
    torch.testing.assert_close(rasterize(Gaussians.cat([first, second]), size, scale), total, atol=1e-5, rtol=1e-5)


# ---- with torch ------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [{"epsilon": 0.0}, {}, {"window": (2.7, 3.2)}], ids=["whole", "cut", "window"])
def test_gradcheck(cut: dict[str, float | Pair]) -> None:
    field = random_field(6, 2, 2, extent=(5, 5), sigma=(0.5, 2), rho=0.9, seed=3).to(dtype=torch.float64)
    if not cut:
        # No pair is so close to the cutoff that the step of a finite difference crosses it.
        for *_, weight, _ in fields.paper_weights(field, (8, 9), (1.7, 1.6)):
            assert abs(weight / EPSILON - 1).min() > 1e-4
    leaves = [getattr(field, name).requires_grad_() for name in NAMES]
    assert torch.autograd.gradcheck(lambda *leaves: rasterize(Gaussians(*leaves), (8, 9), (1.7, 1.6), **cut), leaves)


def _op_arguments(batch: int = 2, count: int = 10, *, strided: bool = False) -> tuple[object, ...]:
    field = random_field(count, 3, batch)
    if strided:
        field = field.map(lambda tensor: tensor.transpose(0, 1).contiguous().transpose(0, 1))
        assert not field.centre.is_contiguous()
    leaves = [getattr(field, name).detach().requires_grad_() for name in NAMES]
    return (*leaves, [12, 17], [2.0, 1.5], [3, 4], 13.86, list(UNBOUNDED))


@pytest.mark.parametrize("arguments", [_op_arguments(), _op_arguments(strided=True), _op_arguments(count=0)])
def test_the_operators_keep_torchs_contract(arguments: tuple[object, ...]) -> None:
    torch.library.opcheck(torch.ops.gsrcli.rasterize.default, arguments)
    detached = [a.detach() if isinstance(a, torch.Tensor) else a for a in arguments]
    image_gradient = noise(arguments[0].shape[0], 3, 12, 17)  # type: ignore[attr-defined]
    torch.library.opcheck(torch.ops.gsrcli.rasterize_backward.default, (image_gradient, *detached))


def test_inputs_and_gradients_may_be_strided_or_expanded(backend: str) -> None:
    field = random_field(20, 3, 2)
    strided = field.map(lambda tensor: tensor.transpose(0, 1).contiguous().transpose(0, 1))
    assert torch.equal(rasterize(strided, (12, 17), 2), rasterize(field, (12, 17), 2))
    dense = noise(2, 3, 12, 17)
    channels_last = dense.contiguous(memory_format=torch.channels_last)
    for first, second in zip(gradients_of(field, dense, 2), gradients_of(strided, channels_last, 2), strict=True):
        torch.testing.assert_close(first, second)
    expanded = torch.ones(()).expand(2, 3, 12, 17)
    for first, second in zip(
        gradients_of(field, expanded, 2), gradients_of(field, expanded.contiguous(), 2), strict=True
    ):
        torch.testing.assert_close(first, second)


@pytest.mark.parametrize("wanted", NAMES)
def test_one_parameter_alone_can_require_a_gradient(backend: str, wanted: str) -> None:
    field = random_field()
    leaf = getattr(field, wanted).clone().requires_grad_()
    rasterize(dataclasses.replace(field, **{wanted: leaf}), (24, 28), 2).square().sum().backward()
    image = rasterize(field, (24, 28), 2)
    expected = gradients_of(field, 2 * image, 2)[NAMES.index(wanted)]
    torch.testing.assert_close(leaf.grad, expected)


def test_it_compiles_whole() -> None:
    def loss(*tensors: torch.Tensor) -> torch.Tensor:
        return rasterize(Gaussians(*tensors), (24, 28), (2.0, 2.0)).square().mean()

    leaves = [getattr(random_field(), name).requires_grad_() for name in NAMES]
    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")(*leaves)
    torch.testing.assert_close(compiled, loss(*leaves), atol=0, rtol=0)
    for first, second in zip(
        torch.autograd.grad(compiled, leaves), torch.autograd.grad(loss(*leaves), leaves), strict=True
    ):
        torch.testing.assert_close(first, second, atol=0, rtol=0)


class _Drawing(torch.nn.Module):
    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        return rasterize(Gaussians(*tensors), (24, 28), (2.0, 2.0))


@pytest.mark.parametrize("strict", [False, True])
def test_it_is_exported_as_one_operator(strict: bool) -> None:
    """The exported program takes any number of Gaussians."""
    count = torch.export.Dim("count", min=2, max=1000)
    tensors = random_field(20).tensors
    exported = torch.export.export(_Drawing(), tensors, strict=strict, dynamic_shapes=(4 * ({1: count},),))
    assert [str(node.target) for node in exported.graph.nodes].count("gsrcli.rasterize.default") == 1
    other = random_field(33, seed=1)
    assert torch.equal(exported.module()(*other.tensors), rasterize(other, (24, 28), 2))


def test_a_second_derivative_is_refused_not_wrong() -> None:
    leaf = random_field().value.requires_grad_()
    image = rasterize(dataclasses.replace(random_field(), value=leaf), (24, 28), 2)
    (gradient,) = torch.autograd.grad(image.square().sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        gradient.sum().backward()


def test_autocast_does_not_lower_the_precision(backend: str) -> None:
    field = random_field().to(dtype=torch.bfloat16)
    expected = rasterize(field.to(dtype=torch.float32), (24, 28), 2)
    with torch.autocast("cpu", torch.bfloat16):
        image = rasterize(field, (24, 28), 2)
    assert torch.equal(image, expected)
    assert image.dtype == torch.float32


@pytest.mark.parametrize(
    "arguments",
    [((-1, 5), 1.0), ((5, 5), 0.0), ((5, 5), (2.0, -1.0)), ((5, 5), math.nan), ((5, 5), math.inf)],
)
def test_invalid_sizes_and_scales_are_refused(arguments: tuple[tuple[int, int], float | Pair]) -> None:
    with pytest.raises(ValueError, match="cannot draw"):
        rasterize(random_field(), *arguments)


@pytest.mark.parametrize("epsilon", [-0.1, 1.0, math.nan])
def test_an_invalid_epsilon_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match="epsilon"):
        rasterize(random_field(), (5, 5), 1.0, epsilon=epsilon)


# ---- which backend -------------------------------------------------------------------------------------


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Replace the compiled library's path by one where nothing exists until the test puts something there."""
    path = tmp_path / "library.so"
    monkeypatch.setattr(cpu, "_LIBRARY", path)
    for cached in (cpu.load, rasterizer._backend):
        cached.cache_clear()
    yield path
    monkeypatch.undo()
    for cached in (cpu.load, rasterizer._backend):
        cached.cache_clear()


def _assert_plain_torch_draws(reason: str) -> None:
    with pytest.warns(RuntimeWarning, match=reason):
        name, remark = rasterizer.backend("cpu")
    assert name == "torch"
    assert reason in remark
    case = CASES["both"]
    assert_drawn(rasterize(case.field, *case.view), case, EPSILON)


def test_the_backend_by_device_and_type() -> None:
    name, instructions = rasterizer.backend("cpu", torch.float32)
    assert (name, instructions in ("avx512", "avx2", "baseline")) == ("cpu", True)
    assert rasterizer.backend("cpu", torch.float64)[0] == "torch"
    rasterizer._backend.cache_clear()
    with pytest.warns(RuntimeWarning, match="no compiled rasterizer for meta"):
        assert rasterizer.backend("meta")[0] == "torch"


def test_without_the_library_plain_torch_draws(library: Path) -> None:
    _assert_plain_torch_draws("not compiled")


def test_a_file_that_is_not_a_library_is_refused(library: Path) -> None:
    library.write_text("not a library")
    _assert_plain_torch_draws("does not load")


@pytest.mark.skipif(emulation.COMPILER is None, reason="needs g++")
@pytest.mark.parametrize("source", ['extern "C" int gsr_abi_version() { return 999; }', "int other() { return 0; }"])
def test_a_library_of_another_version_is_refused(library: Path, source: str) -> None:
    code = library.with_suffix(".cpp")
    code.write_text(source)
    emulation.compile_library(code, library)
    _assert_plain_torch_draws("another version")


def test_the_cutoff_in_standard_deviations_is_that_of_epsilon_rounded_up() -> None:
    assert 0 <= CUTOFF_SIGMAS - math.sqrt(-2 * math.log(EPSILON)) < 0.01
