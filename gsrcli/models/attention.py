"""Attention inside square windows of a picture.

Pictures of tokens are ``(B, h, w, d)``; cut into windows they are ``(B, n, t, d)``, n windows of t tokens, both in
row-major order. A *position scheme* tells the attention where tokens lie in their window: it is a module called with
queries and keys ``(B, n, heads, t, d / heads)`` that returns them, possibly changed, and a bias ``(heads, t, t)`` for
the attention logits or None. A *mask* ``(n, t, u)`` is true where a query may see a key.

Queries, keys and values exist for some windows at a time, so that a picture needs little more memory than its tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "CrossWindowAttention",
    "OverlappingWindowAttention",
    "RelativePositionBias",
    "RotaryPosition",
    "ShiftedWindowAttention",
    "TokenConv",
    "WindowAttention",
    "relative_position_index",
    "shift",
    "shift_distance",
    "shift_mask",
    "to_picture",
    "to_windows",
    "token_positions",
]


WINDOW_TOKENS = {"cpu": 1 << 13, "cuda": 1 << 18}
"""Tokens that attend at a time, by device: few enough for a CPU's caches, enough for a GPU."""


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
    """Roll ``(B, h, w, d)`` down and right by ``distance`` tokens; tokens that leave re-enter at the opposite edge."""
    return picture.roll((distance, distance), (1, 2)) if distance else picture


def shift_distance(layer: int, window: int) -> int:
    """Return how far a layer's windows are shifted: half a window in every other layer (Swin)."""
    return window // 2 if layer % 2 else 0


def shift_mask(height: int, width: int, side: int, distance: int, device: torch.device) -> Tensor:
    """Return the mask ``(n, side², side²)`` that keeps opposite edges of a picture shifted by ``-distance`` apart.

    In a window at the bottom or right edge, tokens that were rolled in and tokens that were there before do not see
    each other (Swin, arXiv:2103.14030, section 3.2).
    """
    rolled_in = [torch.arange(length, device=device) >= length - distance for length in (height, width)]
    origin = 2 * rolled_in[0].unsqueeze(-1) + rolled_in[1]
    (region,) = to_windows(origin[None, ..., None], side)
    return region == region.transpose(1, 2)


