"""Attention inside square windows of a picture.

Pictures of tokens are ``(B, h, w, d)``; cut into windows they are ``(B, n, t, d)``, n windows of t tokens,
both in row-major order. Where the tokens fall in their window is told to the attention by a *position
scheme*, a module called with queries and keys ``(B, n, heads, t, d / heads)`` that returns them, possibly
changed, and a bias ``(heads, t, t)`` for the attention logits or None.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "RelativePositionBias",
    "RotaryPosition",
    "WindowAttention",
    "relative_position_index",
    "shift",
    "to_picture",
    "to_windows",
    "token_positions",
]


def to_windows(picture: Tensor, side: int) -> Tensor:
    """Cut ``(B, h, w, d)`` into ``(B, n, side², d)``; h and w are multiples of ``side``."""
    windows = picture.unflatten(2, (-1, side)).unflatten(1, (-1, side))
    return windows.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def to_picture(windows: Tensor, height: int, width: int) -> Tensor:
    """Lay ``(B, n, side², d)`` out as ``(B, height, width, d)``: the inverse of :func:`to_windows`."""
    side = math.isqrt(windows.shape[2])
    rows = windows.unflatten(2, (side, side)).unflatten(1, (height // side, width // side)).transpose(2, 3)
    return rows.flatten(3, 4).flatten(1, 2)


def shift(picture: Tensor, distance: int) -> Tensor:
    """Roll ``(B, h, w, d)`` down and right by ``distance`` tokens; what leaves re-enters opposite."""
    return picture.roll((distance, distance), (1, 2))


def token_positions(side: int) -> Tensor:
    """The places (x, y) of a window's tokens: ``(2, side²)``, integers."""
    token = torch.arange(side * side)
    return torch.stack((token % side, token // side))


def relative_position_index(side: int) -> Tensor:
    """``(side², side²)``: the row of the bias table for each pair of query and key (arXiv:2103.14030)."""
    x, y = token_positions(side)
    across, down = (place[:, None] - place[None, :] + side - 1 for place in (x, y))
    return down * (2 * side - 1) + across


class RotaryPosition(nn.Module):
    """Mixed two-dimensional rotary embedding with learned frequencies (RoPE-ViT, arXiv:2403.13298).

    Consecutive channel pairs of queries and keys turn by the angle ``x * fx + y * fy``, so their products
    depend on the difference of places alone.
    """

    places: Tensor

    def __init__(self, side: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(_rotary_frequencies(heads, head_width))
        self.register_buffer("places", token_positions(side).float(), persistent=False)

    def forward(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor, None]:
        # A window of queries smaller than that of the keys (HAT's overlapping attention) uses the first places.
        turns = self._turns(query.dtype)
        return _rotate(query, *turns), _rotate(key, *turns), None

    def _turns(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the angles, each ``(heads, t, head_width / 2)``."""
        with torch.autocast(self.places.device.type, enabled=False):
            x, y = self.places.unsqueeze(-1)
            fx, fy = self.frequencies.unsqueeze(-2).float()
            angle = x * fx + y * fy
            return angle.cos().to(dtype), angle.sin().to(dtype)


def _rotary_frequencies(heads: int, head_width: int, base: float = 10.0) -> Tensor:
    """``(2, heads, head_width / 2)``: geometric magnitudes along two orthogonal directions, random for each head."""
    magnitude = base ** (-torch.arange(0, head_width, 4) / head_width)
    direction = 2 * math.pi * torch.rand(heads, 1)
    angle = torch.cat((direction, direction + math.pi / 2), dim=1).unsqueeze(-1)
    x, y = magnitude * angle.cos(), magnitude * angle.sin()
    return torch.stack((x.flatten(1), y.flatten(1)))[..., : head_width // 2]


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    cos, sin = cos[:, : x.shape[-2]], sin[:, : x.shape[-2]]
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)


class RelativePositionBias(nn.Module):
    """A learned logit for every offset between query and key, for every head (Swin, arXiv:2103.14030)."""

    index: Tensor

    def __init__(self, side: int, heads: int) -> None:
        super().__init__()
        self.table = nn.Parameter(nn.init.trunc_normal_(torch.empty((2 * side - 1) ** 2, heads), std=0.02))
        self.register_buffer("index", relative_position_index(side), persistent=False)

    def forward(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return query, key, self.table[self.index].permute(2, 0, 1).to(query.dtype)


class WindowAttention(nn.Module):
    """Multi-head attention of each window of tokens to itself, or to the same window of another picture.

    Args:
        width: channels d of the tokens, a multiple of ``heads``.
        position: the position scheme, with d / heads channels a head.
    """

    def __init__(self, width: int, heads: int, position: nn.Module) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.position = position
        self.output = nn.Linear(width, width)

    def forward(self, tokens: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Attend from ``tokens`` to ``context``, or to themselves.

        Args:
            tokens: ``(B, n, t, d)``, or ``(B, 1, t, d)`` where they are the same in every window.
            context: ``(B, n, u, d)``.
            mask: ``(n, t, u)``, added to the logits.

        Returns:
            ``(B, n, t, d)``.
        """
        if context is None:
            query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        else:
            width = tokens.shape[-1]
            sizes = (width, 2 * width)
            (query_weight, weight), (query_bias, bias) = self.qkv.weight.split(sizes), self.qkv.bias.split(sizes)
            query = F.linear(tokens, query_weight, query_bias)
            key, value = F.linear(context, weight, bias).chunk(2, dim=-1)
        return self.output(self.attend(query, key, value, mask))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attention proper, of projected tokens: ``(B, n or 1, t, d)`` and twice ``(B, n, u, d)``."""
        query, key, value = (x.unflatten(-1, (self.heads, -1)).transpose(2, 3) for x in (query, key, value))
        query, key, bias = self.position(query, key)
        windows = key.shape[:2]
        if mask is not None:
            bias = mask.unsqueeze(1).to(query.dtype) + (0 if bias is None else bias)
        if bias is not None:
            bias = bias.expand(*windows, self.heads, *bias.shape[-2:]).flatten(0, 1)
        query = query.expand(*windows, *query.shape[2:])
        # The fused kernels take four axes: every window is an entry of the batch.
        query, key, value = (x.flatten(0, 1) for x in (query, key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return mixed.transpose(1, 2).flatten(2).unflatten(0, windows)
