"""Muon: its matrices against numpy's singular values, its steps against a float64 version for one matrix."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gsrcli.training.muon import Muon, orthogonal

SHAPES = [(16, 16), (8, 72), (72, 8), (24, 216), (1, 9), (5, 1)]

Matrix = NDArray[np.float64]


def random_matrices(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def singular_values(matrices: Tensor) -> Matrix:
    return np.linalg.svd(matrices.double().numpy(), compute_uv=False)


def with_singular_values(rows: int, columns: int, values: Matrix, seed: int = 0) -> tuple[Tensor, Matrix]:
    """Return a matrix with given singular values, and its orthogonal factor."""
    u, _, v = np.linalg.svd(random_matrices(rows, columns, seed=seed).double().numpy(), full_matrices=False)
    return torch.from_numpy((u * values) @ v).float(), u @ v


# ---- orthogonal matrices -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_singular_values_of_random_matrices_come_near_one(shape: tuple[int, int], size: float) -> None:
    """Except the smallest ones of square matrices, which may be arbitrarily small; all those of others are large."""
    matrices = orthogonal(size * random_matrices(6, *shape))
    values = singular_values(matrices)
    assert matrices.dtype == torch.float32
    assert matrices.shape == (6, *shape)
    assert values.max() < 1.35
    assert (values > 0.5).mean() > (0.95 if shape[0] == shape[1] else 0.9999)


@pytest.mark.parametrize("shape", [(16, 16), (8, 72), (72, 8)], ids=str)
def test_singular_values_a_hundred_times_apart_come_near_one(shape: tuple[int, int]) -> None:
    matrix, _ = with_singular_values(*shape, np.geomspace(1, 0.01, min(shape)))
    values = singular_values(orthogonal(matrix[None]))
    assert 0.5 < values.min() < values.max() < 1.35


@pytest.mark.parametrize("shape", [(16, 16), (8, 72), (72, 8)], ids=str)
def test_the_result_is_roughly_the_orthogonal_factor(shape: tuple[int, int]) -> None:
    matrix, factor = with_singular_values(*shape, np.linspace(1, 0.2, min(shape)))
    found = orthogonal(matrix[None])[0].double().numpy()
    assert np.linalg.norm(found - factor) / np.linalg.norm(factor) < 0.35
    assert (found * factor).sum() / np.linalg.norm(found) / np.linalg.norm(factor) > 0.96


def test_a_tall_matrix_is_treated_as_its_transpose() -> None:
    matrices = random_matrices(3, 72, 8)
    torch.testing.assert_close(orthogonal(matrices), orthogonal(matrices.mT.contiguous()).mT, atol=0.02, rtol=0)


def test_matrices_of_a_batch_do_not_depend_on_each_other() -> None:
    matrices = random_matrices(4, 8, 72)
    matrices[1] *= 1e3
    alone = torch.cat([orthogonal(matrix[None]) for matrix in matrices])
    torch.testing.assert_close(orthogonal(matrices), alone, atol=0.02, rtol=0)


def test_no_gradient_gives_no_direction() -> None:
    assert torch.equal(orthogonal(torch.zeros(2, 4, 6)), torch.zeros(2, 4, 6))


# ---- steps ---------------------------------------------------------------------------------------------


class Plain:
    """Muon for one matrix, in float64, as its author published it."""

    def __init__(self, weights: Matrix, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        self.weights = weights
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.mean = np.zeros_like(weights)

    def step(self, gradient: Matrix, rate: float) -> None:
        self.mean = self.momentum * self.mean + (1 - self.momentum) * gradient
        ahead = self.momentum * self.mean + (1 - self.momentum) * gradient
        rows, columns = ahead.shape
        x = ahead.T if rows > columns else ahead
        x = x / (np.linalg.norm(x) + 1e-7)
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        direction = x.T if rows > columns else x
        self.weights = self.weights * (1 - rate * self.weight_decay)
        self.weights = self.weights - rate * max(1, rows / columns) ** 0.5 * direction


def parameters(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    return [nn.Parameter(random_matrices(*shape, seed=i)) for i, shape in enumerate(shapes)]


def as_matrix(tensor: Tensor) -> Matrix:
    return tensor.detach().reshape(len(tensor), -1).double().numpy().copy()


def give_gradients(weights: list[nn.Parameter], seed: int) -> None:
    for i, weight in enumerate(weights):
        gradient = random_matrices(*weight.shape, seed=100 * seed + i)
        weight.grad = torch.empty_like(weight).copy_(gradient * 10.0 ** (i - 2))


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_steps_equal_a_plain_computation_one_matrix_at_a_time(weight_decay: float) -> None:
    weights = parameters((8, 8, 3, 3), (8, 8, 3, 3), (24, 8), (8, 8, 3, 3))
    plain = [Plain(as_matrix(weight), weight_decay=weight_decay) for weight in weights]
    rate = torch.tensor(0.0)
    muon = Muon(weights, rate, weight_decay=weight_decay)
    for step, value in enumerate((0.1, 0.05, 0.2)):
        give_gradients(weights, step)
        rate.fill_(value)  # as a schedule sets it
        before = [as_matrix(weight) for weight in weights]
        muon.step()
        for one, weight, old in zip(plain, weights, before, strict=True):
            assert weight.grad is not None
            one.weights = old
            one.step(as_matrix(weight.grad), value)
            expected = one.weights - old
            # Of bfloat16's 8 bits, about 5 remain after five multiplications.
            assert np.linalg.norm(as_matrix(weight) - one.weights) < 0.06 * np.linalg.norm(expected)


def test_weights_of_one_shape_are_moved_as_each_would_be_alone() -> None:
    together, apart = parameters(*[(8, 24)] * 3), parameters(*[(8, 24)] * 3)
    all_at_once = Muon(together, torch.tensor(0.1))
    one_by_one = [Muon([weight], torch.tensor(0.1)) for weight in apart]
    for step in range(3):
        give_gradients(together, step)
        give_gradients(apart, step)
        all_at_once.step()
        for muon in one_by_one:
            muon.step()
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=0)


def test_weights_without_a_gradient_stay_as_they_are() -> None:
    weights = parameters((4, 8), (4, 8))
    before = [weight.detach().clone() for weight in weights]
    weights[1].grad = torch.ones(4, 8)
    Muon(weights, torch.tensor(0.1), weight_decay=0.5).step()
    assert torch.equal(weights[0], before[0])
    assert not torch.equal(weights[1], before[1])


def test_the_length_of_a_step_is_its_rate_whatever_the_gradient() -> None:
    for size in (1e-3, 1e3):
        for shape in ((8, 72), (72, 8)):
            (weight,) = parameters(shape)
            before = weight.detach().clone()
            weight.grad = size * random_matrices(*shape, seed=5)
            Muon([weight], torch.tensor(0.1)).step()
            largest = singular_values(weight.detach() - before).max() / 0.1
            assert 0.5 < largest / math.sqrt(max(1.0, shape[0] / shape[1])) < 1.35


def test_kernels_move_the_same_in_either_memory_layout() -> None:
    contiguous, last = parameters((8, 8, 3, 3), (8, 8, 3, 3)), parameters((8, 8, 3, 3), (8, 8, 3, 3))
    for weight in last:
        weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    optimizers = [Muon(weights, torch.tensor(0.1), weight_decay=0.1) for weights in (contiguous, last)]
    for step in range(3):
        for muon, weights in zip(optimizers, (contiguous, last), strict=True):
            give_gradients(weights, step)
            muon.step()
    for one, other in zip(contiguous, last, strict=True):
        assert other.is_contiguous(memory_format=torch.channels_last)
        assert not other.is_contiguous()
        torch.testing.assert_close(one, other, atol=2e-3, rtol=0)


def test_its_state_can_be_loaded_by_another() -> None:
    unbroken, broken = parameters((8, 24), (24, 8)), parameters((8, 24), (24, 8))
    first = Muon(unbroken, torch.tensor(0.1))
    second = Muon(broken, torch.tensor(0.1))
    for step in range(4):
        if step == 2:
            state = second.state_dict()
            second = Muon(broken, torch.tensor(0.1))
            second.load_state_dict(state)
        give_gradients(unbroken, step)
        give_gradients(broken, step)
        first.step()
        second.step()
    for one, other in zip(unbroken, broken, strict=True):
        assert torch.equal(one, other)


def test_it_finds_the_solution_of_least_squares() -> None:
    target = random_matrices(6, 10, seed=9)
    inputs = random_matrices(10, 50, seed=8)
    (weight,) = parameters((6, 10))
    rate = torch.tensor(0.0)
    muon = Muon([weight], rate)
    losses = []
    for step in range(100):
        rate.fill_(0.2 * (1 - step / 100))
        loss = ((weight - target) @ inputs).square().mean()
        (weight.grad,) = torch.autograd.grad(loss, weight)
        muon.step()
        losses.append(loss.item())
    assert losses[-1] < 1e-3 * losses[0]