def token_positions(side: int) -> Tensor:
    """Return the positions (x, y) of a window's tokens: ``(2, side²)``, integers."""
    token = torch.arange(side * side)
    return torch.stack((token % side, token // side))


def relative_position_index(side: int) -> Tensor:
    """Return the row of the bias table for each pair of query and key: ``(side², side²)`` (arXiv:2103.14030)."""
    x, y = token_positions(side)
    across, down = (place[:, None] - place[None, :] + side - 1 for place in (x, y))
    return down * (2 * side - 1) + across


class TokenConv(nn.Conv2d):
    """A convolution of tokens laid out as a picture, ``(B, h, w, d)``."""

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class RotaryPosition(nn.Module):
    """Mixed two-dimensional rotary embedding with learned frequencies (RoPE-ViT, arXiv:2403.13298).

    Consecutive channel pairs of queries and keys are rotated by the angle ``x * fx + y * fy``, so their products
    depend on the difference of positions alone.
    """

    places: Tensor

    def __init__(self, side: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(_rotary_frequencies(heads, head_width))
        self.register_buffer("places", token_positions(side).float(), persistent=False)

    def forward(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor, None]:
        # A window of queries smaller than that of the keys (HAT's overlapping attention) uses the first positions.
        turns = self._turns()
        return _rotate(query, turns), _rotate(key, turns), None

    def _turns(self) -> Tensor:
        """Return the rotations as complex numbers: ``(heads, t, head_width / 2)``."""
        x, y = self.places.unsqueeze(-1)
        fx, fy = self.frequencies.unsqueeze(-2).float()
        angle = x * fx + y * fy
        return torch.polar(torch.ones_like(angle), angle)


def _rotary_frequencies(heads: int, head_width: int, base: float = 10.0) -> Tensor:
    """Draw frequencies ``(2, heads, head_width / 2)``: geometric series along two orthogonal, random directions."""
    magnitude = base ** (-torch.arange(0, head_width, 4) / head_width)
    direction = 2 * math.pi * torch.rand(heads, 1)
    angle = torch.cat((direction, direction + math.pi / 2), dim=1).unsqueeze(-1)
    x, y = magnitude * angle.cos(), magnitude * angle.sin()
    return torch.stack((x.flatten(1), y.flatten(1)))[..., : head_width // 2]


def _rotate(x: Tensor, turns: Tensor) -> Tensor:
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns[:, : x.shape[-2]]).flatten(-2).to(x.dtype)


class RelativePositionBias(nn.Module):
    """A learned logit per head for every offset between query and key (Swin, arXiv:2103.14030)."""

    index: Tensor

    def __init__(self, side: int, heads: int) -> None:
        super().__init__()
        self.table = nn.Parameter(nn.init.trunc_normal_(torch.empty((2 * side - 1) ** 2, heads), std=0.02))
        self.register_buffer("index", relative_position_index(side), persistent=False)

    def forward(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return query, key, self.table[self.index].permute(2, 0, 1).to(query.dtype)


class WindowAttention(nn.Module):
    """Base of the multi-head attentions in windows; subclasses define what attends to what.

    Args:
        width: channels d of the tokens, a multiple of ``heads``.
        position: the position scheme, with d / heads channels per head.
    """

    def __init__(self, width: int, heads: int, position: nn.Module) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.position = position
        self.output = nn.Linear(width, width)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply attention and project its output.

        Args:
            query: projected tokens, ``(B, n, t, d)``, or ``(B, 1, t, d)`` if they are the same in every window.
            key: ``(B, n, u, d)``.
            value: ``(B, n, u, d)``.
            mask: ``(n, t, u)``, true where a query may see a key.

        Returns:
            ``(B, n, t, d)``.
        """
        query, key, value = (x.unflatten(-1, (self.heads, -1)).transpose(2, 3) for x in (query, key, value))
        query, key, bias = self.position(query, key)
        windows = key.shape[:2]
        if mask is not None:
            mask = mask.unsqueeze(1)
            bias = mask if bias is None else torch.where(mask, bias, -math.inf)
        if bias is not None:
            bias = bias.expand(*windows, self.heads, *bias.shape[-2:]).flatten(0, 1)
        query = query.expand(*windows, *query.shape[2:])
        # The fused kernels take four axes, so every window becomes a batch entry.
        query, key, value = (x.flatten(0, 1) for x in (query, key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.output(mixed.transpose(1, 2).flatten(2).unflatten(0, windows))


def _parts(windows: Tensor) -> list[slice]:
    """Cut windows ``(B, n, t, d)`` into parts that attend at a time."""
    batch, count, tokens, _ = windows.shape
    at_a_time = max(1, WINDOW_TOKENS.get(windows.device.type, WINDOW_TOKENS["cpu"]) // (batch * tokens))
    return [slice(begin, begin + at_a_time) for begin in range(0, count, at_a_time)]


class CrossWindowAttention(WindowAttention):
    """Attention of each window of tokens to the same window of another picture."""

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Attend from tokens ``(B, n, t, d)``, or ``(B, 1, t, d)``, to ``(B, n, u, d)``; return ``(B, n, t, d)``."""
        width = tokens.shape[-1]
        sizes = (width, 2 * width)
        (query_weight, weight), (query_bias, bias) = self.qkv.weight.split(sizes), self.qkv.bias.split(sizes)
        query = F.linear(tokens, query_weight, query_bias)

        def mix(part: slice) -> Tensor:
            own = query if query.shape[1] == 1 else query[:, part]
            return self.attend(own, *F.linear(context[:, part], weight, bias).chunk(2, dim=-1))

        return torch.cat([mix(part) for part in _parts(context)], dim=1)


class ShiftedWindowAttention(WindowAttention):
    """Attention of a picture's tokens to those in the same window; windows may be shifted (Swin).

    Args:
        window: side of the windows; the picture's sides are multiples of it.
        distance: how far the windows are shifted down and right; they wrap around the picture's edges.
    """

    def __init__(self, width: int, heads: int, position: nn.Module, window: int, distance: int) -> None:
        super().__init__(width, heads, position)
        self.window, self.distance = window, distance

    def forward(self, picture: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map ``(B, h, w, d)`` to the same shape; the mask, see :func:`shift_mask`, applies only to shifted windows."""
        windows = to_windows(shift(picture, -self.distance), self.window)

        def mix(part: slice) -> Tensor:
            seen = mask[part] if mask is not None and self.distance else None
            query, key, value = self.qkv(windows[:, part]).chunk(3, dim=-1)
            return self.attend(query, key, value, seen)

        mixed = torch.cat([mix(part) for part in _parts(windows)], dim=1)
        return shift(to_picture(mixed, *picture.shape[1:3]), self.distance)


class OverlappingWindowAttention(WindowAttention):
    """Attention of each window of a picture to a larger window around it (HAT, arXiv:2205.04437, section 3.2).

    Keys and values outside the picture are zero.

    Args:
        position: the position scheme of the larger window.
        window: side of the windows of queries; the picture's sides are multiples of it.
        margin: tokens by which the windows of keys are larger on every side.
    """

    def __init__(self, width: int, heads: int, position: nn.Module, window: int, margin: int) -> None:
        super().__init__(width, heads, position)
        self.window, self.margin = window, margin

    def forward(self, picture: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map ``(B, h, w, d)`` to the same shape."""
        query, key_value = self.qkv(picture).split((picture.shape[-1], 2 * picture.shape[-1]), dim=-1)
        queries, surroundings = to_windows(query, self.window), self._surroundings(key_value)
        columns = surroundings.shape[2]

        def mix(part: slice) -> Tensor:
            window = torch.arange(queries.shape[1], device=picture.device)[part]
            around = surroundings[:, window // columns, window % columns].flatten(3).transpose(2, 3)
            key, value = around.chunk(2, dim=-1)
            return self.attend(queries[:, part], key, value, mask if mask is None else mask[part])

        mixed = torch.cat([mix(part) for part in _parts(queries)], dim=1)
        return to_picture(mixed, *picture.shape[1:3])

    def _surroundings(self, picture: Tensor) -> Tensor:
        """View ``(B, h, w, d)`` as windows that overlap, ``(B, rows, columns, d, side, side)``, in its own memory."""
        side = self.window + 2 * self.margin
        padded = F.pad(picture, (0, 0, *4 * (self.margin,)))
        return padded.unfold(1, side, self.window).unfold(2, side, self.window)
