"""Muon: momentum whose matrices are made orthogonal before they are added to the weights.

After K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024). A convolution's kernel counts
as the matrix that it is to the patches it sees: out × (in·k·k).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Muon", "orthogonal"]

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan's quintic: small singular values grow fast, all end near 1
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """The optimizer for weights of two or more axes. Weights of one shape are treated as one batch of matrices.

    Args:
        parameters: the weights.
        lr: length of a step, a tensor on their device, as a share of a matrix whose singular values are all 1, times
            √(rows / columns) where there are more rows than columns.
        momentum: of the running mean of gradients; Nesterov's look ahead is taken.
        weight_decay: shrinks the weights by this share of lr at each step.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: Tensor, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take a step along the gradients that are there. Nothing waits for the device."""
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[tuple(parameter.shape)].append(parameter)
            for parameters in alike.values():
                self._step(parameters, group)

    def _step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """One step of weights of one shape."""
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
    """The nearest matrices with singular values near 1, between about 0.7 and 1.2: U·Vᵀ of U·Σ·Vᵀ, roughly.

    Five Newton–Schulz steps in bfloat16, whose errors they forgive.

    Args:
        matrices: ``(n, rows, columns)``.

    Returns:
        Their orthogonal factors, in float32.
    """
    a, b, c = _COEFFICIENTS
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + torch.baddbmm(b * gram, gram, gram, alpha=c) @ x
    return (x if wide else x.mT).float()
