"""What the alpha channel of a picture is. Needs neither torch nor NumPy, so ``--help`` stays fast."""

from __future__ import annotations

from typing import Literal

__all__ = ["AlphaMeaning"]

AlphaMeaning = Literal["transparency", "data"]
"""Transparency, under which colours are arbitrary where alpha is 0; or data, as in normal maps, masks and packed
textures, whose colours count everywhere."""
