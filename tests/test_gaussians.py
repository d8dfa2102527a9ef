from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from fields import random_field
from safetensors.torch import save_file

from gsrcli.gaussians import Gaussians

_FIELDS = ("centre", "sigma", "rho", "value")


def _assert_equal(actual: Gaussians, *expected: torch.Tensor) -> None:
    """The four tensors, bit for bit and of the same type."""
    for name, tensor in zip(_FIELDS, expected, strict=True):
        torch.testing.assert_close(getattr(actual, name), tensor, rtol=0, atol=0, msg=name)


def _tensors(field: Gaussians) -> tuple[torch.Tensor, ...]:
    return field.centre, field.sigma, field.rho, field.value


def _numbered(side: int) -> Gaussians:
    """One Gaussian at the middle of each LR pixel, row by row; its value is its number."""
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
    with pytest.raises(ValueError, match="several devices: cpu, meta"):
        Gaussians(torch.zeros(1, 3, 2, device="meta"), torch.ones(1, 3, 2), torch.zeros(1, 3), torch.zeros(1, 3, 1))


def test_it_tells_its_sizes() -> None:
    field = random_field(count=7, channels=5, batch=3)
    assert (len(field), field.batch, field.channels) == (7, 3, 5)
    assert (field.dtype, field.device.type) == (torch.float32, "cpu")


def test_shift_moves_x_then_y_and_nothing_else() -> None:
    field = random_field(batch=2)
    _assert_equal(field.shift(3.0, -5.0), field.centre + torch.tensor([3.0, -5.0]), *_tensors(field)[1:])


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
