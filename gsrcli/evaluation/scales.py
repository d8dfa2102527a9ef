"""Scales: one factor for both sides, or one for the height and one for the width."""

from __future__ import annotations

import re

from gsrcli.errors import UsageError

__all__ = ["Scale", "as_scale", "label", "parse_scales"]

Scale = tuple[float, float]
"""Factors of the height and of the width."""

_LARGEST = 64


def parse_scales(text: str) -> tuple[Scale, ...]:
    """Parse a list such as ``2,3.4,2x3``, in which 2x3 doubles the height and triples the width. Drop repetitions.

    Raises:
        UsageError: one of them is not a scale.
    """
    return tuple(dict.fromkeys(_parse(part.strip().lower()) for part in text.split(",")))


def as_scale(scale: float | Scale) -> Scale:
    """Return a scale given as one factor for both sides, or as (height, width).

    Raises:
        UsageError: a factor is below 1 or too large, or both are 1.
    """
    y, x = scale if isinstance(scale, tuple) else (scale, scale)
    if not (min(y, x) >= 1 and max(y, x) <= _LARGEST and (y, x) != (1, 1)):
        hint = f"use factors from 1 to {_LARGEST}, at least one of them above 1"
        raise UsageError(f"invalid scale ×{label((y, x))}", hint=hint)
    return float(y), float(x)


def label(scale: Scale) -> str:
    """Return a scale as lists have it: 2, 3.4 or 2x3 (height first)."""
    y, x = (f"{factor:g}" for factor in scale)
    return y if y == x else f"{y}x{x}"


def _parse(text: str) -> Scale:
    factors = re.fullmatch(r"[x×]?(\d+(?:\.\d+)?)(?:[x×](\d+(?:\.\d+)?))?", text)
    if factors is None:
        raise UsageError(f"invalid scale {text!r}", hint="--scales 2,3.4,2x3 (2x3: height ×2, width ×3)")
    return as_scale((float(factors[1]), float(factors[2] or factors[1])))
