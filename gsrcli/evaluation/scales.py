"""Enlargements: one factor for both sides, or one for the height and one for the width."""

from __future__ import annotations

import re

from gsrcli.errors import UsageError

__all__ = ["Scale", "label", "parse_scales"]

Scale = tuple[float, float]
"""Of the height and of the width."""

_LARGEST = 64


def parse_scales(text: str) -> tuple[Scale, ...]:
    """The enlargements in a list such as ``2,3.4,2x3``; the last one doubles the height and triples the width.

    Raises:
        UsageError: one is none.
    """
    return tuple(dict.fromkeys(_parse(part.strip().lower()) for part in text.split(",")))


def label(scale: Scale) -> str:
    """As it is written in lists: 2, 3.4 or 2x3."""
    y, x = (f"{factor:g}" for factor in scale)
    return y if y == x else f"{y}x{x}"


def _parse(text: str) -> Scale:
    factors = re.fullmatch(r"[x×]?(\d+(?:\.\d+)?)(?:[x×](\d+(?:\.\d+)?))?", text)
    if factors is None:
        raise UsageError(f"{text!r} is no scale", hint="--scales 2,3.4,2x3 (2x3: the height ×2, the width ×3)")
    scale = float(factors[1]), float(factors[2] or factors[1])
    if not (min(scale) >= 1 and max(scale) <= _LARGEST and scale != (1, 1)):
        raise UsageError(f"×{text} cannot be scored: scales are from 1 to {_LARGEST}, and not 1 for both sides")
    return scale
