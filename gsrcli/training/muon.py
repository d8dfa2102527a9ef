"""Muon: momentum that is made orthogonal, matrix by matrix, before it is added to the weights.

K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024). A convolution's kernel is treated as
a matrix of out × (in·k·k).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Muon", "orthogonal"]

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of Jordan's quintic: small singular values grow fast, and all end near 1
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """An optimizer for weights with two or more axes. Weights of the same shape are processed as one batch of matrices.

    Args:
        parameters: the weights.
        lr: learning rate, a tensor on the weights' device: the singular values of a step, which are further multiplied
            by √(rows / columns) for matrices with more rows than columns.
        momentum: decay of the running mean of gradients, with Nesterov's look-ahead.
        weight_decay: decoupled weight decay: each step multiplies the weights by ``1 - lr * weight_decay``.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: Tensor, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all weights that have gradients, without waiting for the device."""
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[tuple(parameter.shape)].append(parameter)
            for parameters in alike.values():
                self._step(parameters, group)

    def _step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Update weights of one shape."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        means = [self._mean_of(parameter) for parameter in parameters]
        torch._foreach_lerp_(means, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, means, group["momentum"])
        rows, columns = parameters[0].shape[0], parameters[0][0].numel()
        # `reshape` sees (out, in·k·k) in any memory layout.
        directions = orthogonal(torch.stack([one.reshape(rows, columns) for one in ahead]))
        directions = directions * (group["lr"] * math.sqrt(max(1.0, rows / columns)))
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_sub_(parameters, [one.view_as(p) for one, p in zip(directions, parameters, strict=True)])

    def _mean_of(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "mean" not in state:
            state["mean"] = torch.zeros_like(parameter)
        return state["mean"]


def orthogonal(matrices: Tensor) -> Tensor:
    """Return about U·Vᵀ for matrices U·Σ·Vᵀ: singular values become about 1, between 0.7 and 1.2.

    Takes five Newton–Schulz steps in bfloat16, whose rounding errors they tolerate.

    Args:
        matrices: ``(n, rows, columns)``.

    Returns:
        float32 ``(n, rows, columns)``.
    """
    a, b, c = _COEFFICIENTS
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + torch.baddbmm(b * gram, gram, gram, alpha=c) @ x
    return (x if wide else x.mT).float()
