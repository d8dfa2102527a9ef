from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.fields import Array, draw, random_field, single

from gsrcli.gaussians import Gaussians

_FIELDS = ("centre", "sigma", "rho", "value")


def _assert_equal(actual: Gaussians, *expected: torch.Tensor) -> None:
    """Check that the four tensors are the same, bit for bit and in type."""
    for name, tensor in zip(_FIELDS, expected, strict=True):
        torch.testing.assert_close(getattr(actual, name), tensor, rtol=0, atol=0, msg=name)


def _tensors(field: Gaussians) -> tuple[torch.Tensor, ...]:
    return field.centre, field.sigma, field.rho, field.value


def test_its_tensors_are_the_four_in_order() -> None:
    field = random_field()
    assert all(a is b for a, b in zip(field.tensors, _tensors(field), strict=True))


def _numbered(side: int) -> Gaussians:
    """Make one Gaussian at the middle of each LR pixel, row by row, whose value is its number."""
    y, x = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij")
    centre = torch.stack((x.flatten(), y.flatten()), -1)[None]
    number = torch.arange(side * side).float()[None]
    return Gaussians(centre, torch.ones_like(centre), torch.zeros_like(number), number[..., None])


@pytest.mark.parametrize(
    "shapes",
    [
        ((1, 4, 2), (1, 4, 2), (1, 4), (1, 5, 3)),
        ((1, 4, 2), (1, 4, 2), (2, 4), (1, 4, 3)),
        ((1, 4, 3), (1, 4, 2), (1, 4), (1, 4, 3)),
        ((1, 4, 2), (1, 4), (1, 4), (1, 4, 3)),
        ((1, 4, 2), (1, 4, 2), (1, 4, 1), (1, 4, 3)),
        ((1, 4, 2), (1, 4, 2), (1, 4), (1, 4)),
        ((4, 2), (4, 2), (4,), (4, 3)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(B, N, 2\)"):
        Gaussians(*(torch.zeros(shape) for shape in shapes))


def test_a_field_lies_on_one_device() -> None:
    with pytest.raises(ValueError, match="different devices: cpu, meta"):
        Gaussians(torch.zeros(1, 3, 2, device="meta"), torch.ones(1, 3, 2), torch.zeros(1, 3), torch.zeros(1, 3, 1))


def test_it_knows_its_sizes() -> None:
    field = random_field(count=7, channels=5, batch=3)
    assert (len(field), field.batch, field.channels) == (7, 3, 5)
    assert (field.dtype, field.device.type) == (torch.float32, "cpu")


def test_shift_moves_x_then_y_and_nothing_else() -> None:
    field = random_field(batch=2)
    _assert_equal(field.shift(3.0, -5.0), field.centre + torch.tensor([3.0, -5.0]), *_tensors(field)[1:])


# ---- seen through a footprint -----------------------------------------------------------------------------------


def _looked_at(field: Gaussians, footprint: tuple[float, float]) -> tuple[Array, Array]:
    """Return 4x4 LR pixels of a field, (B, C, H, W), convolved by plain sums over a finer grid, and by the method."""
    fine = 48  # points per side of an LR pixel: two per standard deviation of the thinnest needle
    around = int(8 * max(footprint) * fine)
    side, scale = 4 * fine, (float(fine), float(fine))
    there, here = np.arange(side + 2 * around) - around, np.arange(side)[:, None]
    down, across = (
        np.exp(-(((here - there) / (deviation * fine)) ** 2) / 2) / (deviation * fine * (2 * np.pi) ** 0.5)
        for deviation in footprint
    )
    drawn = draw(field, (len(there), len(there)), scale, (-around, -around))
    return down @ drawn @ across.T, draw(field.seen_through(footprint), (side, side), scale)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("footprint", [(0.3, 0.3), (0.1, 0.4), (0.35, 0.06)])
def test_seeing_through_a_footprint_is_convolving_with_it(footprint: tuple[float, float], seed: int) -> None:
    field = random_field(12, extent=(4, 4), sigma=(0.15, 1.0), rho=0.95, seed=seed).to(dtype=torch.float64)
    summed, seen = _looked_at(field, footprint)
    assert abs(summed).max() > 0.1
    np.testing.assert_allclose(seen, summed, rtol=0, atol=1e-10)


@pytest.mark.parametrize("rho", [0.95, -0.95, 0.94, 0.0])
@pytest.mark.parametrize("sigma", [(0.15, 0.2), (0.85, 0.85), (0.15, 0.9)])
@pytest.mark.parametrize("footprint", [(0.3, 0.3), (0.1, 0.4)])
def test_slanted_needles_are_seen_as_they_are(
    sigma: tuple[float, float], rho: float, footprint: tuple[float, float]
) -> None:
    field = single((2.1, 1.8), sigma, rho, (1.0, -3.0)).to(dtype=torch.float64)
    summed, seen = _looked_at(field, footprint)
    np.testing.assert_allclose(seen, summed, rtol=0, atol=1e-10)


def test_each_field_of_a_batch_can_have_its_own_footprint() -> None:
    field = random_field(batch=3)
    down, across = torch.tensor([[0.1], [0.0], [0.7]]), torch.tensor([[0.3], [0.25], [0.02]])
    together = field.seen_through((down, across))
    for i in range(3):
        alone = field[i : i + 1].seen_through((down[i].item(), across[i].item()))
        for actual, expected in zip(_tensors(together[i : i + 1]), _tensors(alone), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-7)
    half = field.seen_through((down, 0.3))
    for actual, expected in zip(_tensors(half[:1]), _tensors(together[:1]), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_see_the_field_itself(dtype: torch.dtype) -> None:
    """They give the same field, bit for bit."""
    field = random_field(500, batch=2, sigma=(0.01, 9.0), rho=0.999).to(dtype=dtype)
    _assert_equal(field.seen_through((0.0, 0.0)), *_tensors(field))
    nothing = torch.zeros(2, 1, dtype=dtype)
    _assert_equal(field.seen_through((nothing, nothing)), *_tensors(field))


def test_smaller_and_smaller_pixels_see_the_field_itself_in_the_end() -> None:
    """The difference falls with the square of the pixels' size."""
    field = random_field(sigma=(0.3, 1.0)).to(dtype=torch.float64)

    def difference(scale: float) -> float:
        seen = field.seen_through((0.3 / scale, 0.3 / scale))
        return max(float((a - b).abs().max()) for a, b in zip(_tensors(seen), _tensors(field), strict=True))

    errors = [difference(scale) for scale in (10, 100, 1000)]
    assert errors[0] < 0.02
    assert errors[1] == pytest.approx(errors[0] / 100, rel=0.05)
    assert errors[2] == pytest.approx(errors[1] / 100, rel=0.05)


@pytest.mark.parametrize("footprint", [(0.3, 0.3), (0.05, 0.3)])
@pytest.mark.parametrize("rho", [0.95, -0.95, 0.2])
def test_the_total_weight_of_a_gaussian_is_kept(footprint: tuple[float, float], rho: float) -> None:
    """Compare sums over a fine grid that contains the whole Gaussian."""
    field = single((4.0, 4.0), (0.2, 0.45), rho, (1.0, -2.0)).to(dtype=torch.float64)
    before, after = (draw(one, (320, 320), (40.0, 40.0)).sum((2, 3)) for one in (field, field.seen_through(footprint)))
    np.testing.assert_allclose(after, before, rtol=1e-9)
    assert abs(before).min() > 40**2 * 0.1


def test_seeing_through_a_footprint_is_differentiable() -> None:
    field = random_field(6, batch=2, rho=0.95).to(dtype=torch.float64)
    leaves = tuple(tensor.clone().requires_grad_() for tensor in _tensors(field))
    assert torch.autograd.gradcheck(lambda *tensors: Gaussians(*tensors).seen_through((0.1, 0.3)).tensors, leaves)
    footprint = tuple(torch.tensor(pair, dtype=torch.float64) for pair in ([[0.1], [0.3]], [[0.2], [0.05]]))
    assert torch.autograd.gradcheck(lambda *tensors: Gaussians(*tensors).seen_through(footprint).tensors, leaves)


def test_an_empty_field_stays_empty() -> None:
    assert len(random_field(0, batch=2).seen_through((torch.ones(2, 1), 0.3))) == 0


# ---- parts of a field ----------------------------------------------------------------------------------------


def test_crop_takes_the_left_and_top_edge_but_not_the_right_and_bottom_one() -> None:
    kept = _numbered(4).crop(left=0.5, top=1.5, right=2.5, bottom=3.5)
    assert kept.value.flatten().tolist() == [4, 5, 8, 9]
    assert kept.centre[0].tolist() == [[0.5, 1.5], [1.5, 1.5], [0.5, 2.5], [1.5, 2.5]]


def test_crops_that_share_edges_part_the_field() -> None:
    field = random_field(count=200, extent=(10, 10))
    edges = [-torch.inf, 0, 2.5, 7, torch.inf]
    parts = [
        field.crop(left, top, right, bottom)
        for top, bottom in itertools.pairwise(edges)
        for left, right in itertools.pairwise(edges)
    ]
    assert sum(map(len, parts)) == 200
    assert torch.equal(Gaussians.cat(parts).rho.sort().values, field.rho.sort().values)


def test_crop_refuses_a_batch_because_its_fields_would_differ_in_length() -> None:
    with pytest.raises(ValueError, match="batch of one"):
        random_field(batch=2).crop(0, 0, 5, 5)


def test_select_takes_a_mask_or_positions_in_every_field() -> None:
    field = random_field(count=4, batch=2)
    picked = tuple(tensor[:, [1, 3]] for tensor in _tensors(field))
    _assert_equal(field.select(torch.tensor([False, True, False, True])), *picked)
    _assert_equal(field.select(torch.tensor([1, 3])), *picked)


def test_a_slice_takes_fields_of_the_batch() -> None:
    field = random_field(count=4, batch=3)
    _assert_equal(field[1:], *(tensor[1:] for tensor in _tensors(field)))


def test_cat_joins_in_order() -> None:
    first, second = random_field(count=3, batch=2, seed=1), random_field(count=2, batch=2, seed=2)
    joined = Gaussians.cat([first, second])
    _assert_equal(joined.select(torch.arange(3)), *_tensors(first))
    _assert_equal(joined.select(torch.arange(3, 5)), *_tensors(second))


def test_to_and_map_reach_all_four_tensors() -> None:
    field = random_field()
    _assert_equal(field.to(dtype=torch.float64), *(tensor.double() for tensor in _tensors(field)))
    _assert_equal(field.to(), *_tensors(field))
    assert all(tensor.device.type == "meta" for tensor in _tensors(field.to("meta")))
    _assert_equal(field.map(torch.neg), *(-tensor for tensor in _tensors(field)))


def test_detach_cuts_all_four_tensors_from_the_graph() -> None:
    field = random_field().map(lambda tensor: tensor.clone().requires_grad_())
    assert not any(tensor.requires_grad for tensor in _tensors(field.detach()))


@pytest.mark.parametrize("name", _FIELDS)
@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
def test_is_finite_looks_at_every_number(name: str, number: float) -> None:
    field = random_field(batch=2).map(torch.clone)
    assert field.is_finite()
    getattr(field, name).view(-1)[-1] = number
    assert not field.is_finite()


@pytest.mark.parametrize("field", [random_field(batch=2, channels=8), random_field(count=0)], ids=["batch", "empty"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_saved_field_loads_as_it_was(tmp_path: Path, field: Gaussians, dtype: torch.dtype) -> None:
    field = field.to(dtype=dtype)
    field.save(tmp_path / "field.safetensors")
    _assert_equal(Gaussians.load(tmp_path / "field.safetensors"), *_tensors(field))


def test_a_field_with_a_graph_and_views_of_one_tensor_can_be_saved(tmp_path: Path) -> None:
    numbers = torch.rand(1, 5, 3, requires_grad=True)
    field = Gaussians(numbers[..., :2], numbers[..., :2], numbers[..., 2], numbers)
    field.save(tmp_path / "field.safetensors")
    _assert_equal(Gaussians.load(tmp_path / "field.safetensors"), *(tensor.detach() for tensor in _tensors(field)))


def test_one_tensor_can_serve_twice_in_a_saved_field(tmp_path: Path) -> None:
    ones, number = torch.ones(1, 5, 2), torch.rand(1, 5, 1)
    field = Gaussians(ones, ones, number[..., 0], number)
    field.save(tmp_path / "field.safetensors")
    _assert_equal(Gaussians.load(tmp_path / "field.safetensors"), *_tensors(field))


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"other\.safetensors"):
        Gaussians.load(path)
    save_file({name: torch.zeros(3) for name in _FIELDS}, path)
    with pytest.raises(ValueError, match=r"expected \(B, N, 2\)"):
        Gaussians.load(path)
    path.write_bytes(b"not a safetensors file at all")
    with pytest.raises(ValueError, match=r"other\.safetensors"):
        Gaussians.load(path)
